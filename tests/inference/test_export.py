"""The export of a classifier: what the program in docs/export.md predicts with it, without this library."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import rnn_jax
from rnn_jax import export_classifier
from rnn_jax.cli import main
from rnn_jax.errors import InputError
from rnn_jax.layers import backends, gated, linear_recurrence
from rnn_jax.layers.fused import chunk_length, keeps_activations
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.losses import class_log_probabilities
from tests.helpers.cases import slow_but
from tests.helpers.predictors import make_predictor
from tests.helpers.runs import TEXTS, make_language_run, make_run
from tests.inference.test_predictor import HOSTILE

ROOT = Path(__file__).parents[2]
PROGRAM, TAGGER_PROGRAM = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL
)
LONG = " ".join(TEXTS * 5)  # 97 words, of which 12 are read
ALL_TEXTS = [*TEXTS, *HOSTILE.values(), LONG, "great"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_run(workdir)
    return rnn_jax.load(workdir)


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "reviews.zip"
    export_classifier(predictor, path)
    return path


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the export that a test may damage."""
    path = tmp_path / "copy.zip"
    path.write_bytes(exported.read_bytes())
    return path


def load(path):
    """Returns the `predict` that the documented program makes of an export."""
    names: dict = {}
    exec(PROGRAM, names)
    return names["load"](path)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def about(path):
    return json.loads(members(path)["about.json"])


def parts(path):
    """Returns the program of an export, to be called with arrays, and its parameters."""
    files = members(path)
    params = {name: np.load(io.BytesIO(files[f"params/{name}.npy"])) for name in about(path)["params"]}
    return export.deserialize(bytearray(files["program.bin"])), params


