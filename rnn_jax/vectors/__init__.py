"""Word vectors: read from files, trained by word2vec, and laid out for a vocabulary."""

from rnn_jax.vectors.lookup import Coverage, Vectors, coverage, fill_missing, read_vectors
from rnn_jax.vectors.readers import write_vectors
from rnn_jax.vectors.word2vec import train_vectors

__all__ = [
    "Coverage",
    "Vectors",
    "coverage",
    "fill_missing",
    "read_vectors",
    "train_vectors",
    "write_vectors",
]
