"""A trained language model in use: `load_language_model(workdir)` gives an object that writes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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

LEAST_ROOM = 64  # words of a text for which a program is compiled; others are this times a power of 2
# As far apart as temperatures need to be: beyond, logits over one are infinite or all zero in float32.
COLDEST, HOTTEST = 1e-30, 1e30
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
    return Writer(config, model, params, tokenizer, step, workdir.absolute())


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
    known = apply_fn, params, tokenizer
    return sample_all(*known, [prompt], words, temperature=temperature, top_k=top_k, keys=key[None])[0]


def sample_all(
    apply_fn: Callable[..., Tree],
    params: Params,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    words: int,
    *,
    temperature: float,
    top_k: int,
    keys: jax.Array,
) -> list[str]:
    """Returns each prompt and `words` more, as `sample` does, all of them drawn side by side.

    Args:
      prompts: at least one text, each of at least one word.
      keys: a key for each prompt, [B]; others as in `sample`.

    Raises:
      InputError: as `sample`.
    """
    vocabulary, rows = tokenizer.words, tokenizer.encode(prompts)
    _check_sampling(words, temperature, top_k, len(vocabulary))
    temperature = min(max(temperature, COLDEST), HOTTEST)
    for prompt, row in zip(prompts, rows, strict=True):
        require(len(row) > 0, f"prompt is {prompt!r}, which has no words; nothing predicts a first word")
    lengths = np.array([len(row) for row in rows], np.int32)
    steps = int(lengths.max()) - 1 + words
    # Few sizes, since each is compiled; the number of steps is none of them.
    text_BN = np.zeros(
        (len(rows), LEAST_ROOM * 2 ** max(0, math.ceil(math.log2((steps + 1) / LEAST_ROOM)))), np.int32
    )
    for line, row in zip(text_BN, rows, strict=True):
        line[: len(row)] = row
    text_BN = np.asarray(
        _written(apply_fn, top_k, {"params": params}, temperature, text_BN, lengths, np.int32(steps), keys)
    )
    return [
        tokenizer.joined([vocabulary[word] for word in line[length : length + words]], after=prompt)
        for prompt, line, length in zip(prompts, text_BN.tolist(), lengths.tolist(), strict=True)
    ]


def _check_sampling(words: int, temperature: float, top_k: int, vocab_size: int) -> None:
    require(words > 0, f"words is {words}; give at least 1")
    require(
        0 < temperature < float("inf"),
        f"temperature is {temperature}; it must be positive and finite (near 0: the likeliest word)",
    )
    require(0 <= top_k < vocab_size, f"top_k is {top_k}; give 0 for all, or at most {vocab_size - 1}")


@partial(jax.jit, static_argnums=(0, 1))
def _written(apply_fn, top_k, variables, temperature, text_BN, lengths_B, steps, keys_B):
    """Returns the texts with what is drawn after each; the loop is on the device, not a dispatch a word."""

    def step(place, carry, text_BN):
        carry, word_B = _next_words(
            apply_fn, top_k, variables, temperature, carry, text_BN[:, place], place, keys_B
        )
        word_B = jnp.where(place + 1 >= lengths_B, word_B, text_BN[:, place + 1])
        return carry, text_BN.at[:, place + 1].set(word_B)

    # The first step, since only the network knows what it starts from.
    begun = step(0, None, text_BN)
    return jax.lax.fori_loop(1, steps, lambda place, state: step(place, *state), begun)[1]


def _next_words(apply_fn, top_k, variables, temperature, carry, word_B, place, keys_B):
    carry, outputs = apply_fn(variables, word_B[:, None], None, carry)
    logits_BV = apply_fn(variables, outputs, method="logits")[:, 0].at[:, PAD].set(-jnp.inf) / temperature
    if top_k:
        logits_BV = jnp.where(logits_BV >= _largest(logits_BV, top_k)[:, None], logits_BV, -jnp.inf)
    keys_B = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, place)
    return carry, jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def _largest(x_BV, place):
    """Returns the value of each row that comes at a place, counted from 1, if the largest comes first.

    It is found bit by bit, in 32 passes over x: `jax.lax.top_k` sorts all of it, and takes 50 times as long.
    """
    sign = jnp.uint32(2**31)
    bits_BV = jax.lax.bitcast_convert_type(x_BV, jnp.uint32)
    rising_BV = jnp.where(bits_BV >= sign, ~bits_BV, bits_BV | sign)  # in the order of the numbers

    def with_bit(index, found_B):
        tried_B = found_B | (sign >> index.astype(jnp.uint32))
        return jnp.where((rising_BV >= tried_B[:, None]).sum(axis=1) >= place, tried_B, found_B)

    found_B = jax.lax.fori_loop(0, 32, with_bit, jnp.zeros(len(x_BV), jnp.uint32))
    return jax.lax.bitcast_convert_type(jnp.where(found_B >= sign, found_B ^ sign, ~found_B), x_BV.dtype)
