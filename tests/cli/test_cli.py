"""The command rnn-jax: every input and output form, and one line for every error."""

import csv
import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import rnn_jax
from rnn_jax.cli import COMMANDS, main, parser
from rnn_jax.vectors.lookup import read_vectors
from tests.helpers.runs import TEXTS, make_language_run, make_run

ROWS = [{"text": text, "label": index % 2} for index, text in enumerate([*TEXTS, 'two\nlines, and "quotes"'])]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_run(workdir)
    return workdir


def write(path, rows):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        schema = pa.schema({"text": pa.string(), "label": pa.int64()})
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(capsys, command, workdir, *arguments):
    """Returns what a successful command printed."""
    main([command, "--workdir", str(workdir), *arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """Returns the one line that a refused command printed."""
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    return err


def lines_of(output):
    return [json.loads(line) for line in output.splitlines()]


def table_rows(output):
    """Returns the cells of a printed table, header first."""
    rows = [line for line in output.splitlines() if line[:1] in "┃│"]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in rows]


def expected_lines(workdir, texts):
    labels, probabilities = rnn_jax.load(workdir).predict(texts)
    return [
        {
            "text": text,
            "label": label,
            "probabilities": {"negative": float(row[0]), "positive": float(row[1])},
        }
        for text, label, row in zip(texts, labels, probabilities, strict=True)
    ]


@pytest.mark.slow
def test_texts_as_arguments(workdir, capsys):
    output = run(capsys, "predict", workdir, "--format", "jsonl", *TEXTS)
    assert lines_of(output) == expected_lines(workdir, TEXTS)


def test_texts_as_lines_of_standard_input(workdir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a great film\n\nso dull"))
    output = run(capsys, "predict", workdir, "--format", "jsonl")
    assert lines_of(output) == expected_lines(workdir, ["a great film", "", "so dull"])


def test_a_closed_output_is_no_error(workdir, tmp_path, monkeypatch):
    """Python has None for an output that the shell closed with >&-."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    main(["predict", "--workdir", str(workdir), "a great film"])
    main(["predict", "--workdir", str(workdir), "a great film", "--out", str(tmp_path / "out.csv")])
    assert (tmp_path / "out.csv").read_text().startswith("text,predicted,probability\na great film,")
    sys.stdout.close()
    sys.stderr.close()


def test_the_mark_before_standard_input_is_no_part_of_its_first_text(workdir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffa great film\n\ufeffso dull\n"))
    output = run(capsys, "predict", workdir, "--format", "jsonl")
    assert [row["text"] for row in lines_of(output)] == ["a great film", "\ufeffso dull"]


@pytest.mark.parametrize("option", ["--encoding=cp1252", "--delimiter=;"])
@pytest.mark.parametrize("texts", [["a film"], []])
def test_how_a_file_is_written_is_refused_where_none_is_read(capsys, option, texts):
    with pytest.raises(SystemExit):
        main(["predict", "--workdir", "runs/none", option, *texts])
    assert f"{option.split('=')[0]} is given without --input" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_texts_of_a_file(workdir, capsys, tmp_path, suffix):
    path = write(tmp_path / f"reviews.{suffix}", ROWS)
    output = run(capsys, "predict", workdir, "--format", "jsonl", "--input", path)
    assert lines_of(output) == expected_lines(workdir, [row["text"] for row in ROWS])


def test_column_of_another_name(workdir, capsys, tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps({"review": "a great film"}) + "\n")
    output = run(capsys, "predict", workdir, "--format", "jsonl", "--input", str(path), "--column", "review")
    assert lines_of(output) == expected_lines(workdir, ["a great film"])
    error = refused(capsys, "predict", "--workdir", workdir, "--input", path, "--column", "reviews")
    assert "no column 'reviews'" in error
    assert "Did you mean 'review'" in error


@pytest.mark.slow
def test_table_shows_hostile_text_as_it_is(workdir, capsys):
    texts = ["[bold]x[/bold] :smile:", "[/x]", "😀\n\x00film\x1b[2J", "w " * 1000, "", "\udcff"]
    rows = table_rows(run(capsys, "predict", workdir, *texts))
    assert rows[0] == ["label", "probability", "text"]
    shown = [row[2] for row in rows[1:]]
    assert shown == [texts[0], "[/x]", "😀 film [2J", "w " * 99 + "w...", "", ""]
    for row, line in zip(rows[1:], expected_lines(workdir, texts), strict=True):
        assert row[0] == line["label"]
        assert float(row[1]) == pytest.approx(max(line["probabilities"].values()), abs=6e-4)


@pytest.mark.slow
def test_table_shows_hostile_labels_as_they_are(tmp_path, capsys):
    names = ("[red]", "[/x] :smile:", "a\nb")
    make_run(tmp_path / "w", names=names, values=("r", "x", "b"), accuracies=(0.5,))
    path = write(tmp_path / "labelled.jsonl", [{"text": "a film", "label": "x"}])
    line, *table = run(capsys, "evaluate", tmp_path / "w", "--data", path).splitlines()
    assert line.startswith("train: 1 texts  accuracy ")
    header, *rows = table_rows("\n".join(table))
    assert header == ["label \\ predicted", "[red]", "[/x] :smile:", "a b"]
    assert [row[0] for row in rows] == header[1:]
    assert np.array([row[1:] for row in rows], int).sum(axis=1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_no_rows_predict_nothing_and_cannot_be_evaluated(workdir, capsys, tmp_path, suffix):
    path = write(tmp_path / f"empty.{suffix}", [])
    main(["predict", "--workdir", str(workdir), "--input", path])
    out, err = capsys.readouterr()
    assert out == ""
    assert "no texts" in err
    assert "holds no rows" in refused(capsys, "evaluate", "--workdir", workdir, "--data", path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_evaluation_of_a_file(workdir, capsys, tmp_path, suffix):
    path = write(tmp_path / f"labelled.{suffix}", ROWS)
    output = json.loads(run(capsys, "evaluate", workdir, "--format", "jsonl", "--data", path))
    found = rnn_jax.load(workdir).evaluate([row["text"] for row in ROWS], [row["label"] for row in ROWS])
    summary, counts = found.summary(), output["confusion_matrix"]
    assert output == {"split": "train", **summary, "confusion_matrix": counts, "scores": found.scores}
    assert sum(map(sum, output["confusion_matrix"])) == len(ROWS)
    table = run(capsys, "evaluate", workdir, "--data", path)
    assert f"accuracy {summary['accuracy']:.2%}" in table
    assert "negative" in table
    assert f"macro_f1 {found.scores['macro_f1']:.3f}" in table


@pytest.mark.slow
def test_evaluation_takes_the_test_split_where_there_is_one(workdir, capsys, tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", ROWS[:2])
    output = json.loads(run(capsys, "evaluate", workdir, "--format", "jsonl", "--data", str(tmp_path)))
    assert (output["split"], output["examples"]) == ("test", 2)
    chosen = run(
        capsys, "evaluate", workdir, "--format", "jsonl", "--data", str(tmp_path), "--split", "train"
    )
    assert json.loads(chosen)["examples"] == len(ROWS)
    error = refused(capsys, "evaluate", "--workdir", workdir, "--data", tmp_path, "--split", "dev")
    assert "--split is 'dev'" in error


def test_unknown_labels_are_named(workdir, capsys, tmp_path):
    path = write(tmp_path / "labelled.jsonl", [{"text": "a", "label": 7}])
    assert "[7]" in refused(capsys, "evaluate", "--workdir", workdir, "--data", path)
    path = write(tmp_path / "listed.jsonl", [{"text": "a", "label": [1]}])
    assert "label column holds [[1]]" in refused(capsys, "evaluate", "--workdir", workdir, "--data", path)


@pytest.mark.slow
def test_which_checkpoint(workdir, capsys, tmp_path):
    outputs = {run(capsys, "predict", workdir, "--which", which, "a film") for which in ("1", "best", "last")}
    assert len(outputs) == 3
    assert "saved step: [1, 2, 3]" in refused(
        capsys, "predict", "--workdir", workdir, "--which", "7", "a film"
    )
    shutil.copytree(workdir, tmp_path / "torn")
    shutil.rmtree(tmp_path / "torn" / "checkpoints" / "2" / "params")
    assert "--fallback" in refused(capsys, "predict", "--workdir", tmp_path / "torn", "a film")
    assert "film" in run(capsys, "predict", tmp_path / "torn", "--fallback", "a film")


def test_bad_input_ends_with_one_line(workdir, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("a film")
    path = write(tmp_path / "reviews.jsonl", ROWS)
    assert "texts or --input, not both" in refused(
        capsys, "predict", "--workdir", workdir, "--input", path, "a film"
    )
    assert "is not there" in refused(
        capsys, "predict", "--workdir", workdir, "--input", tmp_path / "none.csv"
    )
    assert ".txt" in refused(capsys, "predict", "--workdir", workdir, "--input", tmp_path / "notes.txt")
    assert "not the folder of a run" in refused(capsys, "predict", "--workdir", tmp_path, "a film")
    (tmp_path / "one.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    assert "row 1 has text = 1" in refused(
        capsys, "predict", "--workdir", workdir, "--input", tmp_path / "one.jsonl"
    )


SCRIPT = str(Path(sys.executable).with_name("rnn-jax"))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["stdin", "file"])
def test_pipe_is_clean(workdir, tmp_path, source):
    texts = ["a great film", "emoji 😀 film"]
    path = write(tmp_path / "reviews.csv", [{"text": text, "label": 0} for text in texts])
    command = [SCRIPT, "predict", "--workdir", str(workdir), "--format", "jsonl"]
    command += ["--input", path] if source == "file" else []
    lines = None if source == "file" else "".join(f"{text}\n" for text in texts)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == expected_lines(workdir, texts)
    assert done.stderr == ""


@pytest.mark.slow
def test_reader_that_has_enough_ends_the_command_quietly(workdir):
    command = [SCRIPT, "predict", "--workdir", str(workdir), "--format", "jsonl"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.close()
        _, errors = process.communicate("a great film\n" * 1000)
    assert errors == ""
    assert process.returncode == 1


def test_standard_input_that_is_no_text_is_refused(workdir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a caf\xe9\n"), encoding="utf-8"))
    assert "standard input is not utf-8" in refused(capsys, "predict", "--workdir", workdir)


def test_table_fits_the_encoding_of_the_output(workdir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    main(["predict", "--workdir", str(workdir), "😀 film"])
    assert b"? film" in sys.stdout.buffer.getvalue()


GENSIM = pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None, reason="needs gensim (extra: vectors)"
)


def unlabelled(folder):
    """Writes splits whose texts name them."""
    folder.mkdir()
    for split in ("train", "unsupervised", "test"):
        rows = [{"text": f"Every{split} word,<br />{split}only"}] * 6
        (folder / f"{split}-00000-of-00001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.mark.slow
@GENSIM
def test_vectors_are_of_all_texts_but_those_held_out(tmp_path, capsys):
    out = tmp_path / "new" / "v.txt"
    arguments = ["--data", unlabelled(tmp_path / "data"), "--out", str(out), "--dim", "7", "--epochs", "2"]
    main(["vectors", *arguments])
    assert capsys.readouterr().out.startswith(f"{out}: 6 words, 7 dimensions, ")
    words = {line.split()[0] for line in out.read_text().splitlines()[1:]}
    assert words == {"everytrain", "everyunsupervised", "trainonly", "unsupervisedonly", "word", ","}
    assert read_vectors(str(out), ["[PAD]", "[UNK]", "word"]).table.shape == (3, 7)
    first = out.read_bytes()
    main(["vectors", *arguments])
    assert out.read_bytes() == first
    main(["vectors", *arguments, "--seed", "1"])
    assert out.read_bytes() != first


@pytest.mark.slow
@GENSIM
def test_settings_of_vectors_reach_the_training(tmp_path, monkeypatch):
    seen = {}

    def train_vectors(sentences, **settings):
        seen.update(settings)
        return ["a"], np.ones((1, 2))

    monkeypatch.setattr("rnn_jax.cli.commands.train_vectors", train_vectors)
    arguments = ["vectors", "--data", unlabelled(tmp_path / "data"), "--out", str(tmp_path / "v.txt")]
    main(arguments)
    assert seen == {"dim": 128, "window": 5, "epochs": 8, "min_count": 5, "seed": 0, "workers": 1}
    others = {"dim": 1, "window": 2, "epochs": 3, "min_count": 4, "seed": 5, "workers": 6}
    main(arguments + [f"--{name.replace('_', '-')}={value}" for name, value in others.items()])
    assert seen == others


def test_vectors_that_cannot_be_made_or_written_are_refused_before_the_work(tmp_path, capsys, monkeypatch):
    data = unlabelled(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("rnn_jax.cli.commands.read_texts", lambda *_: pytest.fail("read the texts"))
    for out, message in ((tmp_path / "file" / "v.txt", "cannot be written"), (tmp_path / "v.bin", ".bin")):
        assert message in refused(capsys, "vectors", "--data", data, "--out", out)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    assert "pip install" in refused(capsys, "vectors", "--data", data, "--out", tmp_path / "v.txt")


@pytest.mark.parametrize(
    ("option", "message"), [("--dim=0", "dim is 0; give a positive"), ("--seed=-1", "seed is")]
)
def test_settings_of_vectors_are_checked_before_a_text_is_read(tmp_path, capsys, option, message):
    out = tmp_path / "v.txt"
    assert message in refused(capsys, "vectors", "--data", tmp_path / "none.csv", "--out", out, option)


@GENSIM
def test_texts_of_too_few_words_for_vectors_are_refused(tmp_path, capsys):
    data, out = unlabelled(tmp_path / "data"), tmp_path / "v.txt"
    error = refused(capsys, "vectors", "--data", data, "--out", out, "--min-count", "99")
    assert "no word is used 99 times" in error
    assert not out.exists()


@pytest.mark.slow
def test_sampling_prints_what_the_language_model_writes(tmp_path, capsys):
    make_language_run(tmp_path / "run")
    arguments = ["--prompt", "a great film", "--words", "5", "--top-k", "3", "--seed", "2"]
    printed = run(capsys, "sample", tmp_path / "run", *arguments)
    writer = rnn_jax.load_language_model(tmp_path / "run")
    assert printed == writer.write("a great film", 5, temperature=0.8, top_k=3, seed=2) + "\n"
    assert writer.tokenizer.vocab_size < 40  # so many words are drawn from unless told otherwise
    printed = run(capsys, "sample", tmp_path / "run", "--prompt", "a great film", "--words", "5")
    assert printed == writer.write("a great film", 5, temperature=0.8, top_k=0, seed=0) + "\n"


@pytest.mark.slow
def test_home_is_expanded_in_the_file_to_write(workdir, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnn_jax.cli.commands.load_gensim", lambda: None)
    monkeypatch.setattr("rnn_jax.cli.commands.train_vectors", lambda *_, **__: (["a"], np.ones((1, 2))))
    main(["vectors", "--data", write(tmp_path / "rows.jsonl", ROWS), "--out", "~/new/v.txt"])
    main(["predict", "--workdir", str(workdir), "--out", "~/out.csv", "a film"])
    main(["export", "--workdir", str(workdir), "--out", "~/model.zip"])
    said = capsys.readouterr().out.splitlines()
    written = [tmp_path / "home" / name for name in ("new/v.txt", "out.csv", "model.zip")]
    assert [line.split(": ")[0] for line in said] == list(map(str, written))
    assert all(path.stat().st_size for path in written)
    assert not (tmp_path / "~").exists()


@pytest.mark.slow
def test_a_command_for_the_other_kind_of_run_says_what_to_use(tmp_path, workdir, capsys):
    make_language_run(tmp_path / "run")
    assert "rnn-jax sample" in refused(capsys, "predict", "--workdir", tmp_path / "run", "a film")
    data = write(tmp_path / "rows.csv", ROWS)
    assert "from_workdir" in refused(capsys, "evaluate", "--workdir", tmp_path / "run", "--data", data)
    assert "rnn-jax predict" in refused(capsys, "sample", "--workdir", workdir, "--prompt", "a film")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "", "--top-k", "0"], "prompt is '', which has no words"),
        (["--prompt", "a", "--words", "0"], "words is 0"),
        (["--prompt", "a", "--temperature", "0"], "temperature is 0.0"),
        (["--prompt", "a", "--top-k", "99"], "top_k is 99"),
    ],
)
def test_what_cannot_be_sampled_is_said_in_one_line(tmp_path, capsys, options, message):
    make_language_run(tmp_path / "run")
    assert message in refused(capsys, "sample", "--workdir", tmp_path / "run", *options)


@pytest.mark.parametrize("command", [function.__name__ for function in COMMANDS])
def test_the_help_of_a_command_has_examples_that_are_commands(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    examples = [line.split("|")[-1].split(">")[0] for line in shown.splitlines() if line.startswith("  ")]
    examples = [shlex.split(line)[1:] for line in examples if line.split()[:2] == ["rnn-jax", command]]
    assert examples
    for words in examples:
        options, overrides = parser().parse_known_args(words)
        assert options.run.__name__ == command
        assert all(word.startswith("--config.") for word in overrides)


def test_the_help_lists_every_command_and_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {function.__name__} " in shown for function in COMMANDS)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.fullmatch(
        rf"rnn-jax [\d.]+ \(jax {jax.__version__}, Python 3\.[\d.]+\)\n", capsys.readouterr().out
    )


@pytest.fixture
def as_started(monkeypatch):
    """The settings and the workdir of a training that is begun, in place of the training."""
    begun = []
    monkeypatch.setattr("rnn_jax.training.command.restart", lambda *_: None)
    monkeypatch.setattr(
        "rnn_jax.training.command.train_and_evaluate",
        lambda config, workdir: (
            begun.append((config, workdir)) or {"seconds": {}, "accuracy": 1, "examples": 1}
        ),
    )
    return begun


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
def test_training_from_a_run_takes_its_settings_and_its_parameters(workdir, capsys, as_started):
    main(["train", "--from", str(workdir), "--workdir", "runs/new", "--config.train.epochs=7"])
    ((config, place),) = as_started
    assert place == "runs/new"
    assert (config.model.hidden, config.train.epochs) == (4, 7)  # the run's, and the override
    assert (config.embedding.from_workdir, config.embedding.take) == (str(workdir), ("*",))
    main(["train", "--from", str(workdir), "--recipe", "bilstm", "--config.embedding.take=('encoder',)"])
    config = as_started[1][0]
    assert (config.model.hidden, config.model.bidirectional) == (32, True)  # the recipe's
    assert (config.embedding.from_workdir, config.embedding.take) == (str(workdir), ("encoder",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config FILE, --recipe NAME or --from RUN"),
        (["--from", "runs/none"], "is 'runs/none', which is not the folder of a run"),
        (["--form", "runs/a"], "--form is no argument of train. Did you mean '--from'"),
    ],
)
def test_training_from_nothing_is_refused(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["train", *arguments])
