"""Splits: a source's labelled texts as train, validation and test splits that share no text."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_jax.data.sources import HELD_OUT, Source, column_of, named, read_source, texts_of
from rnn_jax.data.targets import (
    CLASS,
    NUMBER,
    Columns,
    Text,
    check_target,
    paired,
    read_targets,
    say_lists,
    scale_of,
    strata,
)
from rnn_jax.errors import require

if TYPE_CHECKING:
    import datasets

UNLABELLED = -1  # how hub datasets mark a row whose label is withheld


class Split(NamedTuple):
    """The texts of one split and their labels.

    Attributes:
      texts: n strings, or n pairs of strings.
      labels: int32[n], positions in the label names; int32[n, C] of 0 and 1 where texts have several labels;
        float64[n] where they have numbers.

    >>> split = Split(["A dull film.", "A fine one."], np.array([0, 1], np.int32))
    >>> dict(zip(split.texts, split.labels.tolist()))
    {'A dull film.': 0, 'A fine one.': 1}
    """

    texts: list[Text]
    labels: np.ndarray


class Corpus(NamedTuple):
    """Three splits that share no text, as `load_corpus` returns them.

    Attributes:
      train, validation, test: texts and labels. Without a test split, `test` is `validation` itself.
      label_names: the name of each label, by position.
      label_values: what stands for each label in the label column, by position.
      dropped: how many texts were left out because a later split (of train, validation, test) has them too.
      scale: the mean and the standard deviation of the numbers to train on; (0, 1) where there are labels.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("text,label\\n" + "".join(f"film {n},{n % 2}\\n" for n in range(20)))
    >>> names = {"text_column": "text", "label_column": "label", "label_names": ("dull", "fine")}
    >>> corpus = load_corpus(str(path), **names, validation_share=0.2, test_share=0.1, split_seed=0)
    >>> [len(split.texts) for split in (corpus.train, corpus.validation, corpus.test)]
    [14, 4, 2]
    """

    train: Split
    validation: Split
    test: Split
    label_names: tuple[str, ...]
    label_values: tuple[int | str | bool, ...]
    dropped: int
    scale: tuple[float, float] = (0.0, 1.0)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name; no "test" where that is the validation split."""
        splits = {"train": self.train, "validation": self.validation}
        return splits if self.test is self.validation else splits | {"test": self.test}


