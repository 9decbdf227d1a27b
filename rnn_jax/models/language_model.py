"""The language model: embedding -> recurrent layers -> softmax over the next word; and its builder."""

from typing import TypedDict, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_rate, check_sizes, choose, require
from rnn_jax.layers.dropout import Dropout, drops
from rnn_jax.layers.inputs import as_token_ids
from rnn_jax.layers.matmul import as_rows, contract
from rnn_jax.layers.recurrence import Carry
from rnn_jax.layers.rnn import Layer, Stacked, read_from_the_end
from rnn_jax.models.encoder import DTYPES, build_encoder
from rnn_jax.models.softmax import logits_of


class CausalEncoderSettings(TypedDict):
    """The keys of `config.model` that describe a language model's recurrent layers: see `build_encoder`."""

    cell: str
    hidden: int
    layers: int
    recurrent_dropout: float
    layer_dropout: float


class LanguageModel(nn.Module):
    """Predicts each next word: embedding -> recurrent layers -> softmax over the vocabulary.

    `carry, outputs = model.apply({"params": p}, token_ids, lengths)` reads, and
    `model.apply({"params": p}, outputs, method="logits")` scores all words; training computes losses from
    `vectors` and `softmax` instead (rnn_jax.models.losses). The parameters `embedding` and `encoder` are
    those of a TextClassifier of the same sizes.

    Attributes:
      vocab_size: V, the rows of the embedding table.
      embedding_dim: E, the columns of the embedding table.
      encoder: an RNN, or a Stacked of RNNs, that reads left to right. A backward model is the same one on
        documents that are read reversed: `Windows(..., reverse=True)`.
      tied: the softmax scores words with the embedding table (Press & Wolf 2017; Inan et al. 2017). An
        encoder of another width than E is then followed by a `projection` [H, E]. Untied, the softmax has a
        `softmax_table` [V, H] of its own.
      type_dropout: rate in [0, 1) at which words of the vocabulary are left out of all that is read, one mask
        [V] a batch (Gal & Ghahramani 2016; "embedding dropout" of Merity et al. 2018).
      embedding_dropout: rate in [0, 1) on the embedded words, one mask [E] a row.
      output_dropout: rate in [0, 1) on the outputs, one mask [H] a row. Dropout needs the rng stream
        "dropout".
      dtype: compute type of the network; the table and logits are float32.

    Raises:
      InputError: a layer that sees the word it predicts, or a rate outside [0, 1).

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, LanguageModel, LSTMCell
    >>> model = LanguageModel(vocab_size=10, embedding_dim=4, encoder=RNN(LSTMCell(4)))
    >>> token_ids = jnp.array([[5, 2, 7, 3, 1], [4, 2, 3, 6, 9]])
    >>> (carry, outputs), variables = model.init_with_output(jax.random.key(0), token_ids)
    >>> model.apply(variables, outputs, method="logits").shape
    (2, 5, 10)
    """

    vocab_size: int
    embedding_dim: int
    encoder: Layer
    tied: bool = True
    type_dropout: float = 0.0
    embedding_dropout: float = 0.0
    output_dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        check_sizes(self, "vocab_size", "embedding_dim")
        check_causal(self.encoder)
        for name in ("type_dropout", "embedding_dropout", "output_dropout"):
            check_rate(name, getattr(self, name))
        # float32 until words are looked up: so is the sum of a word's gradients.
        self.embedding = nn.Embed(self.vocab_size, self.embedding_dim, dtype=jnp.float32)
        self.drop_inputs, self.drop_outputs = Dropout(self.embedding_dropout), Dropout(self.output_dropout)
        width, init = final_width(self.encoder), nn.initializers.lecun_normal()
        self.softmax_bias = self.param("softmax_bias", nn.initializers.zeros_init(), (self.vocab_size,))
        if not self.tied:
            table_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
            self.softmax_table = self.param("softmax_table", table_init, (self.vocab_size, width))
        elif width != self.embedding_dim:
            self.projection = self.param("projection", init, (width, self.embedding_dim))

    def __call__(
        self,
        token_ids: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, jax.Array]:
        """Returns the carry after the last word and the outputs [B, T, H] of the encoder.

        Args:
          token_ids: int[B, T], each from 0 to V - 1.
          lengths: int[B], the words of each row, the others being padding. None: all T.
          initial_carry: the carry of the text so far; None where the text begins.
          deterministic: False turns dropout on; it needs the rng stream "dropout".

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax import GRUCell, LanguageModel, RNN
        >>> model, words = LanguageModel(10, 4, RNN(GRUCell(4))), jnp.full((2, 5), 7)
        >>> (carry, _), variables = model.init_with_output(jax.random.key(0), words)
        >>> carry, outputs = model.apply(variables, words, initial_carry=carry)  # the texts go on
        >>> outputs.shape
        (2, 5, 4)
        """
        token_ids = as_token_ids(token_ids)
        x_BTE = self.embedding(token_ids)
        if drops(self.type_dropout, deterministic):
            keep = 1 - self.type_dropout
            kept_V = jax.random.bernoulli(self.make_rng("dropout"), keep, (self.vocab_size,))
            x_BTE = jnp.where(kept_V[token_ids][:, :, None], x_BTE / keep, 0)
        x_BTE = self.drop_inputs(x_BTE.astype(self.dtype), deterministic)
        carry, outputs_BTH = self.encoder(x_BTE, lengths, initial_carry, deterministic)
        return carry, outputs_BTH

    def drop(self, outputs_BTH: jax.Array, deterministic: bool = True) -> jax.Array:
        """Returns the outputs with dropout."""
        return self.drop_outputs(outputs_BTH, deterministic)

    def vectors(self, outputs_BTH: jax.Array) -> jax.Array:
        """Returns the vectors that the softmax reads: [B, T, E] where it is tied, [B, T, H] elsewhere."""
        if not self.tied or outputs_BTH.shape[-1] == self.embedding_dim:
            return outputs_BTH
        vectors = contract(as_rows(outputs_BTH), self.projection, (1, 0), outputs_BTH.dtype)
        return vectors.reshape(*outputs_BTH.shape[:-1], self.embedding_dim).astype(outputs_BTH.dtype)

    def softmax(self) -> tuple[jax.Array, jax.Array]:
        """Returns the softmax's table, [V, E] where it is tied and [V, H] elsewhere, and its bias [V]."""
        return self.embedding.embedding if self.tied else self.softmax_table, self.softmax_bias

    def logits(self, outputs_BTH: jax.Array) -> jax.Array:
        """Returns float32[B, T, V], unnormalised log probabilities of the next word, PAD included."""
        vectors = self.vectors(outputs_BTH)
        return logits_of(as_rows(vectors), *self.softmax()).reshape(*vectors.shape[:-1], self.vocab_size)

    @nn.nowrap
    def initial_carry(self, rows: int) -> Carry:
        """Returns the carry with which a document begins, for a batch of `rows`."""
        return _initial_carry(self.encoder, (rows, self.embedding_dim))


