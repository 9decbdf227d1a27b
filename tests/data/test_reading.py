"""What people bring: each form of a file gives the same rows, and what a reader decides is said."""

import bz2
import gzip
import json
import lzma
import zipfile

import numpy as np
import pandas
import pytest
import zstandard

from rnn_jax.data.columns import column_of, texts_of
from rnn_jax.data.in_memory import splits_of
from rnn_jax.data.labels import positions, read_labels
from rnn_jax.data.pipeline import unknown_share
from rnn_jax.data.reading import Reading
from rnn_jax.data.row_streams import stream_rows
from rnn_jax.data.sources import read_source
from rnn_jax.data.splits import load_corpus
from rnn_jax.data.tokenizer import Tokenizer, tokenizer_kind
from rnn_jax.errors import InputError
from rnn_jax.vectors import read_vectors

ROWS = [{"text": "a fine film, très bien", "label": 1}, {"text": "a dull one", "label": 0}]
CSV = 'text,label\n"a fine film, très bien",1\na dull one,0\n'
SHARES = {"validation_share": 0.2, "test_share": 0.2, "split_seed": 0}
COLUMNS = {"text_column": "text", "label_column": "label", "label_names": ()}


def rows_of(path, content, **reading):
    said = []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    data = read_source(str(path), Reading(say=said.append, **reading))["train"]
    return [dict(row) for row in data], said


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("|", "vertical bars"), ("\t", "tabs")])
def test_a_delimiter_is_found_and_said(tmp_path, delimiter, name):
    content = (
        CSV.replace(",1", f"{delimiter}1").replace(",0", f"{delimiter}0").replace("text,", f"text{delimiter}")
    )
    rows, said = rows_of(tmp_path / "a.csv", content)
    assert rows == ROWS
    assert len(said) == 1
    assert name in said[0]
    assert rows_of(tmp_path / "a.csv", content, delimiter=delimiter) == (ROWS, [])


def test_commas_stay_the_delimiter_where_texts_have_others(tmp_path):
    assert rows_of(tmp_path / "a.CSV", "text,label\na;b;c,1\nd|e,0\n")[0][0] == {"text": "a;b;c", "label": 1}


def test_a_quote_that_begins_a_text_between_tabs_swallows_no_rows(tmp_path):
    rows, _ = rows_of(tmp_path / "a.tsv", 'text\tlabel\n"Fine, he said\t1\nb\t0\nc"\t1\n')
    assert [row["text"] for row in rows] == ['"Fine, he said', "b", 'c"']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\ngood, not great,0\n", r"row 3 .*, which has 3: put texts with the delimiter in q"),
        ('text,label\n"a\nb",1\n\nx,y,0\n', "more fields than its header, such as row 4 "),
        ("text,label\ngood, not great,0\na,1\n", "more fields than its header, such as .*, which has 3"),
        (
            'text,label\n"a\nb",1\n\n"b,0\nc,1\n',
            "ends inside quotes that are open since row 4 .*; close them",
        ),
        ('"text,label\na,1\n', "ends inside quotes that are open since row 1 "),
    ],
)
def test_commas_and_quotes_that_make_no_rows_are_named_as_what_they_are(tmp_path, content, message):
    for read in (lambda: rows_of(tmp_path / "a.csv", content), lambda: streamed(tmp_path / "a.csv")):
        with pytest.raises(InputError, match=message):
            read()


def streamed(path):
    return list(stream_rows(str(path)).rows)


def test_integers_beyond_64_bits_are_read_as_they_are_written(tmp_path):
    content = "text,id,label\na,184467440737095516160,1\nb,,0\nc,7,1\n"
    rows, _ = rows_of(tmp_path / "a.csv", content)
    assert [row["id"] for row in rows] == ["184467440737095516160", None, "7"]
    assert [row["label"] for row in rows] == [1, 0, 1]
    rows = "".join(f"film {n},{10**20 + n % 2}\n" for n in range(20))
    assert corpus_of(tmp_path / "a.csv", "text,label\n" + rows)[0].label_names == (
        f"{10**20}",
        f"{10**20 + 1}",
    )


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_a_compressed_file_has_the_same_rows(tmp_path, suffix, compress):
    assert rows_of(tmp_path / f"a.csv{suffix}", compress(CSV.encode()))[0] == ROWS
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert rows_of(tmp_path / f"a.JSONL{suffix}", compress(lines.encode()))[0] == ROWS


