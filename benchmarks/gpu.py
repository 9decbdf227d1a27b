"""Recurrent layers on a GPU against torch, Flax and JAX's call of cuDNN: a section of docs/performance.md.

Run `python -m benchmarks.gpu` on a machine with an NVIDIA GPU, and with jax and torch for it (a few minutes).
Each layer of each engine is built in a process of its own, many at a time; then one runs at a time, in turn.
A time is from the call until the result is there: medians, each after a run that is not timed.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import jax

from benchmarks.performance import cell
from benchmarks.recurrence import SHAPES, Worker, a_case, in_turn, product_rate
from benchmarks.report import machine, write_section
from rnn_jax.distributed.host import cores

ENGINES = ("ours", "flax", "torch", "cudnn")
LIMIT, ROUNDS = 180, 15  # seconds to build a layer beside others; runs of each
KINDS = (("LSTM", "train"), ("LSTM", "forward"), ("GRU", "train"))
TEXT = """## On a GPU

Make this table again: `python -m benchmarks.gpu`. It has milliseconds on one {gpu}, whose square float32
products reach {rate:.0f} TFLOP/s. Shapes, training and forward passes are as above; all rows have full
length. Float32 products may use TF32, which is the default of all four libraries. "cudnn" is
`jax.experimental.rnn`. {machine}.

"""


def cases():
    """Yields (label, case) of all rows."""
    for kind, mode in KINDS:
        for network in ("uni", "bi") if (kind, mode) == ("LSTM", "train") else ("uni",):
            for name, shape in SHAPES.items():
                yield f"{kind}, {mode}, {network} {name}", a_case(shape, network, kind, mode)


def built(case):
    """Returns a worker for each engine that has such a layer, ready to run it."""
    workers = {}
    for engine in ENGINES:
        worker = Worker(engine, LIMIT)
        if "error" not in worker.ask(json.dumps(case)):
            workers[engine] = worker
        elif worker.process:
            worker.process.kill()
    return workers


def table(measured):
    """Returns the table of (label, milliseconds) rows."""
    lines = [f"| | {' | '.join(ENGINES)} | best peer over ours |", "|---" * (len(ENGINES) + 2) + "|"]
    for label, times in measured:
        peers = [times[engine] for engine in ENGINES[1:] if engine in times]
        ratio = min(peers) / times["ours"] if peers and "ours" in times else None
        cells = " | ".join(cell(times.get(engine), "{:.2f}") for engine in ENGINES)
        lines.append(f"| {label} | {cells} | **{cell(ratio, '{:.2f}')}** |")
    return "\n".join(lines)


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
        measured.append((label, in_turn(workers, ROUNDS)))
        print(*measured[-1], flush=True)
        for worker in workers.values():
            worker.process.kill()
    worker = Worker("ours", LIMIT)
    rate = product_rate(worker, (8192,)) / 1000
    worker.process.kill()
    text = TEXT.format(gpu=jax.devices()[0].device_kind, rate=rate, machine=machine())
    write_section("gpu", text + table(measured))


if __name__ == "__main__":
    main()
