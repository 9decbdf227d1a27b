"""The README's Python runs as printed, one block after another, and its commands name what exists."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from configs import smoke
from tests.jobs import write_reviews

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


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


def test_readme_commands_name_what_exists():
    text = (ROOT / "README.md").read_text()
    for config in re.findall(r"configs/\w+\.py", text):
        assert (ROOT / config).exists(), config
    for link in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (ROOT / link).exists(), link
    ci = (ROOT / ".ci" / "run").read_text()
    assert 'pip install -q -e ".[test]" && pytest' in ci
