"""The text classifier: embedding -> recurrent layers -> pooling -> dropout -> logits, and its builder."""

from collections.abc import Mapping
from typing import Any, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import check_rate, check_sizes, choose, require
from rnn_jax.layers.dropout import Dropout
from rnn_jax.layers.inputs import as_token_ids
from rnn_jax.layers.nesting import check_encoder
from rnn_jax.layers.pooling import POOLINGS, Pooling
from rnn_jax.layers.rnn import Layer
from rnn_jax.models.encoder import (
    DTYPES,
    EncoderSettings,
    build_contextual,
    build_encoder,
    check_weight_drop,
)


class TextClassifier(nn.Module):
    """Classifies token ids: embedding -> recurrent layers -> pooling -> dropout -> logits.

    `logits = model.apply({"params": p}, token_ids, lengths, deterministic=True)`. It also runs in two parts:
    `model.apply(variables, token_ids, method="embed")` returns the embedded words [B, T, E], and
    `model.apply(variables, x, lengths, method="classify")` returns the logits of embedded words x.

    Attributes:
      vocab_size: V, the rows of the embedding table; id 0 is padding, which is read where there are
        no lengths.
      embedding_dim: E, the columns of the embedding table.
      num_classes: C, at least 1. Two classes give one logit, that of class 1; others give one logit each.
      encoder: an RNN, Bidirectional or Stacked.
      pooling: "last", "mean", "max", "concat" or "attention"; see `rnn_jax.layers.Pooling`.
      word_dropout: rate in [0, 1) at which whole words are left out (Iyyer et al. 2015).
      embedding_dropout: rate in [0, 1) on the embedded words, one mask [E] a text (Gal & Ghahramani 2016).
      dropout: rate in [0, 1) on the pooled vector. Dropout needs the rng stream "dropout".
      dtype: compute type of the network; logits are float32.
      independent: each class is decided by itself, as one of several labels or a number is: one logit each.
      pair: reads two texts u and v side by side, as token_ids [B, 2 T] and lengths [B, 2]. One encoder reads
        both, and the logits are made of [u, v, |u - v|, u * v] of the two pooled vectors (InferSent, Conneau
        et al. 2017). Each text is read by itself, so that padding changes nothing.
      evidence: F, the features of n-grams that each word has beside its vector (rnn_jax.data.evidence); 0 for
        none. They are scaled to the standard deviation of the table's entries. Word dropout leaves them out
        with the word, embedding dropout and a perturbation do not touch them.
      contextual: layers that read the words' vectors alone, H outputs a word; None for none. The encoder
        reads their outputs beside the vectors and the evidence: contextual vectors, such as the states of two
        frozen language models (Johnson & Zhang 2016; ELMo, Peters et al. 2018).

    Raises:
      InputError: an unknown pooling, a rate outside [0, 1), a cell for a layer, evidence that is missing or
        not wanted, an odd number of words or lengths that are not [B, 2] where pairs are read, or what the
        encoder raises.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, LSTMCell, TextClassifier
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(LSTMCell(4)))
    >>> token_ids, lengths = jnp.array([[5, 2, 7, 3, 1], [4, 0, 0, 0, 0]]), jnp.array([5, 1])
    >>> variables = model.init(jax.random.key(0), token_ids, lengths)
    >>> model.apply(variables, token_ids, lengths).shape
    (2, 1)
    """

    vocab_size: int
    embedding_dim: int
    num_classes: int
    encoder: Layer
    pooling: str = "last"
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    independent: bool = False
    pair: bool = False
    evidence: int = 0
    contextual: "Layer | None" = None

    def setup(self) -> None:
        check_sizes(self, "vocab_size", "embedding_dim", "num_classes")
        for name in ("word_dropout", "embedding_dropout", "dropout"):
            check_rate(name, getattr(self, name))
        for name in ("encoder", "contextual"):
            check_encoder(name, getattr(self, name))
        self.embedding = nn.Embed(self.vocab_size, self.embedding_dim, dtype=self.dtype)
        # What Dropout draws depends on its name: a run that goes on has to draw as it did before.
        self.drop_words = Dropout(self.word_dropout, whole_steps=True, name="words")
        self.drop_embedded = Dropout(self.embedding_dropout, name="Dropout_0")
        self.pool = Pooling(self.pooling, name="pooling")
        self.drop_pooled = Dropout(self.dropout, name="Dropout_1")
        self.head = nn.Dense(1 if self.num_classes == 2 and not self.independent else self.num_classes)

    def __call__(
        self,
        token_ids: jax.Array,
        lengths: jax.Array | None = None,
        deterministic: bool = True,
        perturbation: jax.Array | None = None,
        evidence: jax.Array | None = None,
    ) -> jax.Array:
        """Returns float32 logits, [B, 1] for two classes and [B, C] for more.

        Args:
          token_ids: int[B, T], each from 0 to V - 1; a list of lists will do.
          lengths: int[B], the words of each row, the others being padding. None: all T.
          deterministic: False turns dropout on; it needs the rng stream "dropout".
          perturbation: [B, T, E], added to the words' vectors that the encoder reads; None for none.
          evidence: float32[B, T, F] of `Batch`; None for a network that reads none.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax import RNN, GRUCell, TextClassifier
        >>> model, token_ids = TextClassifier(10, 3, 4, RNN(GRUCell(4)), dropout=0.5), jnp.ones((2, 5), int)
        >>> rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        >>> logits, variables = model.init_with_output(rngs, token_ids, deterministic=False)
        >>> logits.shape
        (2, 4)
        """
        x_BTE = self.embed(token_ids, deterministic, evidence)
        if perturbation is not None:
            perturbation = jnp.pad(perturbation, ((0, 0), (0, 0), (0, self.evidence)))
            x_BTE += perturbation.astype(self.dtype)
        return self.classify(x_BTE, lengths, deterministic)

    def embed(
        self,
        token_ids: jax.Array,
        deterministic: bool = True,
        evidence: jax.Array | None = None,
        spread: jax.Array | None = None,
    ) -> jax.Array:
        """Returns what the layers read, [B, T, E + F], for int token_ids [B, T] and evidence [B, T, F].

        `spread` is what `self.spread()` returns, where that is known already.
        """
        x_BTE = self.embedding(as_token_ids(token_ids))
        if evidence is None and self.is_initializing():
            evidence = jnp.zeros((*x_BTE.shape[:2], self.evidence))
        check_evidence_shape(self.evidence, evidence)
        if not self.evidence:
            return self.drop_embedded(self.drop_words(x_BTE, deterministic), deterministic)
        scaled_BTF = jnp.asarray(evidence) * (self.spread() if spread is None else spread)
        both = self.drop_words(
            jnp.concatenate([x_BTE, scaled_BTF.astype(self.dtype)], axis=-1), deterministic
        )
        x_BTE, scaled_BTF = both[..., : self.embedding_dim], both[..., self.embedding_dim :]
        return jnp.concatenate([self.drop_embedded(x_BTE, deterministic), scaled_BTF], axis=-1)

    def spread(self) -> jax.Array:
        """Returns the standard deviation of the table's entries, float32[], as a constant to the gradient."""
        table: jax.Array = jax.lax.stop_gradient(self.embedding.embedding)
        return table.astype(jnp.float32).std()

    def classify(
        self, x_BTE: jax.Array, lengths: jax.Array | None = None, deterministic: bool = True
    ) -> jax.Array:
        """Returns float32 logits [B, 1] or [B, C] for embedded words."""
        return self.decide(self.pooled(x_BTE, lengths, deterministic), deterministic)

    def pooled(
        self, x_BTE: jax.Array, lengths: jax.Array | None = None, deterministic: bool = True
    ) -> jax.Array:
        """Returns what `decide` reads of embedded words, [B, F]."""
        if self.pair:
            x_BTE, lengths = split_pairs(x_BTE, lengths)
        if lengths is None:
            lengths = jnp.full(x_BTE.shape[:1], x_BTE.shape[1])
        if self.contextual is not None:
            words_BTE = x_BTE[..., : self.embedding_dim]
            _, context_BTH = self.contextual(words_BTE, lengths, deterministic=deterministic)
            x_BTE = jnp.concatenate([x_BTE, context_BTH], axis=-1)
        carry, outputs_BTH = self.encoder(x_BTE, lengths, deterministic=deterministic)
        pooled_BF = self.pool(self.encoder.final_hidden(carry), outputs_BTH, lengths)
        return compared(pooled_BF) if self.pair else pooled_BF

    def decide(self, pooled_BF: jax.Array, deterministic: bool = True) -> jax.Array:
        """Returns float32 logits for what the pooling gives, [B, F]."""
        logits: jax.Array = self.head(self.drop_pooled(pooled_BF, deterministic).astype(jnp.float32))
        return logits