def check_causal(layer: object) -> None:
    """Raises InputError unless the layer is an RNN or Stacked of RNNs that all read left to right."""
    culprit = read_from_the_end(layer)
    require(
        not culprit,
        f"encoder has {culprit}, which may see the word that it predicts; give an RNN or a Stacked of RNNs "
        "with reverse=False, and for a backward model reverse the documents: Windows(..., reverse=True)",
    )


def final_width(layer: Layer) -> int:
    """Returns H, the number of output features of an RNN or a Stacked of RNNs."""
    if isinstance(layer, Stacked):
        return final_width(layer.layers[-1])
    width: int = layer.cell.features
    return width


def _initial_carry(layer: Layer, shape: tuple[int, int]) -> Carry:
    if isinstance(layer, Stacked):
        return tuple(_initial_carry(each, shape) for each in layer.layers)
    return layer.cell.initialize_carry(jax.random.key(0), shape)


def build_language_model(
    vocab_size: int,
    *,
    embedding_dim: int,
    tied: bool,
    type_dropout: float,
    embedding_dropout: float,
    output_dropout: float,
    dtype: str,
    **encoder: Unpack[CausalEncoderSettings],
) -> LanguageModel:
    """Returns a language model from the keys of `config.model`.

    Args:
      vocab_size, embedding_dim, tied, type_dropout, embedding_dropout, output_dropout: see `LanguageModel`.
      dtype: "float32" or "bfloat16", the compute type.
      **encoder: cell, hidden, layers, recurrent_dropout, layer_dropout: see `build_encoder`.

    Raises:
      InputError: an unknown name, a size below 1, or a rate outside [0, 1).

    >>> from rnn_jax.models import build_language_model
    >>> rates = {"type_dropout": 0.1, "embedding_dropout": 0.3, "output_dropout": 0.3}
    >>> rates |= {"recurrent_dropout": 0.0, "layer_dropout": 0.3}
    >>> layers = {"cell": "lstm", "hidden": 8, "layers": 2}
    >>> model = build_language_model(100, embedding_dim=4, tied=True, dtype="float32", **layers, **rates)
    >>> len(model.initial_carry(rows=5))
    2
    """
    require(embedding_dim > 0, f"model.embedding_dim is {embedding_dim}; give at least 1")
    check_rate("model.type_dropout", type_dropout)
    check_rate("model.embedding_dropout", embedding_dropout)
    check_rate("model.output_dropout", output_dropout)
    compute_dtype = choose("model.dtype", dtype, DTYPES)
    # What a language model has no choice of, or no use for.
    layers = build_encoder(
        bidirectional=False, merge="concat", residual=False, layer_norm=False, dtype=compute_dtype, **encoder
    )
    rates = type_dropout, embedding_dropout, output_dropout
    return LanguageModel(vocab_size, embedding_dim, layers, tied, *rates, compute_dtype)