def test_an_archive_of_one_file_is_read_and_one_that_expands_without_end_is_not(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", CSV)
    assert [dict(row) for row in read_source(str(tmp_path / "a.zip"))["train"]] == ROWS
    monkeypatch.setattr("rnn_jax.files.FREE", 2**20)
    with pytest.raises(InputError, match="expands to over"):
        rows_of(tmp_path / "b.csv.gz", gzip.compress(b"text\n" + b"a\n" * 2**20))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    assert rows_of(tmp_path / "a.csv", CSV.encode(encoding))[0] == ROWS
    assert rows_of(tmp_path / "a.json", json.dumps(ROWS, ensure_ascii=False).encode(encoding))[0] == ROWS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_other_bytes_are_refused_with_what_they_look_like_and_read_when_it_is_named(tmp_path, encoding):
    content = (CSV + "un été à la plage, où il a plu; déjà vu,1\n".replace(",", " ", 1) * 9).encode(encoding)
    with pytest.raises(InputError, match=r"looks like '?cp1252'?: set data\.encoding") as error:
        rows_of(tmp_path / "a.csv", content)
    assert "damaged" not in str(error.value)
    assert rows_of(tmp_path / "a.csv", content, encoding=encoding)[0][:2] == ROWS
    with pytest.raises(InputError, match=r"data\.encoding is 'latin-9999'"):
        rows_of(tmp_path / "a.csv", content, encoding="latin-9999")


@pytest.mark.parametrize(
    "whole",
    [
        ROWS,
        {"data": ROWS, "version": 1},
        {"text": {"0": ROWS[0]["text"], "1": ROWS[1]["text"]}, "label": {"0": 1, "1": 0}},
        {"text": [row["text"] for row in ROWS], "label": [1, 0]},
        {"columns": ["text", "label"], "index": [0, 1], "data": [list(row.values()) for row in ROWS]},
        {"0": ROWS[0], "1": ROWS[1]},
    ],
    ids=["array", "data", "columns", "lists", "split", "index"],
)
def test_every_shape_of_json_has_the_same_rows(tmp_path, whole):
    assert rows_of(tmp_path / "a.json", json.dumps(whole))[0] == ROWS


def test_a_field_inside_objects_is_a_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"review": {"text": "x"}}\n{"review": {"text": "y"}}\n')
    data = read_source(str(tmp_path / "a.jsonl"))["train"]
    assert column_of(data, "review.text", "train") == ["x", "y"]


def test_arrow_saved_folders_and_sheets_have_the_same_rows(tmp_path):
    import datasets
    import openpyxl
    import pyarrow

    table = pyarrow.Table.from_pylist(ROWS)
    with (
        pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        pyarrow.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table)
    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(tmp_path / "two"))
    book = openpyxl.Workbook()
    for row in [("text", "label"), *(tuple(row.values()) for row in ROWS)]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    for name in ("a.arrow", "one", "two", "a.xlsx"):
        parts = read_source(str(tmp_path / name))
        assert [dict(row) for row in parts["train"]] == ROWS
        assert set(parts) == ({"train", "test"} if name == "two" else {"train"})


def test_folders_of_classes_are_labelled_texts_and_what_is_beside_them_is_named(tmp_path):
    for place in ("train/pos/1", "train/neg/1", "train/unsup/1", "test/pos/1", "test/neg/2", "train/urls"):
        path = tmp_path / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    said = []
    parts = read_source(str(tmp_path), Reading(say=said.append))
    assert {name: sorted(data["text"]) for name, data in parts.items()} == {
        "train": ["train/neg/1", "train/pos/1"],
        "test": ["test/neg/2", "test/pos/1"],
        "unsup": ["train/unsup/1"],
    }
    assert sorted(parts["train"]["label"]) == ["neg", "pos"]
    assert "train/urls.txt" in said[0]


