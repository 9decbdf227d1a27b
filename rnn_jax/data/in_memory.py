"""Texts and labels that a program has in memory, as the splits that a run reads.

They come as lists, numpy arrays, columns of pandas, generators, or as the tables of `datasets` and pandas.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rnn_jax.data.sentences import WORD_COLUMNS
from rnn_jax.data.sources import Splits
from rnn_jax.errors import InputError, require

if TYPE_CHECKING:
    import datasets

PAIR = "pair"  # the column of second texts that come from a program
SHOWN = 60  # characters of a value in a message


def splits_of(
    texts: Any,
    labels: Iterable[object] | None,
    validation: Any,
    text_column: str,
    label_column: str,
    pair_column: str = PAIR,
    words: bool = False,
) -> Splits:
    """Returns the splits by name that a run reads.

    Args:
      texts: n texts, or n pairs of texts. Without `labels` it may also be a table with both columns: a
        `datasets.Dataset`, a pandas DataFrame, a mapping of splits by name such as a `DatasetDict`, or an
        iterable of pairs (text, label) or of rows {column: value}.
      labels: n labels.
      validation: the split "validation", in the form of `texts` or as a pair (texts, labels); None for none.
      text_column, label_column, pair_column: the names of the columns; the last one is that of the second
        texts of pairs, and is there for pairs alone.
      words: whether a text is a list of words, and its label a list of tags.

    Raises:
      InputError: a text that is no string, not one label for each text, or values that no column can hold.

    >>> splits_of(["dull", "fine"], [0, 1], None, "text", "label")["train"].to_list()
    [{'text': 'dull', 'label': 0}, {'text': 'fine', 'label': 1}]
    """
    columns = text_column, label_column, pair_column or PAIR
    read = _words if words else _text
    if isinstance(texts, Mapping) and labels is None:
        splits = {name: _split(part, None, columns, read) for name, part in texts.items()}
    else:
        splits = {"train": _split(texts, labels, columns, read)}
    if validation is not None:
        pair = isinstance(validation, tuple) and len(validation) == 2
        own_texts, own_labels = validation if pair else (validation, None)
        splits["validation"] = _split(own_texts, own_labels, columns, read)
    return splits


def are_words(texts: Any, labels: Any) -> tuple[bool, Any, Any]:
    """Returns whether the first text is a list of words with a list of tags; then both arguments, unread.

    The arguments are those of `splits_of`. Of a table one of WORD_COLUMNS has the lists.

    >>> are_words([["Dogs", "bark"]], [["NOUN", "VERB"]])[0], are_words([("Dogs bark", 1)], None)[0]
    (True, False)
    """
    column = labels is not None and getattr(texts, "ndim", 1) > 1  # of a matrix
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) or column:
        return False, texts, labels
    if isinstance(texts, Mapping):
        return labels is None and any(are_words(part, None)[0] for part in texts.values()), texts, labels
    if labels is not None:
        label, labels = _peeked(labels)
        if not _is_list(label):
            return False, texts, labels  # no text is read: the settings are checked first
        first, texts = _peeked(texts)
        return _is_list(first), texts, labels
    first, texts = _peeked(texts)
    if isinstance(first, Mapping):
        return any(_is_list(first.get(name)) for name in WORD_COLUMNS), texts, labels
    return isinstance(first, tuple) and len(first) == 2 and all(map(_is_list, first)), texts, labels


def texts_in(texts: Iterable[object]) -> Iterator[Any]:
    """Yields the texts; a missing one, None or NaN, is a text without words.

    Raises:
      TypeError: `texts` is one string, or holds something that is not a string.

    >>> list(texts_in(["a film", None]))
    ['a film', '']
    """
    if isinstance(texts, str):
        raise TypeError(f"texts is one string, {texts[:40]!r}; give a list of strings")
    for position, text in enumerate(values_of(texts, "texts")):
        if not (isinstance(text, str) or missing(text)):
            raise TypeError(f"text {position} is {text!r}, not a string; give one string for each text")
        yield text if isinstance(text, str) else ""


def pairs_in(pairs: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Yields pairs of texts; a missing text, None or NaN, is a text without words.

    Raises:
      TypeError: what is no pair, or holds something that is not a string.

    >>> list(pairs_in([("a film", None), ["fine", "dull"]]))
    [('a film', ''), ('fine', 'dull')]
    """
    for position, pair in enumerate(pairs):
        two = isinstance(pair, tuple | list) and len(pair) == 2
        texts = list(pair) if two else [0]  # type: ignore[call-overload]
        if not all(isinstance(text, str) or missing(text) for text in texts):
            shown = str(pair)[:SHOWN]
            raise TypeError(f"text {position} is {shown!r}; two texts are compared: give (first, second)")
        first, second = (text if isinstance(text, str) else "" for text in texts)
        yield first, second


