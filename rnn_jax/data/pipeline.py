"""The data of a run: labelled texts as batches, or documents as windows, of each split.

This is where sources, splits, tokeniser, encoding and batches come together. A run reads all of it through
the protocol RunData, so that training knows no kind of data.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from rnn_jax.data.batches import WHOLE, Batch_co, Batches, BatchSource, bucket_lengths
from rnn_jax.data.encoding import encode_splits
from rnn_jax.data.evidence import Evidence, RowEvidence, fit_evidence, ratio_targets
from rnn_jax.data.folders import HELD_OUT
from rnn_jax.data.reading import Reading, quiet, read_for, reading_of
from rnn_jax.data.sources import read_texts
from rnn_jax.data.splits import Corpus, hold_out, load_corpus
from rnn_jax.data.targets import rows_of_pairs, single_texts, standardised
from rnn_jax.data.tokenizer import UNK, Tokenizer, tokenizer_kind, truncate
from rnn_jax.data.windows import Windows
from rnn_jax.hashing import digest_of_arrays, digest_of_json

Settings: TypeAlias = Mapping[str, Any]  # a section of a config, or a dict of its keys

SOFT = "soft"  # the texts with soft labels, which are trained on too
SPLITS = ("train", "validation", "test")
MANY_UNKNOWN = 0.2  # of the words, above which a line warns
LONGER_BUCKETS = 2  # padded lengths for texts that are longer than those to train on


class RunData(Protocol[Batch_co]):
    """What a run needs of its data; `Data` (a classifier's) and `Documents` (a language model's) have it.

    A new kind of data is a NamedTuple, or any other object, with these attributes.
    """

    @property
    def train(self) -> BatchSource[Batch_co]:
        """The batches to train on."""

    @property
    def validation(self) -> BatchSource[Batch_co]:
        """The batches that each evaluation reads; the best checkpoint is chosen on them."""

    @property
    def test(self) -> BatchSource[Batch_co]:
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
    """A classifier's data, as `load_data` returns it.

    Attributes:
      train, validation, test: the batches of each split. Without a test split, `test` is `validation`.
      tokenizer: what turned the texts into word ids.
      corpus: the splits as texts and labels.
      texts: returns the texts that the vocabulary was chosen from; a larger corpus is read again.
      notes: lines for the log, of what the readers decided and counted.
      evidence: the n-grams of the training texts; None where the network reads none.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = "".join(f"{word} film {n},{n % 2}\\n" for n, word in enumerate(["dull", "fine"] * 20))
    >>> _ = (folder / "reviews.csv").write_text("text,label\\n" + rows)
    >>> names = {"source": str(folder / "reviews.csv"), "text_column": "text", "label_column": "label"}
    >>> corpus = names | {"label_names": (), "validation_share": 0.1, "test_share": 0.1, "split_seed": 0}
    >>> text = {"vocab_size": 50, "lowercase": True, "strip_html": True, "vocabulary_source": ""}
    >>> text |= {"max_length": 16, "train_length": 0, "truncate": "tail", "fill_vocabulary": False}
    >>> data = load_data(corpus, text, batch_size=8, buckets=1, cache=folder)
    >>> data.train.steps_per_epoch, data.train.shapes, data.label_names
    (4, [(8, 16)], ('0', '1'))
    """

    train: Batches
    validation: Batches
    test: Batches
    tokenizer: Tokenizer
    corpus: Corpus
    texts: Callable[[], list[str]]
    notes: tuple[str, ...] = ()
    evidence: Evidence | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, by position."""
        return self.corpus.label_names

    @property
    def task(self) -> dict[str, object]:
        """What using the model needs beside its config and tokeniser, and the digest of the data."""
        names, values, buckets = self.corpus.label_names, self.corpus.label_values, self.train.buckets
        scale = {} if names else dict(zip(("mean", "deviation"), self.corpus.scale, strict=True))
        task: dict[str, object] = {
            "label_names": names,
            "label_values": values,
            "buckets": buckets,
            "data": self.digest(),
        }
        return task | scale

    @property
    def uses(self) -> np.ndarray:
        """int[V]: how often each word occurs in the training texts, as they are cut."""
        return np.bincount(self.train.words, minlength=self.tokenizer.vocab_size)

    @property
    def tested(self) -> bool:
        """Whether there is a test split."""
        return self.test is not self.validation

    def digest(self) -> str:
        """Returns a digest that is equal where the texts, the labels and the vocabulary are equal."""
        arrays = [
            (split.words, split.lengths, split.labels) for split in (self.train, self.validation, self.test)
        ]
        return digest_of_arrays(arrays) + digest_of_json(self.tokenizer.to_json())

    def describe(self) -> str:
        """Returns the notes, and lines on sizes, unknown words and shapes for the log."""
        train, validation, test = (len(split.examples) for split in (self.train, self.validation, self.test))
        read = self.validation.words
        tested = f"{test:,} test" if self.tested else "no test, so that validation is measured at the end"
        return "\n".join(self.notes + ("",) * bool(self.notes)) + (
            f"texts: {train:,} train, {validation:,} validation, {tested} "
            f"({self.corpus.dropped:,} dropped that stood in two); {self._decided()}; "
            f"vocabulary: {self.tokenizer.vocab_size:,}\n"
            f"{unknown_share(read, 'the validation texts', self.tokenizer.kind)}\n"
            f"shapes [batch, time]: {self.train.shapes}; padding waste {self.train.padding_waste:.1%}"
        )

    def _decided(self) -> str:
        mean, deviation = self.corpus.scale
        numbers = f"numbers of mean {mean:.6g} and deviation {deviation:.6g}"
        return f"labels: {', '.join(self.label_names)}" if self.label_names else numbers


