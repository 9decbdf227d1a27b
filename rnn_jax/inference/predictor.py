"""A trained model in use: `load(workdir)` gives an object that predicts, evaluates and explains."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import ClassifierTask, load_evidence, read_config, read_task, restored
from rnn_jax.checkpoints.workdir import CLASSIFY, CONFIG, TASK, TOKENIZER
from rnn_jax.data.batches import Batch, Batches
from rnn_jax.data.evidence import Evidence
from rnn_jax.data.targets import CLASS, rows_of_pairs, single_texts
from rnn_jax.data.tokenizer import Tokenizer, truncate
from rnn_jax.errors import InputError, choose, require
from rnn_jax.inference.answering import answer_program, apply_program, in_order, rows_for, skips_padding
from rnn_jax.inference.attribution import Attribution, attribute_words
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.model_card import About
from rnn_jax.inference.model_folder import save_model
from rnn_jax.inference.parts import in_parts
from rnn_jax.inference.prepared import Prepared
from rnn_jax.inference.stream import Steps, Stream, make_steps
from rnn_jax.inference.text_model import TextModel
from rnn_jax.models.classifier import TextClassifier, build_classifier
from rnn_jax.models.heads import head_of
from rnn_jax.models.metrics import Measured
from rnn_jax.progress import Bar
from rnn_jax.trees import Params

MADE = ("model", "apply_fn", "_program", "_steps")  # what a copy of a predictor makes anew
CLASSIFIER_KEYS = ("model.cell", "text.max_length", "text.truncate", "batch.size")


class Predictor(TextModel):
    """A trained classifier or regressor of texts, or of pairs of texts, as `load` returns it.

    >>> predictor = load("runs/bilstm")  # doctest: +SKIP
    >>> predictor.predict(["what a film", "dull"]).labels  # doctest: +SKIP
    ['positive', 'negative']

    Attributes:
      config: the resolved config of its run.
      model: the TextClassifier.
      params: its parameters, a nested dict.
      apply_fn: the jitted `logits = apply_fn({"params": params}, token_ids, lengths)`.
      tokenizer: text to word ids.
      head: what it decides: a class, several labels or a number; see rnn_jax.models.heads.
      pair: whether it reads pairs of texts; then each text below is a pair (first, second).
      label_names: the names of the C classes, in the order of the probabilities; none where it gives numbers.
      label_values: what stood for each class in the label column of the training data.
      buckets: the lengths that texts are padded to.
      step: the training step of the checkpoint.
      workdir: the folder of the run, or of the saved model.
      task: what task.json holds of it: the labels and the buckets.
      evidence: the n-grams that its network reads beside the words; None for none.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: TextClassifier,
        params: Params,
        tokenizer: Tokenizer,
        task: ClassifierTask,
        step: int,
        workdir: Path | None = None,
        evidence: Evidence | None = None,
    ):
        """Takes what `load` reads; the attributes have the same names."""
        self.config, self.model, self.params = config, model, params
        self.tokenizer, self.step, self.workdir = tokenizer, step, workdir
        self.evidence = evidence
        self.task, self.pair = task, bool(config.data.pair_column)
        self.head = head_of(config.data.target, task)
        self.label_names: tuple[str, ...] = tuple(map(str, task["label_names"]))
        self.label_values: list[int | str | bool] = task["label_values"]
        self.buckets: tuple[int, ...] = tuple(task["buckets"])
        self.apply_fn = apply_program(model)
        self._program = self._answer_program()

    def stream(self) -> Stream:
        """Returns a new stream: `stream.feed(piece)` reads on and gives the probabilities after each word.

        Raises:
          InputError: a model that does not read left to right alone, or that reads pairs or gives no classes.
        """
        require(
            self.head.target == CLASS and not self.pair,
            "a stream gives the probabilities of the classes of one text; data.target is "
            f"{self.head.target!r} and data.pair_column {self.config.data.pair_column!r}; use predict",
        )
        return Stream(self._steps, self.params, self.tokenizer, self.evidence)

    def attribute(
        self, text: Any, label: str | None = None, of: str = "logit", steps: int = 64
    ) -> Attribution:
        """Returns what each word that `predict` reads of a text adds to the logit or probability of a class.

        Of a model that gives numbers it is what each word adds to the number. Of a pair the words are those
        of both texts, one after the other.

        Args:
          text: what `predict` takes as one: a string, or a pair of strings where the model reads pairs; None
            has no words.
          label: the class; None takes the most probable. A model that gives numbers has none.
          of, steps: as in `attribute_words` of rnn_jax.inference.attribution, and refused as there.

        Raises:
          InputError: an unknown label, or any of a model that gives numbers.
          TypeError: the text is not a string, or not a pair of them.
        """
        (text,) = self._read([text])
        label = self._most_probable(text) if label is None else label
        number = self._place_of(label)
        rows, words = zip(*map(self._spelt, text if self.pair else (text,)), strict=True)
        (batch,) = self._batches(rows, self._no_targets(1), 1).in_order()
        scores, value, baseline = attribute_words(
            self.model.apply,
            self.params,
            batch.token_ids[0],
            batch.lengths[0],
            number,
            of=of,
            steps=steps,
            head=self.head,
            **{name: array[0] for name, array in batch.inputs.items()},
        )
        parts = np.split(np.asarray(scores), len(rows))
        found = np.concatenate([part[: len(row)] for part, row in zip(parts, rows, strict=True)])
        first = len(words[0]) if self.pair else None
        read = [word for part in words for word in part]
        return Attribution(read, found, label, float(value), float(baseline), first)

    def _spelt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Returns the ids of the words that are read of a text, and how it writes them."""
        ids, words = self.tokenizer.spell(text)
        (kept,) = truncate([np.arange(len(ids))], self.config.text.max_length, self.config.text.truncate)
        return ids[kept], [words[index] for index in kept]

    def save(self, folder: str | Path, *, license: str = "", language: str = "", dataset: str = "") -> None:
        """Writes a folder that `load` reads, whole or not at all; docs/serving.md says what is in it.

        Args:
          folder: a new or empty folder, or one that holds a saved model, which is replaced.
          license, language, dataset: what the model card says, as in `About` of rnn_jax.inference.

        Raises:
          InputError: the folder holds something else, is the current one or cannot be written, or no line of
            text was given.

        >>> load("runs/bilstm").save("bilstm", license="mit", language="en")  # doctest: +SKIP
        """
        save_model(self, folder, About(license, language, dataset).check())

    def _answer_parts(self, texts: Iterable[Any], progress: bool) -> Iterator[np.ndarray]:
        """Yields the head's answers to PART texts each."""
        for part, bar in in_parts(self._read(texts), texts, progress):
            # Nothing is awaited before all began: a batch is padded while the device is at work on others.
            begun = [
                (batch, self.answers_of(batch.token_ids, batch.lengths, **batch.inputs))
                for batch in self._batches_of(part)
            ]
            yield in_order(((batch, np.asarray(answer)) for batch, answer in begun), len(part), bar)

    def _measured(self, texts: Sequence[Any], targets: np.ndarray, bar: Bar) -> tuple[Measured, np.ndarray]:
        parts, answers = [], []
        for batch, logits in self._logits(texts, targets):
            parts.append(self.head.measure(logits, batch))
            answers.append((batch, np.asarray(self.head.answer(logits))))
            bar.advance(int(batch.weights.sum()))
        metrics = type(parts[0])(*(np.sum(field, axis=0) for field in zip(*parts, strict=True)))
        return metrics, in_order(answers, len(texts))

    def _most_probable(self, text: Any) -> str:
        """Returns the label that is explained where none was named; "" of a model that gives numbers."""
        if not self.label_names:
            return ""
        (answers,) = self._answer_parts([text], progress=False)
        return self.label_names[int(answers[0].argmax())]

    def _place_of(self, label: str) -> int:
        """Returns the number of a class; 0 of the "" that a model has which gives numbers."""
        require(
            bool(self.label_names) or label == "",
            f"label is {label!r}, but the model gives numbers, which have no labels; leave it out",
        )
        return choose("label", label, {name: place for place, name in enumerate(self.label_names or ("",))})

    def _no_targets(self, count: int) -> np.ndarray:
        return np.zeros(count, dtype=np.int32)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs: compiled functions are made again there."""
        state = {name: value for name, value in vars(self).items() if name not in MADE}
        return state | {"params": jax.tree.map(np.asarray, self.params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, params=jax.device_put(state["params"]))
        self.model = _model(self.config, self.tokenizer, self.task, self.evidence)
        self.apply_fn = apply_program(self.model)
        self._program = self._answer_program()

    def _answer_program(self) -> Any:
        # "auto" could take another backend for a text alone than for many, and so give it other bits.
        backend = "native" if skips_padding(self.config.model) else "auto"
        model = _model(self.config, self.tokenizer, self.task, self.evidence, backend=backend)
        return Prepared(answer_program(model, self.head, self.config.batch.size))

    @cached_property
    def _steps(self) -> Steps:
        return make_steps(self.model)

    def answers_of(self, token_ids: np.ndarray, lengths: np.ndarray, **inputs: np.ndarray) -> jax.Array:
        """Returns the head's answers for a batch, as `apply_fn` takes it; they may not be there yet."""
        return self._program({"params": self.params}, token_ids, lengths, **inputs)

    def _logits(self, texts: Sequence[Any], labels: np.ndarray) -> Iterator[tuple[Batch, jax.Array]]:
        for batch in self._batches(self._encoded(texts), labels, self.config.batch.size).in_order():
            read = batch.token_ids, batch.lengths
            yield batch, self.apply_fn({"params": self.params}, *read, **batch.inputs)

    def _encoded(self, texts: Sequence[Any]) -> list[np.ndarray]:
        """Returns the words' ids of each text, of pairs those of both, cut as in training."""
        text = self.config.text
        return truncate(self.tokenizer.encode(single_texts(texts)), text.max_length, text.truncate)

    def _batches_of(self, texts: Sequence[Any]) -> Iterator[Batch]:
        """Yields the batches that `predict` reads."""
        rows, labels, size = self._encoded(texts), self._no_targets(len(texts)), self.config.batch.size
        if skips_padding(self.config.model):
            return self._batches(rows, labels, rows_for(len(texts), size)).by_length()
        return self._batches(rows, labels, size).in_order()

    def _batches(self, rows: Sequence[np.ndarray], labels: np.ndarray, size: int) -> Batches:
        """Returns the batches of texts as word ids, of pairs those of both texts one after the other."""
        found = self.evidence.of_rows(rows) if self.evidence else None
        return Batches(rows_of_pairs(rows) if self.pair else rows, labels, self.buckets, size, evidence=found)


