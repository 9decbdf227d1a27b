"""The linear chain: equal to the enumeration of all paths and to pytorch-crf; padding reaches nothing."""

import itertools
import os
import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.distributed.host import FUSION
from rnn_jax.errors import InputError
from rnn_jax.layers import CRF
from tests.helpers.pages import ROOT

ROWS, TIME, TAGS = 10, 4, 3
LENGTHS = np.array([4, 0, 1, 3, 2, 1, 2, 3, 1, 2])
CRF_OF = CRF(TAGS)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def case():
    """Returns the parameters, the scores and the tags of a batch."""
    transitions = random(2, TAGS, TAGS) - 3 * np.eye(TAGS, dtype=np.float32)  # a tag rarely stays
    params = {"start": random(0, TAGS), "end": random(1, TAGS), "transitions": transitions}
    tags = np.random.default_rng(4).integers(TAGS, size=(ROWS, TIME))
    return params, random(3, ROWS, TIME, TAGS), tags


def path_scores(params, scores_TC, paths_NT):
    """Returns the score of each path, a sum as the first lines of the module write it; 0 for empty ones."""
    if not paths_NT.shape[1]:
        return np.zeros(len(paths_NT))
    steps = scores_TC[np.arange(paths_NT.shape[1]), paths_NT].sum(axis=1)
    moves = params["transitions"][paths_NT[:, :-1], paths_NT[:, 1:]].sum(axis=1)
    return params["start"][paths_NT[:, 0]] + steps + moves + params["end"][paths_NT[:, -1]]


def all_paths(length):
    return np.array(list(itertools.product(range(TAGS), repeat=length)), int).reshape(TAGS**length, length)


def enumerated(params, scores, tags):
    """Returns the summed log probability of the tags, from the scores of all paths."""
    total = 0.0
    for row, length in enumerate(LENGTHS):
        read = params, scores[row, :length]
        own = path_scores(*read, tags[row : row + 1, :length])[0]
        total += own - jax.nn.logsumexp(jnp.asarray(path_scores(*read, all_paths(length))))
    return total


def summed(params, scores, tags):
    return CRF_OF.apply({"params": params}, scores, tags, LENGTHS).sum()


log_likelihood = jax.jit(lambda params, scores, tags: CRF_OF.apply({"params": params}, scores, tags, LENGTHS))
gradient = jax.jit(jax.grad(summed, (0, 1)))


@cache
def using(method):
    return jax.jit(lambda params, scores: CRF_OF.apply({"params": params}, scores, LENGTHS, method=method))


def test_the_log_likelihood_and_its_gradients_are_those_of_all_paths(case):
    expected = jax.jit(jax.value_and_grad(enumerated, (0, 1)))(*case)
    found = log_likelihood(*case).sum(), gradient(*case)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, 1e-4, 1e-5), found, expected)


def test_the_probabilities_of_all_paths_sum_to_one(case):
    params, scores, _ = case
    paths = all_paths(3)
    rows = np.broadcast_to(scores[:1, :3], (*paths.shape, TAGS))
    log_p = CRF_OF.apply({"params": params}, rows, paths)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)


def test_decoding_finds_the_path_that_enumeration_finds(case):
    params, scores, _ = case
    found = using("decode")(params, scores)
    assert found.dtype == jnp.int32
    for row, length in enumerate(LENGTHS):
        paths = all_paths(length)
        best = paths[path_scores(params, scores[row, :length], paths).argmax()]
        assert found[row, :length].tolist() == best.tolist()
        assert not found[row, length:].any()


def test_marginals_are_the_shares_of_the_paths_through_a_tag(case):
    params, scores, _ = case
    found = using("marginals")(params, scores)
    for row, length in enumerate(LENGTHS):
        paths, expected = all_paths(length), np.zeros((TIME, TAGS))
        weights = np.exp(path_scores(params, scores[row, :length], paths))
        for path, weight in zip(paths, weights, strict=True):
            expected[np.arange(length), path] += weight / weights.sum()
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_padding_reaches_neither_values_nor_gradients(case):
    params, scores, tags = case
    padding = np.arange(TIME) >= LENGTHS[:, None]
    dirty = np.where(padding[:, :, None], np.nan, scores), np.where(padding, 10**6, tags)
    assert np.array_equal(log_likelihood(params, scores, tags), log_likelihood(params, *dirty))
    clean, soiled = (gradient(params, *inputs) for inputs in ((scores, tags), dirty))
    jax.tree.map(np.testing.assert_array_equal, clean, soiled)
    assert not soiled[1][padding].any()
    for method in ("decode", "marginals"):
        np.testing.assert_array_equal(*(using(method)(params, x) for x in (scores, dirty[0])))


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_no_steps_and_no_rows_have_the_empty_path(case, shape):
    params, scores, tags = case[0], np.zeros((*shape, TAGS)), np.zeros(shape, int)
    lengths = np.zeros(shape[0], int)
    assert CRF_OF.apply({"params": params}, scores, tags, lengths).tolist() == [0.0] * shape[0]
    assert CRF_OF.apply({"params": params}, scores, lengths, method="decode").shape == shape
    assert CRF_OF.apply({"params": params}, scores, lengths, method="marginals").shape == (*shape, TAGS)


