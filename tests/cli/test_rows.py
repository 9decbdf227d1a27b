"""rnn-jax predict --out: every row and every column, as they were, and what was predicted beside them."""

import csv
import json
import re
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet
import pytest

import rnn_jax
from rnn_jax.cli import main, row_files
from rnn_jax.cli.decisions import check_joined
from rnn_jax.data.row_streams import stream_rows
from rnn_jax.data.sources import read_source
from rnn_jax.errors import InputError
from tests.helpers.predictors import make_predictor
from tests.helpers.runs import TEXTS, make_run

# Fields that a reader of types would change, and texts that are awkward.
TABLE = """id,text,price
007,"a great, moving film",1.50
008,,NA
009,"two
lines",
010,"dull ""and"" awful",null
"""
READ = ["a great, moving film", "", "two\nlines", 'dull "and" awful']


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_run(workdir)
    return workdir


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def predict(workdir, path, out, *more):
    main(["predict", "--workdir", str(workdir), "--input", str(path), "--out", str(out), *more])


def expected(workdir, texts):
    labels, probabilities = rnn_jax.load(workdir).predict(texts)
    return labels, probabilities.max(axis=1).tolist()


def test_a_csv_file_keeps_its_columns_as_they_are_written(workdir, table, tmp_path, capsys):
    predict(workdir, table, tmp_path / "out.csv")
    assert capsys.readouterr().out == f"{tmp_path / 'out.csv'}: 4 rows\n"
    with table.open(newline="") as before, (tmp_path / "out.csv").open(newline="") as after:
        rows = list(zip(csv.DictReader(before), csv.DictReader(after), strict=True))
    labels, best = expected(workdir, READ)
    assert list(rows[0][1]) == ["id", "text", "price", "predicted", "probability"]
    for (old, new), label, probability in zip(rows, labels, best, strict=True):
        assert new == {**old, "predicted": label, "probability": str(probability)}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".tsv"])
def test_other_formats_hold_the_same(workdir, table, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    predict(workdir, table, out)
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    elif suffix == ".parquet":
        rows = pa.parquet.read_table(out).to_pylist()
    else:
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["text"] for row in rows] == READ
    assert [row["predicted"] for row in rows] == expected(workdir, READ)[0]
    assert [row["id"] for row in rows] == ["007", "008", "009", "010"]


def test_the_types_of_a_parquet_file_are_kept(workdir, tmp_path):
    types = {"text": pa.string(), "n": pa.int8(), "when": pa.timestamp("s"), "tags": pa.list_(pa.string())}
    rows = [{"text": text, "n": None, "when": 5, "tags": ["a"]} for text in [*TEXTS, None]]
    pa.parquet.write_table(pa.Table.from_pylist(rows, pa.schema(types)), tmp_path / "in.parquet")
    predict(workdir, tmp_path / "in.parquet", tmp_path / "out.parquet")
    before, after = (pa.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("in", "out"))
    kept = after.select(before.column_names)
    assert [field.type for field in kept.schema][1] == pa.int8()
    assert kept.to_pylist() == before.to_pylist()
    assert after["predicted"].to_pylist() == expected(workdir, [*TEXTS, ""])[0]


