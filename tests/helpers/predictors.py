"""Predictors made without a run: random parameters, large enough that every word changes what is said."""

from collections.abc import Sequence

import jax

from configs import smoke
from rnn_jax.data.evidence import Evidence
from rnn_jax.data.targets import CLASS, NUMBER
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.inference.predictor import Predictor
from rnn_jax.models.classifier import build_classifier, smallest_input
from rnn_jax.models.heads import head_of
from tests.helpers.oracle import random_like
from tests.helpers.runs import TEXTS

WORDS = "A great, moving film 😀 and an awful zyzzyva don't know; WHAT a dull film! great"


def make_predictor(
    names: Sequence[str] = ("negative", "positive"),
    tokenizer: Tokenizer | None = None,
    evidence: Evidence | None = None,
    target: str = CLASS,
    seed: int = 5,
    scale: tuple[float, float] = (10.0, 2.0),
    pair_column: str = "",
    **model_changes,
) -> Predictor:
    """Returns a predictor that reads the last 12 words, in buckets of 6 and 12; numbers have the `scale`."""
    config = smoke.get_config()
    config.text.max_length, config.text.truncate, config.batch.size = 12, "tail", 4
    config.model.embedding_dim, config.model.hidden = 5, 4
    config.model.update(model_changes)
    tokenizer = tokenizer or Tokenizer.train(TEXTS, vocab_size=50, lowercase=True, strip_html=True)
    if evidence:
        config.embedding.evidence.orders = evidence.orders
    width = evidence.width if evidence else 0
    config.data.pair_column, pair = pair_column, bool(pair_column)
    config.data.target, names = target, () if target == NUMBER else names
    task = {"label_names": names, "label_values": list(range(len(names))), "buckets": (6, 12)}
    task |= {"mean": scale[0], "deviation": scale[1]} if target == NUMBER else {}
    options = head_of(target, task).model_options
    model = build_classifier(tokenizer.vocab_size, pair=pair, evidence=width, **options, **config.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *smallest_input(model))
    return Predictor(
        config, model, random_like(shapes["params"], seed), tokenizer, task, 1, evidence=evidence
    )