def a_batch(batch, time, words, seed=0):
    """Returns random ids with a full and, where there is room, an empty row."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, time + 1, batch).astype(np.int32)
    lengths[-1], lengths[0] = 0, time
    return rng.integers(1, words, (batch, time)).astype(np.int32), lengths


def both(predictor, path, batch, time):
    """Returns the log probabilities of a batch by the export and by the classifier."""
    program, params = parts(path)
    token_ids, lengths = a_batch(batch, time, predictor.tokenizer.vocab_size)
    logits = predictor.apply_fn({"params": predictor.params}, token_ids, lengths)
    actual = program.call(params, token_ids, lengths)
    return np.asarray(actual), np.asarray(class_log_probabilities(logits))


@pytest.mark.slow
def test_the_documented_program_predicts_the_same_without_this_library(exported, predictor, tmp_path):
    code = PROGRAM + (
        "\nimport sys\n"
        "labels, probabilities = load(sys.argv[1])(json.load(sys.stdin))\n"
        "print(json.dumps([labels, probabilities.astype(float).tolist()]))\n"
    )
    forbidden = ("rnn_jax", "flax", "optax", "orbax", "ml_collections", "configs", "train_loop")
    forbid = f"import sys; sys.modules.update(dict.fromkeys({forbidden}))\n"
    done = subprocess.run(
        [sys.executable, "-c", forbid + code, exported],
        input=json.dumps(ALL_TEXTS),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    labels, probabilities = json.loads(done.stdout)
    expected = predictor.predict(ALL_TEXTS)
    assert labels == expected.labels
    np.testing.assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-6)
    assert len(set(np.round(expected.probabilities[:, 1], 5))) > 5


@pytest.mark.slow
def test_any_number_of_texts_is_predicted_the_same(exported, predictor):
    predict = load(exported)
    for texts in ([], [""], ["great"], ALL_TEXTS[:4], ALL_TEXTS[:9]):
        labels, probabilities = predict(texts)
        expected = predictor.predict(texts)
        assert labels == expected.labels
        np.testing.assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-6)


MODELS = {
    "lstm": {"cell": "lstm"},
    "simple, mean": {"cell": "simple", "pooling": "mean"},
    "gru, both directions, concat": {"cell": "gru", "bidirectional": True, "pooling": "concat"},
    "two layers, bfloat16": {"layers": 2, "residual": True, "dtype": "bfloat16", "pooling": "max"},
    "scanned, attention": {
        "cell": "lstm",
        "layer_norm": True,
        "pooling": "attention",
        "recurrent_dropout": 0.5,
    },
    "linear, both directions": {"cell": "sru", "bidirectional": True},
    "complex, two layers": {"cell": "lru", "layers": 2, "pooling": "max"},
    "contextual": {"cell": "gru", "contextual": {"cell": "lstm", "hidden": 3, "layers": 2}},
    "pyramid": {"cell": "min_gru", "layers": 3, "stride": 2, "bidirectional": True, "pooling": "mean"},
}


@pytest.mark.parametrize("name", slow_but(["gru, both directions, concat", "scanned, attention"], MODELS))
def test_every_kind_of_network_gives_the_same_bits(tmp_path, monkeypatch, name):
    """Those of the fused recurrence, which an export runs; native kernels round otherwise."""
    predictor = make_predictor(("bad", "good", "meh"), **MODELS[name])
    export_classifier(predictor, tmp_path / "e.zip")
    actual, by_default = both(predictor, tmp_path / "e.zip", 5, 40)
    assert actual.shape == (5, 3)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, by_default, rtol=0, atol=1e-6)
    monkeypatch.setattr(backends, "why_not_native", lambda *layer: "no kernels here")
    monkeypatch.setattr(linear_recurrence, "why_missing", lambda: "no kernels here")
    monkeypatch.setattr(gated, "why_missing", lambda **_: "no kernels here")
    jax.clear_caches()  # an equal network was traced with the kernels
    without_kernels = make_predictor(("bad", "good", "meh"), **MODELS[name])
    np.testing.assert_array_equal(actual, both(without_kernels, tmp_path / "e.zip", 5, 40)[1])


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 7), (3, 33), (2, 47)])
def test_any_shape_gives_the_same(exported, predictor, batch, time):
    """Also shapes that no bucket of the run has, and times that are no multiple of a chunk."""
    actual, expected = both(predictor, exported, batch, time)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", slow_but([5], [1, 5, 12]))
def test_long_texts_are_cut_as_the_run_cuts_them(predictor, tmp_path, size):
    seen = []
    for mode in ("head", "tail", "head_tail"):
        config = predictor.config.copy_and_resolve_references()
        config.text.max_length, config.text.truncate = size, mode
        task = {"label_names": predictor.label_names, "label_values": [0, 1], "buckets": (size,)}
        model = build_classifier(predictor.tokenizer.vocab_size, 2, **config.model)
        other = rnn_jax.Predictor(config, model, predictor.params, predictor.tokenizer, task, 2)
        export_classifier(other, tmp_path / f"{mode}.zip")
        _, probabilities = load(tmp_path / f"{mode}.zip")([LONG])
        expected = other.predict([LONG]).probabilities
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)
        seen.append(float(expected[0, 0]))
    assert len(set(seen)) == (2 if size == 1 else 3)  # of one word, a quarter from the head is none


def test_the_file_says_what_it_is(exported, predictor):
    said = about(exported)
    assert said["label_names"] == ["negative", "positive"]
    assert (said["max_length"], said["truncate"]) == (12, "tail")
    assert (said["keep_first"], said["keep_last"]) == (0, 12)
    assert (said["buckets"], said["batch_size"], said["step"]) == ([6, 12], 4, 2)
    assert said["jax"] == jax.__version__
    program, params = parts(exported)
    assert said["platforms"] == list(program.platforms) == ["cpu", "cuda", "rocm", "tpu"]
    assert said["calling_convention"] == program.calling_convention_version
    assert program.nr_devices == 1
    assert {array.dtype for array in params.values()} == {np.dtype(np.float32)}


def test_an_export_has_no_path_or_date_of_the_machine_and_equal_runs_give_equal_bytes(
    exported, predictor, tmp_path
):
    frames = jax.config.jax_traceback_in_locations_limit
    export_classifier(predictor, tmp_path / "again.zip")
    assert jax.config.jax_traceback_in_locations_limit == frames
    content = (tmp_path / "again.zip").read_bytes()
    assert content == exported.read_bytes()
    for text in (str(ROOT), "site-packages", "export.py", "rnn.py"):
        assert text.encode() not in content


REFUSALS = (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError, EOFError)


@pytest.mark.slow
def test_a_damaged_byte_is_refused_or_changes_nothing(exported, copy):
    content = exported.read_bytes()
    expected = load(exported)(TEXTS)[1]
    directory = content.index(b"PK\x01\x02")
    places = [*range(0, len(content), 1999), *range(directory, len(content), 131)]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        copy.write_bytes(damaged)
        try:
            predict = load(copy)
        except REFUSALS:
            refused += 1
        else:
            np.testing.assert_array_equal(predict(TEXTS)[1], expected)
    assert refused > len(places) / 2


@pytest.mark.parametrize("kept", [0, 1, 100, 20_000, -1])
def test_a_file_cut_short_is_refused(exported, copy, kept):
    copy.write_bytes(exported.read_bytes()[:kept])
    with pytest.raises(zipfile.BadZipFile, match="not a zip file"):
        load(copy)


def rewrite(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "name", ["about.json", "program.bin", "tokenizer.json", "params/embedding/embedding.npy"]
)
def test_a_missing_piece_is_named(exported, copy, name):
    rewrite(copy, {kept: content for kept, content in members(exported).items() if kept != name})
    with pytest.raises(KeyError, match=name):
        load(copy)


def test_another_format_is_named(exported, copy):
    files = members(exported)
    said = json.loads(files["about.json"]) | {"format": 2}
    rewrite(copy, files | {"about.json": json.dumps(said)})
    with pytest.raises(ValueError, match="is of format 2; this program reads format 1"):
        load(copy)


def test_parameters_of_another_network_are_refused(exported, copy):
    files, file = members(exported), io.BytesIO()
    np.save(file, np.zeros((3, 3), np.float32))
    rewrite(copy, files | {"params/head/kernel.npy": file.getvalue()})
    with pytest.raises(ValueError, match="head/kernel"):
        load(copy)(TEXTS)


def test_only_an_export_is_replaced(exported, predictor, tmp_path):
    (tmp_path / "notes.zip").write_text("mine")
    rewrite(tmp_path / "other.zip", {"about.json": "{}"})
    rewrite(tmp_path / "list.zip", {"about.json": "[]"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        with pytest.raises(InputError, match="is no export of rnn_jax that can be read; delete it"):
            export_classifier(predictor, path)
    with pytest.raises(InputError, match="is a folder"):
        export_classifier(predictor, tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        export_classifier(predictor, tmp_path / "notes.zip" / "e.zip")
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    rewrite(tmp_path / "old.zip", members(exported) | {"program.bin": "old"})
    export_classifier(predictor, tmp_path / "old.zip")
    assert (tmp_path / "old.zip").read_bytes() == exported.read_bytes()
    export_classifier(predictor, str(tmp_path / "new" / "folder" / "e.zip"))


def test_a_full_disk_leaves_what_was_there(exported, copy, predictor, monkeypatch):
    def full(self, *_):
        self.fp.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    for path in (copy, copy.with_name("new.zip")):
        with pytest.raises(InputError, match="No space left"):
            export_classifier(predictor, path)
    assert copy.read_bytes() == exported.read_bytes()
    assert list(copy.parent.iterdir()) == [copy]


def test_a_missing_package_is_named(predictor, tmp_path, monkeypatch):
    def missing(self):
        raise ImportError("Please install 'flatbuffers' in order to use Exported serialization")

    monkeypatch.setattr(export.Exported, "serialize", missing)
    with pytest.raises(InputError, match="pip install flatbuffers"):
        export_classifier(predictor, tmp_path / "e.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_exports_the_checkpoint_that_is_asked_for(tmp_path, capsys):
    make_run(tmp_path / "w")
    out = tmp_path / "e.zip"
    main(["export", "--workdir", str(tmp_path / "w"), "--out", str(out)])
    said = f"{out}: step 2, {out.stat().st_size:,} bytes, for cpu, cuda, rocm, tpu"
    assert capsys.readouterr().out.startswith(said)
    assert about(out)["step"] == 2
    main(["export", "--workdir", str(tmp_path / "w"), "--out", str(out), "--which", "last"])
    assert about(out)["step"] == 3
    last = rnn_jax.load(tmp_path / "w", "last")
    np.testing.assert_array_equal(parts(out)[1]["embedding/embedding"], last.params["embedding"]["embedding"])


@pytest.mark.slow
def test_a_language_model_is_refused_with_its_uses(tmp_path, capsys):
    make_language_run(tmp_path / "w")
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--workdir", str(tmp_path / "w"), "--out", str(tmp_path / "e.zip")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "holds a language model" in error
    assert "rnn-jax export takes classifiers and taggers" in error
    with pytest.raises(InputError, match=r"predictor is a Writer; give a classifier.*not exported"):
        export_classifier(rnn_jax.load_language_model(tmp_path / "w"), tmp_path / "e.zip")
    assert not (tmp_path / "e.zip").exists()


@pytest.mark.slow
def test_a_layer_and_its_gradient_export_with_symbolic_sizes():
    """`RNN` chooses by shape; of a symbol it knows nothing, and takes what is right for any shape."""
    layer = rnn_jax.RNN(rnn_jax.GRUCell(4))
    x, lengths = np.random.default_rng(0).normal(size=(3, 30, 5)).astype(np.float32), np.array([30, 0, 9])
    params = jax.jit(layer.init)(jax.random.key(0), x, lengths)

    def loss(params, x, lengths):
        return (layer.apply(params, x, lengths)[1] ** 2).sum()

    step = jax.jit(jax.value_and_grad(loss))
    batch, time = export.symbolic_shape("b, t")
    shapes = jax.ShapeDtypeStruct((batch, time, 5), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    program = export.deserialize(export.export(step)(params, *shapes).serialize())
    arguments = params, x, lengths.astype(np.int32)
    pairs = zip(*map(jax.tree.leaves, (program.call(*arguments), step(*arguments))), strict=True)
    for actual, expected in pairs:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert chunk_length(time) == 20
    assert not keeps_activations(time, 3, 16)
    assert not keeps_activations(40, batch, 16)
