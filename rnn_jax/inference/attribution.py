"""What each word adds to a decision: integrated gradients (Sundararajan, Taly & Yan 2017)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.data.targets import NUMBER
from rnn_jax.errors import choose, require
from rnn_jax.models.heads import ClassHead, Head
from rnn_jax.trees import Params, Tree


class Attribution(NamedTuple):
    """What each word of a text adds to what the model says of one class.

    Attributes:
      words: as the text writes them, those outside the vocabulary too.
      scores: float32[n], one for each word. Their sum is `value - baseline`, up to the error of the steps.
      label: the name of the class, "" of a number.
      value: what the model says of it: its logit or probability.
      baseline: what it says of as many words whose vectors, and evidence, are zero.
      first: of a pair of texts, how many of the words are the first one's; None for a single text.

    >>> found = Attribution(["a", "fine", "film"], np.array([0.25, 1.5, 0.25]), "positive", 2.5, 0.5)
    >>> found.words[found.scores.argmax()], float(found.scores.sum()), found.value - found.baseline
    ('fine', 2.0, 2.0)
    """

    words: list[str]
    scores: np.ndarray
    label: str
    value: float
    baseline: float
    first: int | None = None


QUANTITIES: dict[str, Callable[[Head, jax.Array, jax.Array], jax.Array]] = {
    "logit": lambda head, logits, label: head.quantity(logits, label),
    "probability": lambda head, logits, label: head.answer(logits)[:, label],
}
TWO_CLASSES = ClassHead(("0", "1"))


def attribute_words(
    apply_fn: Callable[..., Tree],
    params: Params,
    token_ids_T: np.ndarray,
    length: int | np.ndarray,
    label: int,
    *,
    of: str,
    steps: int,
    head: Head = TWO_CLASSES,
    evidence: np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the words' attributions float32[T], zero at padding, the value of the text and of the baseline.

    Args:
      apply_fn: `model.apply` of a TextClassifier; compiled once for it and each T, `of` and `steps`.
      params: its parameters.
      token_ids_T: int32[T], one text, padded on the right.
      length: the number of its words, from 0 to T; int32[2] of a pair.
      label: the class, by number.
      of: "logit", log p / (1 - p), which of two classes is the model's one logit, or "probability".
      steps: how many gradients are taken on the way from the baseline to the text; at least 1.
      head: what the network decides. A number is explained itself, and `of` has to be "logit".
      evidence: float32[T, F] where the network reads n-grams. It counts for the word that the n-gram ends
        at, and is zero in the baseline, as the words' vectors are.

    Raises:
      InputError: another `of`, or no steps.

    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> model = TextClassifier(vocab_size=9, embedding_dim=2, num_classes=2, encoder=RNN(GRUCell(3)))
    >>> text = np.array([4, 7, 0], np.int32)
    >>> params = model.init(jax.random.key(0), text[None], np.array([2]))["params"]
    >>> scores, value, baseline = attribute_words(model.apply, params, text, 2, 1, of="logit", steps=16)
    >>> bool(jnp.isclose(scores.sum(), value - baseline, atol=1e-4)), float(scores[2])
    (True, 0.0)
    """
    choose("of", of, {"logit": None} if head.target == NUMBER else QUANTITIES)
    require(steps > 0, f"steps is {steps}; give at least 1 gradient on the way from the baseline")
    return _attribute_words(
        apply_fn, head, of, steps, {"params": params}, token_ids_T, length, label, evidence
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _attribute_words(apply_fn, head, of, steps, variables, token_ids_T, length, label, evidence_TF):
    def value_fn(x_BTE):
        lengths = jnp.broadcast_to(length, (len(x_BTE), *jnp.shape(length)))
        logits = apply_fn(variables, x_BTE, lengths, method="classify")
        return QUANTITIES[of](head, logits, label)

    known = {} if evidence_TF is None else {"evidence": evidence_TF[None]}
    x_TE = apply_fn(variables, token_ids_T[None], **known, method="embed")[0]
    value, baseline = value_fn(jnp.stack([x_TE, jnp.zeros_like(x_TE)]))
    return integrated_gradients(value_fn, x_TE, steps), value, baseline


def integrated_gradients(
    value_fn: Callable[[jax.Array], jax.Array], x_TE: jax.Array, steps: int
) -> jax.Array:
    """Returns float32[T]: x times the mean gradient of `value_fn`, [B, T, E] -> [B], between zeros and x.

    The mean is Gauss and Legendre's: for as many steps the smallest error there is on a smooth function. The
    steps are one batch.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    on_the_way_STE = jnp.asarray((nodes + 1) / 2, x_TE.dtype)[:, None, None] * x_TE[None]
    slopes_STE = jax.grad(lambda x: value_fn(x).sum())(on_the_way_STE).astype(jnp.float32)
    mean_TE = jnp.einsum("s,ste->te", jnp.asarray(weights / 2, jnp.float32), slopes_STE)
    return (x_TE.astype(jnp.float32) * mean_TE).sum(axis=-1)