def test_files_beside_the_data_are_passed_over_and_named(tmp_path):
    (tmp_path / "train.csv").write_text(CSV)
    for name in ("config.json", "README.md"):
        (tmp_path / name).write_text("{}")
    said = []
    assert len(read_source(str(tmp_path), Reading(say=said.append))["train"]) == 2
    assert "README.md, config.json" in said[0]


def test_a_configuration_and_a_revision_go_to_the_hub_and_nowhere_else(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: asked.append((a, k)) or {"train": None})
    read_source("me/set", Reading(name="plain", revision="v2"))
    assert asked == [(("me/set",), {"name": "plain", "revision": "v2"})]
    with pytest.raises(InputError, match=r"data\.name is 'plain', but .* is no dataset of the hub"):
        rows_of(tmp_path / "a.csv", CSV, name="plain")


def corpus_of(path, content):
    path.write_text(content)
    said = []
    return load_corpus(str(path), **COLUMNS, **SHARES, say=said.append), "\n".join(said)


def test_columns_are_found_by_their_usual_names_and_said(tmp_path):
    rows = "".join(f"{n % 2},film {n}\n" for n in range(20))
    corpus, said = corpus_of(tmp_path / "a.csv", " Sentiment ,REVIEW\n" + rows)
    assert corpus.label_values == (0, 1)
    assert "'REVIEW' is read for 'text'" in said
    assert "' Sentiment ' is read for 'label'" in said
    with pytest.raises(InputError, match=r"no column 'text'; it has review \('x'\), comment \('y'\), label"):
        corpus_of(tmp_path / "a.csv", "review,comment,label\nx,y,1\n")


@pytest.mark.parametrize(
    ("pair", "values"),
    [
        (("0110", "110"), ("0110", "110")),
        (("007", "7"), ("007", "7")),
        (("1.0", "2.0"), (1, 2)),
        (("-1", "1"), (-1, 1)),
        (("true", "false"), (False, True)),
    ],
)
def test_labels_are_those_that_are_written(tmp_path, pair, values):
    rows = "".join(f"film {n},{pair[n % 2]}\n" for n in range(20))
    corpus, _ = corpus_of(tmp_path / "a.csv", "text,label\n" + rows)
    assert corpus.label_values == values


@pytest.mark.parametrize(
    ("written", "values"),
    [
        (["0110", "110"], ("0110", "110")),
        ([1.0, 2.0], (1, 2)),
        ([-1, 1], (-1, 1)),
        ([" pos", "neg "], ("neg", "pos")),
        ([True, False], (False, True)),
    ],
)
def test_labels_in_memory_count_as_those_of_a_file(written, values):
    texts = [f"film {n}" for n in range(20)]
    for labels in (written * 10, np.array(written * 10), pandas.Series(written * 10)):
        splits = splits_of(texts, labels, None, "text", "label")
        assert load_corpus(splits, **COLUMNS, **SHARES).label_values == values


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("a.jsonl", {"delimiter": ";"}, r"data\.delimiter is ';', but .* has no separated values"),
        ("a.parquet", {"encoding": "cp1252"}, r"data\.encoding is 'cp1252', but .* has no files of text"),
        ("", {"delimiter": ";"}, r"data\.delimiter is ';', but .* has no separated values"),
    ],
)
def test_a_setting_that_a_source_has_no_use_for_is_refused(tmp_path, name, setting, message):
    pandas.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    if not name:
        (tmp_path / "a.parquet").unlink()
    for read in (read_source, stream_rows) if name else (read_source,):
        with pytest.raises(InputError, match=message):
            read(str(tmp_path / name), Reading(**setting))
    with pytest.raises(InputError, match=r"but what a program has in memory"):
        read_source({"train": None}, Reading(**setting))


