"""Splits: a source's labelled texts as train, validation and test splits that share no text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_jax.data.columns import column_of, find_column, require_column, texts_of
from rnn_jax.data.folders import HELD_OUT
from rnn_jax.data.labels import label_set, positions, read_labels, say_merged, say_several, withheld
from rnn_jax.data.reading import Reading, quiet
from rnn_jax.data.soft_labels import read_soft_labels
from rnn_jax.data.sources import Source, named, read_source
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
    single_texts,
    strata,
)
from rnn_jax.errors import InputError, require

if TYPE_CHECKING:
    import datasets


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
      soft: more texts to train on, with the probability of each label, float32[n, C]; None for none.

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
    soft: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name; no "test" where that is the validation split."""
        splits = {"train": self.train, "validation": self.validation}
        return splits if self.test is self.validation else splits | {"test": self.test}

    def soft_targets(self, labels: np.ndarray) -> np.ndarray:
        """Returns the probabilities of the labels of the texts to train on, and then those of `soft`."""
        certain = np.eye(len(self.label_names), dtype=np.float32)[labels]
        return certain if self.soft is None else np.concatenate([certain, self.soft.labels])


def load_corpus(
    source: Source,
    *,
    text_column: str,
    label_column: str,
    label_names: Sequence[str],
    validation_share: float,
    test_share: float,
    split_seed: int,
    delimiter: str = "",
    encoding: str = "",
    name: str = "",
    revision: str = "",
    target: str = CLASS,
    separator: str = "",
    pair_column: str = "",
    soft_labels: Source = "",
    say: Callable[[str], None] = quiet,
) -> Corpus:
    """Reads a source, and cuts the splits that it lacks from its training split, stratified by label.

    Two texts are equal if they differ in upper case and spaces alone. Equal texts are all in one split.

    Args:
      source: as in `read_source`.
      text_column, label_column: the names of the two columns. A label is an integer, a string or a boolean.
      label_names: one name a label, in the order of the labels; empty takes the dataset's own or its values.
      validation_share, test_share: the part of the training split, between 0 and 1, to cut where the source
        has no such split. A test_share of 0 cuts none.
      split_seed: of the order in which texts are drawn.
      delimiter, encoding, name, revision: of the source, as in `Reading`.
      target: "class", "labels" (several at once) or "number", as in `read_targets`.
      separator: between the labels of one string, for "labels".
      pair_column: the column of the second texts of pairs; "" for single texts.
      soft_labels: a source of more texts to train on, as `read_soft_labels` reads it; "" for none. Those that
        another split has too are left out, counted.
      say: takes a line for the log about each thing that the reader decides or counts.

    Raises:
      InputError: no such source, column or split; a missing label; a share that leaves a split empty.
    """
    reading = Reading(text_column, delimiter, encoding, name, revision, say)
    check_target(target, separator, label_names)
    parts = _parts(source, reading)
    found = _targets(parts, reading, label_column, label_names, target, separator)
    splits = _labelled(parts, found, reading, pair_column)
    shares = {"validation": validation_share, "test": test_share}
    separate, dropped = _separate(splits, shares, split_seed)
    scale = scale_of(separate["train"].labels) if target == NUMBER else (0.0, 1.0)
    three = separate["train"], separate["validation"], separate["test"]
    soft = _soft(soft_labels, found.names, text_column, three, say) if soft_labels else None
    return Corpus(*three, found.names, tuple(found.values), dropped, scale, soft)


def _soft(
    source: Source,
    names: Sequence[str],
    text_column: str,
    splits: Sequence[Split],
    say: Callable[[str], None],
) -> Split:
    """Returns the texts with soft labels that have words and are in no split."""
    known = {fold(text) for split in splits for text in split.texts}
    texts, probabilities = read_soft_labels(source, names, Reading(text_column, say=say))
    new = [bool(text.strip()) and fold(text) not in known for text in texts]
    say(f"soft labels: {sum(new):,} texts; {new.count(False):,} that are empty or in a split are left out")
    require(any(new), f"data.soft_labels is {named(source)}, which has no text that is in no split")
    return _select(Split(list(texts), probabilities), new)


def _parts(source: Source, reading: Reading) -> "dict[str, datasets.Dataset]":
    """Returns the splits to train on, validate on and test on that the source has."""
    read = read_source(source, reading)
    parts = {part: data for part, data in read.items() if part in ("train", *HELD_OUT)}
    require("train" in parts, f"{named(source)} has no split 'train'; name a file, or files, for it")
    require_column(parts["train"], reading.text_column, "train")
    return parts


