"""Word vectors from unlabelled texts: word2vec's continuous bag of words, trained by gensim."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnn_jax.errors import InputError, check_seed, require

if TYPE_CHECKING:
    from gensim.models import Word2Vec

LONGEST_SENTENCE = 10_000  # words of a sentence that gensim reads; it drops the rest


def load_gensim() -> "type[Word2Vec]":
    """Returns gensim's class Word2Vec. Raises InputError with the command that installs it."""
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise InputError(
            f"word2vec needs gensim ({error}); install it with: pip install -e '.[vectors]'"
        ) from error
    return Word2Vec


def train_vectors(
    sentences: Sequence[Sequence[str]],
    *,
    dim: int,
    window: int,
    epochs: int,
    min_count: int,
    seed: int,
    workers: int = 1,
) -> tuple[list[str], np.ndarray]:
    """Returns the V words that are used often enough, the most frequent first, and vectors float32[V, dim].

    Continuous bag of words with 5 negative samples (Mikolov et al. 2013). One worker gives the same vectors,
    bit for bit, in any process. Several change one table without locks, so no two runs of them are equal.

    Args:
      sentences: the words of each text, as `Tokenizer.words_of` splits it.
      dim, window: the width of a vector, and words on each side that predict the one between them.
      epochs, workers: passes over the texts, and threads.
      min_count: uses that a word needs to get a vector.

    Raises:
      InputError: gensim is not installed, a setting is out of range, or no word is used often enough.

    >>> texts = [["a", "dull", "film"], ["a", "fine", "film"]]
    >>> settings = {"dim": 4, "window": 2, "epochs": 1, "min_count": 2, "seed": 0}
    >>> train_vectors(texts, **settings)[0]  # doctest: +SKIP
    ['film', 'a']
    """
    check_vector_settings(seed, dim=dim, window=window, epochs=epochs, min_count=min_count, workers=workers)
    word2vec = load_gensim()
    model = word2vec(
        vector_size=dim, window=window, min_count=min_count, seed=seed, workers=workers, sg=0, negative=5
    )
    pieces = [piece for sentence in sentences for piece in _pieces(sentence)]
    model.build_vocab(corpus_iterable=pieces)
    require(len(model.wv) > 0, f"no word is used {min_count} times; lower min_count, or give more texts")
    model.train(corpus_iterable=pieces, total_examples=model.corpus_count, epochs=epochs)
    return list(model.wv.index_to_key), np.array(model.wv.vectors, dtype=np.float32)


def check_vector_settings(seed: int, **counts: int) -> None:
    """Raises InputError for a setting of `train_vectors` that is out of range."""
    for name, value in counts.items():
        require(value > 0, f"{name} is {value}; give a positive number")
    check_seed("seed", seed)


def _pieces(sentence: Sequence[str]) -> list[Sequence[str]]:
    if len(sentence) <= LONGEST_SENTENCE:
        return [sentence]
    return [sentence[start : start + LONGEST_SENTENCE] for start in range(0, len(sentence), LONGEST_SENTENCE)]
