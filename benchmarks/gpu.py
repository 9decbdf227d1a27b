"""Recurrent layers on a GPU against torch, Flax and JAX's call of cuDNN: a section of docs/performance.md.

Run `python -m benchmarks.gpu` on a machine with an NVIDIA GPU, and with jax and torch for it (about ten
minutes). Each layer of each engine is built in a process of its own, many at a time; then one runs at a
time, in turn. A time is from the call until the result is there: medians, each after a run that is not timed.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import jax

from benchmarks.engines import review_lengths
from benchmarks.performance import cell
from benchmarks.recurrence import SHAPES, Worker, a_case, in_turn, product_rate
from benchmarks.report import machine, write_section
from rnn_jax.distributed.host import cores
from rnn_jax.native import why_missing

ENGINES = ("ours", "ours, persistent", "flax", "torch", "cudnn")
PEERS = ENGINES[2:]
LIMIT, ROUNDS = 180, 15  # seconds to build a layer beside others; runs of each
TEXT = """## On a GPU

Make this table again: `python -m benchmarks.gpu`. It has milliseconds on one {gpu}, whose square float32
products reach {rate:.0f} TFLOP/s. Shapes, training and forward passes are as above. Rows have full length;
where "ragged" is said, lengths are spread as those of IMDB's reviews, up to the shape's: {padding} of the
steps are padding. There torch packs its rows, and the others get lengths. Float32 products may use TF32,
which is the default of all four libraries. "cudnn" is `jax.experimental.rnn`. "ours" is what "auto" takes,
"ours, persistent" is `backend="persistent"`: {persistent}. {machine}.

"""


def cases():
    """Yields (label, case) of all rows."""
    for kind, mode, network, names in (
        ("LSTM", "train", "uni", "SMXL"),
        ("LSTM", "train", "bi", "SMXL"),
        ("LSTM", "train", "3 stacked", "SM"),
        ("LSTM", "forward", "uni", "SMXL"),
        ("LSTM", "forward", "bi", "SM"),
        ("LSTM", "forward", "3 stacked", "SM"),
        ("GRU", "train", "uni", "SMXL"),
        ("GRU", "forward", "uni", "SM"),
    ):
        for name in names:
            case = a_case(SHAPES[name], network, kind, mode)
            yield f"{kind}, {mode}, {network} {name}", case
            if name in "SM":
                yield f"{kind}, {mode}, {network} {name}, ragged", case | {"ragged": True}


def padding(name):
    """Returns the share of padding in the ragged rows of a shape."""
    case = a_case(SHAPES[name]) | {"ragged": True}
    return 1 - review_lengths(case).mean() / case["T"]


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
    titles = [f"best peer over {engine}" for engine in ENGINES[:2]]
    lines = [f"| | {' | '.join([*ENGINES, *titles])} |", "|---" * (len(ENGINES) + 3) + "|"]
    for label, times in measured:
        best = min((times[engine] for engine in PEERS if engine in times), default=None)
        found = [best / times[ours] if best and ours in times else None for ours in ENGINES[:2]]
        ratios = [f"**{cell(ratio, '{:.2f}')}**" for ratio in found]
        cells = [cell(times.get(engine), "{:.2f}") for engine in ENGINES]
        lines.append(f"| {' | '.join([label, *cells, *ratios])} |")
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
    text = TEXT.format(
        gpu=jax.devices()[0].device_kind,
        rate=rate,
        machine=machine(),
        padding=" and ".join(f"{padding(name):.0%} at {name}" for name in "SM"),
        persistent=why_missing("cuda") or "built",
    )
    write_section("gpu", text + table(measured))


if __name__ == "__main__":
    main()