def _targets(
    parts: "Mapping[str, datasets.Dataset]",
    reading: Reading,
    label_column: str,
    label_names: Sequence[str],
    target: str,
    separator: str,
) -> Columns:
    """Returns what the label columns hold in the splits that have labels."""
    columns = _label_columns(parts, label_column, reading.say)
    feature = parts["train"].features.get(require_column(parts["train"], label_column, "train"))
    if target != CLASS:
        return read_targets(target, columns, feature, label_names, separator)
    names, values = label_set(feature, columns["train"], label_names)
    say_lists(columns["train"], reading.say)
    return Columns({part: positions(own, values, part) for part, own in columns.items()}, names, values)


def _labelled(
    parts: "Mapping[str, datasets.Dataset]", found: Columns, reading: Reading, pair_column: str
) -> dict[str, Split]:
    """Returns the splits that have labels, and says what there is to say of their texts."""
    hear = _once(reading.say)

    def texts(part: str) -> list[Text]:
        own = texts_of(parts[part], reading.text_column, part, hear)
        return paired(own, texts_of(parts[part], pair_column, part, hear)) if pair_column else list(own)

    splits = {part: Split(texts(part), targets) for part, targets in found.splits.items()}
    splits["train"] = _with_words(splits["train"], reading.say)
    if splits["train"].labels.dtype.kind == "i" and splits["train"].labels.ndim == 1:
        folded = [fold(text) for split in splits.values() for text in split.texts]
        labels = np.concatenate([split.labels for split in splits.values()]).tolist()
        say_several(folded, labels, found.names, reading.say)
    return splits


def _label_columns(
    parts: "Mapping[str, datasets.Dataset]", column: str, say: Callable[[str], None]
) -> dict[str, list]:
    """Returns the labels of the splits that have some; the others are passed over and named."""
    hear = _once(say)
    written = {"train": column_of(parts["train"], column, "train", hear)}
    for part in HELD_OUT:
        if part in parts and find_column(parts[part], column) is not None:
            written[part] = column_of(parts[part], column, part, hear)
    say_merged(written, say)
    columns = {part: read_labels(labels) for part, labels in written.items()}
    name = require_column(parts["train"], column, "train")
    classes = getattr(parts["train"].features.get(name), "names", None) is not None
    kept = {
        part: labels
        for part, labels in columns.items()
        if part == "train" or not withheld(labels, columns["train"], classes)
    }
    for part in parts:
        if part not in kept:
            say(f"the split {part!r} has no labels, and is passed over")
    return kept


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Returns a `say` that says each line once: what is decided alike in every split."""
    said = set()

    def hear(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return hear


def _with_words(split: Split, say: Callable[[str], None]) -> Split:
    """Returns the rows that have words; the others, which teach nothing, are counted."""
    words = [any(part.strip() for part in single_texts([text])) for text in split.texts]
    if all(words):
        return split
    say(f"{words.count(False):,} rows to train on have no text, and are dropped")
    return _select(split, words)


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
            _require_rows("train", splits["train"], shares, total)
            chosen = _cut(splits["train"], round(shares[name] * total), rng)
            splits[name] = _select(splits["train"], chosen)
            splits["train"] = _select(splits["train"], ~chosen)
    for name, split in splits.items():
        _require_rows(name, split, shares, total)
    return splits, dropped


def _require_rows(name: str, split: Split, shares: dict[str, float], total: int) -> None:
    """Raises InputError for a split without rows, which says how many rows it takes, or which shares."""
    if len(split.texts):
        return
    share = min((share for share in shares.values() if share > 0), default=0.0)  # 0 cuts no test split
    need = max(3, round(1 / share)) if 0 < share < 1 else 3
    hint = (
        f"at least {need:,} different ones are needed for shares of {share:g}"
        if total < need
        else "too many are equal, or stand in a later split (of train, validation, test) too"
    )
    shares_to_set = f"set data.validation_share and data.test_share to {1 / max(total, 3):.2g} or more"
    raise InputError(
        f"split {name!r} has no rows left of the {total:,} texts to train on: {hint}; give more texts"
        + (f", or {shares_to_set}" if total >= 3 else "")
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