def test_scores_of_another_number_of_tags_are_refused(case):
    with pytest.raises(InputError, match=r"\(10, 4, 3\); a CRF of 7 tags"):
        CRF(7).init(jax.random.key(0), *case[1:])


def test_values_gradients_and_paths_are_those_of_pytorch_crf(case):
    torch = pytest.importorskip("torch", reason="the peer to compare with; pip install torch")
    torchcrf = pytest.importorskip("torchcrf", reason="the peer to compare with; pip install pytorch-crf")
    params, scores, tags = case
    rows = LENGTHS > 0  # the peer takes no empty rows
    peer, own = torchcrf.CRF(TAGS, batch_first=True), torch.tensor(scores[rows], requires_grad=True)
    names = {"start": "start_transitions", "end": "end_transitions", "transitions": "transitions"}
    for name, theirs in names.items():
        getattr(peer, theirs).data = torch.tensor(params[name])
    mask = torch.tensor(np.arange(TIME) < LENGTHS[rows][:, None])
    expected = peer(own, torch.tensor(tags[rows]), mask=mask, reduction="none")
    expected.sum().backward()
    np.testing.assert_allclose(log_likelihood(params, scores, tags)[rows], expected.detach(), 1e-4, 1e-5)
    gradients = gradient(params, scores, tags)
    np.testing.assert_allclose(gradients[1][rows], own.grad, 1e-3, 1e-5)
    for name, theirs in names.items():
        np.testing.assert_allclose(gradients[0][name], getattr(peer, theirs).grad, 1e-3, 1e-5)
    found = using("decode")(params, scores)
    paths = [row[:length].tolist() for row, length in zip(found, LENGTHS, strict=True) if length]
    assert paths == peer.decode(own, mask=mask)


AS_TRAINING_COMPILES = """
import jax, jax.numpy as jnp
from rnn_jax.layers import CRF
crf, scores, tags, lengths = CRF(17), jnp.ones((16, 16, 17)), jnp.ones((16, 16), int), jnp.arange(16)
variables = crf.init(jax.random.key(0), scores, tags, lengths)
loss = lambda variables, scores: -crf.apply(variables, scores, tags, lengths).sum()
jax.jit(jax.grad(loss, (0, 1)))(variables, scores)
"""


@pytest.mark.slow
def test_the_gradient_compiles_with_the_flags_that_training_sets():
    """A process of its own: with gathers in the place of products XLA's compiler ended the process."""
    environment = os.environ | {"XLA_FLAGS": FUSION}
    subprocess.run([sys.executable, "-c", AS_TRAINING_COMPILES], check=True, env=environment, cwd=ROOT)


def test_lengths_are_clamped_and_may_be_a_list():
    rng = np.random.default_rng(0)
    scores, tags = rng.normal(size=(2, 3, TAGS)).astype(np.float32), rng.integers(0, TAGS, (2, 3))
    variables = CRF_OF.init(jax.random.key(0), scores, tags)
    for lengths, clamped in (([9, 3], [3, 3]), ([-2, 1], [0, 1])):
        found, expected = (
            CRF_OF.apply(variables, scores, tags, each) for each in (lengths, np.array(clamped))
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_scores_of_few_bits_are_summed_in_float32(case, dtype):
    """500 steps whose tags are sure: log p is near 0, and the sum of the scores in the thousands."""
    rng = np.random.default_rng(0)
    tags = rng.integers(TAGS, size=(2, 500))
    sure = 8 * np.eye(TAGS)[tags] + rng.normal(size=(2, 500, TAGS))
    scores, variables = jnp.asarray(sure, dtype), {"params": jax.tree.map(np.zeros_like, case[0])}
    wide = scores.astype(jnp.float32)
    log_p = CRF_OF.apply(variables, scores, tags)
    assert log_p.dtype == jnp.float32
    assert (log_p <= 0).all()
    np.testing.assert_array_equal(log_p, CRF_OF.apply(variables, wide, tags))
    for method in ("decode", "marginals"):
        found, expected = (CRF_OF.apply(variables, each, method=method) for each in (scores, wide))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(2, 1), (3,), (2, 4), ()])
def test_tags_of_another_shape_than_the_scores_are_refused_and_never_repeated(case, shape):
    scores, lengths = case[1][:2, :3], [3, 2]
    with pytest.raises(
        InputError, match=r"tags has shape \(.*\), and scores \(2, 3, 3\); give \[batch, time\]"
    ):
        CRF_OF.apply({"params": case[0]}, scores, np.ones(shape, int), lengths)


def test_scores_and_tags_may_be_lists(case):
    params, scores, tags = case
    found = CRF_OF.apply({"params": params}, scores.tolist(), tags.tolist(), LENGTHS)
    np.testing.assert_array_equal(found, CRF_OF.apply({"params": params}, scores, tags, LENGTHS))
