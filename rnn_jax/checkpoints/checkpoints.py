"""The checkpoints of a run, the last few and the best one, and the evaluations that tell which is the best.

A checkpoint is a folder named after its step. It holds three items: `params`, a plain nested dict;
`progress`, what else training needs to go on; and `evaluations` (JSON), those of the run so far on the
validation split.
How they are written and read: rnn_jax.checkpoints.orbax_store.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, SupportsInt, TypeAlias, TypeVar

import jax

from rnn_jax.checkpoints.orbax_store import Store
from rnn_jax.errors import InputError, require
from rnn_jax.files import path_of
from rnn_jax.trees import Params, Tree

FOLDER, DAMAGED = "checkpoints", "damaged"
FALLBACK = "ask for the newest one that can: fallback=True, or --fallback"
PARAMS, PROGRESS, EVALUATIONS = "params", "progress", "evaluations"

# The metrics of the validation split at a step: "step" and "loss"; "accuracy" and "examples" of a classifier,
# "perplexity" and "words" of a language model; and "seconds", by phase, that the run had taken.
Evaluation: TypeAlias = dict[str, Any]


class RunState(Protocol):
    """What a checkpoint keeps: a NamedTuple with the number of the step, parameters, and any other fields."""

    @property
    def step(self) -> SupportsInt:
        """int32[], the number of steps done."""

    @property
    def params(self) -> Tree:
        """The parameters, a plain nested dict."""

    @property
    def _replace(self) -> Callable[..., Self]:
        """Returns the state with some fields replaced, as every NamedTuple does."""

    def _asdict(self) -> dict[str, Tree]:
        """Returns all fields by name, as every NamedTuple does."""


StateT = TypeVar("StateT", bound=RunState)


class Checkpoints:
    """The checkpoints of one workdir. Use it as a context manager: leaving waits for a save under way.

    Attributes:
      folder: where they are, `workdir/checkpoints`.
      evaluations: those of the newest checkpoint, once it was saved or restored.
      store: what writes and reads them.

    >>> import tempfile, typing, numpy as np
    >>> class State(typing.NamedTuple):
    ...     step: np.ndarray
    ...     params: dict
    >>> with Checkpoints(Path(tempfile.mkdtemp())) as checkpoints:
    ...     state = State(np.array(100), {"head": {"bias": np.zeros(2)}})
    ...     checkpoints.save(state, [{"step": 100, "loss": 0.4, "accuracy": 0.9}])
    ...     checkpoints.latest, checkpoints.restore_params(100)
    (100, {'head': {'bias': array([0., 0.])}})
    """

    def __init__(self, workdir: Path, keep: int = 1):
        """Opens the folder, or makes it.

        Args:
          workdir: the folder of the run.
          keep: how many of the latest checkpoints stay, beside the best one; at least 1.

        Raises:
          InputError: `keep` is below 1.
        """
        require(keep > 0, f"keep_checkpoints is {keep}; give at least 1")
        self.folder = path_of(workdir).absolute() / FOLDER
        self.evaluations: list[Evaluation] = []
        self.store = Store(
            self.folder,
            arrays=(PARAMS, PROGRESS),
            json=(EVALUATIONS,),
            preserve=lambda steps: {best_step(self.evaluations, steps), *steps[-keep:]},
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def save(self, state: RunState, evaluations: Sequence[Mapping[str, object]]) -> None:
        """Saves a state in the background, as the checkpoint of its step.

        Args:
          state: what training has come to; its arrays may be donated at once.
          evaluations: those of the run so far, each with its "step", a "loss", and an "accuracy" where there
            is one. The best checkpoint is one of theirs.

        Raises:
          InputError: an evaluation without a step or a loss, or with other numbers than Python's.
          SaveError: the save before this one, or the beginning of this one, failed.
        """
        found = [dict(evaluation) for evaluation in evaluations]
        try:
            plain = are_evaluations(json.loads(json.dumps(found)))
        except TypeError:  # such as of JAX's arrays
            plain = False
        require(
            plain,
            f"evaluations are {str(found)[:200]}; give each a step, a loss and others as numbers of Python: "
            '{"step": int(step), "loss": float(loss)}',
        )
        self.evaluations = found
        arrays = {PARAMS: state.params, PROGRESS: _progress(state)}
        self.store.write(int(state.step), arrays, {EVALUATIONS: self.evaluations})

    @property
    def latest(self) -> int | None:
        """The step of the last checkpoint, once it is complete; None where there is none."""
        return max(self.store.steps(), default=None)

    def newest(self) -> Path | None:
        """Returns the folder of the last checkpoint; None where there is none."""
        return None if self.latest is None else self.folder / str(self.latest)

    def restore(
        self, template: Callable[[int], StateT], say: Callable[[str], None]
    ) -> tuple[StateT | None, list[Evaluation]]:
        """Returns the newest whole checkpoint's state in numpy arrays, and its evaluations; or (None, []).

        Damaged ones newer than that, and the best one if it is damaged, are moved to the workdir's folder
        `damaged`, and that is said.

        Args:
          template: returns a state with the structure, shapes and types that it has at a step.
          say: takes a line about each checkpoint that is damaged.

        Raises:
          InputError: there are checkpoints and none is whole.
        """
        problems: dict[int, str] = {}
        steps = self.store.steps()
        for step in reversed(steps):
            try:
                state = self._read(step, jax.eval_shape(partial(template, step)))
                self.restore_item(step, PARAMS)  # as `load` will read them
            except InputError as error:
                problems[step] = str(error)
            else:
                self._check_best([step for step in steps if step not in problems], problems)
                for damaged, problem in problems.items():
                    say(f"{problem}. It is now {self._set_aside(damaged)}; going on from step {step}")
                return state, self.evaluations
        require(not problems, "; ".join([*problems.values(), "no other is left: give a new workdir"]))
        return None, []

    def steps(self, which: str | int, fallback: bool) -> list[int]:
        """Returns the step of `which` ("best", "last" or a step), and with `fallback` the others after it.

        Raises:
          InputError: there is no such step, or the evaluations cannot be read that say which is the best.
        """
        saved = self.store.steps()[::-1]
        require(len(saved) > 0, f"{self.folder} holds no complete checkpoint")
        if which == "last":
            wanted = saved[0]
        elif which == "best":
            self._read_evaluations(saved if fallback else saved[:1])
            wanted = best_step(self.evaluations, saved)
        elif not isinstance(which, str) and which in saved:
            wanted = saved[saved.index(which)]  # an int, also of numpy's
        else:
            raise InputError(f"which is {which!r}; give 'best', 'last' or a saved step: {sorted(saved)}")
        return [wanted, *(step for step in saved if step != wanted)] if fallback else [wanted]

    def restore_params(self, step: int) -> Params:
        """Returns the parameters of `step` as a nested dict of numpy arrays; needs no model and no device.

        Raises:
          InputError: they cannot be read, or are not what was saved.
        """
        try:
            return self.restore_item(step, PARAMS)
        except InputError as error:
            raise InputError(f"{error}; {FALLBACK}") from error

    def restore_item(self, step: int, item: str) -> Tree:
        """Returns "params" or "progress" of `step` as nested dicts and lists of numpy arrays.

        Raises:
          InputError: they cannot be read, or are not what was saved.
        """
        return self.store.read(step, {item: None})[item]

    def _read(self, step: int, like: StateT) -> StateT:
        """Returns the state of a checkpoint, structured as `like`; keeps its evaluations."""
        likes = {PARAMS: like.params, PROGRESS: _progress(like), EVALUATIONS: None}
        items = self.store.read(step, likes)
        self.evaluations = checked(items[EVALUATIONS], self.folder / str(step))
        return like._replace(params=items[PARAMS], **items[PROGRESS])

    def _check_best(self, steps: Sequence[int], problems: dict[int, str]) -> None:
        """Adds to the problems of checkpoints that of the best one, if it is damaged."""
        try:
            self.restore_item(best_step(self.evaluations, steps), PARAMS)
        except InputError as error:
            problems[best_step(self.evaluations, steps)] = str(error)

    def _read_evaluations(self, steps: Sequence[int]) -> None:
        """Takes the evaluations of the first of the steps that has them whole."""
        problems = []
        for step in steps:
            try:
                found = self.store.read(step, {EVALUATIONS: None})[EVALUATIONS]
                self.evaluations = checked(found, self.folder / str(step))
            except InputError as error:
                problems.append(str(error))
            else:
                return
        raise InputError("; ".join([*problems, FALLBACK]))

    def _set_aside(self, step: int) -> Path:
        """Moves a damaged checkpoint out of the way of a new one at its step, and returns where it is."""
        folder = self.folder.parent / DAMAGED
        folder.mkdir(exist_ok=True)
        place = folder / f"{step}-{sum(1 for _ in folder.iterdir())}"
        self.store.move(step, place)
        return place


def _progress(state: RunState) -> dict[str, Tree]:
    """Returns the fields beside the parameters. A classifier's carry is empty and no part of a checkpoint."""
    fields = {name: value for name, value in state._asdict().items() if name != "params"}
    return {name: value for name, value in fields.items() if name != "carry" or jax.tree.leaves(value)}