def test_rows_of_json_keep_fields_of_any_kind(workdir, tmp_path):
    rows = [{"text": "a film", "more": {"a": [1, None]}}, {"text": None}, {"other": 1.5}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict(workdir, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in old} for old, row in zip(rows, found, strict=True)] == rows
    assert [row["predicted"] for row in found] == expected(workdir, ["a film", "", ""])[0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_carriage_return_in_a_text_ends_no_row(tmp_path, suffix):
    rows = [{"id": str(n), "text": text} for n, text in enumerate(["a\rb", "c\r\nd", "e\nf", "g"])]
    with row_files.rows_into(tmp_path / f"out{suffix}", ["id", "text"], None) as write:
        write(rows)
    assert list(stream_rows(str(tmp_path / f"out{suffix}")).rows) == rows
    assert read_source(str(tmp_path / f"out{suffix}"))["train"]["text"][:] == [row["text"] for row in rows]


def test_objects_and_lists_are_json_in_a_field_of_text(workdir, tmp_path):
    row = {"text": "a film", "more": {"a": [1, None, True]}, "tags": ["x", "\u00e9"]}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    predict(workdir, tmp_path / "in.jsonl", tmp_path / "out.csv")
    (found,) = stream_rows(str(tmp_path / "out.csv")).rows
    assert {name: json.loads(found[name]) for name in ("more", "tags")} == {
        name: row[name] for name in ("more", "tags")
    }


def test_a_model_of_pairs_shows_the_columns_that_there_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rnn_jax.cli.commands.loaded", lambda _: make_predictor(pair_column="second"))
    (tmp_path / "in.csv").write_text("text,id\na film,7\n")
    with pytest.raises(SystemExit):
        predict("any", tmp_path / "in.csv", tmp_path / "out.csv")
    assert "has no column 'second'; it has text ('a film'), id ('7')" in capsys.readouterr().err
    (tmp_path / "in.csv").write_text("text,id\n")
    predict("any", tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "text,id,predicted,probability\n"


@pytest.mark.parametrize("out", ["out.csv", "out.parquet"])
def test_a_field_that_the_first_rows_lack_is_refused_where_columns_are_fixed(
    workdir, tmp_path, capsys, monkeypatch, out
):
    monkeypatch.setattr("rnn_jax.data.row_streams.ROWS_AT_ONCE", 2)
    (tmp_path / "in.jsonl").write_text('{"text": "a film"}\n' * 2 + '{"text": "a film", "more": 1}\n')
    with pytest.raises(SystemExit):
        predict(workdir, tmp_path / "in.jsonl", tmp_path / out)
    said = capsys.readouterr().err
    assert (
        f"--out cannot be {'CSV' if out == 'out.csv' else 'Parquet'}: rows have the fields ['more']" in said
    )
    assert "give a .jsonl file" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_columns_that_the_first_row_lacks_are_read_and_written(workdir, tmp_path, name, suffix):
    rows = [{"id": 1}, {"id": 2, "text": "a film"}, {"text": "a film", "more": "x"}]
    content = json.dumps(rows) if name == "in.json" else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(content)
    predict(workdir, tmp_path / name, tmp_path / f"out{suffix}")
    read = read_source(str(tmp_path / f"out{suffix}"))["train"].to_list()
    assert [(row["id"], row["more"]) for row in read] == [(1, None), (2, None), (None, "x")]
    assert [row["predicted"] for row in read] == expected(workdir, ["", "a film", "a film"])[0]


def test_an_empty_row_between_others_of_a_sheet_is_a_row_to_predict_and_none_to_train_on(workdir, tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for number, row in {2: ("text", "n"), 4: ("a film", 1), 5: (None, 2), 7: ("so dull", 3)}.items():
        for column, cell in enumerate(row, 1):
            book.active.cell(number, column, cell)
    book.active.cell(9, 1).number_format = "0.00"  # of a format alone, a cell is empty
    book.save(tmp_path / "in.xlsx")
    predict(workdir, tmp_path / "in.xlsx", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["text"], row["n"]) for row in rows] == [
        (None, None), ("a film", 1), (None, 2), (None, None), ("so dull", 3)
    ]  # fmt: skip
    assert [row["predicted"] for row in rows] == expected(workdir, ["", "a film", "", "", "so dull"])[0]
    assert [row["n"] for row in read_source(str(tmp_path / "in.xlsx"))["train"]] == [1, 2, 3]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_without_rows_keeps_its_columns(workdir, tmp_path, suffix):
    names = ["id", "text"]
    (tmp_path / "in.csv").write_text("id,text\n")
    schema = pa.schema({"id": pa.int8(), "text": pa.string()})
    pa.parquet.write_table(schema.empty_table(), tmp_path / "in.parquet")
    with pa.OSFile(str(tmp_path / "in.arrow"), "wb") as file, pa.ipc.new_file(file, schema):
        pass
    for kind in ("csv", "parquet", "arrow"):
        out = tmp_path / f"out{suffix}"
        predict(workdir, tmp_path / f"in.{kind}", out)
        if suffix == ".csv":
            assert out.read_text() == "id,text,predicted,probability\n"
        elif suffix == ".parquet":
            table = pa.parquet.read_table(out)
            assert (table.column_names, len(table)) == ([*names, "predicted", "probability"], 0)
            assert table.schema.field("id").type == (pa.null() if kind == "csv" else pa.int8())
        else:
            assert out.read_text() == ""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f'{{"text": "a film", "id": 1}}\n{{"text": "dull", "id": {2**70}}}\n', "too big|too large|out of"),
        (r'{"text": "a film \ud800"}', "surrogates not allowed"),
    ],
)
def test_what_parquet_cannot_hold_is_refused_in_one_line(workdir, tmp_path, capsys, rows, message):
    (tmp_path / "in.jsonl").write_text(rows)
    with pytest.raises(SystemExit):
        predict(workdir, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    said = capsys.readouterr().err
    assert re.search(rf"--out cannot be Parquet: .*({message}).*; give a \.jsonl file", said), said
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_half_of_a_surrogate_pair_is_written_as_it_is_read(workdir, tmp_path):
    (tmp_path / "in.jsonl").write_text(r'{"text": "a great \ud800 film"}')
    predict(workdir, tmp_path / "in.jsonl", tmp_path / "out.csv")
    (row,) = stream_rows(str(tmp_path / "out.csv")).rows
    assert row["text"] == "a great ? film"
    assert row["predicted"] == expected(workdir, [row["text"]])[0][0]


def test_texts_of_the_command_line_can_be_written_too(workdir, tmp_path):
    main(["predict", "--workdir", str(workdir), "--out", str(tmp_path / "out.csv"), *TEXTS])
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == TEXTS


def test_a_file_of_any_size_is_read_and_written_a_part_at_a_time(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr("rnn_jax.inference.parts.PART", 4)
    (tmp_path / "in.csv").write_text("text\n" + "a film\n" * 10)
    read, written = [], []
    monkeypatch.setattr(
        "rnn_jax.cli.commands.stream_rows", lambda *source: counted(stream_rows(*source), read)
    )
    monkeypatch.setattr("rnn_jax.cli.commands.rows_into", spy_rows(row_files.rows_into, read, written))
    predict(workdir, tmp_path / "in.csv", tmp_path / "out.csv")
    assert written == [(4, 4), (8, 4), (10, 2)], "rows read so far, and rows written at once"


def counted(rows, read):
    return rows._replace(rows=(read.append(1) or row for row in rows.rows))


def spy_rows(rows_into, read, written):
    @contextmanager
    def spied(*arguments):
        with rows_into(*arguments) as write:
            yield lambda rows: written.append((len(read), len(rows))) or write(rows)

    return spied


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("in.csv", "text\nfirst\n" + "more\n" * 5000 + "a,b\n"),
        ("in.jsonl", '{"text": "first"}\n' + '{"text": "more"}\n' * 5000 + "{\n"),
        ("in.jsonl", '{"text": "first"}\n' + '{"text": "more"}\n' * 5000 + '{"text": "a", "text": "b"}\n'),
    ],
)
def test_a_file_is_not_read_before_its_rows_are_asked_for(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    rows = stream_rows(str(tmp_path / name)).rows
    assert next(rows)["text"] == "first"  # what is wrong further down is not seen yet
    with pytest.raises(InputError, match=r"more fields|could not read"):
        list(rows)


def test_labels_that_could_not_be_told_apart_once_they_are_joined_are_refused():
    check_joined(make_predictor(("war|love", "peace")))  # a class is not joined with others
    check_joined(make_predictor(("war", "love"), target="labels"))
    model = make_predictor(("war, love", "war|love"), target="labels")
    with pytest.raises(InputError, match=r"the label \['war\|love'\] has '\|' in it"):
        check_joined(model)
    model.config.data.separator = ","
    with pytest.raises(InputError, match=r"the label \['war, love'\] has ',' in it"):
        check_joined(model)


def test_an_error_leaves_no_file(workdir, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"text": "a film"}\n{"text": 7}\n')
    with pytest.raises(SystemExit):
        predict(workdir, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert "row 1 has text = 7, not a text" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("out.xml", [], "the suffix of --out is '.xml'"),
        ("none/out.csv", [], "there is no folder"),
        ("out.csv", ["--column", "txt"], "no column 'txt'; it has id ('007'), text ('a great, m"),
        ("out.csv", ["--format", "jsonl"], "out.csv, whose suffix tells the format"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(table, tmp_path, capsys, out, more, message):
    with pytest.raises(SystemExit):
        predict(tmp_path / "no run", table, tmp_path / out, *more)
    assert message in capsys.readouterr().err


def test_a_column_that_is_there_is_not_written_over(workdir, table, tmp_path, capsys):
    predict(workdir, table, tmp_path / "out.csv")
    with pytest.raises(SystemExit):
        predict(workdir, tmp_path / "out.csv", tmp_path / "again.csv")
    assert "has the columns ['predicted', 'probability'], which --out would add" in capsys.readouterr().err


def test_an_empty_line_is_an_empty_text_where_there_is_one_column(tmp_path):
    (tmp_path / "one.csv").write_text("text\na\n\nb\n")
    assert [row["text"] for row in stream_rows(str(tmp_path / "one.csv")).rows] == ["a", "", "b"]
    (tmp_path / "two.csv").write_text("text,id\na,1\n\nb,2\n")
    assert [row["text"] for row in stream_rows(str(tmp_path / "two.csv")).rows] == ["a", "b"]


@pytest.mark.parametrize("content", ['text,id\na,1\n"b,2\nc,3\n', 'text,id\na,1\n"', 'text,id\na,1\n"b""'])
def test_a_quote_that_is_not_closed_swallows_no_rows_in_silence(tmp_path, content):
    (tmp_path / "open.csv").write_text(content)
    rows = stream_rows(str(tmp_path / "open.csv")).rows
    assert next(rows) == {"text": "a", "id": "1"}
    with pytest.raises(InputError, match=r"ends inside quotes that are open since row 3 .* close them"):
        list(rows)
    (tmp_path / "header.csv").write_text('"text\na\n')
    with pytest.raises(InputError, match="ends inside quotes that are open since row 1"):
        stream_rows(str(tmp_path / "header.csv"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_fields_in_quotes_may_have_line_breaks_and_end_the_file(tmp_path, end):
    (tmp_path / "closed.csv").write_text(f'text,id\n"a\n""b""",1\n,\n"c","2"{end}', newline="")
    rows = [list(row.values()) for row in stream_rows(str(tmp_path / "closed.csv")).rows]
    assert rows == [['a\n"b"', "1"], ["", ""], ["c", "2"]]


def test_lines_of_spaces_and_columns_without_a_name_are_those_of_training(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,,\na,1,,\n  \t\n\n  ,2,,\n")
    found = stream_rows(str(tmp_path / "a.csv"))
    rows, trained = list(found.rows), read_source(str(tmp_path / "a.csv"))["train"]
    assert found.names == trained.column_names == ["text", "label", "Unnamed: 2", "Unnamed: 3"]
    assert [row["text"] for row in rows] == trained["text"][:] == ["a", "  "]
    (tmp_path / "index.csv").write_text(",text\n0,a\n")
    assert stream_rows(str(tmp_path / "index.csv")).names == ["", "text"]
    (tmp_path / "one.csv").write_text("text\na\n  \n")
    assert [row["text"] for row in stream_rows(str(tmp_path / "one.csv")).rows] == ["a", "  "]


def test_a_text_longer_than_the_limit_of_the_reader_is_read(tmp_path):
    (tmp_path / "long.csv").write_text("text\n" + "a" * 200_000 + "\n")
    assert len(next(stream_rows(str(tmp_path / "long.csv")).rows)["text"]) == 200_000


FILES = {
    "semicolons.csv": "id;text\n7;a great film\n8;\n".encode("utf-16"),
    "usual.tsv": b"id\tReview \n7\ta great film\n8\t\n",
    "a.json": b'{"data": [{"text": "a great film"}, {"text": null}]}',
    "nested.jsonl": b'{"r": {"text": "a great film"}}\n{"r": null}\n',
    "latin.csv": "text,id\na great film,é\n,x\n".encode("cp1252"),
    "marked.csv": '"text","id"\na great film,é\n,x\n'.encode("utf-8-sig"),
}
OPTIONS = {
    "nested.jsonl": ["--column", "r.text"],
    "latin.csv": ["--encoding", "cp1252"],
    "marked.csv": ["--encoding", "utf-8"],
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_training_reads_are_predicted_a_row_for_each(workdir, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(FILES[name])
    predict(workdir, tmp_path / name, tmp_path / "out.jsonl", *OPTIONS.get(name, []))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["predicted"] for row in rows] == expected(workdir, ["a great film", ""])[0]
    said = capsys.readouterr().err
    assert ("semicolons" in said) == name.startswith("semicolons")
    assert ("'Review ' is read for 'text'" in said) == name.startswith("usual")


def test_ctrl_c_ends_it_without_a_traceback_and_leaves_the_old_file(
    workdir, table, tmp_path, monkeypatch, capsys
):
    (tmp_path / "out.csv").write_text("of yesterday\n")

    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("rnn_jax.inference.text_model.TextModel.predict_parts", interrupted)
    with pytest.raises(SystemExit) as ended:
        predict(workdir, table, tmp_path / "out.csv")
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out.csv").read_text() == "of yesterday\n"
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "out.csv"}
