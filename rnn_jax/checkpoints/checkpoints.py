"""The checkpoints of a run: the last few and the best.

A checkpoint is a folder named after its step, with the items `params` (a plain nested dict), `progress` (what
else training needs to go on) and `evaluations` (JSON: those so far, on the validation split, each with its
"step", a "loss" and, where there is one, an "accuracy"). How they are kept: rnn_jax.checkpoints.orbax_store.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from rnn_jax.checkpoints.orbax_store import Store
from rnn_jax.errors import InputError, require

FOLDER, DAMAGED = "checkpoints", "damaged"
FALLBACK = "ask for the newest one that can: fallback=True, or --fallback"
PARAMS, PROGRESS, EVALUATIONS = "params", "progress", "evaluations"


class Checkpoints:
    """The checkpoints of one workdir. Use it as a context manager: leaving waits for a save under way."""

    def __init__(self, workdir: Path, keep: int = 1):
        """Opens, or makes, the folder. `keep` latest checkpoints stay, and the best."""
        require(keep > 0, f"keep_checkpoints is {keep}; give at least 1")
        self.folder = Path(workdir).absolute() / FOLDER
        self.evaluations: list[dict[str, Any]] = []  # of the newest checkpoint: they say which is the best
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

    def save(self, state: Any, evaluations: Sequence[Mapping[str, Any]]) -> None:
        """Saves in the background a NamedTuple with `step` and `params`; its arrays may be donated at once.

        Args:
          evaluations: those of the run so far, each with its "step", a "loss", and an "accuracy" where there
            is one. The best checkpoint is one of theirs.

        Raises:
          SaveError: the save before this one, or the beginning of this one, failed.
        """
        self.evaluations = [dict(evaluation) for evaluation in evaluations]
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
        self, template: Callable[[int], Any], say: Callable[[str], None]
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Returns the newest whole checkpoint's state in numpy arrays, and its evaluations; or (None, []).

        Damaged ones newer than that, and the best one if it is damaged, are moved to the workdir's folder
        `damaged`, and that is said.

        Args:
          template: gives a state of the structure, shapes and types that it has at a step.

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
        wanted: Any = saved[0] if which == "last" else which
        if which == "best":
            self._read_evaluations(saved if fallback else saved[:1])
            wanted = best_step(self.evaluations, saved)
        require(wanted in saved, f"which is {which!r}; give 'best', 'last' or a saved step: {sorted(saved)}")
        return [wanted, *(step for step in saved if step != wanted)] if fallback else [wanted]

    def restore_params(self, step: int) -> Any:
        """Returns the parameters of `step` as a nested dict of numpy arrays; needs no model and no device.

        Raises:
          InputError: they cannot be read, or are not what was saved.
        """
        try:
            return self.restore_item(step, PARAMS)
        except InputError as error:
            raise InputError(f"{error}; {FALLBACK}") from error

    def restore_item(self, step: int, item: str) -> Any:
        """Returns "params" or "progress" of `step` as nested dicts and lists of numpy arrays.

        Raises:
          InputError: they cannot be read, or are not what was saved.
        """
        return self.store.read(step, {item: None})[item]

    def _read(self, step: int, like: Any) -> Any:
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


def _progress(state: Any) -> dict[str, Any]:
    # A classifier carries nothing from step to step, and its checkpoints have no such entry.
    there = {
        name: value for name, value in state._asdict().items() if name != "carry" or jax.tree.leaves(value)
    }
    return {name: value for name, value in there.items() if name != "params"}


def score(evaluation: Mapping[str, float]) -> tuple[float, float]:
    """Returns what the best checkpoint has most of: accuracy, and between equals the lower loss.

    A language model has no accuracy, so the loss decides. No caller has to know the kind of run.
    """
    return evaluation.get("accuracy", 0.0), -evaluation["loss"]


def best_step(evaluations: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> int:
    """Returns the step of the best evaluation among `steps`; before the first one, the last step."""
    scores = {evaluation["step"]: score(evaluation) for evaluation in evaluations}
    return max((step for step in steps if step in scores), key=scores.__getitem__, default=max(steps))


def out_of_patience(evaluations: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Returns whether the last `patience` evaluations brought no better one; never for patience 0."""
    scores = [score(evaluation) for evaluation in evaluations]
    return 0 < patience < len(scores) and max(scores[:-patience]) >= max(scores[-patience:])


def checked(found: Any, checkpoint: Path) -> list[dict[str, Any]]:
    """Returns the evaluations found in a checkpoint.

    Raises:
      InputError: one of them has no step or no loss, so that the best one cannot be told.
    """
    rows = found if isinstance(found, list) and all(isinstance(row, dict) for row in found) else [{}]
    numbers = all(
        type(row.get("step")) is int
        and isinstance(row.get("loss"), int | float)
        and isinstance(row.get("accuracy", 0.0), int | float)
        for row in rows
    )
    require(
        numbers, f"checkpoint {checkpoint} cannot be read: its evaluations are not a step and a loss each"
    )
    return rows
