"""Tagged sentences: one tag for each word in every format; no word that is none; bad lines are named."""

import gzip
import json

import datasets
import pytest

from rnn_jax.data.reading import Reading
from rnn_jax.data.sentences import Sentence, read_tagged, span_scheme
from rnn_jax.errors import InputError

WORDS = ["He", "did", "n't", "go", "."]
TAGS = ["PRON", "AUX", "PART", "VERB", "PUNCT"]
SENTENCES = [Sentence(WORDS, TAGS), Sentence(["Yes", "!"], ["INTJ", "PUNCT"])]
CONLLU = """# sent_id = 1
# text = He didn't go.
1\tHe\the\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdid\tdo\tAUX\tVBD\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
4.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
2\t!\t!\tPUNCT\t.\t_\t1\tpunct\t_\t_
"""
CONLL = (
    "-DOCSTART- -X- O\n\nHe PRP PRON\ndid VBD AUX\nn't RB PART\ngo VB VERB\n. . PUNCT\n\n\n"
    "Yes UH INTJ\n! . PUNCT"
)
PLUS = (
    "# global.columns = ID UPOS FORM\n1\tPRON\tHe\n2-3\t_\tdidn't\n2\tAUX\tdid\n3\tPART\tn't\n"
    "4\tVERB\tgo\n5\tPUNCT\t.\n\n1\tINTJ\tYes\n2\tPUNCT\t!\n"
)


def read(path, **columns):
    return read_tagged(str(path), **columns).splits["train"]


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.conllu", CONLLU),
        ("A.CONLLU", CONLLU),
        ("crlf.conllu", CONLLU.replace("\n", "\r\n")),
        ("mark.conllu", "\ufeff" + CONLLU),
        ("a.conll", CONLL),
        ("crlf.conll", CONLL.replace("-DOCSTART- -X- O", "-DOCSTART-").replace("\n", "\r\n")),
        ("spaces.txt", CONLL.replace(" ", "   ")),
        ("a.tsv", CONLL.replace(" ", "\t")),
        ("plus.conllup", PLUS),
        ("a.jsonl", "".join(json.dumps({"tokens": row.words, "tags": row.tags}) + "\n" for row in SENTENCES)),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_words_and_tags(tmp_path, name, text):
    assert read(written(tmp_path / name, text)) == SENTENCES


def test_gzipped_files_are_read(tmp_path):
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress(CONLLU.encode()))
    assert read(path) == SENTENCES
    path.write_bytes(gzip.compress(CONLLU.encode())[:-20])
    with pytest.raises(InputError, match=r"could not read .*a\.conllu\.gz"):
        read(path)


def test_a_gzipped_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rnn_jax.files.most_bytes", lambda path: 1000)
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress(b"a X\n" * 1000))
    with pytest.raises(InputError, match="expands to over 1,000 bytes"):
        read(path)


def test_columns_are_chosen_by_name_and_by_number(tmp_path):
    path = written(tmp_path / "a.conllu", CONLLU)
    assert read(path, tag_column="xpos")[0].tags == ["PRP", "VBD", "RB", "VB", "."]
    assert read(path, word_column="lemma", tag_column="DEPREL")[1] == Sentence(
        ["yes", "!"], ["root", "punct"]
    )
    path = written(tmp_path / "a.conll", CONLL)
    assert read(path, tag_column="1")[1].tags == ["UH", "."]
    assert read(path, word_column="-2", tag_column="0")[1] == Sentence(["UH", "."], ["Yes", "!"])


def test_a_number_sign_is_a_word_where_its_line_has_the_columns_of_words(tmp_path):
    text = "# id 17 of a file\nNumber NOUN\n# SYM\n1 NUM\n"
    assert read(written(tmp_path / "a.conll", text)) == [
        Sentence(["Number", "#", "1"], ["NOUN", "SYM", "NUM"])
    ]


def test_words_of_tab_separated_files_may_hold_spaces(tmp_path):
    text = "10\xa0000 km\tNUM\nfrom\tADP\n"
    assert read(written(tmp_path / "a.tsv", text))[0].words == ["10\xa0000 km", "from"]
    assert read(written(tmp_path / "a.conll", "10\xa0000 NUM\n"))[0].words == ["10\xa0000"]


def test_a_treebank_s_folder_has_its_splits_by_name_and_the_rest_is_named(tmp_path):
    for split in ("train", "dev", "test"):
        written(tmp_path / f"en_ewt-ud-{split}.conllu", CONLLU)
        written(tmp_path / f"en_ewt-ud-{split}.txt", "He didn't go. Yes!")
    written(tmp_path / "README.txt", "A treebank.")
    written(tmp_path / "notes.conllu", CONLLU)
    found = read_tagged(str(tmp_path))
    assert found.splits == dict.fromkeys(["train", "validation", "test"], SENTENCES)
    assert {"README.txt", "notes.conllu", "en_ewt-ud-train.txt"} <= set(found.passed_over)