def build_classifier(
    vocab_size: int,
    num_classes: int,
    *,
    embedding_dim: int,
    pooling: str,
    word_dropout: float,
    embedding_dropout: float,
    dropout: float,
    dtype: str,
    weight_drop: float = 0.0,
    independent: bool = False,
    pair: bool = False,
    evidence: int = 0,
    contextual: Mapping[str, Any] | None = None,
    **encoder: Unpack[EncoderSettings],
) -> TextClassifier:
    """Returns a classifier from the keys of `config.model`.

    The compute type `dtype` is "float32" or "bfloat16". Up to `dropout` the others are attributes of
    `TextClassifier`; `encoder` are the keys in `EncoderSettings`. `weight_drop` is of `make_classifier_loss`;
    `num_classes` and `independent` are the head's, `pair` says that pairs of texts are read, `evidence` is
    the number of features of n-grams, and `contextual` has the cell, hidden and layers of `build_contextual`.

    Raises:
      InputError: an unknown name, a size below 1, a rate outside [0, 1), or an option that cannot be used.

    >>> from rnn_jax.models import build_classifier
    >>> keys = {"embedding_dim": 4, "pooling": "max", "dtype": "float32", "hidden": 8, "layers": 1}
    >>> keys |= {"cell": "gru", "bidirectional": True, "merge": "concat"}
    >>> keys |= {"residual": False, "layer_norm": False}
    >>> rates = ["word_dropout", "embedding_dropout", "recurrent_dropout", "layer_dropout", "dropout"]
    >>> type(build_classifier(100, 2, **keys, **dict.fromkeys(rates, 0.0)).encoder).__name__
    'Bidirectional'
    """
    require(vocab_size > 0, f"vocab_size is {vocab_size}; give at least 1")
    fewest = 1 if independent else 2
    require(num_classes >= fewest, f"num_classes is {num_classes}; classification needs at least {fewest}")
    require(embedding_dim > 0, f"model.embedding_dim is {embedding_dim}; give at least 1")
    choose("model.pooling", pooling, POOLINGS)
    rates = word_dropout, embedding_dropout, dropout
    for name, rate in zip(("word_dropout", "embedding_dropout", "dropout"), rates, strict=True):
        check_rate(f"model.{name}", rate)
    compute_dtype = choose("model.dtype", dtype, DTYPES)
    layers = build_encoder(dtype=compute_dtype, **encoder)
    check_weight_drop("model.weight_drop", weight_drop, encoder["cell"])
    below = build_contextual(compute_dtype, **(contextual or {}))
    sizes = vocab_size, embedding_dim, num_classes
    return TextClassifier(*sizes, layers, pooling, *rates, compute_dtype, independent, pair, evidence, below)


