"""The library in a program that it does not own: its imports, its reloads, and a notebook's kernel."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.jobs import write_reviews

ROOT = Path(__file__).parents[1]

FLAGS = """
import absl.flags, absl.logging, orbax.checkpoint  # which have flags of their own
before = set(absl.flags.FLAGS)
import rnn_jax
rnn_jax.fit, rnn_jax.train_and_evaluate, rnn_jax.sklearn
import rnn_jax.cli, rnn_jax.training.command
assert set(absl.flags.FLAGS) == before, set(absl.flags.FLAGS) - before
assert not absl.flags.FLAGS.is_parsed()
"""


@pytest.mark.slow
def test_no_import_defines_a_flag():
    subprocess.run([sys.executable, "-c", FLAGS], check=True, cwd=ROOT)


SETUP = """
%load_ext autoreload
%autoreload 2
import json, pathlib, rnn_jax
rows = [json.loads(line) for line in open("reviews.jsonl")]
texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
small = {"recipe": "smoke", "model.hidden": 4, "batch.size": 8, "text.max_length": 16, "log.every": 2}
rnn_jax.fit(texts, labels, **small).predict(texts[:2]).labels
"""
EDIT = """
for path in pathlib.Path(rnn_jax.__file__).parent.rglob("*.py"):
    path.write_text(path.read_text() + "\\n# edited\\n")
path = pathlib.Path(rnn_jax.__file__).parent / "fitting.py"
path.write_text(path.read_text().replace("(removed with the model)", "(edited)"))
"""
AGAIN = "rnn_jax.fit(texts, labels, **small).predict(texts[:2]).labels"
LONG = """
small |= {"train.epochs": 100_000, "train.evaluate_every": 1000.0, "workdir": "run"}
rnn_jax.fit(texts, labels, **small)
"""
AFTER = """
print("step", rnn_jax.load("run", "last").step, rnn_jax.load("run", "last").predict(texts[:2]).labels)
"""


def interrupt(client, metrics):
    """Sends Ctrl-C to the kernel as soon as the long run has written metrics."""
    end = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(client.km.provisioner.process.pid, signal.SIGINT)


def text_of(cell):
    """Returns what a cell printed, and the last line of what it raised."""
    streams = [out for out in cell.outputs if out.output_type == "stream"]
    printed = "".join(out.text for out in streams if out.name == "stdout")
    raised = [f"{out.ename}: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
    return printed + "".join(raised)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the kernel's client
def test_a_notebook_sees_a_bar_reloads_edited_code_and_outlives_ctrl_c(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    shutil.copytree(ROOT / "rnn_jax", tmp_path / "rnn_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    write_reviews(tmp_path / "reviews.jsonl", 60)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sources = [SETUP, EDIT, AGAIN, LONG, AFTER]
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells),
        timeout=300,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(interrupt, client, tmp_path / "run" / "metrics.jsonl")
        asyncio.run(client.async_execute())
        sent.result()
    first, edit, again, long, after = cells
    bars = [out.data["text/html"] for out in first.outputs if "text/html" in out.get("data", {})]
    assert len(bars) == 1, [text_of(cell) for cell in cells]
    assert "7/7" in bars[0]
    assert "validation accuracy" in text_of(first)
    assert text_of(edit) == ""
    assert "(edited)" in text_of(again), "the code that was edited is what ran"
    assert [out.data for out in again.outputs if out.output_type == "execute_result"] == [
        out.data for out in first.outputs if out.output_type == "execute_result"
    ]
    assert "KeyboardInterrupt: SIGINT: ended after step" in text_of(long)
    assert "to go on, call rnn_jax.fit again with the same arguments and workdir='run'" in text_of(long)
    step = text_of(long).split("after step ")[1].split(",")[0]
    assert text_of(after).startswith(f"step {step} [")
