"""Bad input: a right answer or the documented error, and never code, a hang or the whole memory.

`python -m tests.stress.hostile` runs 10,400 such cases; here are some of each, and those that once broke.
"""

import ast
import gzip
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax import cli, load
from rnn_jax.checkpoints.workdir import check_workdir, read_json, read_results
from rnn_jax.convert import frameworks as convert
from rnn_jax.convert.parameter_files import load_params
from rnn_jax.data.sources import read_source, read_texts
from rnn_jax.data.splits import load_corpus
from rnn_jax.data.tokenizer import SPECIAL_WORDS, Tokenizer
from rnn_jax.errors import InputError
from rnn_jax.files import EXPANSION, FREE, path_of
from rnn_jax.training.logger import Journal
from rnn_jax.training.loop import check_config
from rnn_jax.vectors.lookup import read_vectors
from tests.stress import hostile_files
from tests.stress import hostile_worker as hostile
from tests.stress.hostile_use import trained

ROOT = Path(__file__).parents[2]
ROOMS = dict.fromkeys(hostile.rooms())
EXAMPLES = {"folders": 6, "`rnn-jax`": 8, "texts": 4}  # of rooms that load a checkpoint; of others 60
WORDS = [*SPECIAL_WORDS, "a", "b"]
# Orbax leaves what it reads in the background behind where a checkpoint is damaged.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room[0].split()[0].strip(":`"))
def test_cases_of_the_campaign_are_refused_or_answered(room):
    if room[0] == "files of parameters":  # half of them .safetensors
        pytest.importorskip("safetensors", reason="needs the extra interop")
    drawn = [room]
    count = next((count for name, count in EXAMPLES.items() if room[0].startswith(name)), 60)

    @settings(max_examples=count, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**32))
    def check(number):
        found = hostile.run(number, 1, drawn)
        assert found["outcome"] in ("refused", "answered"), found["said"]
        assert found["seconds"] < hostile.SECONDS

    check()


READERS = {
    ".csv": lambda path: read_source(str(path)),
    ".jsonl": lambda path: read_source(str(path)),
    ".parquet": lambda path: read_source(str(path)),
    ".txt": lambda path: read_vectors(str(path), WORDS),
    ".bin": lambda path: read_vectors(str(path), WORDS),
    ".txt.gz": lambda path: read_vectors(str(path), WORDS),
    ".zip": lambda path: read_vectors(str(path), WORDS),
    ".npz": load_params,
    ".safetensors": load_params,
    "-config.json": read_json,
    "-tokenizer.json": Tokenizer.load,
}


