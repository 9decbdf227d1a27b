"""The data of a language model: the texts of a source as windows, those of a share held out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.corpus import hold_out
from rnn_jax.digest import digest_of_arrays, digest_of_json
from rnn_jax.encoding import encode_splits
from rnn_jax.sources import read_texts
from rnn_jax.text import UNK, Tokenizer
from rnn_jax.windows import Windows


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
    def task(self) -> dict[str, Any]:
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