class Documents(NamedTuple):
    """A language model's data, as `load_documents` returns it.

    Attributes:
      train, validation: the windows of the documents to train on, and of those held out.
      tokenizer: what turned the texts into word ids.
      texts: returns the documents to train on, from which the vocabulary was chosen.
      notes: lines for the log, of what the readers decided and counted.
    """

    train: Windows
    validation: Windows
    tokenizer: Tokenizer
    texts: Callable[[], list[str]]
    notes: tuple[str, ...] = ()

    @property
    def test(self) -> Windows:
        """The windows held out, once more: the best checkpoint is measured on them."""
        return self.validation

    @property
    def task(self) -> dict[str, object]:
        """The digest of the data: using the model needs nothing beside its config and tokeniser."""
        return {"data": self.digest()}

    @property
    def uses(self) -> np.ndarray:
        """int[V]: how often each word occurs in the documents to train on."""
        return np.bincount(self.train.words, minlength=self.tokenizer.vocab_size)

    def digest(self) -> str:
        """Returns a digest that is equal where the documents and the vocabulary are equal."""
        arrays = [(split.words, split.targets) for split in (self.train, self.validation)]
        return digest_of_arrays(arrays) + digest_of_json(self.tokenizer.to_json())

    def describe(self) -> str:
        """Returns the notes, and lines on sizes, unknown words and shapes for the log."""
        train, held = self.train, self.validation
        return "\n".join(self.notes + ("",) * bool(self.notes)) + (
            f"documents: {len(train.targets):,} train, {len(held.targets):,} held out; words to predict: "
            f"{train.predictions:,} and {held.predictions:,}; vocabulary: {self.tokenizer.vocab_size:,}\n"
            f"{unknown_share(held.words, 'the documents held out', self.tokenizer.kind)}\n"
            f"shapes [batch, time]: {train.shapes}; padding waste {train.padding_waste:.1%}"
        )


def unknown_share(words: np.ndarray, of: str, kind: str) -> str:
    """Returns the line that tells how many of the words of some texts a vocabulary lacks.

    >>> unknown_share(np.array([5, 6, 7, 8]), "the validation texts", "words")
    'unknown: 0.00% of the words of the validation texts'
    """
    share = float((words == UNK).mean()) if len(words) else 0.0
    line = f"unknown: {share:.2%} of the words of {of}"
    if share <= MANY_UNKNOWN:
        return line
    other = ", or set text.tokenizer to 'bpe' or 'characters'" if kind == "words" else ""
    return f"{line}. WARNING: that is much; raise text.vocab_size{other}"