@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, content):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="needs the extra interop")
    path = tmp_path_factory.mktemp("bytes") / f"file{suffix}"
    path.write_bytes(content)
    said = path.name
    try:
        READERS[suffix](path)
    except InputError as error:
        said = str(error)
    assert path.name in said


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_texts_of_any_characters_come_back_from_json_lines(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("texts") / "a.jsonl"
    lines = [json.dumps({"text": text}) for text in texts]
    path.write_text("\n".join(lines), encoding="utf-8")
    if any(text != text.encode("utf-8", "replace").decode() for text in texts):
        with pytest.raises(InputError, match="surrogates"):
            read_texts(str(path), "text")
    else:
        assert read_texts(str(path), "text") == texts


TABLES = {
    "old line endings": ("a.csv", b"text,label\rx,1\ry,0\r", ["x", "y"]),
    "a byte order mark": ("a.csv", b"\xef\xbb\xbftext\nx\ny\n", ["x", "y"]),
    "UTF-16": ("a.csv", "text\na\n".encode("utf-16"), ["a"]),
    "a NUL": ("a.csv", b"text\nx\0y\nz\n", ["x\0y", "z"]),
    "formulas": ("a.csv", b"text\n\"=cmd|' /C calc'!A0\"\n@SUM(1)\n", ["=cmd|' /C calc'!A0", "@SUM(1)"]),
    "numbers late in a text column": (
        "a.csv",
        b"text\n007\n" + b"8\n" * 10 + b"x\n",
        ["007", *["8"] * 10, "x"],
    ),
    "dates": ("a.jsonl", b'{"text":"2020-01-01"}\n{"text":"2021-01-01"}', ["2020-01-01", "2021-01-01"]),
    "several lines": ("a.json", b'{\n"text":\n"x"}\n{"text":"y"}', ["x", "y"]),
    "integers of 128 bits": ("a.jsonl", b'{"text":"x","id":99999999999999999999999}\n', ["x"]),
    "other columns of several types": (
        "a.jsonl",
        b'{"text":"x","id":1}\n{"text":"y","id":"b"}\n',
        ["x", "y"],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_odd_tables_are_read(tmp_path, name):
    file, content, texts = TABLES[name]
    (tmp_path / file).write_bytes(content)
    assert read_texts(str(tmp_path / file), "text") == texts


REFUSED_TABLES = {
    "rows longer than the header": ("a.csv", b"text,label\na,b,1\nc,d,0\n", "more fields than its header"),
    "a column twice": ("a.csv", b"text,text\na,b\n", "the column .'text'. twice"),
    "quotes that do not end": ("a.csv", b'text\n"a\nb\n', "inside quotes that are open since row 2"),
    "an archive under another name": ("a.csv", gzip.compress(b"text\na\n"), "could not read"),
    "null for a row": (
        "a.jsonl",
        b"null\n",
        "row 1 is no object but NoneType",
    ),  # Arrow: a segmentation fault
    "nested deeply": ("a.jsonl", b'{"text":' + b"[" * 10**5 + b"]" * 10**5 + b"}\n", "nested too deeply"),
    "a name twice": ("a.jsonl", b'{"text":"a","text":"b"}\n', "names a field twice"),
    "no fields": ("a.jsonl", b"{}\n{}\n", "rows without a field"),
    "cut off": ("a.jsonl", b'{"text":"a"}\n{"text":"b', "could not read"),
    "numbers for texts": ("a.jsonl", b'{"text":1}\n', "row 0 of split 'train' has text = 1, not a text"),
    "a number of 40 digits": ("a.jsonl", b'{"text":' + b"9" * 40 + b"}\n", "row 0 .* not a text"),
    "texts and numbers": ("a.jsonl", b'{"text":"a"}\n{"text":1}\n', "row 1 .* text = 1, not a text"),
    "objects for texts": ("a.jsonl", b'{"text":{"a":[1]}}\n', "not a text"),
    "only blanks": ("a.csv", b"\n \n\n", "holds no rows|no column"),
}


@pytest.mark.parametrize("name", REFUSED_TABLES)
def test_tables_that_cannot_be_read_are_refused_by_name(tmp_path, name):
    file, content, message = REFUSED_TABLES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_texts(str(tmp_path / file), "text")


LABELS = {
    "of two kinds": ([0, "a", 1, "b"], "strings and numbers"),
    "lists": ([[0], [1], [0], [1]], r"holds \[\[0\]\]"),
    "missing": ([0, None, 1, 1], "without a label"),
    "fractions": ([0.5, 1.5, 0.5, 1.5], "a label is an integer"),
    "one only": ([1, 1, 1, 1], "needs two labels"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_none_are_refused(tmp_path, name):
    labels, message = LABELS[name]
    rows = [json.dumps({"text": f"text {row}", "label": label}) for row, label in enumerate(labels)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    columns = {"text_column": "text", "label_column": "label", "label_names": ()}
    with pytest.raises(InputError, match=message):
        load_corpus(str(tmp_path / "a.jsonl"), **columns, validation_share=0.3, test_share=0.3, split_seed=0)


@pytest.mark.parametrize("place", ["", "\0", "~nobody-here/a.csv", "x" * 5000, "a/" * 3000, "/dev/null"])
def test_paths_that_cannot_be_are_refused(place):
    for read in (read_source, load, lambda path: read_vectors(path, WORDS)):
        with pytest.raises(InputError):
            read(place)


def test_a_named_pipe_is_refused_and_never_waited_for(tmp_path):
    for name in ("a.csv", "a.txt", "tokenizer.json"):
        os.mkfifo(tmp_path / name)
    for read in (
        read_source,
        lambda path: read_vectors(path, WORDS),
        lambda path: Tokenizer.load(path_of(path)),
    ):
        for name in ("a.csv", "a.txt", "tokenizer.json"):
            with pytest.raises(InputError):
                read(str(tmp_path / name))


def small_bomb(piece, size):
    return gzip.compress(piece * (size // len(piece)), mtime=0)


@pytest.mark.parametrize("piece", [b"\0", b"\n", b"a 1 2\n"])
def test_a_stream_that_expands_too_far_is_read_to_the_bound_only(tmp_path, monkeypatch, piece):
    monkeypatch.setattr("rnn_jax.files.FREE", 2**21)
    monkeypatch.setattr("rnn_jax.files.EXPANSION", 10)
    path = tmp_path / "v.txt.gz"
    path.write_bytes(small_bomb(piece, 2**23))
    reads = []
    whole = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, size: reads.append(whole(self, size)) or reads[-1]
    )
    with pytest.raises(
        InputError, match=r"expands to over 2,097,152 bytes|over 1,048,576 bytes|none|is empty"
    ):
        read_vectors(str(path), WORDS)
    assert sum(map(len, reads)) < 2**22


def test_a_parquet_file_that_repeats_a_long_text_is_refused(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr("rnn_jax.files.FREE", 2**24)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * 2**16] * 2000}), path)
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match=f"expands to over .* bytes .the most is {EXPANSION} times its size"):
        read_source(str(path))


def test_an_npz_that_expands_too_far_is_refused_before_it_is_read(tmp_path, monkeypatch):
    assert FREE < 2**27
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**27))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(InputError, match="expands to over"):
        load_params(path)


@pytest.mark.parametrize("line", [b"a " + b"1 " * 5000, b"a 1_0 2\nb 1 x"])
def test_vectors_too_wide_or_of_no_numbers_are_refused(tmp_path, line):
    (tmp_path / "v.txt").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"at most 4,096 are read|has no lines like|for none of"):
        read_vectors(str(tmp_path / "v.txt"), WORDS)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


