"""A trained language model in use: `load_language_model(workdir)` gives an object that writes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import read_config, restored
from rnn_jax.checkpoints.workdir import CONFIG, LANGUAGE, TOKENIZER
from rnn_jax.data.tokenizer import PAD, Tokenizer
from rnn_jax.errors import InputError, check_seed, require
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.model_card import About
from rnn_jax.inference.model_folder import save_model
from rnn_jax.models.language_model import LanguageModel, build_language_model
from rnn_jax.trees import Params, Tree

LANGUAGE_MODEL_KEYS = ("model.cell", "model.tied", "direction")


class Writer(NamedTuple):
    """A trained language model, as `load_language_model` returns it.

    >>> writer = load_language_model("runs/lm_forward")  # doctest: +SKIP
    >>> writer.write("the film", words=5, temperature=0.8, top_k=40, seed=0)  # doctest: +SKIP
    'the film is one of the best'

    Attributes:
      config: the resolved config of its run.
      model, params: `model.apply({"params": params}, token_ids, lengths)`, as LanguageModel says.
      tokenizer: text to word ids.
      step: the training step of the checkpoint.
      workdir: the folder of the run, or of the saved model.
    """

    config: ConfigDict
    model: LanguageModel
    params: Params
    tokenizer: Tokenizer
    step: int
    workdir: Path | None = None

    @property
    def task(self) -> dict[str, object]:
        """What task.json of a saved model holds beside its step: nothing."""
        return {}

    @property
    def evidence(self) -> None:
        """The n-grams that its network reads: none, which count for classes."""

    def save(self, folder: str | Path, *, license: str = "", language: str = "", dataset: str = "") -> None:
        """Writes a folder to share that `load_language_model` reads, as `Predictor.save` does.

        Raises:
          InputError: the folder holds something else or cannot be written, or no line of text was given.
        """
        save_model(self, folder, About(license, language, dataset).check())

    def write(self, prompt: str, words: int, temperature: float, top_k: int, seed: int) -> str:
        """Returns the prompt and `words` more words.

        Args:
          prompt, words, temperature, top_k: as in `sample`.
          seed: from 0 to 2**32 - 1; equal seeds give equal texts.

        Raises:
          InputError: as `sample`, and where the model reads backward: it knows what comes before a text, not
            what comes after it.
        """
        direction = self.config.direction
        require(
            direction == "forward",
            f"the run's direction is {direction!r}: it predicts the word before; sample from a forward one",
        )
        check_seed("seed", seed)
        draw = partial(sample, self.model.apply, self.params, self.tokenizer)
        return draw(prompt, words, temperature=temperature, top_k=top_k, key=jax.random.key(seed))


def load_language_model(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Writer:
    """Returns a trained language model, on the default device.

    Args:
      workdir: the run's folder, one that `Writer.save` wrote, or one on the Hugging Face hub, "hf://user/name".
      which: "best" (on the documents held out), "last", or the step of a checkpoint.
      fallback: where the wanted checkpoint cannot be read, take the newest one that can.

    Raises:
      InputError: no run of a language model, no such checkpoint, or one that cannot be read.

    >>> load_language_model("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    workdir = local_folder(workdir)
    config = read_config(workdir, LANGUAGE, LANGUAGE_MODEL_KEYS)
    tokenizer = Tokenizer.load(workdir / TOKENIZER)
    try:
        model = build_language_model(tokenizer.vocab_size, **config.model)
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Writer(config, model, params, tokenizer, step, workdir)


def sample(
    apply_fn: Callable[..., Tree],
    params: Params,
    tokenizer: Tokenizer,
    prompt: str,
    words: int,
    *,
    temperature: float,
    top_k: int,
    key: jax.Array,
) -> str:
    """Returns the prompt and `words` more, each drawn from what a forward model predicts after those before.

    Args:
      apply_fn, params: `model.apply` of a LanguageModel, compiled once for it, and its parameters.
      prompt, words: text of at least one word, and how many words to draw, at least 1.
      temperature: positive, divides the logits; near 0 the likeliest word is taken. PAD is never drawn.
      top_k: draw from so many of the likeliest words; 0 draws from all.

    Raises:
      InputError: a prompt of no words, or a number out of its range.

    >>> from rnn_jax import RNN, GRUCell, LanguageModel
    >>> tokenizer = Tokenizer.train(["a fine film"], vocab_size=9, lowercase=True, strip_html=True)
    >>> model = LanguageModel(vocab_size=tokenizer.vocab_size, embedding_dim=4, encoder=RNN(GRUCell(4)))
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    >>> options = {"temperature": 1.0, "top_k": 0, "key": jax.random.key(1)}
    >>> len(sample(model.apply, params, tokenizer, "a film", 3, **options).split())
    5
    """
    vocabulary, ids = tokenizer.words, tokenizer.encode([prompt])[0].tolist()
    _check_sampling(words, temperature, top_k, len(vocabulary))
    require(bool(ids), f"prompt is {prompt!r}, which has no words; nothing predicts a first word")
    step = partial(_next_word, apply_fn, top_k, {"params": params}, temperature)
    text, carry = [jnp.asarray(word, jnp.int32) for word in ids], None
    for place in range(len(ids) - 1 + words):
        carry, word = step(carry, text[place], jax.random.fold_in(key, place))
        if place >= len(ids) - 1:
            text.append(word)
    return tokenizer.joined([vocabulary[word] for word in jax.device_get(text[len(ids) :])], after=prompt)


def _check_sampling(words: int, temperature: float, top_k: int, vocab_size: int) -> None:
    require(words > 0, f"words is {words}; give at least 1")
    require(
        0 < temperature < float("inf"),
        f"temperature is {temperature}; it must be positive and finite (near 0: the likeliest word)",
    )
    require(0 <= top_k < vocab_size, f"top_k is {top_k}; give 0 for all, or at most {vocab_size - 1}")


@partial(jax.jit, static_argnums=(0, 1))
def _next_word(apply_fn, top_k, variables, temperature, carry, word, key):
    carry, outputs = apply_fn(variables, word[None, None], None, carry)
    logits_V = apply_fn(variables, outputs, method="logits")[0, 0].at[PAD].set(-jnp.inf) / temperature
    if top_k:
        least = jax.lax.top_k(logits_V, top_k)[0][-1]
        logits_V = jnp.where(logits_V >= least, logits_V, -jnp.inf)
    return carry, jax.random.categorical(key, logits_V).astype(jnp.int32)