def test_several_files_of_no_split_are_all_to_train_on(tmp_path):
    for name in ("a", "b"):
        written(tmp_path / f"{name}.conll", CONLL)
    assert read_tagged(str(tmp_path)).splits == {"train": SENTENCES * 2}


@pytest.mark.parametrize("write", ["to_parquet", "to_json"])
def test_numbered_tags_have_the_names_that_the_dataset_gives_them(tmp_path, write):
    names = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    rows = {"tokens": [["Ada", "Byron", "wrote"], ["So"]], "ner_tags": [[1, 2, 0], [0]]}
    data = datasets.Dataset.from_dict(rows, features=features)
    path = tmp_path / f"train.{write.removeprefix('to_').replace('json', 'jsonl')}"
    getattr(data, write)(path)
    found = read_tagged(str(path))
    if write == "to_json":  # which has no room for names
        assert found.splits["train"][0].tags == ["1", "2", "0"]
        return
    assert found.tag_names == tuple(names)
    assert found.splits["train"] == [
        Sentence(["Ada", "Byron", "wrote"], ["B-PER", "I-PER", "O"]),
        Sentence(["So"], ["O"]),
    ]


def test_a_dataset_on_the_hub_has_its_names(monkeypatch):
    names = ["O", "B-LOC"]
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    data = datasets.Dataset.from_dict({"words": [["In", "Rome"]], "tags": [[0, 1]]}, features=features)
    monkeypatch.setattr("rnn_jax.data.sentences.read_source", lambda *source: {"train": data})
    found = read_tagged("someone/cities")
    assert found.splits["train"] == [Sentence(["In", "Rome"], ["O", "B-LOC"])]
    assert found.tag_names == ("O", "B-LOC")


ROW = "1\tHe\the\tPRON\tPRP\t_\t4\tnsubj\t_\t_\n"


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("a.conllu", ROW + "2\tdid\n", {}, r"a.conllu, line 2: it has 2 columns, not 10"),
        ("a.conllu", ROW.replace("PRON", "_"), {}, r"line 1: the word 'He' has no tag \(_\)"),
        ("a.conllu", ROW, {"tag_column": "upso"}, r"no column 'upso'; it has id, .* Did you mean 'upos'\?"),
        ("a.conll", "He PRON\n", {"tag_column": "upos"}, "its columns have no names: give a number"),
        ("a.conll", "He PRON\nran\n", {"tag_column": "1"}, "line 2: it has 1 columns, and none is number 1"),
        ("a.tsv", "He\t\n", {}, "line 1: column -1 is empty"),
        ("a.conllu", "# nothing\n\n", {}, "holds no sentences"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["X"]}\n', {}, "row 0 .* has 2 words and 1 tags"),
        ("a.jsonl", '{"tokens": "a b", "tags": ["X"]}\n', {}, "tokens = 'a b'; give a list"),
        ("a.jsonl", '{"tokens": ["a", " "], "tags": ["X", "Y"]}\n', {}, r"has the word \[' '\]"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [null]}\n', {}, "has the tag None; a tag is a string"),
        ("a.jsonl", '{"text": ["a"], "tags": ["X"]}\n', {}, "data.word_column is ''.* columns: text, tags"),
        ("a.jsonl", '{"words": ["a"], "tags": ["X"], "upos": ["X"]}\n', {}, "data.tag_column is ''"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, name, text, columns, message):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path / name, text), **columns)


def test_bytes_that_are_not_utf_8_are_named_and_read_when_their_encoding_is(tmp_path):
    (tmp_path / "a.conll").write_bytes("déjà ADV\n".encode("latin-1"))
    found = read_tagged(str(tmp_path / "a.conll"), reading=Reading(encoding="latin-1"))
    assert found.splits["train"] == [Sentence(["déjà"], ["ADV"])]
    with pytest.raises(InputError, match=r"data\.name is 'en', but .* is no dataset of the hub"):
        read_tagged(str(tmp_path / "a.conll"), reading=Reading(name="en"))
    with pytest.raises(InputError, match=r"could not read .* no text in utf-8 .* it looks like cp1252"):
        read(tmp_path / "a.conll")


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["O", "B-PER", "I-PER"], "BIO"),
        (["I-PER", "O"], "BIO"),  # IOB1: a span begins with I
        (["O", "B-X-Y", "I-X-Y", "E-X-Y", "S-X-Y"], "BIO"),
        (["O", "B-PER", "L-PER", "U-PER"], "BILOU"),
        (["NOUN", "VERB"], ""),
        (["O"], ""),
        (["O", "B", "I"], ""),
        (["I-PER", "NOUN"], ""),
        (["A-x", "B-x"], ""),
    ],
)
def test_which_tags_mark_spans(tags, scheme):
    assert span_scheme(tags) == scheme
