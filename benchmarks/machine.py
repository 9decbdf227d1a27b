"""Every backend of ours on this machine: time, memory and compilation, and what "auto" takes.

Run `python -m benchmarks.machine` (ten minutes on two cores). It measures one layer at many shapes and keeps
what it measured in docs/backends.json, a record a shape. So it can be stopped and started, also in slices:
`--seconds 100`. What was measured on this machine is not measured again, unless `--fresh`. Then it writes a
section of docs/performance.md and docs/backends.png, of all machines in the file.

The backends take turns, in one process with one device. A time is the least of several samples: whatever else
runs on a machine only adds to it. `--again` adds a run where "auto" does not take the fastest, and the median
of the runs counts: where an array happens to lie in memory changes a short time by a tenth.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.machine_page import draw, loss, page
from benchmarks.records import Records
from benchmarks.recurrence import a_case
from benchmarks.report import processor, write_section
from rnn_jax import RNN, GRUCell, LSTMCell
from rnn_jax.distributed.host import cores, restart
from rnn_jax.errors import InputError
from rnn_jax.layers.backends import BACKENDS

RECORDS = Path("docs/backends.json")
UNITS, BATCHES, STEPS, INPUTS = (16, 32, 64, 128, 256, 512, 1024), (1, 32, 256), 100, 128
FEW, SOME = (32, 128, 512), (32, 128, 512, 1024)  # units where less is measured
BETWEEN = (4, 8, 16)  # rows
SHORT = ((1, 1), (1, 2), (1, 4), (1, 8), (1, 25), (8, 4), (8, 8), (64, 1), (64, 4), (64, 8))  # rows and steps
CLOSE = 1.03  # what "auto" takes, over the fastest: nearer is not measured again
SAMPLE, SECONDS, LEAST, MOST = 0.02, 0.4, 3, 15  # seconds of a sample; of a backend, about; samples


def cases():
    """Yields the cases: one layer, most of them LSTMs. The short ones continue texts, as a stream does."""
    for batch, steps in SHORT:
        for units in SOME:
            yield a_case((batch, steps, INPUTS, units), mode="forward")
        if steps > 1:
            yield a_case((batch, steps, INPUTS, 128))
    for mode in ("forward", "train"):
        for units in FEW:
            yield a_case((32, STEPS, INPUTS, units), cell="GRU", mode=mode)
            yield a_case((32, STEPS, INPUTS, units), mode=mode, dtype="bfloat16")
        for batch in BETWEEN:
            for units in SOME:
                yield a_case((batch, STEPS, INPUTS, units), mode=mode)
        for batch in BATCHES:
            for units in UNITS:
                yield a_case((batch, STEPS, INPUTS, units), mode=mode)


def name_of(machine, case):
    """Returns the name of a record: the machine, and what the layer is."""
    sizes = f"{case['B']} rows, {case['T']} steps, {case['H']} units"
    return f"{machine}: {case['cell']}, {case['mode']}, {case['dtype']}, {sizes}"


def machine():
    """Returns what records of one machine have in common."""
    device = jax.devices()[0]
    return f"{processor()}, {cores()} cores" if device.platform == "cpu" else device.device_kind


def layer_of(case, backend):
    """Returns the layer of a case."""
    cell = {"LSTM": LSTMCell, "GRU": GRUCell}[case["cell"]]
    return RNN(cell(case["H"], dtype=jnp.dtype(case["dtype"])), backend=backend)


def applies(case, backend):
    """Returns whether a backend runs the layer on this machine."""
    try:
        jax.eval_shape(layer_of(case, backend).init, jax.random.key(0), jnp.ones((1, 1, case["E"])))
    except InputError:
        return False
    return True


def built(case, backend):
    """Returns a function that runs a layer's compiled program, and what building it took."""
    layer = layer_of(case, backend)
    x = jax.random.normal(jax.random.key(0), (case["B"], case["T"], case["E"]))
    params = layer.init(jax.random.key(1), x[:1, :2])
    carry = layer.cell.initialize_carry(jax.random.key(0), (case["B"], case["E"]))

    def forward(params, carry, x):
        return layer.apply(params, x, None, carry)

    def loss(params, carry, x):
        return jnp.square(layer.final_hidden(forward(params, carry, x)[0])).mean()

    began = time.perf_counter()
    program = jax.jit({"forward": forward, "train": jax.grad(loss)}[case["mode"]])
    compiled = program.lower(params, carry, x).compile()
    seconds = time.perf_counter() - began
    peak = compiled.memory_analysis().temp_size_in_bytes

    def run():
        return jax.block_until_ready(compiled(params, carry, x))

    return run, {"compile": round(seconds, 3), "bytes": peak}


