"""Files of parameters: what is saved is loaded bit for bit, and anything else is refused."""

import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rnn_jax.convert import frameworks as convert
from rnn_jax.convert.parameter_files import load_params, save_params
from rnn_jax.errors import InputError

TYPES = ["float32", "float64", "float16", "int8", "uint16", "int32", "int64", "bool", "complex64"]
TREE = {
    "encoder": {"cell": {"hi": {"kernel": np.float32([[1, -0.0], [np.nan, np.inf]])}}},
    "file": np.arange(3),
    "a": np.ones(1),
    "a.npy": np.zeros((0, 2)),
    "one": np.float32(3),
}


def endings(*names):
    """Returns a mark for each ending."""
    return pytest.mark.parametrize("ending", names)


both = endings(".npz", ".safetensors")


def assert_same(actual, expected):
    actual, expected = flatten_dict(actual), flatten_dict(expected)
    assert actual.keys() == expected.keys()
    for path, array in expected.items():
        array = np.asarray(array)
        assert actual[path].dtype == array.dtype, path
        assert actual[path].shape == array.shape, path
        assert actual[path].tobytes() == array.tobytes(), path


def saved(folder, ending, tree):
    path = folder / f"params{ending}"
    save_params(path, tree)
    assert [file.name for file in folder.iterdir()] == [path.name]
    return path


names = st.text("ab./ é\\'%", min_size=1, max_size=4).filter(lambda name: "/" not in name)
leaves = st.sampled_from(TYPES).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0))
)
trees = st.dictionaries(
    names,
    st.recursive(leaves, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=5),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@both
@given(tree=trees)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_a_tree_is_loaded_as_it_was_saved(ending, tree, tmp_path_factory):
    assert_same(load_params(saved(tmp_path_factory.mktemp("files"), ending, tree)), tree)


@both
def test_arrays_of_any_order_and_device_are_saved_by_value(ending, tmp_path):
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"turned": grid.T, "swapped": grid.astype(">f4"), "thin": grid[:, ::2], "jax": jnp.array(grid)}
    expected = {"turned": grid.T.copy(), "swapped": grid, "thin": grid[:, ::2].copy(), "jax": grid}
    path = saved(tmp_path, ending, tree)
    assert_same(load_params(path), expected)
    save_params(path, TREE)  # replaces the file
    assert_same(load_params(path), TREE)


@endings(".safetensors")
def test_bfloat16_is_kept_to_the_bit_by_safetensors(ending, tmp_path):
    bits = np.arange(2**16, dtype=np.uint16)  # every bfloat16, each NaN too
    tree = {"table": bits.view(jnp.bfloat16)}
    assert np.array_equal(load_params(saved(tmp_path, ending, tree))["table"].view(np.uint16), bits)


def test_bfloat16_is_refused_by_npz_and_its_float32_is_exact(tmp_path):
    array = np.arange(2**15, dtype=np.uint16)[:0x7F81].view(jnp.bfloat16)
    with pytest.raises(InputError, match=r"table is bfloat16, which .npz has no type for; save as .safet"):
        save_params(tmp_path / "params.npz", {"table": array})
    assert not list(tmp_path.iterdir())
    path = saved(tmp_path, ".npz", {"table": array.astype(np.float32)})
    assert load_params(path)["table"].astype(jnp.bfloat16).tobytes() == array.tobytes()


def test_numpy_reads_our_npz_and_we_read_numpys(tmp_path):
    path = saved(tmp_path, ".npz", TREE)
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(
            archive["encoder/cell/hi/kernel"], TREE["encoder"]["cell"]["hi"]["kernel"], True
        )
    for save in (np.savez, np.savez_compressed):
        save(path, **{"x/y": np.arange(3), "z": np.ones((2, 2))})
        assert_same(load_params(path), {"x": {"y": np.arange(3)}, "z": np.ones((2, 2))})