PLACES = (
    "a.npz",
    "a.npy.npz",
    "a.safetensors",
    "a.txt",
    "a.bin",
    "a.zip",
    "a.csv",
    "a.jsonl",
    "a.parquet",
    "run",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_any_file_is_not_executed(tmp_path, place):
    done = tmp_path / "executed"
    load_it = pickle.dumps(Payload(done))
    path = tmp_path / place
    if place == "a.npz":
        np.savez(path, a=np.array([Payload(done)], dtype=object))
    elif place in ("a.npy.npz", "a.zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy" if place == "a.npy.npz" else "a.bin", load_it)
    elif place != "run":
        path.write_bytes(load_it)
    files = [path]
    if place == "run":
        shutil.copytree(trained(), path)
        files = list({file.name: file for file in path.rglob("*") if file.is_file()}.values())
    for file in files:
        kept = file.read_bytes()
        file.write_bytes(load_it if place == "run" else kept)
        try:
            if place == "run":
                load(path)
            else:
                READERS[path.suffix](path)
        except InputError:
            pass
        assert not done.exists(), f"{file} was executed"
        file.write_bytes(kept)
    pickle.loads(load_it)
    assert done.exists()  # it would have been


FORBIDDEN = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "runpy",
    "code",
}


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "rnn_jax").rglob("*.py"), ROOT / "train_loop.py"]), ids=lambda p: p.stem
)
def test_nothing_in_the_library_can_execute_what_it_reads(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, path
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "__import__", "os.system", "torch.load"), called
            assert not called.startswith("subprocess."), called
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("allow_pickle", "False") == "False", called
            assert called != "np.load" or "allow_pickle" in given, called