def _model(
    config: ConfigDict,
    tokenizer: Tokenizer,
    task: ClassifierTask,
    evidence: Evidence | None,
    **options: Any,
) -> TextClassifier:
    head, pair = head_of(config.data.target, task), bool(config.data.pair_column)
    reads: dict[str, Any] = {"pair": pair, "evidence": evidence.width if evidence else 0}
    return build_classifier(tokenizer.vocab_size, **reads, **head.model_options, **options, **config.model)


def load(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Predictor:
    """Returns a trained classifier, on the default device.

    Args:
      workdir: the run's folder, one that `Predictor.save` wrote, or one on the Hugging Face hub:
        "hf://user/name" or "hf://user/name@revision".
      which: "best" (on validation), "last", or the step of a checkpoint.
      fallback: where the wanted checkpoint cannot be read, take the newest one that can.

    Raises:
      InputError: no run of a classifier, no such checkpoint, or one that cannot be read or is of another
        network.

    >>> load("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    workdir = local_folder(workdir)
    config = read_config(workdir, CLASSIFY, CLASSIFIER_KEYS)
    tokenizer, task = Tokenizer.load(workdir / TOKENIZER), read_task(workdir / TASK, config)
    try:
        evidence = load_evidence(workdir, config, tokenizer.vocab_size, len(task["label_names"]))
        model = _model(config, tokenizer, task, evidence)
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Predictor(config, model, params, tokenizer, task, step, workdir.absolute(), evidence)
