"""The training program on tagged sentences: a made-up language, words never seen, killed and resumed."""

import json

import numpy as np
import pytest

import rnn_jax
import train_loop
from rnn_jax.cli import main
from rnn_jax.config import starting_from
from rnn_jax.data.sentences import Sentence, read_tagged
from rnn_jax.errors import InputError
from rnn_jax.inference import Tagger
from rnn_jax.settings import tagger_settings
from rnn_jax.training import check_config
from tests.helpers.cut import assert_same_run, train_until_killed

ENDINGS = {"ing": "VERB", "ly": "ADV", "ness": "NOUN"}  # what tells the tag of a word with another stem each
COLUMNS = "{}\t{}\t_\t{}\t_\t_\t0\t_\t_\t_\n"


def made_up(count, seed):
    """Returns sentences whose tags show in the ends of words, or for "run" in the word before."""
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        words, tags = [], []
        for _ in range(random.integers(2, 5)):
            stem = "".join(random.choice(list("bcdfgklm"), 4))
            ending = random.choice(list(ENDINGS))
            first, tag = [("the", "NOUN"), ("to", "VERB")][random.integers(2)]
            words += [stem + ending, first, "run"]
            tags += [ENDINGS[ending], "PART" if first == "to" else "DET", tag]
        rows.append(Sentence(words, tags))
    return rows


def write_conllu(path, rows):
    lines = [
        "".join(COLUMNS.format(n, w, t) for n, (w, t) in enumerate(zip(*row, strict=True), 1)) for row in rows
    ]
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("treebank")
    for split, count, seed in (("train", 120, 0), ("dev", 20, 1), ("test", 30, 2)):
        write_conllu(folder / f"xx-ud-{split}.conllu", made_up(count, seed))
    return folder


def tiny_config(source, **changes):
    config = tagger_settings()
    config.data.source = str(source)
    config.text.letters, config.text.max_length = 8, 16
    config.batch.size, config.batch.buckets = 8, 1
    config.model.cell = "simple"
    config.model.embedding_dim = config.model.letter_dim = config.model.letter_hidden = (
        config.model.hidden
    ) = 8
    config.model.embedding_dropout = config.model.dropout = 0.1
    config.optimizer.learning_rate = 0.02
    config.train.epochs, config.log.every = 5, 10
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """Returns the workdir and the results of a run that nothing cut."""
    workdir = tmp_path_factory.mktemp("run") / "w"
    return workdir, train_loop.train_and_evaluate(tiny_config(source), workdir)


@pytest.fixture(scope="module")
def tagger(run):
    return rnn_jax.load(run[0])


