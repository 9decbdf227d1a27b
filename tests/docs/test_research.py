"""The blocks of docs/research.md run as printed, one after another, and do what the text says."""

import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.runs import make_run

GUIDE = Path(__file__).parents[2] / "docs" / "research.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.slow  # op by op, as a reader runs it: hundreds of small programs to compile
def test_the_guide_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "smoke")
    names: dict = {}
    for block in BLOCKS:
        exec(block, names)
    assert len(BLOCKS) == 11
    assert jax.tree.structure(names["curvature"]) == jax.tree.structure(names["model"].params)
    assert names["halfway"].shape == (1, 1)
    alone = optax.tree.norm(jax.grad(names["log_p"])(names["model"].params, names["texts"][1]))
    np.testing.assert_allclose(names["norms"], [names["norms"][0], alone], rtol=1e-5)
    assert names["shapes"]["LSTMCell"] == names["shapes"]["OptimizedLSTMCell"] != names["shapes"]["GRUCell"]
    assert names["outputs"].shape == (3, 5, 4)
    assert not np.asarray(names["outputs"])[1, 2:].any()
    np.testing.assert_allclose(names["top"][:, -1], names["carry"][-1], rtol=1e-6)
    np.testing.assert_allclose(names["backward"][:, 0], names["carry"][0][1], rtol=1e-6)
    whole = names["model"].predict(["a moving, brilliant film"]).probabilities[0]
    np.testing.assert_allclose(names["stream"].probabilities, whole, atol=1e-6)
    assert abs(names["missed"]) < 0.01
    old, new, trained = (
        flatten_dict(tree, sep="/")
        for tree in (names["model"].params, names["params"], names["state"].params)
    )
    for path, array in new.items():
        there = path.replace("encoder/forward_rnn", "encoder")
        assert (there in old and np.array_equal(array, old[there])) == (
            f"taken: {path}" in " ".join(names["lines"])
        )
        assert np.array_equal(trained[path], array) == path.startswith("embedding")
    assert names["losses"][-1] < names["losses"][0] / 2
    np.testing.assert_allclose(names["weights"], 1, rtol=1e-6)
