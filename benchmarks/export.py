"""How fast an export (docs/export.md) predicts, beside the run that it was made of.

Run `python -m benchmarks.export`. Both read the same texts, in batches of the same size, in turn.
"""

import re
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import rnn_jax
from benchmarks.report import machine, write_section
from configs import bilstm, lstm
from rnn_jax.data.batches import bucket_lengths
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.models.classifier import build_classifier
from rnn_jax.training.steps import init_params

TEXTS, WORDS, ROUNDS = 1024, 10_000, 7
PAGE = Path(__file__).parents[1] / "docs" / "export.md"


def a_predictor(config):
    """Returns the classifier of a config as it starts, and texts of random words and lengths for it."""
    random = np.random.default_rng(0)
    words = np.array([f"w{index}" for index in range(WORDS - 2)])
    lengths = np.minimum(random.lognormal(5.2, 0.7, TEXTS).astype(int) + 1, 1500)  # as long as reviews
    texts = [" ".join(random.choice(words, length)) for length in lengths]
    tokenizer = Tokenizer.train([" ".join(words)], WORDS, lowercase=True, strip_html=True)
    model = build_classifier(tokenizer.vocab_size, 2, **config.model)
    buckets = bucket_lengths(lengths, config.text.max_length, config.batch.buckets)
    task = {"label_names": ("negative", "positive"), "label_values": (0, 1), "buckets": buckets}
    params = init_params(model, jax.random.key(0))
    return rnn_jax.Predictor(config, model, params, tokenizer, task, 0), texts


def documented_program(path):
    """Returns `predict` of an export, made by the program in docs/export.md."""
    names = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0], names)
    return names["load"](path)


def seconds(functions, texts):
    """Returns the seconds of each one's first call, and the medians of later ones, called in turn."""
    times = [[] for _ in functions]
    for _ in range(1 + ROUNDS):
        for function, row in zip(functions, times, strict=True):
            began = time.perf_counter()
            function(texts)
            row.append(time.perf_counter() - began)
    return [row[0] for row in times], [statistics.median(row[1:]) for row in times]


def main():
    """Prints the table and writes it to the page of performance."""
    columns = ("config", "run, texts/s", "export, texts/s", "ratio", "first call, s", "of export, s", "bytes")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, config in (("lstm", lstm.get_config()), ("bilstm", bilstm.get_config())):
        predictor, texts = a_predictor(config)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "export.zip")
            rnn_jax.export_classifier(predictor, path)
            size, predict = path.stat().st_size, documented_program(path)
        (first, export_first), (run, export) = seconds([predictor.predict, predict], texts)
        rates = f"{TEXTS / run:,.0f} | {TEXTS / export:,.0f} | {run / export:.2f}"
        line = f"| {name} | {rates} | {first:.1f} | {export_first:.1f} | {size:,} |"
        print(line, flush=True)
        lines.append(line)
    table = "\n".join(lines)
    text = (
        "### Predictions by an export\n\n"
        "Make this table again: `python -m benchmarks.export`. It compares an export ([export](export.md)) "
        f"with the run that it was made from. Each call predicts {TEXTS:,} texts of random words, as long as "
        f"reviews, from a vocabulary of {WORDS:,}. Times are medians of {ROUNDS} calls, taken in turn, from "
        f"text to probability. The first call compiles. {machine()}.\n\n{table}"
    )
    write_section("export", text)


if __name__ == "__main__":
    main()
