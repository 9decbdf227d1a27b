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

    Continuous bag of words with 5 negative samples (Mikolov et al. 2013, Efficient Estimation of Word
    Representations in Vector Space). One worker gives the same vectors, bit for bit, in any process. Several
    change one table without locks, so no two runs of them are equal.

    Args:
      sentences: the words of each text, as `Tokenizer.words_of` splits it.
      dim: the width of a vector.
      window: words on each side that predict the one between them.
      epochs: passes over the texts.
      min_count: uses that a word needs to get a vector.
      seed: from 0 to 2**32 - 1.
      workers: threads.

    Raises:
      InputError: gensim is not installed, a setting is out of range, or no word is used often enough.

    With the extra `vectors` installed:

    >>> texts = [["a", "dull", "film"], ["a", "fine", "film"]]
    >>> settings = {"dim": 4, "window": 2, "epochs": 1, "min_count": 2, "seed": 0}
    >>> words, vectors = train_vectors(texts, **settings)  # doctest: +SKIP
    >>> words, vectors.shape  # doctest: +SKIP
    (['film', 'a'], (2, 4))
    """
    counts = {"dim": dim, "window": window, "epochs": epochs, "min_count": min_count, "workers": workers}
    for name, value in counts.items():
        require(value > 0, f"{name} is {value}; give a positive number")
    check_seed("seed", seed)
    word2vec = load_gensim()
    model = word2vec(
        vector_size=dim, window=window, min_count=min_count, seed=seed, workers=workers, sg=0, negative=5
    )
    pieces = [piece for sentence in sentences for piece in _pieces(sentence)]
    model.build_vocab(corpus_iterable=pieces)
    require(len(model.wv) > 0, f"no word is used {min_count} times; lower min_count, or give more texts")
    model.train(corpus_iterable=pieces, total_examples=model.corpus_count, epochs=epochs)
    return list(model.wv.index_to_key), np.array(model.wv.vectors, dtype=np.float32)


def _pieces(sentence: Sequence[str]) -> list[Sequence[str]]:
    if len(sentence) <= LONGEST_SENTENCE:
        return [sentence]
    return [sentence[start : start + LONGEST_SENTENCE] for start in range(0, len(sentence), LONGEST_SENTENCE)]