def test_a_line_of_lists_is_a_row_and_an_object_of_lists_is_a_table(tmp_path):
    whole = json.dumps({"tokens": ["a", "b"], "tags": ["X", "Y"]})
    assert rows_of(tmp_path / "a.jsonl", whole)[0] == [{"tokens": ["a", "b"], "tags": ["X", "Y"]}]
    assert len(rows_of(tmp_path / "a.json", whole)[0]) == 2


FORMS = {
    "semicolons.csv": CSV.replace('bien",1', 'bien";1')
    .replace("one,0", "one;0")
    .replace("text,", "text;")
    .encode(),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.zst": zstandard.ZstdCompressor().compress(CSV.encode()),
    "utf16.csv": CSV.encode("utf-16"),
    "mark.csv": CSV.encode("utf-8-sig"),
    "usual.CSV": CSV.replace("text,", " Review ,").encode(),
    "a.tsv": "text\tlabel\na fine film, très bien\t1\na dull one\t0\n".encode(),
    "a.json": json.dumps({"data": ROWS}).encode(),
    "array.json": json.dumps(ROWS).encode(),
    "a.jsonl.bz2": bz2.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()),
    "mark.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode("utf-16"),
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_that_are_streamed_are_the_rows_that_are_read_whole(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    whole = texts_of(read_source(str(path))["train"], "text", "train")
    found = stream_rows(str(path), Reading("text"))
    assert list(map(found.text, found.rows)) == whole == [row["text"] for row in ROWS]


def test_a_field_of_objects_is_streamed_too_and_a_wrong_name_lists_the_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"review": {"text": "x"}}\n{"review": null}\n')
    found = stream_rows(str(tmp_path / "a.jsonl"), Reading("review.text"))
    assert list(map(found.text, found.rows)) == ["x", None]
    for column in ("review.txt", "body"):
        with pytest.raises(InputError, match=rf"no column '{column}'; it has review \("):
            stream_rows(str(tmp_path / "a.jsonl"), Reading(column))


def test_bytes_that_are_streamed_are_read_when_their_encoding_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes((CSV + "un été à la plage,1\n").encode("cp1252"))
    with pytest.raises(InputError, match=r"looks like 'cp1252'|looks like cp1252"):
        list(stream_rows(str(tmp_path / "a.csv")).rows)
    rows = list(stream_rows(str(tmp_path / "a.csv"), Reading(encoding="cp1252")).rows)
    assert rows[2]["text"] == "un été à la plage"


def test_frames_of_zstandard_one_after_another_are_one_file(tmp_path):
    rows = 70_000 * ["a film,1\n"]
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "a.csv.zst").write_bytes(compress(b"text,label\n") + compress("".join(rows).encode()))
    assert sum(1 for _ in stream_rows(str(tmp_path / "a.csv.zst")).rows) == len(rows)


def test_a_damaged_file_of_any_compression_is_refused_by_name(tmp_path):
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(CSV.encode())
    for suffix, content in (
        (".gz", gzip.compress(CSV.encode())[:-9]),
        (".zst", whole[:-5]),
        (".zst", b"abcd"),
    ):
        path = tmp_path / f"a.csv{suffix}"
        path.write_bytes(content)
        for read in (read_source, lambda source: list(stream_rows(source).rows)):
            with pytest.raises(InputError, match=r"could not read .*a\.csv"):
                read(str(path))


def test_space_around_labels_is_trimmed_and_a_merge_is_said(tmp_path):
    rows = "".join(f"film {n},{('pos', 'pos ', 'neg')[n % 3]}\n" for n in range(30))
    corpus, said = corpus_of(tmp_path / "a.csv", "text,label\n" + rows)
    assert corpus.label_values == ("neg", "pos")
    assert "'pos' and 'pos '" in said
    assert read_labels([" a", 2.0, "02"]) == ["a", 2, "02"]
    assert positions([7, "007"], ["007", "7"], "x").tolist() == [1, 0]