def load_corpus(
    source: Source,
    *,
    text_column: str,
    label_column: str,
    label_names: Sequence[str],
    validation_share: float,
    test_share: float,
    split_seed: int,
    target: str = CLASS,
    separator: str = "",
    pair_column: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Corpus:
    """Reads a source, and cuts the splits that it lacks from its training split, stratified by label.

    Two texts are equal if they differ in upper case and spaces alone. Equal texts are all in one split.

    Args:
      source: as in `read_source`: a file, a folder, a name in NAMED_SOURCES, or a dataset's name on the hub.
      text_column, label_column: the names of the two columns. A label is an integer, a string or a boolean.
      label_names: one name a label, in the order of the labels; empty takes the dataset's own or its values.
      validation_share, test_share: the part of the training split, between 0 and 1, to cut where the source
        has no such split. A test_share of 0 cuts none.
      split_seed: of the order in which texts are drawn.
      target: "class", "labels" (several at once) or "number", as in `read_targets`.
      separator: between the labels of one string, for "labels".
      pair_column: the column of the second texts of pairs; "" for single texts.
      say: takes a line for the log.

    Raises:
      InputError: no such source, column or split; a missing text or label; a share that leaves a split empty.
    """
    check_target(target, separator, label_names)
    parts = {name: data for name, data in read_source(source).items() if name in ("train", *HELD_OUT)}
    require("train" in parts, f"{named(source)} has no split 'train'; name a file, or files, for it")
    columns = {name: column_of(data, label_column, name) for name, data in parts.items()}
    columns = {name: own for name, own in columns.items() if name == "train" or not _withheld(own)}
    feature = parts["train"].features[label_column]
    if target == CLASS:
        labels, names, values = _classes(feature, columns, label_names, say)
    else:
        labels, names, values = read_targets(target, columns, feature, label_names, separator)
    texts = {name: _texts(parts[name], text_column, pair_column, name) for name in labels}
    splits = {name: Split(texts[name], labels[name]) for name in labels}
    shares = {"validation": validation_share, "test": test_share}
    separate, dropped = _separate(splits, shares, split_seed)
    scale = scale_of(separate["train"].labels) if target == NUMBER else (0.0, 1.0)
    return Corpus(**separate, label_names=names, label_values=tuple(values), dropped=dropped, scale=scale)


def _classes(
    feature: object, columns: dict[str, list], label_names: Sequence[str], say: Callable[[str], None]
) -> Columns:
    """Returns the labels of all splits, one class a text, as positions in the names."""
    names, values = _labels(feature, columns["train"], label_names)
    say_lists(columns["train"], say)
    return Columns({name: positions(own, values, name) for name, own in columns.items()}, names, values)


def _texts(data: "datasets.Dataset", column: str, pair_column: str, split: str) -> list[Text]:
    """Returns the texts of a split, or its pairs of texts."""
    texts = texts_of(data, column, split)
    return paired(texts, texts_of(data, pair_column, split)) if pair_column else list(texts)


def _withheld(labels: list) -> bool:
    return bool(labels) and all(label is None or label == UNLABELLED for label in labels)


def _labels(feature: object, labels: list, names: Sequence[str]) -> tuple[tuple[str, ...], list]:
    """Returns the label names and the value that stands for each in the column."""
    odd = [label for label in labels if not isinstance(label, int | str)]
    lists, numbers = (any(isinstance(label, kind) for label in odd) for kind in (list, float))
    require(
        not lists,
        f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean; for texts of "
        "several labels, set data.target to 'labels'",
    )
    require(
        not numbers,
        f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean; to predict "
        "numbers, set data.target to 'number'",
    )
    require(
        None not in odd and UNLABELLED not in labels,
        f"the training split has rows without a label (None or {UNLABELLED}); keep labelled rows only, or "
        f"write another value for {UNLABELLED} where it is a label",
    )
    require(not odd, f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean")
    found = set(labels)
    kinds = {str if isinstance(label, str) else int for label in found}
    require(len(kinds) == 1, "the label column holds strings and numbers; write all labels as one of them")
    own_names = getattr(feature, "names", None)
    values = list(range(len(own_names))) if own_names else sorted(found)
    require(len(found) > 1, f"the label column holds only {sorted(found)}; classification needs two labels")
    names = tuple(names) or tuple(own_names or map(str, values))
    require(
        len(names) == len(values),
        f"label_names has {len(names)} names, {names}, but there are {len(values)} labels: {values[:20]}",
    )
    return names, values


def positions(labels: Sequence, values: Sequence, split: str) -> np.ndarray:
    """Returns int32 positions in `values`. Raises InputError for a label that is not there."""
    odd = [label for label in labels if not isinstance(label, Hashable)]
    require(not odd, f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean")
    position = {value: index for index, value in enumerate(values)}
    unknown = sorted(set(labels) - set(position), key=str)
    require(not unknown, f"split {split!r} has labels {unknown[:20]} that train does not have: {values[:20]}")
    return np.array([position[label] for label in labels], dtype=np.int32)


def _separate(splits: dict[str, Split], shares: dict[str, float], seed: int) -> tuple[dict[str, Split], int]:
    """Drops texts that a later split has too, counted, and cuts the missing splits, equal texts together."""
    held: set[str] = set()
    sizes = {name: len(split.texts) for name, split in splits.items()}
    for name in reversed(HELD_OUT):  # test first: it is the one that may not lose a row
        if name in splits:
            splits[name] = _select(splits[name], [fold(text) not in held for text in splits[name].texts])
            held.update(map(fold, splits[name].texts))
    splits["train"] = _select(splits["train"], [fold(text) not in held for text in splits["train"].texts])
    dropped = sum(sizes[name] - len(splits[name].texts) for name in sizes)
    total, rng = len(splits["train"].texts), np.random.default_rng(seed)
    for name in HELD_OUT:
        if name == "test" and name not in splits and shares[name] == 0:
            splits[name] = splits["validation"]
        if name not in splits:
            require(0 < shares[name] < 1, f"{name}_share is {shares[name]}; it must be between 0 and 1")
            _require_rows("train", splits["train"])
            chosen = _cut(splits["train"], round(shares[name] * total), rng)
            splits[name] = _select(splits["train"], chosen)
            splits["train"] = _select(splits["train"], ~chosen)
    for name, split in splits.items():
        _require_rows(name, split)
    return splits, dropped


def _require_rows(name: str, split: Split) -> None:
    require(
        len(split.texts) > 0,
        f"split {name!r} has no rows left; change validation_share or test_share, or give it texts that "
        "no later split (of train, validation, test) has",
    )


def _cut(split: Split, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns bool[n] with `size` rows True: each label's share, whole groups of equal texts only."""
    group_of: dict[str, int] = {}
    groups = np.array([group_of.setdefault(fold(text), len(group_of)) for text in split.texts])
    counts = np.bincount(groups)
    kinds = strata(split.labels)
    labels, totals = np.unique(kinds, return_counts=True)
    exact = totals * size / totals.sum()
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: size - quotas.sum()]] += 1  # largest remainders
    order = rng.permutation(len(split.texts))
    chosen = np.zeros(len(counts), dtype=bool)
    for label, quota in zip(labels, quotas, strict=True):
        for row in order[kinds[order] == label]:
            group = groups[row]
            if not chosen[group] and counts[group] <= quota:
                chosen[group] = True
                quota -= counts[group]
    return chosen[groups]


def hold_out(texts: list[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Returns the texts without a share of them, and that share; equal texts are all in one of the two.

    Raises:
      InputError: a share outside (0, 1), or one that leaves either without texts.
    """
    require(0 < share < 1, f"validation_share is {share}; it must be between 0 and 1")
    whole = Split(list(texts), np.zeros(len(texts), np.int32))
    chosen = _cut(whole, round(share * len(texts)), np.random.default_rng(seed))
    kept, held = ([texts[row] for row in np.flatnonzero(rows)] for rows in (~chosen, chosen))
    require(
        bool(kept and held),
        f"validation_share is {share}, which leaves {len(kept)} of {len(texts)} texts to train on and "
        f"{len(held)} held out; both need some",
    )
    return kept, held


def _select(split: Split, keep: Sequence[bool] | np.ndarray) -> Split:
    rows = np.flatnonzero(keep)
    return Split([split.texts[row] for row in rows], split.labels[rows])


def fold(text: Text) -> str:
    """Returns what makes two texts equal: lower case, single spaces; pairs, if both their texts are."""
    if not isinstance(text, str):
        return "\0".join(map(fold, text))
    return " ".join(text.lower().split())