def check_evidence_shape(width: int, evidence: jax.Array | None) -> None:
    """Raises InputError unless evidence is given just where the network reads F = `width` features of it."""
    given = 0 if evidence is None else evidence.shape[-1]
    require(
        given == width,
        f"the network reads {width} features of evidence a word, but {given} are given; give evidence="
        "batch.evidence of batches that were made with it (rnn_jax.data.evidence)",
    )


def split_pairs(x_BTE: jax.Array, lengths: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Returns the texts of pairs as rows [2 B, T, E], and their lengths [2 B]: b's two, then those of b + 1.

    Raises:
      InputError: x is not [B, 2 T, E], or lengths is not [B, 2].
    """
    rows, words, width = x_BTE.shape
    require(
        words % 2 == 0,
        f"token_ids has rows of {words} words, but pair=True reads two texts side by side: "
        "pad both to one length T, and give [B, 2 T]",
    )
    if lengths is not None:
        lengths = jnp.asarray(lengths)
        require(
            lengths.shape == (rows, 2),
            f"lengths has shape {lengths.shape}, but pair=True reads {rows} pairs; give [{rows}, 2], one "
            "length a text",
        )
        lengths = lengths.reshape(2 * rows)
    return x_BTE.reshape(2 * rows, words // 2, width), lengths


def compared(pooled_BF: jax.Array) -> jax.Array:
    """Returns [u, v, |u - v|, u * v], [B, 4 F], for rows u, v, u, v, ... of pooled texts [2 B, F].

    >>> compared(jnp.array([[1.0], [3.0]])).tolist()
    [[1.0, 3.0, 2.0, 3.0]]
    """
    u_BF, v_BF = pooled_BF[0::2], pooled_BF[1::2]
    return jnp.concatenate([u_BF, v_BF, jnp.abs(u_BF - v_BF), u_BF * v_BF], axis=-1)


def smallest_input(model: nn.Module) -> tuple[jax.Array, jax.Array]:
    """Returns token ids and lengths of the smallest text, or pair of texts, that a network reads.

    >>> [part.shape for part in smallest_input(nn.Dense(1))]
    [(1, 1), (1,)]
    """
    if isinstance(model, TextClassifier) and model.pair:
        return jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), jnp.int32)
    return jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32)