def values_of(values: Any, argument: str) -> Iterable[object]:
    """Returns the values of a column, those of numpy and pandas as Python's own types.

    Raises:
      InputError: a table with several columns.
    """
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple):  # numpy, pandas
        column = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and hasattr(values, "squeeze"))
        require(column, f"{argument} has the shape {shape}; give one column, such as table['text']")
        values = values.squeeze(axis=1) if len(shape) == 2 else values
        return values.tolist()
    return values


def missing(value: object) -> bool:
    """Returns whether a value stands for none: None, a float that is no number, pandas' NA or NaT."""
    nan = isinstance(value, float) and math.isnan(value)
    return value is None or nan or type(value).__name__ in ("NAType", "NaTType")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1


def _split(
    texts: Any, labels: Any, columns: tuple[str, str, str], read: Callable[[int, Any], object]
) -> "datasets.Dataset":
    """Returns one split as a table: a column of texts, or two of pairs, and one of labels if any."""
    import datasets

    if isinstance(texts, datasets.Dataset) and labels is None:
        return texts
    if hasattr(texts, "columns") and hasattr(texts, "to_dict") and labels is None:  # pandas
        return _table({str(name): list(values_of(texts[name], str(name))) for name in texts.columns})
    if isinstance(texts, str | bytes):
        raise InputError(f"texts is one string, {texts[:SHOWN]!r}; give a list of strings")
    rows: Iterable[Any] = [] if texts is None else values_of(texts, "texts")
    if labels is None:
        first, rows = _peeked(rows)
        if isinstance(first, Mapping):
            rows = list(rows)
            names = dict.fromkeys(name for row in rows for name in row)
            return _table({str(name): [_listed(row.get(name)) for row in rows] for name in names})
        if isinstance(first, tuple) and len(first) == 2:
            rows, labels = zip(*rows, strict=True)
    rows = list(rows)
    require(bool(rows), "there are no texts to train on")
    text, label, pair = columns
    if read is _text and isinstance(rows[0], tuple | list):
        firsts, seconds = zip(*pairs_in(rows), strict=True)
        table: dict[str, list[Any]] = {text: list(firsts), pair: list(seconds)}
    else:
        table = {text: [read(place, row) for place, row in enumerate(rows)]}
    if labels is not None:
        values = [None if missing(value) else _listed(value) for value in values_of(labels, "labels")]
        require(len(values) == len(rows), f"there are {len(rows)} texts and {len(values)} labels")
        table[label] = values
    return _table(table)


def _listed(label: Any) -> Any:
    """Returns the labels of a text as a list, where they are a tuple or a set."""
    return list(label) if isinstance(label, tuple | set | frozenset) else label


def _peeked(rows: Any) -> tuple[Any, Any]:
    """Returns the first of the rows, None where there is none, and all rows, also those of an iterator."""
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # pandas
        return next(iter(rows.head(1).to_dict("records")), None), rows
    if not isinstance(rows, Iterator):
        return next(iter(rows), None), rows
    first = list(itertools.islice(rows, 1))
    return (first or [None])[0], itertools.chain(first, rows)


def _text(place: int, text: object) -> str | None:
    if missing(text):
        return None
    if not isinstance(text, str):
        raise InputError(f"text {place} is {str(text)[:SHOWN]!r}, a {type(text).__name__}; give strings")
    return str(text)  # numpy's strings are a class of their own


def _words(place: int, words: Any) -> list[str]:
    if not _is_list(words):
        raise InputError(
            f"sentence {place} is {str(words)[:SHOWN]!r}, a {type(words).__name__}; give lists of words"
        )
    return list(map(_plain, words))


def _table(columns: Mapping[str, list[Any]]) -> "datasets.Dataset":
    import datasets
    import pyarrow

    arrays = {}
    for name, values in columns.items():
        plain = [None if missing(value) else _plain(value) for value in values]
        try:
            arrays[name] = pyarrow.array(plain)
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            kinds = sorted({type(value).__name__ for value in plain})
            raise InputError(f"{name} holds {', '.join(kinds)}, which no column can: {error}") from error
    return datasets.Dataset(pyarrow.table(arrays))


def _plain(value: Any) -> Any:
    """Returns a numpy number, or a list of them, as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value
