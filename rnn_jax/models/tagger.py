"""The tagger of words: words and letters -> recurrent layers -> a score for each tag; and its builder."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.data.tagged import NO_LETTER, TagBatch
from rnn_jax.data.tokenizer import UNK
from rnn_jax.errors import check_rate, check_sizes, choose, require
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.crf import CRF, check_tags
from rnn_jax.layers.dropout import Dropout, drops
from rnn_jax.layers.inputs import as_array, as_token_ids, row_lengths
from rnn_jax.layers.masking import valid_steps
from rnn_jax.layers.nesting import check_encoder
from rnn_jax.layers.placement import vary_with
from rnn_jax.layers.rnn import Layer
from rnn_jax.models.encoder import DTYPES, EncoderSettings, build_encoder
from rnn_jax.models.losses import LossFn, MeasureFn
from rnn_jax.models.metrics import confusion_means
from rnn_jax.trees import Params

OUTPUTS = {"softmax": "each word alone", "crf": "all words of a sentence together"}


class WordTagger(nn.Module):
    """Scores the tags of words: word and letter vectors -> dropout -> recurrent layers -> dropout -> scores.

    `scores = model.apply({"params": p}, token_ids, lengths, letters)`, [B, T, C]. What they mean, the methods
    say: `log_likelihood(scores, tags, lengths)`, `decode(scores, lengths)` and `marginals(scores, lengths)`.
    With output "softmax" each word's tag has p = softmax(scores); with "crf" the scores are those of a `CRF`.

    Attributes:
      vocab_size: V, the rows of the embedding table; id 0 is padding, id 1 the unknown word.
      embedding_dim: E, the columns of the embedding table.
      num_tags: C, at least 2.
      encoder: an RNN, Bidirectional or Stacked, which reads the words.
      letter_count: the rows of the table of letters; 0 is no letter, 1 the unknown letter.
      letter_dim: the columns of that table.
      letter_encoder: reads the letters of each word; its final hidden state joins the word's vector. None:
        letters are not read.
      output: "softmax" or "crf".
      word_dropout: rate in [0, 1) at which training reads a word as the unknown one, so that this learns.
      embedding_dropout: rate in [0, 1) on the words' vectors, one mask a sentence.
      dropout: rate in [0, 1) on what the encoder returns, likewise. Dropout needs the rng stream "dropout".
      dtype: compute type of the network; scores are float32.

    References: Huang et al. 2015 (bidirectional LSTM and CRF); Lample et al. 2016 (letters).

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, GRUCell
    >>> from rnn_jax.models import WordTagger
    >>> model = WordTagger(10, 3, num_tags=5, encoder=RNN(GRUCell(4)), letter_encoder=RNN(GRUCell(2)))
    >>> token_ids, letters = jnp.array([[5, 2, 0]]), jnp.array([[[3, 2], [4, 0], [0, 0]]])
    >>> variables = model.init(jax.random.key(0), token_ids, jnp.array([2]), letters)
    >>> scores = model.apply(variables, token_ids, jnp.array([2]), letters)
    >>> scores.shape, model.apply(variables, scores, jnp.array([2]), method="decode").shape
    ((1, 3, 5), (1, 3))
    """

    vocab_size: int
    embedding_dim: int
    num_tags: int
    encoder: Layer
    letter_count: int = 2
    letter_dim: int = 16
    letter_encoder: "Layer | None" = None
    output: str = "softmax"
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        check_sizes(self, "vocab_size", "embedding_dim", "num_tags")
        for name in ("word_dropout", "embedding_dropout", "dropout"):
            check_rate(name, getattr(self, name))
        for name in ("encoder", "letter_encoder"):
            check_encoder(name, getattr(self, name))
        self.embedding = nn.Embed(self.vocab_size, self.embedding_dim, dtype=self.dtype)
        if self.letter_encoder is not None:
            self.letter_embedding = nn.Embed(self.letter_count, self.letter_dim, dtype=self.dtype)
        self.hide_words = Dropout(self.word_dropout, whole_steps=True)
        self.drop_embedded = Dropout(self.embedding_dropout)
        self.drop_encoded = Dropout(self.dropout)
        self.head = nn.Dense(self.num_tags)
        if choose("output", self.output, OUTPUTS) == OUTPUTS["crf"]:
            self.crf = CRF(self.num_tags)

    def __call__(
        self,
        token_ids: jax.Array,
        lengths: jax.Array | None = None,
        letters: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Returns float32 scores [B, T, C].

        Args:
          token_ids: int[B, T], each from 0 to V - 1; a list of lists will do, here and of the others.
          lengths: int[B], the words of each row, the others being padding. None: all T.
          letters: int[B, T, W], the letters of each word, 0 after its last. A model that reads letters needs
            them; only `init` does not.
          deterministic: False turns dropout on; it needs the rng stream "dropout".

        Raises:
          InputError: the model reads letters and there are none, or they are of another shape.
        """
        token_ids = as_token_ids(token_ids)
        batch, time = token_ids.shape
        lengths = jnp.full(batch, time) if lengths is None else row_lengths(lengths, (batch,), time)
        if drops(self.word_dropout, deterministic):
            ones = vary_with(jnp.ones((*token_ids.shape, 1)), token_ids)
            shown = self.hide_words(ones, deterministic)[:, :, 0] > 0
            token_ids = jnp.where(shown, token_ids, UNK)
        x_BTE = self.embedding(token_ids)
        if self.letter_encoder is not None:
            spelled_BTF = self._spelled(token_ids, lengths, letters)
            x_BTE = jnp.concatenate([x_BTE, spelled_BTF], axis=-1)
        x_BTE = self.drop_embedded(x_BTE, deterministic)
        _, outputs_BTH = self.encoder(x_BTE, lengths, deterministic=deterministic)
        scores: jax.Array = self.head(self.drop_encoded(outputs_BTH, deterministic).astype(jnp.float32))
        if self.is_initializing() and self.output == "crf":  # nothing else here makes its parameters
            self.crf(scores, jnp.zeros(token_ids.shape, jnp.int32), lengths)
        return scores

    def _spelled(self, token_ids: jax.Array, lengths: jax.Array, letters: jax.Array | None) -> jax.Array:
        """Returns what the letters of each word say, [B, T, F]; zero at padding."""
        if letters is None and self.is_initializing():
            letters = jnp.zeros((*token_ids.shape, 1), jnp.int32)
        require(letters is not None, "letters is None, but the model reads them; give int[B, T, W]")
        letters = as_array("letters", letters)
        require(
            letters.shape[:2] == token_ids.shape and letters.ndim == 3,
            f"letters has shape {letters.shape}, and token_ids {token_ids.shape}; give [B, T, W] letters",
        )
        counts_BT = jnp.where(
            valid_steps(lengths, token_ids.shape[1]), (letters != NO_LETTER).sum(axis=-1), 0
        )
        carry, _ = self.letter_encoder(self.letter_embedding(letters), counts_BT)  # type: ignore[misc]
        return self.letter_encoder.final_hidden(carry)  # type: ignore[union-attr]

    def log_likelihood(self, scores: jax.Array, tags: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns float32[B], the log probability of each row's tags, int[B, T].

        Raises:
          InputError: tags of another shape than [B, T].
        """
        if self.output == "crf":
            return self.crf(scores, tags, lengths)
        tags = check_tags(tags, scores)
        valid_BT = valid_steps(lengths, scores.shape[1])
        log_p_BTC = jax.nn.log_softmax(scores)
        own_BT = jnp.take_along_axis(log_p_BTC, jnp.where(valid_BT, tags, 0)[:, :, None], axis=2)[:, :, 0]
        return jnp.where(valid_BT, own_BT, 0).sum(axis=1)

    def decode(self, scores: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns int32[B, T], the likeliest tags of each row, 0 at padding."""
        if self.output == "crf":
            return self.crf.decode(scores, lengths)
        best_BT = scores.argmax(axis=-1).astype(jnp.int32)
        return jnp.where(valid_steps(lengths, scores.shape[1]), best_BT, 0)

    def marginals(self, scores: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns float32[B, T, C], the probability of each tag of each word, 0 at padding."""
        if self.output == "crf":
            return self.crf.marginals(scores, lengths)
        return jnp.where(valid_steps(lengths, scores.shape[1])[:, :, None], jax.nn.softmax(scores), 0)


def build_tagger(
    vocab_size: int,
    letter_count: int,
    num_tags: int,
    *,
    embedding_dim: int,
    letter_dim: int,
    letter_hidden: int,
    output: str,
    word_dropout: float,
    embedding_dropout: float,
    dropout: float,
    dtype: str,
    **encoder: Unpack[EncoderSettings],
) -> WordTagger:
    """Returns a tagger from the keys of `config.model`.

    The compute type `dtype` is "float32" or "bfloat16"; `letter_hidden` are the units, in each direction, of
    the bidirectional layer that reads letters, 0 for none. Up to `dropout` the others are attributes of
    `WordTagger`; `encoder` are the keys in `EncoderSettings`.

    Raises:
      InputError: an unknown name, a size below 1, a rate outside [0, 1), or an option that cannot be used.

    >>> from rnn_jax.settings import tagger_settings
    >>> type(build_tagger(100, 30, 17, **tagger_settings().model).letter_encoder).__name__
    'Bidirectional'
    """
    require(num_tags > 1, f"num_tags is {num_tags}; a tagger needs at least 2")
    for name, size in (("embedding_dim", embedding_dim), ("letter_dim", letter_dim)):
        require(size > 0, f"model.{name} is {size}; give at least 1")
    choose("model.output", output, OUTPUTS)
    rates = word_dropout, embedding_dropout, dropout
    for name, rate in zip(("word_dropout", "embedding_dropout", "dropout"), rates, strict=True):
        check_rate(f"model.{name}", rate)
    compute_dtype = choose("model.dtype", dtype, DTYPES)
    words = build_encoder(dtype=compute_dtype, **encoder)
    spelling = build_letter_encoder(letter_hidden, compute_dtype, encoder)
    read = words, letter_count, letter_dim, spelling
    return WordTagger(vocab_size, embedding_dim, num_tags, *read, output, *rates, compute_dtype)


def build_letter_encoder(hidden: int, dtype: jnp.dtype, words: EncoderSettings) -> "Layer | None":
    """Returns one bidirectional layer of the cell that reads the words; None for 0 units."""
    require(hidden >= 0, f"model.letter_hidden is {hidden}; give 0 to read no letters")
    one: EncoderSettings = {
        "cell": words["cell"],
        "hidden": hidden,
        "layers": 1,
        "bidirectional": True,
        "merge": words["merge"],
        "residual": False,
        "layer_norm": words["layer_norm"],
        "recurrent_dropout": 0.0,
        "layer_dropout": 0.0,
    }
    return build_encoder(dtype=dtype, **one) if hidden else None


class TagMetrics(NamedTuple):
    """The sums over the words of one or more batches that a tagger reports.

    Attributes:
      loss: float32[], the summed -log p of the sentences' tags, in nats.
      confusion: float32[C, C]; `confusion[i, j]` counts the words of tag i that are tagged as j.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.models import TagMetrics
    >>> TagMetrics(loss=jnp.array(2.0), confusion=jnp.array([[3.0, 1.0], [0.0, 0.0]])).summary()
    {'loss': 0.5, 'accuracy': 0.75, 'words': 4}
    """

    loss: jax.Array
    confusion: jax.Array

    @property
    def unit(self) -> str:
        """What is counted."""
        return "words"

    def summary(self) -> dict[str, float]:
        """Returns the loss a word, the accuracy of words and their number."""
        return confusion_means(self.loss, self.confusion, self.unit)


def make_tagger_loss(model: WordTagger) -> LossFn[TagBatch]:
    """Returns the loss of a tagger: -log p of each sentence's tags, summed; the count is the number of words.

    >>> import jax, numpy as np
    >>> from rnn_jax import RNN, GRUCell
    >>> from rnn_jax.data import TagBatch
    >>> from rnn_jax.models import WordTagger, make_tagger_loss
    >>> model = WordTagger(10, 3, num_tags=5, encoder=RNN(GRUCell(4)))
    >>> ids, ones = np.array([[5, 2, 0]]), np.ones((1, 3, 1), int)
    >>> batch = TagBatch(ids, np.array([2]), letters=ones, tags=0 * ids, rows=np.array([0]))
    >>> params = model.init(jax.random.key(0), ids)["params"]
    >>> float(make_tagger_loss(model)(params, (), batch, jax.random.key(1))[1][1])  # words
    2.0
    """

    def loss_fn(
        params: Params, carry: Carry, batch: TagBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[TagMetrics, jax.Array, Carry]]:
        metrics = _metrics(model, params, batch, deterministic=False, rngs={"dropout": key})
        return metrics.loss, (metrics, jnp.asarray(batch.lengths).sum().astype(jnp.float32), carry)

    return loss_fn


def make_tagger_measure(model: WordTagger) -> MeasureFn[TagBatch]:
    """Returns the measure of a tagger: its loss and what it takes for what, without dropout.

    >>> import numpy as np
    >>> from rnn_jax import RNN, GRUCell
    >>> from rnn_jax.data import TagBatch
    >>> from rnn_jax.models import WordTagger, make_tagger_measure
    >>> model, ids = WordTagger(10, 3, num_tags=5, encoder=RNN(GRUCell(4))), np.array([[5, 2, 0]])
    >>> batch = TagBatch(ids, np.array([2]), letters=ids[:, :, None], tags=0 * ids, rows=np.array([0]))
    >>> params = model.init(jax.random.key(0), ids)["params"]
    >>> make_tagger_measure(model)(params, (), batch)[0].summary()["words"]
    2
    """

    def measure(params: Params, carry: Carry, batch: TagBatch) -> tuple[TagMetrics, Carry]:
        return _metrics(model, params, batch), carry

    return measure


def _metrics(model: WordTagger, params: Params, batch: TagBatch, **options: Any) -> TagMetrics:
    apply: Callable[..., jax.Array] = partial(model.apply, {"params": params})  # type: ignore[assignment]
    scores = apply(batch.token_ids, batch.lengths, batch.letters, **options)
    log_p_B = apply(scores, batch.tags, batch.lengths, method="log_likelihood")
    found_BT = apply(scores, batch.lengths, method="decode")
    valid_BT = valid_steps(jnp.asarray(batch.lengths), batch.token_ids.shape[1])
    true_BTC = jax.nn.one_hot(batch.tags, model.num_tags) * valid_BT[:, :, None]
    found_BTC = jax.nn.one_hot(found_BT, model.num_tags)
    return TagMetrics(-log_p_B.sum(), jnp.einsum("bti,btj->ij", true_BTC, found_BTC))
