"""Checkpoints of a run, by Orbax: the last few and the best. Nothing else here touches Orbax.

A checkpoint is a folder named after its step, with three items: `params` (a plain nested dict), `progress`
(what else training needs to go on) and `evaluations` (JSON: the evaluations so far).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from rnn_jax.errors import InputError, require

FOLDER = "checkpoints"


def score(evaluation: Mapping[str, float]) -> float:
    """Returns what the best checkpoint has most of: accuracy, and between equals the lower loss.

    A language model has no accuracy, so that the loss decides: a run is read without knowing its kind.
    """
    return evaluation.get("accuracy", 0.0) - 1e-6 * evaluation["loss"]


def out_of_patience(evaluations: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Returns whether the last `patience` evaluations brought no better one; never for patience 0."""
    scores = [score(evaluation) for evaluation in evaluations]
    return 0 < patience < len(scores) and max(scores[:-patience]) >= max(scores[-patience:])


class Checkpoints:
    """The checkpoints of one workdir. Use it as a context manager: leaving waits for a save under way."""

    def __init__(self, workdir: Path, keep: int = 1):
        """Opens, or makes, the folder. `keep` latest checkpoints stay, and the best."""
        require(keep > 0, f"keep_checkpoints is {keep}; give at least 1")
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(get_metric_fn=score, n=1),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=score, preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies)
        )
        self.folder = Path(workdir).absolute() / FOLDER
        self.manager = ocp.CheckpointManager(self.folder, options=options, handler_registry=_handlers())

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()

    def save(self, state: Any, evaluations: Sequence[Mapping[str, Any]]) -> None:
        """Saves in the background a NamedTuple with `step` and `params`; its arrays may be donated at once.

        Args:
          evaluations: those of the run so far, each with a "loss", and an "accuracy" where there is one;
            the last is this step's.
        """
        state = _host_copy(state)
        items = {
            "params": ocp.args.PyTreeSave(state.params),
            "progress": ocp.args.PyTreeSave(_without_params(state)),
            "evaluations": ocp.args.JsonSave([dict(evaluation) for evaluation in evaluations]),
        }
        last = evaluations[-1]
        metrics = {name: last[name] for name in ("accuracy", "loss") if name in last}
        self.manager.save(int(state.step), args=ocp.args.Composite(**items), metrics=metrics)

    @property
    def latest(self) -> int | None:
        """The step of the last checkpoint, once it is complete; None where there is none."""
        self.manager.wait_until_finished()
        return self.manager.latest_step()

    def path(self, step: int | None) -> Path | None:
        """Returns the folder of the checkpoint at `step`; None for None."""
        return None if step is None else self.folder / str(step)

    def restore(self, state: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Returns the last checkpoint's state, structured as `state`, and its evaluations; or (state, []).

        Raises:
          InputError: the checkpoint cannot be read whole; the message names it and the way on.
        """
        step = self.latest
        if step is None:
            return state, []
        args = {
            "params": _restore_like(state.params),
            "progress": _restore_like(_without_params(state)),
            "evaluations": ocp.args.JsonRestore(),
        }
        try:
            items = self.manager.restore(step, args=ocp.args.Composite(**args))
        except Exception as error:  # orbax and tensorstore raise a different class for each kind of damage
            raise InputError(
                f"checkpoint {self.path(step)} cannot be read: {_first_line(error)}. "
                "Delete that folder to go on from the checkpoint before it"
            ) from error
        restored = type(state)(params=items.params, **items.progress)
        places = jax.tree.map(lambda leaf: getattr(leaf, "sharding", None), state)
        return jax.device_put(restored, places), items.evaluations

    def steps(self, which: str | int, fallback: bool) -> list[int]:
        """Returns the step of `which` ("best", "last" or a step), and with `fallback` the others after it."""
        self.manager.wait_until_finished()
        saved = sorted(self.manager.all_steps(), reverse=True)
        require(len(saved) > 0, f"{self.folder} holds no complete checkpoint")
        named: dict[str | int, Any] = {"best": self.manager.best_step(), "last": saved[0]}
        wanted = named.get(which, which)
        require(wanted in saved, f"which is {which!r}; give 'best', 'last' or a saved step: {sorted(saved)}")
        return [wanted, *(step for step in saved if step != wanted)] if fallback else [wanted]

    def restore_params(self, step: int) -> Any:
        """Returns the parameters of `step` as a nested dict of numpy arrays; needs no model and no device.

        Raises:
          InputError: they cannot be read.
        """
        return self.restore_item(step, "params")

    def restore_item(self, step: int, item: str) -> Any:
        """Returns "params" or "progress" of `step` as nested dicts and lists of numpy arrays.

        Raises:
          InputError: they cannot be read.
        """
        try:
            tree = self.manager.item_metadata(step)[item].tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            args = ocp.args.PyTreeRestore(restore_args=as_numpy)
            return self.manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]
        except Exception as error:  # as above
            raise InputError(
                f"checkpoint {self.path(step)} cannot be read: {_first_line(error)}. "
                "Ask for the newest one that can: fallback=True, or --fallback"
            ) from error


def _handlers() -> ocp.handlers.DefaultCheckpointHandlerRegistry:
    """Returns who reads and writes which item; a manager that has saved nothing yet does not know it."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    arrays, json = ocp.PyTreeCheckpointHandler(), ocp.JsonCheckpointHandler()
    for item in ("params", "progress"):
        registry.add(item, ocp.args.PyTreeSave, arrays)
        registry.add(item, ocp.args.PyTreeRestore, arrays)
    registry.add("evaluations", ocp.args.JsonSave, json)
    registry.add("evaluations", ocp.args.JsonRestore, json)
    return registry


def _without_params(state: Any) -> dict[str, Any]:
    return {name: value for name, value in state._asdict().items() if name != "params"}


def _host_copy(tree: Any) -> Any:
    """Returns numpy copies: a donated buffer is overwritten while the background save still reads it."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def _restore_like(tree: Any) -> ocp.args.PyTreeRestore:
    abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)
    return ocp.args.PyTreeRestore(
        item=abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract)
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