ERRORS = ("rmse", "mae")  # what is monitored and better where it is smaller


def score(evaluation: Evaluation) -> tuple[float, float]:
    """Returns what decides which evaluation is the best: the accuracy, and between equals the lower loss.

    An evaluation with an entry "monitor" names another of its values to take in place of the accuracy; of
    ERRORS the smallest is best. A language model has no accuracy, so that the loss alone decides.

    >>> max([{"loss": 0.3, "accuracy": 0.8}, {"loss": 9.0, "accuracy": 0.9}], key=score)
    {'loss': 9.0, 'accuracy': 0.9}
    >>> score({"loss": 0.3, "accuracy": 0.8, "macro_f1": 0.6, "monitor": "macro_f1"})
    (0.6, -0.3)
    """
    name = evaluation.get("monitor", "accuracy")
    value = 0.0 if name == "loss" else evaluation.get(name, 0.0)  # the loss decides between equals
    return -value if name in ERRORS else value, -evaluation["loss"]


def best_step(evaluations: Sequence[Evaluation], steps: Sequence[int]) -> int:
    """Returns the step of the best evaluation among `steps`; before the first one, the last step."""
    scores = {evaluation["step"]: score(evaluation) for evaluation in evaluations}
    return max((step for step in steps if step in scores), key=scores.__getitem__, default=max(steps))


def out_of_patience(evaluations: Sequence[Evaluation], patience: int) -> bool:
    """Returns whether the last `patience` evaluations brought no better one; never for patience 0."""
    scores = [score(evaluation) for evaluation in evaluations]
    return 0 < patience < len(scores) and max(scores[:-patience]) >= max(scores[-patience:])


def are_evaluations(found: object) -> bool:
    """Returns whether a JSON value is a list of evaluations: each has a step, and a loss."""
    rows = found if isinstance(found, list) and all(isinstance(row, dict) for row in found) else [{}]
    return all(
        type(row.get("step")) is int
        and isinstance(row.get("loss"), int | float)
        and isinstance(row.get("accuracy", 0.0), int | float)
        and isinstance(row.get("monitor", ""), str)
        and isinstance(row.get(row.get("monitor"), 0.0), int | float)
        for row in rows
    )


def checked(found: Any, checkpoint: Path) -> list[Evaluation]:
    """Returns the evaluations found in a checkpoint.

    Raises:
      InputError: one of them has no step or no loss.
    """
    require(
        are_evaluations(found),
        f"checkpoint {checkpoint} cannot be read: its evaluations are not a step and a loss each",
    )
    return list(found)