def timed(run, calls):
    """Returns the seconds of a call."""
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - began) / calls


def measure(case, backends):
    """Returns for each backend the milliseconds of a call, and what building the program took."""
    programs = {backend: built(case, backend) for backend in backends}
    calls, samples = {}, {backend: [] for backend in backends}
    for backend, (run, _) in programs.items():
        run()
        calls[backend] = max(1, round(SAMPLE / timed(run, 2)))
    for _ in range(MOST):
        for backend, (run, _) in programs.items():
            spent = calls[backend] * sum(samples[backend])
            if spent < SECONDS or len(samples[backend]) < LEAST:
                samples[backend].append(timed(run, calls[backend]))
    least = {backend: float(f"{1000 * min(times):.4g}") for backend, times in samples.items()}
    return {
        backend: {"ms": least[backend], "runs": [least[backend]], **took}
        for backend, (_, took) in programs.items()
    }


def more(case, backends, before):
    """Returns the same from one more run: times are medians of all runs, each with programs of its own."""
    now = measure(case, backends)
    for name in backends:
        now[name]["runs"] += before[name]["runs"]
        now[name]["ms"] = round(statistics.median(now[name]["runs"]), 5)
    return now


def product_rate(sizes=(512, 1024, 2048)):
    """Returns the best GFLOP/s of square float32 products."""
    best = 0.0
    for size in (*sizes, 8192) if jax.default_backend() == "gpu" else sizes:
        a, multiply = jnp.ones((size, size)), jax.jit(jnp.matmul)
        run = lambda a=a, multiply=multiply: multiply(a, a).block_until_ready()  # noqa: E731
        run()
        best = max(best, 2 * size**3 / min(timed(run, 1) for _ in range(15)) / 1e9)
    return {"gflops": round(best)}


def keep(records, here, case, again):
    """Measures a case where there is no record of it, or `again` where "auto" does not take the fastest."""
    backends = [backend for backend in BACKENDS if applies(case, backend)]
    settings, name = case | {"backends": backends}, name_of(here, case)
    run = partial(measure, case, backends)
    if records.has(name, settings):
        if not again or loss(records.lines[name]) < CLOSE:
            return
        run = partial(more, case, backends, records.lines.pop(name))
    measured = records.measure(name, settings, run)
    print(name, {backend: measured[backend]["ms"] for backend in backends}, flush=True)


def main():
    """Measures what is missing, and writes the section and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop measuring after this time")
    parser.add_argument("--fresh", action="store_true", help="measure this machine again")
    parser.add_argument("--again", action="store_true", help='measure more where "auto" is not the fastest')
    options = parser.parse_args()
    restart(1, INPUTS)
    records, here, began = Records(RECORDS), machine(), time.monotonic()
    if options.fresh:
        records.lines = {name: line for name, line in records.lines.items() if not name.startswith(here)}
    records.measure(f"{here}: products", {"mode": "product"}, product_rate)
    for case in cases():
        if time.monotonic() - began > options.seconds:
            print("to be continued: run it again")
            break
        keep(records, here, case, options.again)
    write_section("backends", page(records.lines))
    draw(records.lines)


if __name__ == "__main__":
    main()