def test_the_tokeniser_takes_the_vocabulary_alone_of_a_file(tmp_path):
    """A pattern that takes for ever, padding that fills the memory, ids that are no rows of the embedding."""
    good = json.loads((trained() / "tokenizer.json").read_text())
    changes = {
        "pattern": {"pre_tokenizer": good["pre_tokenizer"] | {"pattern": {"Regex": "(a+)+$"}}},
        "padding": {"padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0}},
        "truncation": {"truncation": {"max_length": 0}},
        "ids": {"model": good["model"] | {"vocab": {"[PAD]": 0, "[UNK]": 1, "a": 10**9}}},
        "one id twice": {"model": good["model"] | {"vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 2}}},
    }
    assert Tokenizer.from_json(json.dumps(good)).vocab_size == len(good["model"]["vocab"])
    for name, change in changes.items():
        with pytest.raises(InputError):
            print(name, Tokenizer.from_json(json.dumps(good | change)))


TASKS = {
    "label_names": ("ab", ["a"], ["a", "a"], [1, 2], None, {"a": 1}),
    "label_values": ([0], [[0], [1]], [0, 0], "01", None),
    "buckets": ([], [0, 12], [12, 6], [6, 10**12], ["6", "12"], [6.0, 12.0], 12, None, [6]),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in TASKS for value in TASKS[key]])
def test_labels_and_buckets_of_a_run_that_cannot_be_are_refused(tmp_path, key, value):
    shutil.copytree(trained(), tmp_path / "run")
    path = tmp_path / "run" / "task.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=key):
        load(tmp_path / "run")


@pytest.mark.parametrize("value", [None, 0, -1, 2.5, "4", 10**12, True, [4]])
@pytest.mark.parametrize("key", ["model.hidden", "model.layers", "batch.size", "text.max_length"])
def test_sizes_of_a_config_that_cannot_be_are_refused(tmp_path, key, value):
    shutil.copytree(trained(), tmp_path / "run")
    path, (section, name) = tmp_path / "run" / "config.json", key.split(".")
    config = json.loads(path.read_text())
    config[section][name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"config\.json: {key} is"):
        load(tmp_path / "run")


@pytest.mark.parametrize("content", ["[]", "3", "null", "[" * 10**5, '{"a": "' + "x" * 100])
def test_a_config_that_is_none_is_refused_for_use_and_for_training(tmp_path, content):
    shutil.copytree(trained(), tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    for use in (load, lambda workdir: check_workdir(workdir, {"a": 1})):
        with pytest.raises(InputError, match=r"config\.json"):
            use(tmp_path / "run")


@pytest.mark.parametrize("line", ["{", "3", '{"step": "1", "split": "train"}', "[" * 10**5, "{}"])
def test_metrics_that_are_none_are_refused_when_a_run_goes_on(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl .*delete it"):
        Journal(tmp_path, 10, 5, tensorboard=False)


@pytest.mark.parametrize(("key", "value"), [("task", ["classify"]), ("seed", -1), ("seed", 10**30)])
def test_settings_that_no_run_can_have_are_refused(key, value):
    from configs import lstm

    config = lstm.get_config()
    config.unlock()
    with config.ignore_type():
        config[key] = value
    with pytest.raises(InputError, match=f"{key} is"):
        check_config(config)


@pytest.mark.parametrize("source", [None, 3, "x", [], np.zeros(2), [None], {3: np.zeros((4, 4))}])
def test_what_is_no_module_of_another_framework_is_refused(source):
    for read in (
        convert.from_torch,
        convert.from_keras,
        lambda tree: convert.from_cells(tree, "linen"),
        convert.to_torch,
    ):
        with pytest.raises(InputError):
            read(source)


def test_a_full_disk_under_the_output_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as ended:
            cli.main(["predict", "--workdir", str(trained()), "a film"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("rnn-jax: [Errno 28]")


def test_a_prompt_that_the_output_cannot_show_is_one_line(monkeypatch, capsys):
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr("sys.stdout", out)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                "sample",
                "--workdir",
                str(trained(True)),
                "--prompt",
                "\udcff film",
                "--words",
                "1",
                "--top-k",
                "3",
            ]
        )
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("rnn-jax: standard output cannot show")


def test_a_message_is_cut_where_a_value_is_long():
    with pytest.raises(InputError) as caught:
        raise InputError("x" * 10**6)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("kind", hostile_files.DAMAGE)
def test_every_damage_changes_what_it_is_given(kind):
    import random

    content = b"".join(b"line %d of some text\n" % number for number in range(50))
    changed = [hostile_files.DAMAGE[kind](random.Random(seed), content) for seed in range(5)]
    assert any(each != content for each in changed)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"seconds": 3}', '{"seconds": {}, "accuracy": "x", "examples": 2}']
)
def test_results_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        read_results(tmp_path, ("accuracy", "examples"))


def test_remaking_a_section_leaves_the_rest_of_the_page(tmp_path, monkeypatch):
    from tests.stress import hostile

    monkeypatch.setattr(hostile, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(
        "# Reliability\n\nfaults\n\n<!-- other: begin -->\nother\n<!-- other: end -->\n"
    )
    found = {"room": "tables", "kind": "empty", "outcome": "refused", "seconds": 0.1, "memory": 2.0}
    for outcome in ("refused", "answered"):
        hostile.write(hostile.table([found | {"outcome": outcome}]), 1.0, 1)
    page = (tmp_path / "page.md").read_text()
    assert all(text in page for text in ("faults", "<!-- other: begin -->\nother\n"))
    assert page.count("## Bad input") == 1
    assert "| tables | 1 | 1 | 0 | 1 | 0 | 0.1 | 2 |" in page
