"""Errors name the argument, the value and the fix."""

import jax
import numpy as np
import pytest

from rnn_jax.errors import InputError, check_rate, check_seed, choose, nearest, require


def test_choose_returns_the_option_of_that_name():
    assert choose("pooling", "mean", {"max": 1, "mean": 2}) == 2


def test_choose_names_the_argument_the_value_the_options_and_the_nearest():
    with pytest.raises(InputError) as caught:
        choose("pooling", "meen", {"max": 1, "mean": 2})
    assert str(caught.value) == "pooling is 'meen', which is not one of: max, mean. Did you mean 'mean'?"


def test_a_name_near_to_none_gets_no_suggestion():
    assert nearest("zzz", ["max", "mean"]) == ""
    with pytest.raises(InputError, match=r"one of: max, mean\.$"):
        choose("pooling", "zzz", {"max": 1, "mean": 2})


def test_a_value_that_is_no_string_is_still_named():
    with pytest.raises(InputError, match="pooling is None"):
        choose("pooling", None, {"max": 1})


def test_require_raises_only_where_the_condition_fails():
    require(True, "fine")
    with pytest.raises(InputError, match=r"^wrong$"):
        require(False, "wrong")


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize("rate", [0, 0.5, 0.999])
def test_a_rate_from_zero_to_below_one_is_accepted(rate):
    check_rate("dropout", rate)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused_by_name(rate):
    with pytest.raises(InputError, match=f"dropout is {rate}"):
        check_rate("dropout", rate)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_a_seed_that_every_generator_takes_is_accepted(seed):
    check_seed("seed", seed)
    np.random.default_rng(seed)
    jax.random.key(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_another_seed_is_refused_by_name(seed):
    with pytest.raises(InputError, match=f"config.seed is {seed}; give a number from 0"):
        check_seed("config.seed", seed)
