"""A tagger in use: which checkpoint it takes, which folders it refuses, and how spans are counted."""

import csv
import json
import re

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax.cli import main
from rnn_jax.data import Sentence
from rnn_jax.errors import InputError
from rnn_jax.inference import Predictor, load_tagger
from rnn_jax.inference.tagger import span_scores
from tests.helpers.runs import make_run, make_tagger_run

TAGS = ["NOUN", "VERB", "ADV"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tagger") / "w"
    return workdir, make_tagger_run(workdir, [["Dogs", "bark", "loudly"]], TAGS, (0.5, 0.9, 0.7))


@pytest.mark.parametrize(("which", "step"), [("best", 2), ("last", 3), (1, 1)])
def test_the_checkpoint_that_is_asked_for_is_loaded(made, which, step):
    workdir, params_by_step = made
    tagger = rnn_jax.load(workdir, which)
    assert (tagger.step, tagger.tag_names) == (step, tuple(TAGS))
    jax.tree.map(np.testing.assert_array_equal, tagger.params, params_by_step[step])


def test_each_kind_of_run_is_loaded_as_what_it_is(made, tmp_path):
    make_run(tmp_path / "classifier")
    assert isinstance(rnn_jax.load(tmp_path / "classifier"), Predictor)
    with pytest.raises(InputError, match=r"holds a classifier: use rnn_jax\.load"):
        load_tagger(tmp_path / "classifier")


def test_probabilities_are_those_of_the_tags_in_all_ways_to_score(tmp_path):
    """Of one word, a CRF has p = softmax(scores + start + end)."""
    params = make_tagger_run(tmp_path / "w", [["Dogs"]], TAGS, (0.5,), output="crf")[1]
    tagger = rnn_jax.load(tmp_path / "w")
    found = tagger.predict([["dogs"]])
    ids, letters = tagger.spelling.word_ids(["dogs"]), tagger.spelling.letters_of(["dogs"])
    scores = tagger.model.apply({"params": tagger.params}, ids[None], None, letters[None])[0, 0]
    p = jax.nn.softmax(scores + params["crf"]["start"] + params["crf"]["end"])
    assert found.tags == [[TAGS[int(p.argmax())]]]
    assert found.probabilities[0][0] == pytest.approx(float(p.max()), rel=1e-4)


def test_a_saved_tagger_is_the_tagger(made, tmp_path):
    tagger = rnn_jax.load(made[0], which="last")
    tagger.save(tmp_path / "s", license="mit")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "task.json", "tokenizer.json",
    ]  # fmt: skip
    again = rnn_jax.load(tmp_path / "s")
    words = [["Dogs", "bark"], "Undogs bark loudly."]
    assert (again.step, again.tag_names) == (3, tuple(TAGS))
    for one, other in zip(again.predict(words), tagger.predict(words), strict=True):
        assert list(map(list, one)) == list(map(list, other))
    card = (tmp_path / "s" / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert "A tagger of words with 3 tags" in card
    assert "| tags | `NOUN`, `VERB`, `ADV` |" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "rnn_jax.load('s')" in code
    exec(code.replace("'s'", repr(str(tmp_path / "s"))), {})


def test_a_stream_of_sentences_is_read_a_part_at_a_time(made, monkeypatch):
    monkeypatch.setattr("rnn_jax.inference.parts.PART", 2)
    tagger, read = rnn_jax.load(made[0]), []
    parts = tagger.predict_parts(read.append(n) or ["Dogs"] * (n % 2) for n in range(5))
    assert len(next(parts).tags) == len(read) == 2
    assert [len(part.tags) for part in parts] == [2, 1]


def predict_rows(workdir, folder, *arguments, rows=("id,text", '1,"Dogs bark, loudly"', "2,")):
    (folder / "in.csv").write_text("\n".join(rows) + "\n")
    main(["predict", "--workdir", str(workdir), "--input", str(folder / "in.csv"), *map(str, arguments)])


def test_a_file_of_predictions_has_words_and_tags_side_by_side(made, tmp_path):
    predict_rows(made[0], tmp_path, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        first, empty = csv.DictReader(file)
    assert list(first) == ["id", "text", "words", "predicted"]
    assert first["words"] == "Dogs bark , loudly"
    assert first["predicted"].split() == rnn_jax.load(made[0]).predict(["Dogs bark, loudly"]).tags[0]
    assert empty == {"id": "2", "text": "", "words": "", "predicted": ""}


def test_what_a_column_of_tags_cannot_hold_is_refused_before_any_row(made, tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict_rows(made[0], tmp_path, "--out", tmp_path / "out.csv", rows=("text,words", "a,b"))
    assert "--input has the columns ['words'], which --out would add" in capsys.readouterr().err
    make_tagger_run(tmp_path / "w", [["Dogs"]], ["a noun", "VERB"])
    with pytest.raises(SystemExit):
        predict_rows(tmp_path / "w", tmp_path, "--out", tmp_path / "out.csv")
    assert "the tag ['a noun'] has a space in it" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_evaluation_takes_pairs_and_a_tag_for_each_word(made):
    tagger = rnn_jax.load(made[0])
    sentences = [Sentence(["Dogs", "bark"], ["NOUN", "VERB"]), Sentence([], [])]
    expected = tagger.evaluate(sentences)
    assert expected["words"] == 2
    assert tagger.evaluate(map(tuple, sentences)) == expected
    # One tag of several words counted for all of them.
    for tags in (["NOUN"], ["NOUN", "VERB", "ADV"]):
        with pytest.raises(InputError, match=f"sentence 1 has 2 words and {len(tags)} tags; give one tag"):
            tagger.evaluate([sentences[0], Sentence(["Dogs", "bark"], tags)])
    with pytest.raises(InputError, match="no sentences with words"):
        tagger.evaluate([Sentence([], [])])


def evaluated(workdir, path, capsys, *more):
    main(["evaluate", "--workdir", str(workdir), "--data", str(path), "--format", "jsonl", *more])
    return json.loads(capsys.readouterr().out)


def test_evaluation_reads_the_encoding_and_the_columns_that_are_named(made, tmp_path, capsys):
    path = tmp_path / "a.conll"
    path.write_bytes("Dögs NOUN\nbark VERB\n".encode("cp1252"))
    assert evaluated(made[0], path, capsys, "--encoding", "cp1252")["words"] == 2
    with pytest.raises(SystemExit):
        evaluated(made[0], path, capsys, "--encoding", "cp1252", "--delimiter", ";")
    assert "has no separated values" in capsys.readouterr().err
    rows = tmp_path / "a.jsonl"
    rows.write_text(json.dumps({"text": ["Dogs", "bark"], "label": ["NOUN", "VERB"]}) + "\n")
    assert evaluated(made[0], rows, capsys, "--column", "text", "--label-column", "label")["words"] == 2
    with pytest.raises(SystemExit):
        evaluated(made[0], rows, capsys)  # its own columns are the usual ones, tokens and tags
    assert "data.word_column is ''" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag_names": ["NOUN", "NOUN"]}, "tag_names are no texts, each once"),
        ({"tag_names": "NOUN"}, "tag_names are no texts, each once"),
        ({"tag_names": ["NOUN", "VERB"]}, "is of another network than its config: .*head/bias"),
        ({"letters": [1, 2]}, "letters are no texts, each once"),
        ({"buckets": [8, 4]}, "buckets are not numbers of words that grow to config.text.max_length, 8"),
        ({"buckets": None}, "buckets are not numbers of words"),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused(made, tmp_path, changes, message):
    workdir = made[0]
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((workdir / name).read_text())
    (tmp_path / "checkpoints").symlink_to(workdir / "checkpoints")
    task = json.loads((workdir / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps(task | changes))
    with pytest.raises(InputError, match=message):
        rnn_jax.load(tmp_path)


def test_spans_are_counted_whole():
    pytest.importorskip("seqeval", reason="what measures spans; pip install seqeval")
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "I-LOC"]]
    found = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "I-LOC"]]  # one span is too short
    scores = span_scores(true, found, "BIO")
    assert scores["PER"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores["LOC"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    assert scores["micro"]["f1"] == pytest.approx(2 / 3)
    assert scores["micro"]["support"] == 3
    bilou = [["B-PER", "L-PER", "O", "U-LOC"]]
    assert span_scores(bilou, bilou, "BILOU")["micro"]["f1"] == 1
    assert span_scores(bilou, [["B-PER", "I-PER", "O", "U-LOC"]], "BILOU")["micro"]["recall"] == 0.5


def test_no_spans_at_all_are_no_division_by_zero():
    pytest.importorskip("seqeval", reason="what measures spans; pip install seqeval")
    assert span_scores([["O", "O"]], [["O", "O"]], "BIO")["micro"]["support"] == 0
    assert span_scores([["U-x", "O"]], [["I-x", "O"]], "BILOU")["micro"]["recall"] == 0
    assert span_scores([["I-x", "O"]], [["I-x", "O"]], "BILOU")["micro"]["support"] == 0
