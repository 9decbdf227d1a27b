"""The softmax over a vocabulary, whole and sampled: what is exact, what is in expectation, the cost."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.errors import InputError
from rnn_jax.models import softmax
from rnn_jax.models.softmax import (
    GRID,
    Negatives,
    draw,
    log_uniform,
    logits_of,
    make_proposal,
    sampled_losses,
    softmax_losses,
    unigram,
)

PROPERTY = settings(max_examples=30, derandomize=True, deadline=None)
ROWS, WIDTH, WORDS = 7, 4, 6
WEIGHTS = np.array([5.0, 0.2, 1.0, 3.0, 0.7, 2.0])


def problem(seed=0, rows=ROWS, words=WORDS):
    """Returns vectors, table, bias and targets."""
    random = np.random.default_rng(seed)
    arrays = (random.normal(size=shape) for shape in ((rows, WIDTH), (words, WIDTH), (words,)))
    return *(jnp.asarray(array, jnp.float32) for array in arrays), random.integers(0, words, rows)


def numpy_logits(vectors, table, bias, _):
    return np.asarray(vectors, np.float64) @ np.asarray(table, np.float64).T + np.asarray(bias, np.float64)


def numpy_losses(*arguments):
    logits, targets = numpy_logits(*arguments), arguments[-1]
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]


def shares_of(proposal):
    return np.diff(np.append(np.asarray(proposal.starts, np.int64), GRID))


def negatives_of(proposal, ids):
    """Returns the negatives that these draws would be."""
    ids = jnp.asarray(ids)
    return Negatives(ids, proposal.log_q[ids] + jnp.log(float(len(ids))))


def test_losses_are_those_of_numpy():
    np.testing.assert_allclose(softmax_losses(*problem()), numpy_losses(*problem()), rtol=1e-5)


@pytest.mark.slow
def test_chunks_change_neither_losses_nor_gradients(monkeypatch):
    *arrays, targets = problem()

    def losses_and_gradients():
        def total(*arrays):
            return (softmax_losses(*arrays, targets) ** 2).sum()

        return jax.jit(lambda *a: (softmax_losses(*a, targets), *jax.grad(total, argnums=(0, 1, 2))(*a)))(
            *arrays
        )

    whole = losses_and_gradients()
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 3 * WORDS)  # three rows at a time, of seven
    for chunked, expected in zip(losses_and_gradients(), whole, strict=True):
        np.testing.assert_allclose(chunked, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_partition_function_is_exact_in_expectation_over_the_draws(draws):
    """The expectation is the sum over all tuples of draws: nothing is left to chance."""
    *arrays, targets = problem()
    logits, proposal, expected = numpy_logits(*arrays, targets), make_proposal(WEIGHTS), 0.0
    estimate = jax.jit(lambda ids: sampled_losses(*arrays, jnp.asarray(targets), negatives_of(proposal, ids)))
    q = shares_of(proposal) / GRID
    for ids in product(range(WORDS), repeat=draws):
        log_z = np.asarray(estimate(jnp.array(ids)), np.float64) + logits[np.arange(ROWS), targets]
        expected += q[list(ids)].prod() * np.exp(log_z)
    np.testing.assert_allclose(expected, np.exp(logits).sum(axis=1), rtol=1e-5)


@pytest.mark.slow
def test_the_estimate_is_low_by_as_much_as_the_docstring_says():
    *arrays, targets = problem()
    proposal, draws = make_proposal(WEIGHTS), 64
    keys = jax.random.split(jax.random.key(0), 8000)
    one = jax.jit(jax.vmap(lambda key: sampled_losses(*arrays, targets, draw(proposal, draws, key))))
    bias = numpy_losses(*arrays, targets) - np.asarray(one(keys), np.float64).mean(axis=0)
    q, terms = WEIGHTS / WEIGHTS.sum(), np.exp(numpy_logits(*arrays, targets))
    z = terms.sum(axis=1)
    ratios = np.where(np.arange(WORDS) == targets[:, None], 0, terms / q)
    variance = ((ratios**2 * q).sum(axis=1) - (ratios * q).sum(axis=1) ** 2) / draws
    assert bias.sum() == pytest.approx((variance / (2 * z**2)).sum(), rel=0.2)


@pytest.mark.slow
def test_gradients_approach_those_of_the_softmax():
    *arrays, targets = problem()
    negatives = draw(make_proposal(WEIGHTS), 200_000, jax.random.key(1))
    sampled, exact = (
        jax.jit(jax.grad(lambda *a, of=of: of(*a).sum(), argnums=(0, 1, 2)))(*arrays)
        for of in (lambda *a: sampled_losses(*a, targets, negatives), lambda *a: softmax_losses(*a, targets))
    )
    for ours, theirs in zip(sampled, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.03)


@pytest.mark.slow
def test_a_negative_that_is_the_target_is_left_out_in_that_row_alone():
    vectors, table, bias, _ = problem()
    negatives = negatives_of(make_proposal(WEIGHTS), [2, 2, 2])
    losses = sampled_losses(vectors, table, bias, jnp.array([2, 0] * 3 + [2]), negatives)
    np.testing.assert_array_equal(losses[::2], 0)
    assert (np.asarray(losses[1::2]) > 0).all()


@pytest.mark.slow
def test_the_sampled_losses_and_their_gradients_hold_no_array_of_rows_times_words():
    rows, words = 40, 500
    *arrays, targets = problem(rows=rows, words=words)
    negatives = draw(log_uniform(words), 8, jax.random.key(0))

    def sizes(losses_of):
        traced = jax.make_jaxpr(jax.grad(lambda *a: losses_of(*a, targets).sum(), argnums=(0, 1, 2)))(*arrays)
        return [int(np.prod(shape)) for shape in shapes_in(traced.jaxpr)]

    assert max(sizes(lambda *a: sampled_losses(*a, negatives))) < rows * words
    assert max(sizes(softmax_losses)) >= rows * words


def shapes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from shapes_in(inner)


@PROPERTY
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50))
def test_a_proposal_gives_each_word_some_of_all_shares_in_proportion(weights):
    proposal = make_proposal(weights)
    shares, expected = shares_of(proposal), np.array(weights) / np.sum(weights)
    assert (shares > 0).all()
    np.testing.assert_allclose(np.exp(np.asarray(proposal.log_q, np.float64)), shares / GRID, rtol=1e-5)
    np.testing.assert_allclose(shares / GRID, expected, rtol=1e-6, atol=2e-9 * len(weights))


@pytest.mark.slow
def test_draws_have_the_frequencies_of_the_proposal():
    proposal, count = make_proposal(WEIGHTS), 100_000
    negatives = draw(proposal, count, jax.random.key(0))
    observed = np.bincount(negatives.ids, minlength=WORDS) / count
    q = WEIGHTS / WEIGHTS.sum()
    assert (np.abs(observed - q) < 5 * np.sqrt(q / count)).all()
    np.testing.assert_allclose(negatives.log_expected, np.log(count * q)[negatives.ids], rtol=1e-4)


def test_the_first_and_the_last_share_are_those_of_the_first_and_the_last_word(monkeypatch):
    proposal = make_proposal(WEIGHTS)
    starts = np.asarray(proposal.starts)
    bits = jnp.array([0, starts[1] - 1, starts[1], starts[-1] - 1, starts[-1], GRID - 1], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: bits)
    assert draw(proposal, 6, jax.random.key(0)).ids.tolist() == [0, 0, 1, WORDS - 2, WORDS - 1, WORDS - 1]


def test_the_log_uniform_proposal_is_zipfs_law():
    expected = [np.log((k + 2) / (k + 1)) / np.log(1001) for k in range(1000)]
    np.testing.assert_allclose(np.exp(log_uniform(1000).log_q), expected, rtol=1e-5)


def test_the_unigram_proposal_is_a_power_of_the_counts_and_gives_every_word_a_chance():
    counts = np.array([0, 15, 0, 80])
    expected = np.array([1, 16, 1, 81]) ** 0.75
    np.testing.assert_allclose(np.exp(unigram(counts).log_q), expected / expected.sum(), rtol=1e-5)


def test_bfloat16_products_accumulate_in_float32_and_so_does_the_tables_gradient():
    vectors, table, bias, _ = problem(rows=300)
    half = vectors.astype(jnp.bfloat16)
    np.testing.assert_allclose(logits_of(half, table, bias), logits_of(vectors, table, bias), atol=0.1)
    assert logits_of(half, table, bias).dtype == jnp.float32
    gradient = jax.jit(jax.grad(lambda table: (logits_of(half, table, bias) ** 2).sum()))(table)
    assert gradient.dtype == jnp.float32
    assert not np.array_equal(gradient, gradient.astype(jnp.bfloat16).astype(jnp.float32))
    exact = jax.jit(jax.grad(lambda table: (logits_of(vectors, table, bias) ** 2).sum()))(table)
    np.testing.assert_allclose(gradient, exact, rtol=0.02, atol=10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_proposal([]), "weights is empty"),
        (lambda: make_proposal([1.0, 0.0]), "must be positive and finite"),
        (lambda: make_proposal([1.0, np.inf]), "must be positive and finite"),
        (lambda: log_uniform(0), "vocab_size is 0"),
        (lambda: unigram(np.array([3, -1])), "must be positive and finite"),
    ],
)
def test_proposals_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
