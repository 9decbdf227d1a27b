"""Trained-looking runs, made without training: random parameters in a real workdir."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from configs import language_model, smoke
from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.checkpoints.workdir import open_workdir, save_task
from rnn_jax.data.tagged import train_spelling
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.language_model import build_language_model
from rnn_jax.models.tagger import build_tagger
from rnn_jax.settings import tagger_settings

TEXTS = ["a great moving film", "an awful dull film", "great great great", "dull and awful", "what a film"]


class State(NamedTuple):
    step: Any
    params: Any


@cache
def init_of(build, sizes, settings):
    """Returns a compiled `key -> params` of the model that `build` makes of sizes and frozen settings."""
    model = build(*sizes, **settings)
    return jax.jit(lambda key: model.init(key, jnp.ones((1, 2), jnp.int32), jnp.array([2]))["params"])


def make_run(
    workdir, names=("negative", "positive"), values=(0, 1), accuracies=(0.5, 0.9, 0.7), **model_changes
):
    """Returns the workdir of a run with a checkpoint at steps 1, 2, ..., and the parameters by step."""
    config = smoke.get_config()
    config.text.max_length = 12
    config.batch.size = 4
    config.model.embedding_dim, config.model.hidden = 5, 4
    config.model.update(model_changes)
    tokenizer = Tokenizer.train(TEXTS, vocab_size=50, lowercase=True, strip_html=True)
    init = init_of(build_classifier, (tokenizer.vocab_size, len(names)), FrozenConfigDict(config.model))
    with open_workdir(workdir, config.to_dict()):
        save_task(workdir, tokenizer, label_names=names, label_values=values, buckets=(6, 12))
    params_by_step, evaluations = {}, []
    with Checkpoints(workdir, keep=3) as checkpoints:
        for step, accuracy in enumerate(accuracies, start=1):
            params = jax.tree.map(np.asarray, init(jax.random.key(step)))
            params = jax.tree.map(lambda leaf, s=step: leaf * np.float32(1 + s), params)
            params_by_step[step] = params
            evaluations.append({"step": step, "accuracy": accuracy, "loss": 0.5})
            checkpoints.save(State(jnp.int32(step), params), evaluations)
    return params_by_step


def make_language_run(
    workdir, losses=(2.0, 1.0, 1.5), texts=TEXTS, direction="forward", kind="words", **model_changes
):
    """Makes a language model's run as `make_run` does, and returns its parameters by step."""
    config = language_model.get_config()
    config.direction = direction
    config.model.embedding_dim, config.model.hidden = 5, 4
    config.model.update(model_changes)
    size = 258 if kind == "bytes" else 50
    tokenizer = Tokenizer.train(texts, vocab_size=size, lowercase=True, strip_html=True, kind=kind)
    init = init_of(build_language_model, (tokenizer.vocab_size,), FrozenConfigDict(config.model))
    with open_workdir(workdir, config.to_dict()):
        save_task(workdir, tokenizer)
    params_by_step, evaluations = {}, []
    with Checkpoints(workdir, keep=3) as checkpoints:
        for step, loss in enumerate(losses, start=1):
            key = jax.random.fold_in(jax.random.key(len(direction)), step)
            params = init(key)
            params_by_step[step] = jax.tree.map(np.asarray, params)
            evaluations.append({"step": step, "loss": loss, "perplexity": float(np.exp(loss))})
            checkpoints.save(State(jnp.int32(step), params), evaluations)
    return params_by_step


def make_tagger_run(workdir, sentences, tag_names, accuracies=(0.5, 0.9), **model_changes):
    """Makes the run of a tagger that knows the words of `sentences`; returns its parameters by step."""
    config = tagger_settings()
    config.data.source, config.text.letters, config.text.max_length, config.batch.size = "made up", 6, 8, 4
    config.model.embedding_dim = config.model.hidden = config.model.letter_hidden = 4
    config.model.cell = "simple"
    config.model.update(model_changes)
    spelling = train_spelling(sentences, 50, config.text.lowercase, config.text.letters)
    sizes = spelling.tokenizer.vocab_size, spelling.letter_count, len(tag_names)
    init = init_of(build_tagger, sizes, FrozenConfigDict(config.model))
    with open_workdir(workdir, config.to_dict()):
        save_task(workdir, spelling.tokenizer, tag_names=tag_names, letters=spelling.letters, buckets=(4, 8))
    params_by_step, evaluations = {}, []
    with Checkpoints(workdir, keep=3) as checkpoints:
        for step, accuracy in enumerate(accuracies, start=1):
            params_by_step[step] = jax.tree.map(np.asarray, init(jax.random.key(step)))
            evaluations.append({"step": step, "accuracy": accuracy, "loss": 0.5})
            checkpoints.save(State(jnp.int32(step), params_by_step[step]), evaluations)
    return params_by_step