def load_data(
    corpus: Settings,
    text: Settings,
    batch_size: int,
    buckets: int,
    cache: Path,
    share: slice = WHOLE,
    evidence: Settings | None = None,
) -> Data:
    """Reads labelled texts, splits, encodes and cuts them, and pads them in batches; example: `Data`.

    Args:
      corpus: `config.data`, the arguments of `load_corpus`.
      text: `config.text`: the arguments of `Tokenizer.train`; max_length and truncate, as `truncate` takes
        them; train_length, the most words of a text to train on, 0 for max_length; vocabulary_source, the
        source to choose the words from, "" for the training split; fill_vocabulary, to add unused ones.
      batch_size, buckets: B, and the number of padded lengths of texts to train on; longer ones get two more.
      cache: the folder that keeps the encoded texts for the next run.
      share: the rows of each batch that are wanted, as in `Batches`.
      evidence: `config.embedding.evidence`, the last arguments of `fit_evidence`; None or no orders is none.

    Raises:
      InputError: as `load_corpus`, `Tokenizer.train`, `truncate`, `bucket_lengths` and `Batches` do.
    """
    loaded = load_corpus(**corpus, say=(notes := list[str]()).append)
    larger = text["vocabulary_source"]

    def texts(say: Callable[[str], None] = quiet) -> list[str]:
        if not larger:
            return single_texts([*loaded.train.texts, *(loaded.soft.texts if loaded.soft else ())])
        with read_for("text.vocabulary_source"):
            return read_texts(larger, corpus["text_column"], Reading(say=say))

    settings = _tokenizer_settings(text, chosen_from := texts(notes.append), notes)
    splits = {name: single_texts(split.texts) for name, split in loaded.splits.items()}
    if loaded.soft:
        splits[SOFT] = single_texts(loaded.soft.texts)
    tokenizer, encoded = encode_splits(splits, chosen_from, **settings, cache=cache)
    tokenizer = tokenizer.filled(text["vocab_size"]) if text["fill_vocabulary"] else tokenizer
    rows, lengths = cut_and_padded(encoded, text, buckets)
    make = partial(Batches, buckets=lengths, batch_size=batch_size, share=share)
    examples = {name: rows_of_pairs(own) if corpus.get("pair_column") else own for name, own in rows.items()}
    labels = {name: standardised(split.labels, loaded.scale) for name, split in loaded.splits.items()}
    fitted, found = _evidence_of(evidence, encoded, rows, loaded, tokenizer.vocab_size)
    if loaded.soft:
        examples["train"] = [*examples["train"], *examples[SOFT]]
        labels["train"] = loaded.soft_targets(labels["train"])
    batches = {name: make(examples[name], labels[name], evidence=found.get(name)) for name in labels}
    batches.setdefault("test", batches["validation"])
    notes += [fitted.describe()] if fitted else []
    return Data(
        **batches, tokenizer=tokenizer, corpus=loaded, texts=texts, notes=tuple(notes), evidence=fitted
    )


def _evidence_of(
    settings: Settings | None,
    whole: Mapping[str, Sequence[np.ndarray]],
    read: Mapping[str, list[np.ndarray]],
    corpus: Corpus,
    vocab_size: int,
) -> tuple[Evidence | None, dict[str, RowEvidence]]:
    """Returns the evidence of the whole training texts, and for each split that of the words it reads."""
    if not settings or not settings["orders"]:
        return None, {}
    targets, labelled = ratio_targets(corpus.train.labels, len(corpus.label_names)), None
    if corpus.soft:
        labelled = len(targets)
        targets = np.concatenate([targets, corpus.soft.labels[:, -targets.shape[1] :]])
    rows, cut = ([*of["train"], *of.get(SOFT, ())] for of in (whole, read))
    fitted, train = fit_evidence(rows, cut, targets, vocab_size, **settings, labelled=labelled)
    others = [name for name in read if name not in ("train", SOFT)]
    return fitted, {"train": train, **{name: fitted.of_rows(read[name]) for name in others}}


