"""Recurrent layers on a GPU against torch, Flax and JAX's call of cuDNN: a section of docs/performance.md.

Run `python -m benchmarks.gpu` on a machine with an NVIDIA GPU, and with jax and torch for it (a few minutes).
Each layer of each engine is built in a process of its own, many at a time; then one runs at a time, in turn.
A time is from the call until the result is there: medians, each after a run that is not timed.
"""

import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor

import jax

from benchmarks.performance import cell
from benchmarks.recurrence import SHAPES, Worker, a_case
from benchmarks.report import machine, write_section
from rnn_jax.host import cores

ENGINES = ("ours", "flax", "torch", "cudnn")
LIMIT, ROUNDS = 180, 15  # seconds to build a layer beside others; runs of each
KINDS = (("LSTM", "train"), ("LSTM", "forward"), ("GRU", "train"))
TEXT = """## On a GPU

Milliseconds on one {gpu}, whose square float32 products reach {rate:.0f} TFLOP/s. Shapes, training and
forward passes as above, all rows of full length. Float32 products may use TF32, which is the default of all
four. cudnn is `jax.experimental.rnn`. {machine}. Remake: `python -m benchmarks.gpu`.

"""


def cases():
    """Yields (label, case) of all rows."""
    for kind, mode in KINDS:
        for network in ("uni", "bi") if (kind, mode) == ("LSTM", "train") else ("uni",):
            for name, shape in SHAPES.items():
                yield f"{kind}, {mode}, {network} {name}", a_case(shape, network, kind, mode)


def built(case):
    """Returns a worker for each engine that has such a layer, ready to run it."""
    workers = {
        engine: Worker(engine, LIMIT) for engine in ENGINES if engine != "cudnn" or case["cell"] == "LSTM"
    }
    return {name: worker for name, worker in workers.items() if "error" not in worker.ask(json.dumps(case))}


def milliseconds(workers):
    """Returns each engine's median time."""
    times = {engine: [] for engine in workers}
    for _ in range(ROUNDS):
        for engine, worker in workers.items():
            worker.ask("run")
            times[engine].append(1000 * worker.ask("run"))
    return {engine: statistics.median(row) for engine, row in times.items()}


def table(measured):
    """Returns the table of (label, milliseconds) rows."""
    lines = [f"| | {' | '.join(ENGINES)} | best peer over ours |", "|---" * (len(ENGINES) + 2) + "|"]
    for label, times in measured:
        peers = [times[engine] for engine in ENGINES[1:] if engine in times]
        ratio = min(peers) / times["ours"] if peers and "ours" in times else None
        cells = " | ".join(cell(times.get(engine), "{:.2f}") for engine in ENGINES)
        lines.append(f"| {label} | {cells} | **{cell(ratio, '{:.2f}')}** |")
    return "\n".join(lines)


def product_rate():
    """Returns the TFLOP/s of a large product."""
    worker = Worker("ours", LIMIT)
    flop = worker.ask(json.dumps({"mode": "product", "H": 8192}))["flop"]
    rate = flop / min(worker.ask("run") for _ in range(5)) / 1e12
    worker.process.kill()
    return rate


def main():
    """Measures all rows and writes the section."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # many processes share the GPU's memory
    if jax.default_backend() != "gpu":
        raise SystemExit(f"this needs a GPU, and JAX built for it; JAX has: {jax.devices()}")
    rows = list(cases())
    with ThreadPoolExecutor(cores()) as pool:
        ready = list(pool.map(built, [case for _, case in rows]))
    measured = []
    for (label, _), workers in zip(rows, ready, strict=True):
        measured.append((label, milliseconds(workers)))
        print(*measured[-1], flush=True)
        for worker in workers.values():
            worker.process.kill()
    rate, gpu = product_rate(), jax.devices()[0].device_kind
    text = TEXT.format(gpu=gpu, rate=rate, machine=machine())
    write_section("gpu", text + table(measured))


if __name__ == "__main__":
    main()
