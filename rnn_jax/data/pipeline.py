"""The data of a run: a corpus, tokenised and truncated, as batches of each split."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from rnn_jax.data.batches import WHOLE, Batches, BatchSource, BatchT, bucket_lengths
from rnn_jax.data.encoding import encode_splits
from rnn_jax.data.sources import read_texts
from rnn_jax.data.splits import Corpus, hold_out, load_corpus
from rnn_jax.data.tokenizer import UNK, Tokenizer, truncate
from rnn_jax.data.windows import Windows
from rnn_jax.hashing import digest_of_arrays, digest_of_json

LONGER = 2  # padded lengths for texts that are longer than those to train on


class RunData(Protocol[BatchT]):
    """What a run needs of its data; `Data` (a classifier's) and `Documents` (a language model's) have it.

    A new kind of data is a NamedTuple, or any other object, with these attributes.
    """

    @property
    def train(self) -> BatchSource[BatchT]:
        """The batches to train on."""

    @property
    def validation(self) -> BatchSource[BatchT]:
        """The batches that each evaluation reads; the best checkpoint is chosen on them."""

    @property
    def test(self) -> BatchSource[BatchT]:
        """The batches that the best checkpoint is measured on at the end."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turned the texts into word ids. It is saved in the run's folder."""

    @property
    def task(self) -> dict[str, object]:
        """JSON values that using the model needs beside its config and tokeniser; saved as task.json.

        With the entry "data", the digest, so that a run is not resumed on other data.
        """

    @property
    def uses(self) -> np.ndarray:
        """int[V]: how often each word of the vocabulary occurs in the texts to train on."""

    @property
    def texts(self) -> Callable[[], list[str]]:
        """Returns the texts that the vocabulary was chosen from; word2vec trains on them."""

    def digest(self) -> str:
        """Returns a digest of everything the batches are made of. All processes of a run must agree on it."""

    def describe(self) -> str:
        """Returns one or two lines for the log: sizes, vocabulary, shapes."""