def test_a_state_dict_of_torch_comes_by_safetensors(tmp_path):
    torch = pytest.importorskip("torch", reason="the writer of the file; pip install torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = torch.nn.GRU(3, 4, bidirectional=True)
    save_file(module.state_dict(), tmp_path / "gru.safetensors")
    params = convert.from_torch(load_params(tmp_path / "gru.safetensors"))
    assert_same(params, convert.from_torch(module))
    save_params(tmp_path / "back.safetensors", convert.to_torch(params))
    load_file = pytest.importorskip("safetensors.torch").load_file
    module.load_state_dict(load_file(tmp_path / "back.safetensors"), strict=True)
    assert_same(convert.from_torch(module), params)


# Damage


@both
@given(data=st.data())
@settings(deadline=None, max_examples=150, derandomize=True)
def test_a_changed_byte_changes_no_array_unnoticed(ending, data, tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("files"), ending, TREE)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = load_params(path)
    except InputError:
        return
    assert_same(loaded, TREE)


@both
def test_a_file_that_is_cut_off_anywhere_is_refused(ending, tmp_path):
    path = saved(tmp_path, ending, TREE)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"params\.(npz|safetensors) cannot be read"):
            load_params(path)


class Trap:
    """Unpickling it is a failure of the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


@both
def test_foreign_files_are_refused(ending, tmp_path):
    path = tmp_path / f"params{ending}"
    for content in (b"", b"text\n" * 30, pickle.dumps(Trap()), np.arange(3).tobytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"params{ending} cannot be read as {ending}"):
            load_params(path)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read as"):
        load_params(path)
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read as"):
        load_params(path)
    with pytest.raises(InputError, match="cannot be written"):
        save_params(path, TREE)
    with pytest.raises(InputError, match="cannot be written"):
        save_params(tmp_path / "none" / f"params{ending}", TREE)


def test_foreign_archives_are_refused(tmp_path):
    path = tmp_path / "params.npz"
    np.savez(path, a=np.array([Trap()], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read.*Object arrays"):
        load_params(path)
    np.savez(path, a=np.ones(2, jnp.bfloat16))
    with pytest.raises(InputError, match=r"'a.npy' of \|V2"):
        load_params(path)
    np.savez(path, a=np.ones(2), **{"a/b": np.ones(2)})
    with pytest.raises(InputError, match="'a/b', which is no path"):
        load_params(path)
    np.savez(path, **{"a//b": np.ones(2)})
    with pytest.raises(InputError, match="'a//b', which is no path"):
        load_params(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(InputError, match="cannot be read"):
        load_params(path)


@endings(".safetensors")
def test_a_safetensors_file_without_our_checksum_is_read(ending, tmp_path):
    from safetensors.numpy import save_file

    save_file({"x/y": np.arange(3)}, tmp_path / "x.safetensors", metadata={"format": "np"})
    assert_same(load_params(tmp_path / "x.safetensors"), {"x": {"y": np.arange(3)}})


REFUSED = {
    "the ending of the path is '.pkl'.*npz, .safetensors": ("x.pkl", TREE),
    "params is empty": ("x.npz", {}),
    "params is list; give a nested dict of arrays": ("x.npz", [[np.ones(1)] * 3]),
    "params is ndarray; give": ("x.npz", np.ones(1)),
    "a/b is dict|a/b is _EmptyNode": ("x.npz", {"a": {"b": {}}}),
    "a is list; give arrays": ("x.npz", {"a": [1, 2]}),
    "a is float; give arrays": ("x.npz", {"a": 1.0}),
    "names printable": ("x.npz", {"a/b": np.ones(1)}),
    r"params has \(1,\)": ("x.npz", {1: np.ones(1)}),
    r"params has \('a\\x00b',\)": ("x.npz", {"a\0b": np.ones(1)}),
    "a is <U1, which": ("x.npz", {"a": np.array("x")}),
    "a is object": ("x.npz", {"a": np.array([None])}),
    "a is complex128, but .safetensors has only": ("x.safetensors", {"a": np.ones(1, complex)}),
    "a is object, but": ("x.safetensors", {"a": np.array([None])}),
    "a is .*Array.*; give": ("x.npz", {"a": jax.random.key(0)}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_no_file_can_hold_is_refused(message, tmp_path):
    name, tree = REFUSED[message]
    with pytest.raises(InputError, match=message):
        save_params(tmp_path / name, tree)
    assert not list(tmp_path.iterdir())