def write_spans(path, count, seed):
    """Writes sentences in which names of two words are spans, as IOBES marks them."""
    random, lines = np.random.default_rng(seed), []
    for _ in range(count):
        for _ in range(random.integers(1, 4)):
            kind = random.choice(["PER", "LOC"])
            first = {"PER": "Mr", "LOC": "Lake"}[kind]
            name = "".join(random.choice(list("bcdfgklm"), 4)).title()
            lines += [f"saw O\n{first} B-{kind}\n{name} E-{kind}\n"]
        lines.append("\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def span_run(tmp_path_factory):
    pytest.importorskip("seqeval", reason="what measures spans; pip install seqeval")
    folder = tmp_path_factory.mktemp("spans")
    for split, count, seed in (("train", 60, 0), ("valid", 10, 1), ("test", 10, 2)):
        write_spans(folder / f"{split}.conll", count, seed)
    config = tiny_config(folder, model__output="crf", train__epochs=2)
    return folder, folder / "run", train_loop.train_and_evaluate(config, folder / "run")


def vector_of(tagger, word):
    table = tagger.params["embedding"]["embedding"]
    return table[tagger.spelling.tokenizer.words.index(word)]


def printed(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


@pytest.mark.slow
def test_words_that_training_never_had_are_tagged_by_their_letters_and_neighbours(run, source):
    _, results = run
    test = read_tagged(str(source)).splits["test"]
    assert results["words"] == sum(len(row.words) for row in test)
    assert results["accuracy"] > 0.97
    assert results["tags"]["ADV"]["recall"] > 0.9
    assert sum(scores["support"] for scores in results["tags"].values()) == results["words"]


@pytest.mark.slow
def test_a_run_leaves_a_workdir_that_explains_itself(run):
    workdir, results = run
    names = {path.name for path in workdir.iterdir()}
    assert names >= {"config.json", "tokenizer.json", "task.json", "results.json", "confusion_matrix.png"}
    assert results == json.loads((workdir / "results.json").read_text())
    task = json.loads((workdir / "task.json").read_text())
    assert task["tag_names"] == ["ADV", "DET", "NOUN", "PART", "VERB"]
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    evaluations = [line for line in lines if line["split"] == "validation"]
    best = max(evaluations, key=lambda line: (line["accuracy"], -line["loss"]))
    assert results["best_step"] == best["step"]
    assert results["words_per_second"] > 0


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_one(tmp_path, source, run):
    workdir, whole = run
    train_until_killed(tiny_config(source), tmp_path / "cut", 2)
    resumed = train_loop.train_and_evaluate(tiny_config(source), tmp_path / "cut")
    assert resumed["resumed_at"] == 2 * whole["steps"] // 5 > 0
    assert resumed["accuracy"] == whole["accuracy"]
    assert_same_run(workdir, tmp_path / "cut", whole["steps"])


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_tags(tmp_path, source, run):
    rows = read_tagged(str(source)).splits
    for split, name in (("train", "train"), ("dev", "validation"), ("test", "test")):
        write_conllu(tmp_path / f"{split}.conllu", rows[name][::-1])
    (workdir := tmp_path / "w").mkdir()
    for name in ("config.json", "task.json", "tokenizer.json"):
        (workdir / name).write_text((run[0] / name).read_text().replace(str(source), str(tmp_path)))
    (workdir / "checkpoints").symlink_to(run[0] / "checkpoints")
    with pytest.raises(InputError, match="began with other data"):
        train_loop.train_and_evaluate(tiny_config(tmp_path), workdir)


@pytest.mark.slow
def test_the_loaded_tagger_measures_what_the_run_reported(run, source, tagger):
    assert isinstance(tagger, Tagger)
    results = tagger.evaluate(read_tagged(str(source)).splits["test"])
    for name in ("accuracy", "words", "tags"):
        assert results[name] == run[1][name]
    assert results["loss"] == pytest.approx(run[1]["loss"], rel=1e-4)


@pytest.mark.slow
def test_each_word_gets_one_tag_whatever_stands_beside_its_sentence(tagger):
    sentences = [["the", "run"], [], ["to", "run"] * 20, ["Xyzness"]]
    together = tagger.predict(sentences)
    assert together.words == sentences
    assert [len(tags) for tags in together.tags] == [2, 0, 40, 1]
    assert together.tags[2][:4] == ["PART", "VERB"] * 2  # of more words than are read at once
    for sentence, tags, p in zip(sentences, together.tags, together.probabilities, strict=True):
        alone = tagger.predict([sentence])
        assert alone.tags == [tags]
        np.testing.assert_allclose(alone.probabilities[0], p, rtol=1e-4)
        assert ((p > 0) & (p <= 1.0001)).all()
    assert tagger.predict([]).tags == []
    assert tagger.predict(iter([["the", "run"], None, np.array(["run"])])).words == [
        ["the", "run"],
        [],
        ["run"],
    ]


@pytest.mark.slow
def test_texts_are_split_at_white_space_and_punctuation(tagger):
    found = tagger.predict(["The run, didn't it?"])
    assert found.words == [["The", "run", ",", "did", "n't", "it", "?"]]
    assert len(found.tags[0]) == 7
    for wrong in ("a text", [1], [["a", 1]], 7):
        with pytest.raises(TypeError, match="sentence"):
            tagger.predict(wrong)


@pytest.mark.slow
def test_the_command_prints_words_and_tags_and_measures_files(run, source, capsys):
    workdir, results = run
    lines = printed(capsys, "predict", "--workdir", workdir, "to run", "the run")
    assert lines == "to\tPART\nrun\tVERB\n\nthe\tDET\nrun\tNOUN\n\n"
    row = json.loads(printed(capsys, "predict", "--workdir", workdir, "--format", "jsonl", "to run"))
    assert (row["words"], row["tags"], len(row["probabilities"])) == (["to", "run"], ["PART", "VERB"], 2)
    arguments = "evaluate", "--workdir", workdir, "--data", source
    found = json.loads(printed(capsys, *arguments, "--format", "jsonl"))
    assert (found["split"], found["accuracy"]) == ("test", results["accuracy"])
    table = printed(capsys, *arguments, "--split", "validation")
    assert table.startswith("validation: ")
    assert all(tag in table for tag in ("precision", "ADV", "DET"))


@pytest.mark.slow
def test_unknown_tags_are_not_measured(tagger):
    with pytest.raises(InputError, match="tags that the run does not know: NUM"):
        tagger.evaluate([Sentence(["one"], ["NUM"])])


@pytest.mark.slow
def test_spans_are_measured_as_seqeval_measures_what_the_tagger_says(span_run, capsys):
    from seqeval.metrics import f1_score

    folder, workdir, results = span_run
    test = read_tagged(str(folder / "test.conll")).splits["train"]
    found = rnn_jax.load(workdir).predict([row.words for row in test]).tags
    assert results["spans"]["micro"]["f1"] == pytest.approx(f1_score([row.tags for row in test], found))
    assert results["spans"]["micro"]["support"] == sum(
        row.tags.count("B-PER") + row.tags.count("B-LOC") for row in test
    )
    assert results["spans"]["PER"].keys() == {"precision", "recall", "f1", "support"}
    table = printed(capsys, "evaluate", "--workdir", workdir, "--data", folder)
    assert "spans" in table
    assert "micro" in table


@pytest.mark.slow
def test_a_missing_seqeval_is_said_before_training(span_run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"seqeval measures; install it with: pip install -e '.\[tag\]'"):
        train_loop.train_and_evaluate(tiny_config(span_run[0]), tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_words_of_vectors_join_the_vocabulary_and_start_from_them(tmp_path, source):
    """ "leap" is in no training sentence, and has the vector of "run": it is tagged like it."""
    vectors = np.random.default_rng(0).normal(size=(3, 8)).round(3)
    rows = {"run": vectors[0], "leap": vectors[0], "the": vectors[1], "to": vectors[2]}
    lines = (f"{word} {' '.join(map(str, row))}\n" for word, row in rows.items())
    (tmp_path / "v.txt").write_text("".join(lines))
    config = tiny_config(
        source, embedding__vectors=str(tmp_path / "v.txt"), text__vector_words=9, model__letter_hidden=0,
        train__epochs=2, train__freeze=("embedding",),
    )  # fmt: skip
    train_loop.train_and_evaluate(config, tmp_path / "w")
    tagger = rnn_jax.load(tmp_path / "w")
    assert "leap" in tagger.spelling.tokenizer.words
    assert (
        tagger.predict([["to", "leap"], ["the", "leap"]]).tags
        == tagger.predict([["to", "run"], ["the", "run"]]).tags
    )
    train_loop.train_and_evaluate(starting_from(config, tmp_path / "w"), tmp_path / "next")
    later = rnn_jax.load(tmp_path / "next")
    for word in ("leap", "to"):  # that one vectors gave and one training
        np.testing.assert_array_equal(*(vector_of(each, word) for each in (tagger, later)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__source": ""}, "data.source is ''; name a file or folder"),
        ({"embedding__vectors": "word2vec"}, "embedding.vectors is 'word2vec', which reads texts"),
        ({"text__vector_words": 9}, "text.vector_words is 9, but embedding.vectors names no vectors"),
        ({"text__letters": 1}, "text.letters is 1; give at least 2"),
        ({"train__average": 1.0}, "average is 1.0"),
        ({"model__output": "crff"}, "model.output is 'crff'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(changes, message):
    with pytest.raises(InputError, match=message):
        check_config(tiny_config("nowhere", **changes))
