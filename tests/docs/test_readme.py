"""The Python of README and docs/interchange.md runs as printed, and README's commands name what exists."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from configs import smoke
from tests.helpers.jobs import write_reviews

ROOT = Path(__file__).parents[2]


def blocks_of(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


BLOCKS = blocks_of("README.md")


@pytest.mark.slow
def test_readme_python_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    get_config = smoke.get_config

    def small_config():  # the same program on made-up reviews: the real ones are an extra
        config = get_config()
        config.data.source = str(write_reviews(tmp_path / "reviews.jsonl", 120))
        return config

    monkeypatch.setattr(smoke, "get_config", small_config)
    names: dict = {}
    for block in BLOCKS:
        exec(block, names)
    assert len(BLOCKS) == 3
    assert names["feature"].shape == (8, 64)
    assert np.all(np.asarray(names["outputs"])[3] == 0)
    assert names["results"] == json.loads((tmp_path / "runs/smoke/results.json").read_text())
    first = 1 / (1 + np.exp(-float(names["logits"][0, 0])))
    assert names["probabilities"][0, 1] == pytest.approx(first, rel=1e-5)


def test_interchange_python_runs_as_printed_and_all_three_have_the_same_outputs(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="the framework to compare with; pip install torch")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = blocks_of("docs/interchange.md")
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(2, 7, 16), [7, 3], batch_first=True)
    for module in (names["module"], names["copy"]):
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        np.testing.assert_allclose(names["outputs"], outputs.detach().numpy(), rtol=0, atol=1e-6)


def test_readme_commands_name_what_exists():
    text = (ROOT / "README.md").read_text()
    for config in re.findall(r"configs/\w+\.py", text):
        assert (ROOT / config).exists(), config
    for link in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (ROOT / link).exists(), link
    ci = (ROOT / ".ci" / "run").read_text()
    assert 'pip install -q -e ".[test]" && pytest' in ci