def _tokenizer_settings(text: Settings, texts: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Returns the arguments of `Tokenizer.train`, and notes where "auto" does not take words."""
    name = text.get("tokenizer", "auto")
    kind = tokenizer_kind(name, texts)
    if name == "auto" and kind != "words":
        notes.append(
            "most letters are of scripts without spaces between words: each of their characters is a word "
            "(text.tokenizer sets another)"
        )
    folded = [f"text.{option}" for option in ("lowercase", "strip_html") if text[option]]
    if kind == "bytes" and folded:
        notes.append(
            f"{' and '.join(folded)}: texts are changed before their bytes are read; "
            "False reads them as they are"
        )
    return {"kind": kind} | {name: text[name] for name in ("vocab_size", "lowercase", "strip_html")}


def cut_and_padded(
    encoded: Mapping[str, Sequence[np.ndarray]], text: Settings, buckets: int
) -> tuple[dict[str, list[np.ndarray]], tuple[int, ...]]:
    """Returns the rows of each split, cut, and the padded lengths: `buckets`, and LONGER_BUCKETS beyond."""
    most, keep = text["max_length"], text["truncate"]
    trained = text["train_length"] or most
    rows = {name: truncate(encoded[name], most if name in HELD_OUT else trained, keep) for name in encoded}
    lengths = bucket_lengths([len(row) for row in rows["train"]], trained, buckets)
    if trained < most:
        longer = [len(row) for row in encoded["train"] if len(row) > trained]
        lengths += bucket_lengths(longer or [most], most, LONGER_BUCKETS)
    return rows, lengths


def load_documents(
    documents: Settings,
    text: Settings,
    lanes: int,
    window: int,
    reverse: bool,
    cache: Path,
    share: slice = WHOLE,
) -> Documents:
    """Reads the texts of a source, labelled or not, splits and encodes them, and lays them out in windows.

    The source's own validation and test splits are left out.

    Args:
      documents: `config.data`: source and text_column of `read_texts`, validation_share and split_seed of
        `hold_out`.
      text: `config.text`, the arguments of `Tokenizer.train`, which sees the documents to train on.
      lanes, window, reverse, share: as in `Windows`.
      cache: the folder that keeps the encoded texts for the next run.

    Raises:
      InputError: as `read_texts`, `hold_out`, `Tokenizer.train` and `Windows` do.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.jsonl").write_text("".join(f'{{"text": "a b c d{n}"}}\\n' for n in range(10)))
    >>> source = {"source": str(folder), "text_column": "text", "validation_share": 0.2, "split_seed": 0}
    >>> text = {"vocab_size": 50, "lowercase": True, "strip_html": True}
    >>> documents = load_documents(source, text, lanes=2, window=3, reverse=False, cache=folder)
    >>> documents.train.predictions, documents.validation.predictions
    (24, 6)
    """
    texts = _documents_with_words(documents, notes := list[str]())
    kept, held = hold_out(texts, documents["validation_share"], documents["split_seed"])
    tokenizer, rows = encode_splits(
        {"train": kept, "validation": held}, kept, **_tokenizer_settings(text, kept, notes), cache=cache
    )
    windows = {name: Windows(rows[name], lanes, window, reverse, share) for name in rows}
    return Documents(**windows, tokenizer=tokenizer, texts=lambda: kept, notes=tuple(notes))


def _documents_with_words(documents: Settings, notes: list[str]) -> list[str]:
    """Returns the texts of a source, and notes what the reader decided and how many were empty."""
    reading, said = reading_of(documents)
    read = read_texts(documents["source"], documents["text_column"], reading)
    notes += said
    texts = [text for text in read if text.strip()]
    if len(texts) < len(read):
        notes.append(f"{len(read) - len(texts):,} rows have no text, and are dropped")
    return texts
