"""Optimisers and learning-rate schedules by name."""

from collections.abc import Callable
from functools import partial

import jax
import optax

from rnn_jax.errors import choose, require
from rnn_jax.training.parameter_groups import Group, Groups
from rnn_jax.trees import Tree


def slanted_triangular(peak: float, steps: int, cut: float = 0.1, ratio: float = 32.0) -> optax.Schedule:
    """Returns a schedule that rises from peak/ratio over the first `cut` of the steps and falls back after.

    Source: Howard & Ruder 2018 (ULMFiT), section 3.2. It equals their formula if steps * cut is a whole
    number. Otherwise theirs falls below zero at the end, and this one ends at peak / ratio.
    """
    rise = max(1, int(steps * cut))
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / ratio, peak, rise),
            optax.linear_schedule(peak, peak / ratio, max(1, steps - rise)),
        ],
        [rise],
    )


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine_onecycle": lambda peak, steps: optax.cosine_onecycle_schedule(steps, peak),
    "slanted_triangular": slanted_triangular,
}


def _sgd(rate: optax.Schedule, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=momentum))


OPTIMIZERS: dict[str, Callable[[optax.Schedule, float, float], optax.GradientTransformation]] = {
    "adam": lambda rate, momentum, weight_decay: optax.adam(rate, b1=momentum),
    "adamw": lambda rate, momentum, decay: optax.adamw(rate, b1=momentum, weight_decay=decay),
    "sgd": _sgd,
}


def build_optimizer(
    steps: int,
    groups: Groups | None = None,
    step: int = 0,
    *,
    name: str,
    learning_rate: float,
    schedule: str,
    momentum: float,
    weight_decay: float,
    clip_norm: float,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimiser and its learning rate by step; the keywords are the keys of `config.optimizer`.

    Args:
      steps: the number of steps of training, at least 1, over which the schedule runs.
      groups: the parameter groups, as `group_parameters` makes them; None trains all at one rate.
      step: the step from which this optimiser is used. Groups that train later have no state yet;
        `carry_over` takes the state of the others to a later optimiser.
      name: "adam" (Kingma & Ba 2015), "adamw" (Loshchilov & Hutter 2019) or "sgd".
      learning_rate: the schedule's peak, above 0.
      schedule: "constant", "cosine_onecycle" or "slanted_triangular" (Howard & Ruder 2018).
      momentum: in [0, 1): the momentum of sgd, b1 of adam and adamw.
      weight_decay: at least 0: decoupled in adamw, added to the gradient in sgd; adam takes 0 alone.
      clip_norm: the largest global norm of the gradient; 0 does not clip.

    Raises:
      InputError: an unknown name, or a number out of its range.

    >>> from rnn_jax.training import build_optimizer
    >>> settings = {"name": "adam", "learning_rate": 0.5, "schedule": "constant", "momentum": 0.9}
    >>> optimizer, rate = build_optimizer(100, **settings, weight_decay=0.0, clip_norm=1.0)
    >>> rate(99)
    0.5
    """
    make = choose("optimizer.name", name, OPTIMIZERS)
    make_schedule = choose("optimizer.schedule", schedule, SCHEDULES)
    _check_numbers(name, learning_rate, momentum, weight_decay, clip_norm)
    rate = make_schedule(learning_rate, steps)
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    if groups is None or set(groups.members.values()) == {Group()}:
        return optax.chain(clip, make(rate, momentum, weight_decay)), rate
    return optax.chain(
        clip, _by_group(groups, step, lambda rate: make(rate, momentum, weight_decay), rate)
    ), rate


def _check_numbers(
    name: str, learning_rate: float, momentum: float, weight_decay: float, clip_norm: float
) -> None:
    require(learning_rate > 0, f"optimizer.learning_rate is {learning_rate}; it must be positive")
    require(0 <= momentum < 1, f"optimizer.momentum is {momentum}; it must be at least 0 and below 1")
    require(clip_norm >= 0, f"optimizer.clip_norm is {clip_norm}; give 0 for no clipping")
    require(weight_decay >= 0, f"optimizer.weight_decay is {weight_decay}; it cannot be negative")
    require(
        not (name == "adam" and weight_decay),
        f"optimizer.weight_decay is {weight_decay}, but adam has none; use adamw",
    )


def _by_group(
    groups: Groups, step: int, make: Callable[..., optax.GradientTransformation], rate: optax.Schedule
) -> optax.GradientTransformation:
    transforms = {}
    for name, (start, factor) in groups.members.items():
        # A group counts its own steps, so that Adam's bias correction is right for groups that start late.
        own_rate = partial(_shifted, rate, start, factor)
        transforms[name] = optax.set_to_zero() if start > step else make(own_rate)
    return optax.multi_transform(transforms, groups.labels)


def _shifted(rate: optax.Schedule, start: float, factor: float, count: jax.Array) -> jax.Array:
    return factor * rate(count + start)


def carry_over(old: Tree, new: Tree) -> Tree:
    """Returns `new`, the state of a later phase's optimiser, with the states of the groups trained so far."""
    (_, before), (clip, after) = old, new
    trained = {name: state for name, state in before.inner_states.items() if jax.tree.leaves(state)}
    return clip, after._replace(inner_states=after.inner_states | trained)
