"""The evaluations of a run, on the validation split: which is the best, and whether they still get better.

An evaluation is a mapping with its "step", a "loss", and an "accuracy" where there is one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_jax.errors import require


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