class Data(NamedTuple):
    """Batches of each split, the tokeniser, and the corpus they came from."""

    train: Batches
    validation: Batches
    test: Batches
    tokenizer: Tokenizer
    corpus: Corpus
    texts: Callable[[], list[str]]  # those that the vocabulary is of: read again, for who trains on them

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, by position."""
        return self.corpus.label_names

    @property
    def task(self) -> dict[str, object]:
        """What a trained model needs beside its config and tokeniser, and the data that it is trained on."""
        names, values, buckets = self.corpus.label_names, self.corpus.label_values, self.train.buckets
        return {"label_names": names, "label_values": values, "buckets": buckets, "data": self.digest()}

    @property
    def uses(self) -> np.ndarray:
        """Returns int[V], how often the training texts, as they are cut, have each word."""
        return np.bincount(np.concatenate(self.train.examples), minlength=self.tokenizer.vocab_size)

    def digest(self) -> str:
        """Returns what two processes, or two starts, have in common with the same texts, labels and words."""
        arrays = [
            (np.concatenate(split.examples), split.lengths, split.labels)
            for split in (self.train, self.validation, self.test)
        ]
        return digest_of_arrays(arrays) + digest_of_json(self.tokenizer.to_json())

    def describe(self) -> str:
        """Returns two lines for the log."""
        train, validation, test = (len(split.examples) for split in (self.train, self.validation, self.test))
        return (
            f"reviews: {train:,} train, {validation:,} validation, {test:,} test "
            f"({self.corpus.dropped:,} dropped that stood in two); labels: {', '.join(self.label_names)}; "
            f"vocabulary: {self.tokenizer.vocab_size:,}\n"
            f"shapes [batch, time]: {self.train.shapes}; padding waste {self.train.padding_waste:.1%}"
        )


def load_data(
    corpus: Mapping[str, Any],
    text: Mapping[str, Any],
    batch_size: int,
    buckets: int,
    cache: Path,
    share: slice = WHOLE,
) -> Data:
    """Reads, splits, encodes and buckets a corpus.

    Args:
      corpus: the arguments of `load_corpus`.
      text: those of `Tokenizer.train`; max_length and truncate, as in `text.truncate`; train_length, to which
        texts to train on are cut, if fewer, 0 for the same; and vocabulary_source, the source to choose the
        words from, "" for the training split.
      share: the rows of each batch that are wanted, as in `Batches`.

    Raises:
      InputError: as `load_corpus`, `Tokenizer.train`, `truncate`, `bucket_lengths` and `Batches` do.
    """
    loaded = load_corpus(**corpus)
    splits = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}
    larger = text["vocabulary_source"]

    def texts() -> list[str]:
        return read_texts(larger, corpus["text_column"]) if larger else loaded.train.texts

    tokenizer, encoded = encode_splits(
        {name: split.texts for name, split in splits.items()},
        texts(),
        **{name: text[name] for name in ("vocab_size", "lowercase", "strip_html")},
        cache=cache,
    )
    rows, lengths = cut_and_padded(encoded, text, buckets)
    batches = {
        name: Batches(rows[name], split.labels, lengths, batch_size, share) for name, split in splits.items()
    }
    return Data(**batches, tokenizer=tokenizer, corpus=loaded, texts=texts)


def cut_and_padded(
    encoded: Mapping[str, Sequence[np.ndarray]], text: Mapping[str, Any], buckets: int
) -> tuple[dict[str, list[np.ndarray]], tuple[int, ...]]:
    """Returns the cut rows of each split, and the padded lengths: `buckets`, and LONGER for longer texts."""
    most, keep = text["max_length"], text["truncate"]
    trained = text["train_length"] or most
    rows = {name: truncate(encoded[name], trained if name == "train" else most, keep) for name in encoded}
    lengths = bucket_lengths([len(row) for row in rows["train"]], trained, buckets)
    if trained < most:
        longer = [len(row) for row in encoded["train"] if len(row) > trained]
        lengths += bucket_lengths(longer or [most], most, LONGER)
    return rows, lengths


class Documents(NamedTuple):
    """Windows of the documents to train on and of those held out, and the tokeniser."""

    train: Windows
    validation: Windows
    tokenizer: Tokenizer
    texts: Callable[[], list[str]]  # those that the vocabulary is of

    @property
    def test(self) -> Windows:
        """Those held out, once more: measured at the best checkpoint."""
        return self.validation

    @property
    def task(self) -> dict[str, object]:
        """The data that a model is trained on; it needs nothing beside its config and tokeniser."""
        return {"data": self.digest()}

    @property
    def uses(self) -> np.ndarray:
        """Returns int[V], how often the documents to train on have each word."""
        return np.bincount(self.train.words, minlength=self.tokenizer.vocab_size)

    def digest(self) -> str:
        """Returns what two processes, or two starts, have in common with the same documents and words."""
        arrays = [(split.words, split.targets) for split in (self.train, self.validation)]
        return digest_of_arrays(arrays) + digest_of_json(self.tokenizer.to_json())

    def describe(self) -> str:
        """Returns two lines for the log."""
        train, held = self.train, self.validation
        return (
            f"documents: {len(train.targets):,} train, {len(held.targets):,} held out; words to predict: "
            f"{train.predictions:,} and {held.predictions:,}, of them {(held.words == UNK).mean():.2%} "
            f"unknown; vocabulary: {self.tokenizer.vocab_size:,}\n"
            f"shapes [batch, time]: {train.shapes}; padding waste {train.padding_waste:.1%}"
        )


def load_documents(
    documents: Mapping[str, Any],
    text: Mapping[str, Any],
    lanes: int,
    window: int,
    reverse: bool,
    cache: Path,
    share: slice = slice(None),
) -> Documents:
    """Reads, splits and encodes the texts of a source, labelled or not; its validation and test splits never.

    Args:
      documents: source and text_column of `read_texts`; validation_share and split_seed of `hold_out`.
      text: the arguments of `Tokenizer.train`, which sees the documents to train on.
      lanes, window, reverse, share: as in `Windows`.

    Raises:
      InputError: as `read_texts`, `hold_out`, `Tokenizer.train` and `Windows` do.
    """
    texts = read_texts(documents["source"], documents["text_column"])
    kept, held = hold_out(texts, documents["validation_share"], documents["split_seed"])
    tokenizer, rows = encode_splits({"train": kept, "validation": held}, kept, **text, cache=cache)
    windows = {name: Windows(rows[name], lanes, window, reverse, share) for name in rows}
    return Documents(**windows, tokenizer=tokenizer, texts=lambda: kept)