def test_zeros_in_front_in_one_file_make_text_of_all_files(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"t{n},{7 + n % 2}\n" for n in range(9)))
    (tmp_path / "test.csv").write_text("text,label\na,007\nb,8\n")
    with pytest.raises(InputError, match=r"labels .'007'. that train does not have"):
        load_corpus(str(tmp_path), **COLUMNS, **SHARES)


def test_texts_of_digits_are_texts(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n007,1\n12,0\n")
    assert texts_of(read_source(str(tmp_path / "a.csv"))["train"], "text", "train") == ["007", "12"]


def test_rows_that_teach_nothing_or_contradict_are_counted_and_said(tmp_path):
    rows = "".join(f"film {n},{n % 2}\n" for n in range(20)) + ",1\nfilm 3,0\nFILM 4,1\n"
    corpus, said = corpus_of(tmp_path / "a.csv", "text,label\n" + rows)
    assert sum(len(split.texts) for split in corpus[:3]) == 22
    assert "1 rows to train on have no text" in said
    assert "2 texts stand with several labels, such as 'film 3' as 0 and 1" in said


def test_a_test_split_without_labels_is_passed_over_and_said(tmp_path):
    (tmp_path / "test.csv").write_text("text\nz\n")
    rows = "".join(f"film {n},{n % 2}\n" for n in range(20))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    said = []
    corpus = load_corpus(str(tmp_path), **COLUMNS, **SHARES, say=said.append)
    assert "z" not in corpus.test.texts
    assert "the split 'test' has no labels, and is passed over" in said


def test_too_few_rows_say_how_many_are_needed_and_what_to_set(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,0\nc,1\nd,0\n")
    with pytest.raises(InputError, match=r"at least 10 different .*data\.validation_share .* 0\.25 or more"):
        load_corpus(str(tmp_path / "a.csv"), **COLUMNS, validation_share=0.1, test_share=0.1, split_seed=0)


HOTEL = ["房间很大、DVD don't", "早餐太差"]


def test_a_script_without_spaces_is_split_by_characters_and_words_elsewhere():
    kind = tokenizer_kind("auto", HOTEL)
    tokenizer = Tokenizer.train(HOTEL, 100, True, True, kind)
    ids, words = tokenizer.spell(HOTEL[0])
    assert words == ["房", "间", "很", "大", "、", "DVD", "do", "n't"]
    again = Tokenizer.from_json(tokenizer.to_json())
    np.testing.assert_array_equal(again.encode(HOTEL)[0], ids)
    assert tokenizer_kind("auto", ["a fine film 很好"]) == "words"
    with pytest.raises(InputError, match=r"text\.tokenizer is 'word'.*Did you mean 'words'"):
        tokenizer_kind("word", HOTEL)


def test_every_character_is_a_word_of_the_tokeniser_of_characters():
    tokenizer = Tokenizer.train(["ab c"], 100, True, True, "characters")
    assert Tokenizer.from_json(tokenizer.to_json()).spell("c ba")[1] == ["c", "b", "a"]


@pytest.mark.parametrize("kind", ["words", "scripts", "characters", "bytes", "bpe", "unigram"])
def test_many_unknown_words_are_warned_of(kind):
    line = unknown_share(np.array([1, 2, 3, 4]), "the texts", kind)
    assert "unknown: 25.00% of the words of the texts. WARNING: that is much; raise text.vocab_size" in line
    assert ("text.tokenizer" in line) == (kind == "words"), "others have no unknown words to get rid of"
    assert "WARNING" not in unknown_share(np.array([1, 2, 3, 4, 5]), "the texts", kind)


def test_a_byte_order_mark_does_not_cost_the_first_word_of_vectors(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"\xef\xbb\xbffilm 0.5 -1\nactor 2 0.25\n")
    found = read_vectors(str(tmp_path / "v.txt"), ["[PAD]", "[UNK]", "film"])
    assert found.table[2].tolist() == [0.5, -1]
