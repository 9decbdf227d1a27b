"""Optimisers and schedules against numpy and their papers."""

import math

import numpy as np
import optax
import pytest

from rnn_jax.errors import InputError
from rnn_jax.training.optimizer import SCHEDULES, build_optimizer, slanted_triangular

SETTINGS = {
    "name": "adam",
    "learning_rate": 0.1,
    "schedule": "constant",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
}
PARAMS, GRADIENT = np.array([2, -1, 0.5], np.float32), np.array([3, -4, 0], np.float32)


def updated(steps=1, **changes):
    """The parameters after a few steps with one gradient."""
    optimizer, _ = build_optimizer(10, **(SETTINGS | changes))
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENT, state, params)
        params = np.asarray(optax.apply_updates(params, updates))
    return params


def adam_oracle(steps, decay=0.0):
    params, mean, square = PARAMS.copy(), np.zeros(3), np.zeros(3)
    for step in range(1, steps + 1):
        mean, square = 0.9 * mean + 0.1 * GRADIENT, 0.999 * square + 0.001 * GRADIENT**2
        move = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        params = params - 0.1 * (move + decay * params)
    return params


def test_adam_takes_the_steps_of_kingma_and_ba():
    np.testing.assert_allclose(updated(3), adam_oracle(3), rtol=1e-5)


def test_adamw_shrinks_weights_beside_the_step():
    np.testing.assert_allclose(updated(3, name="adamw", weight_decay=0.5), adam_oracle(3, 0.5), rtol=1e-5)
    assert abs(updated(1, name="adamw", weight_decay=0.5)[2]) < abs(PARAMS[2])  # its gradient is zero


def test_sgd_has_momentum_and_adds_decay_to_the_gradient():
    velocity, params = np.zeros(3), PARAMS.copy()
    for _ in range(3):
        velocity = 0.9 * velocity + GRADIENT + 0.5 * params
        params = params - 0.1 * velocity
    np.testing.assert_allclose(updated(3, name="sgd", weight_decay=0.5), params, rtol=1e-5)


@pytest.mark.parametrize(("clip", "factor"), [(1.0, 0.2), (5.0, 1.0), (0.0, 1.0)])
def test_clipping_bounds_the_norm_of_the_gradient_and_zero_does_not_clip(clip, factor):
    after = updated(1, name="sgd", momentum=0.0, clip_norm=clip)
    np.testing.assert_allclose(PARAMS - after, 0.1 * GRADIENT * factor, rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 100, 300])
def test_slanted_triangular_is_the_formula_of_howard_and_ruder(steps):
    cut = math.floor(steps * 0.1)
    _, rate = build_optimizer(steps, **(SETTINGS | {"schedule": "slanted_triangular"}))
    for step in range(steps):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        assert float(rate(step)) == pytest.approx(0.1 * (1 + p * (32 - 1)) / 32, rel=1e-4)


@pytest.mark.parametrize("steps", [2, 7, 19, 97])
def test_slanted_triangular_of_any_length_peaks_after_the_cut_and_ends_near_its_start(steps):
    rates = np.array([slanted_triangular(0.4, steps)(step) for step in range(steps + 1)])
    peak = max(1, steps // 10)
    assert rates.argmax() == peak
    assert rates[peak] == pytest.approx(0.4)
    assert rates[[0, -1]] == pytest.approx(0.4 / 32, rel=1e-4)
    assert np.diff(rates[peak:], n=2) == pytest.approx(0, abs=1e-6)


def test_constant_is_constant():
    _, rate = build_optimizer(10, **SETTINGS)
    assert [float(rate(step)) for step in (0, 5, 10)] == pytest.approx([0.1] * 3)


@pytest.mark.slow
def test_schedule_is_what_the_optimizer_steps_by():
    optimizer, rate = build_optimizer(
        10, **(SETTINGS | {"name": "sgd", "momentum": 0.0, "schedule": "cosine_onecycle"})
    )
    state = optimizer.init(PARAMS)
    for step in range(10):
        updates, state = optimizer.update(GRADIENT, state, PARAMS)
        np.testing.assert_allclose(updates, -rate(step) * GRADIENT, rtol=1e-5)


@pytest.mark.slow
def test_onecycle_rises_to_its_peak_and_falls_to_nearly_nothing():
    rates = np.array([SCHEDULES["cosine_onecycle"](0.4, 100)(step) for step in range(101)])
    assert rates.max() == pytest.approx(0.4)
    peak = rates.argmax()
    assert peak == 30
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    assert rates[0] == pytest.approx(0.4 / 25)
    assert rates[-1] == pytest.approx(0.4 / 25 / 1e4, rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_schedule_is_finite_and_positive_for_a_run_of_few_steps(schedule, steps):
    _, rate = build_optimizer(steps, **(SETTINGS | {"schedule": schedule}))
    rates = np.array([rate(step) for step in range(steps)])
    assert np.all(np.isfinite(rates))
    assert np.all(rates > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "adamm"}, "optimizer.name is 'adamm'.*Did you mean 'adam"),
        ({"schedule": "cosine"}, "optimizer.schedule is 'cosine'.*cosine_onecycle"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate is 0"),
        ({"momentum": 1.0}, "optimizer.momentum is 1"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm is -1"),
        ({"name": "sgd", "weight_decay": -0.1}, "optimizer.weight_decay is -0.1"),
        ({"weight_decay": 0.1}, "adam has none; use adamw"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(10, **(SETTINGS | change))
