"""Parameter groups: chosen by path, frozen to the bit, unfrozen in time, each at its rate."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax.distributed.data_parallel import batch_mesh
from rnn_jax.distributed.preemption import Interruption
from rnn_jax.errors import InputError
from rnn_jax.models.losses import make_classifier_loss
from rnn_jax.training.optimizer import build_optimizer
from rnn_jax.training.parameter_groups import group_parameters, join, select
from rnn_jax.training.steps import init_params, init_state, make_train_step
from rnn_jax.training.trainer import Trainer
from rnn_jax.trees import leaves_by_path
from tests.training.test_steps import small_batches, small_model

PARAMS = {"embedding": {"embedding": 0}, "encoder": {"cell": {"h": 1, "i": 2}}, "head": {"bias": 3}}
SETTINGS = {
    "name": "adam",
    "learning_rate": 0.1,
    "schedule": "cosine_onecycle",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
}


class NoMeter:
    def push(self, *_):
        pass

    flush = push


@cache
def start():
    return jax.tree.map(np.asarray, jax.jit(partial(init_params, small_model()))(jax.random.key(1)))


@cache
def trainer_of(freeze, rates, epoch, **changes):
    """Returns a trainer, one for all runs that differ in their steps alone: it compiles each phase once."""
    model = small_model()
    groups = group_parameters(start(), freeze, rates, epoch)
    return Trainer(
        groups,
        lambda step: build_optimizer(8, groups, step, **(SETTINGS | changes))[0],
        lambda optimizer, chosen: make_train_step(
            make_classifier_loss(model.apply), optimizer, trained=chosen
        ),
        batch_mesh(1),
        jax.random.key(0),
    )


def trained(freeze=(), rates=(), steps=6, epoch=2, state=None, **changes):
    """Returns (the parameters before, the state after) so many steps of a small classifier."""
    trainer = trainer_of(tuple(freeze), tuple(rates), epoch, **changes)
    state = state or init_state(jax.tree.map(jnp.array, start()), trainer.optimizers[0])
    return start(), trainer.train_until(steps, state, small_batches(), 0, NoMeter(), Interruption())


def same(one, other):
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("embedding", {"embedding/embedding"}),
        ("encoder/cell", {"encoder/cell/h", "encoder/cell/i"}),
        ("*/cell/h", {"encoder/cell/h"}),
        ("encoder/*", {"encoder/cell/h", "encoder/cell/i"}),
        ("head/bias", {"head/bias"}),
    ],
)
def test_a_pattern_is_a_path_or_the_beginning_of_one(pattern, paths):
    groups = group_parameters(PARAMS, [pattern], [], 1)
    frozen = [not here for here in jax.tree.leaves(groups.trained(10**9))]
    assert {path for path, here in zip(leaves_by_path(PARAMS), frozen, strict=True) if here} == paths


def test_a_pattern_that_matches_nothing_lists_the_paths():
    with pytest.raises(InputError, match=r"'embeding', which matches no .*mean 'embedding'.*head/bias"):
        group_parameters(PARAMS, ["embeding"], [], 1)


@pytest.mark.parametrize(
    ("freeze", "rates", "message"),
    [
        (["*"], [], "leaves nothing to train"),
        ([("head", -1)], [], "first epoch that trains it"),
        ([("head", 1.5)], [], "first epoch that trains it"),
        ([], [("head", 0)], "above 0"),
        ([], ["head"], "give pairs"),
    ],
)
def test_what_cannot_be_is_refused(freeze, rates, message):
    with pytest.raises(InputError, match=message):
        group_parameters(PARAMS, freeze, rates, 1)


def test_the_last_pattern_counts():
    groups = group_parameters(PARAMS, ["encoder", ("encoder/cell/h", 3)], [("*", 0.5), ("head", 2)], 10)
    assert groups.starts() == [0, 30]
    assert [groups.phase(step) for step in (0, 29, 30, 99)] == [0, 0, 30, 30]
    by_path = dict(zip(leaves_by_path(PARAMS), jax.tree.leaves(groups.labels), strict=True))
    assert by_path["encoder/cell/i"] == "frozen"
    assert groups.members[by_path["encoder/cell/h"]] == (30, 0.5)
    assert groups.members[by_path["head/bias"]] == (0, 2.0)


def test_selected_parts_join_to_the_whole():
    chosen = group_parameters(PARAMS, ["encoder"], [], 1).trained(0)
    assert join(*select(PARAMS, chosen)) == PARAMS
    assert jax.tree.leaves(select(PARAMS, chosen)[1]) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_frozen_parameters_keep_their_bits_and_have_no_moments(name):
    decay = {"adam": 0.0}.get(name, 0.5)
    before, state = trained(["embedding"], name=name, weight_decay=decay)
    assert same(before["embedding"]["embedding"], state.params["embedding"]["embedding"])
    assert not same(before["head"]["kernel"], state.params["head"]["kernel"])
    shape = before["embedding"]["embedding"].shape
    assert shape not in {leaf.shape for leaf in jax.tree.leaves(state.opt_state)}


@pytest.mark.slow
def test_frozen_parameters_get_no_gradient():
    """The program has fewer scatters: one is the gradient of reading the table."""
    model, optimizer = small_model(), optax.sgd(0.1)
    params = init_params(model, jax.random.key(1))
    batch = small_batches()(0, 0)
    programs = []
    for freeze in ([], ["embedding"]):
        chosen = group_parameters(params, freeze, (), 1).trained(0)
        step = make_train_step(make_classifier_loss(model.apply), optimizer, trained=chosen)
        programs.append(step.lower(init_state(params, optimizer), batch, jax.random.key(0)).as_text())
    counts = [program.count("stablehlo.scatter") for program in programs]
    assert counts[1] < counts[0]


@pytest.mark.slow
def test_freezing_nothing_is_training_all():
    plain, grouped = trained(), trained(rates=[("*", 1)])
    assert all(map(same, jax.tree.leaves(plain[1]), jax.tree.leaves(grouped[1])))


@pytest.mark.slow
def test_a_late_group_rests_until_its_epoch_and_then_trains_as_a_young_one():
    freeze = [("embedding", 2)]
    before, state = trained(freeze, steps=4)
    assert same(before["embedding"]["embedding"], state.params["embedding"]["embedding"])
    _, later = trained(freeze, steps=5)
    moved = np.asarray(later.params["embedding"]["embedding"]) - before["embedding"]["embedding"]
    # Adam's first step has the size of the learning rate at that step, in every entry that has a gradient.
    rate = float(build_optimizer(8, **SETTINGS)[1](4))
    np.testing.assert_allclose(np.abs(moved).max(), rate, rtol=1e-3)


@pytest.mark.slow
def test_training_through_an_unfreezing_in_two_parts_is_training_in_one():
    whole = trained([("embedding", 2), ("encoder", 1)], steps=7)[1]
    for cut in (1, 2, 3, 4, 6):
        part = trained([("embedding", 2), ("encoder", 1)], steps=cut)[1]
        rest = trained([("embedding", 2), ("encoder", 1)], steps=7, state=part)[1]
        assert all(map(same, jax.tree.leaves(whole), jax.tree.leaves(rest)))


@pytest.mark.slow
def test_a_group_trains_at_its_share_of_the_rate():
    """With sgd a step is the rate times the gradient."""
    options = {"name": "sgd", "schedule": "constant", "momentum": 0.0, "steps": 1}
    before, plain = trained(**options)
    _, slow = trained(rates=[("embedding", 0.25), ("head", 2)], **options)

    def moved(state):
        return jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)

    expected = moved(plain)
    expected["embedding"] = jax.tree.map(lambda move: move * 0.25, expected["embedding"])
    expected["head"] = jax.tree.map(lambda move: move * 2, expected["head"])
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-7), moved(slow), expected
    )


def test_groups_say_what_trains():
    params = {"embedding": {"embedding": jnp.zeros((5, 2))}, "head": {"bias": jnp.zeros(3)}}
    groups = group_parameters(params, ["embedding"], [], 1)
    assert groups.describe(params) == "parameters: 13 (3 from step 0, rate x 1; 10 frozen)"
    assert groups.count(params) == 3


def test_a_group_that_would_begin_after_the_last_step_is_said_not_to_train():
    params = {"embedding": {"embedding": jnp.zeros((5, 2))}, "head": {"bias": jnp.zeros(3)}}
    groups = group_parameters(params, [("embedding", 3)], [], 10)
    assert (groups.count(params, 30), groups.count(params, 31)) == (3, 13)
    assert "10 from step 30, rate x 1, which never comes: there are 30 steps" in groups.describe(params, 30)
    assert "never" not in groups.describe(params, 31)
