"""Recurrent layers against torch, Flax and Keras: training and forward times, memory, compilation.

Run `python -m benchmarks.recurrence` (an hour; with `--quick` five minutes); needs the extra `bench`. Every
engine has a process of its own and only one runs at a time, in turn, so that all see the same machine; times
are medians. A turn begins with a run that is not timed: after another process ran, memory is cold and a run
takes up to half as long again, and a program that trains runs step after step. What was measured is kept in
runs/benchmarks and not measured again; `--fresh` starts over.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.performance import draw_curves, performance_page
from benchmarks.report import write_section
from rnn_jax.distributed.host import DEVICE_COUNT_FLAG, cores, environment
from rnn_jax.native import SWITCH

STORE = Path("runs/benchmarks/recurrence.json")
ENGINES = ("ours", "ours, 1 device", "ours, fused", "torch", "flax", "flax, split", "keras")
SHAPES = {
    "S": (32, 500, 32, 32),
    "M": (64, 256, 100, 128),
    "X": (128, 400, 128, 256),
    "L": (64, 128, 256, 512),
}
NETWORKS = {"uni": (1, False), "bi": (1, True), "3 stacked": (3, False)}
ROUNDS, SECONDS, LIMIT = 7, 1.5, 40  # at most; of runs of one engine, about; to build one, at most


def a_case(shape, network="uni", cell="LSTM", mode="train", dtype="float32", remat=None):
    """Returns one line of work: all that decides a program."""
    layers, bidirectional = NETWORKS.get(network, (network, False))
    return {
        **dict(zip("BTEH", shape, strict=True)),
        "layers": layers,
        "bidirectional": bidirectional,
        "cell": cell,
        "mode": mode,
        "dtype": dtype,
        "remat": remat,
    }


def cases(quick):
    """Yields (case, engines), the most wanted first."""
    shapes, networks = SHAPES, ("uni",) if quick else NETWORKS
    for network in networks:
        for shape in shapes.values():
            yield a_case(shape, network), ENGINES
    for name in "MXL":
        for network in networks if quick else ("uni", "bi"):
            yield a_case(SHAPES[name], network, dtype="bfloat16"), ("ours", "ours, 1 device", "torch")
    if quick:
        yield from ((a_case(shape, mode="forward"), ENGINES) for shape in shapes.values())
        return
    for name in "SMXL":
        yield a_case(SHAPES[name], remat=True), ENGINES[:2]
    for network in networks:
        for shape in shapes.values():
            yield a_case(shape, network, mode="forward"), ENGINES
    for name in "SMLX":
        yield a_case(SHAPES[name], "uni", "GRU"), ENGINES
    yield from ((case, ("ours", "torch", "flax, split")) for case in curve_cases())
    for mode, network in (("train", "bi"), ("forward", "uni"), ("forward", "bi"), ("train", "3 stacked")):
        for name in "SML":
            yield a_case(SHAPES[name], network, "GRU", mode), ENGINES


def curve_cases():
    """Yields the cases of the curves: M's widths, one size changed at a time."""
    for steps in (64, 256, 1024, 4096):
        yield a_case((16, steps, 100, 128))
    for batch in (4, 32, 128, 256):
        yield a_case((batch, 256, 100, 128))
    for hidden in (32, 64, 256, 512):
        yield a_case((16, 256, 100, hidden))
    for layers in (2, 4):
        yield a_case((16, 256, 100, 128), layers)


class Worker:
    """A process that runs one engine; started when first asked, killed when it takes too long."""

    def __init__(self, engine, limit=LIMIT):
        variables = {
            "ours": environment(),
            "ours, 1 device": environment(1),
            "ours, persistent": environment(),
        }
        variables["ours, fused"] = environment() | {SWITCH: "0"}  # without the native kernels
        split = {"XLA_FLAGS": f"{DEVICE_COUNT_FLAG}={cores()}"}
        self.engine, self.limit, self.process = engine, limit, None
        self.environment = os.environ | variables.get(engine, split if engine == "flax, split" else {})

    def ask(self, line):
        """Returns the answer to a line, or an error after the limit."""
        if self.process is None:
            command = [sys.executable, "-m", "benchmarks.engines", self.engine]
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.limit)
        answer = self.process.stdout.readline() if ready else ""
        if answer:
            return json.loads(answer)
        self.process.kill()
        self.process = None
        return {"error": f"took more than {self.limit} s" if not ready else "the process ended"}


def measure(workers, case, rounds):
    """Returns, for each engine, its median milliseconds and what building it took, or its error."""
    results = {engine: worker.ask(json.dumps(case)) for engine, worker in workers.items()}
    built = {engine: workers[engine] for engine, result in results.items() if "error" not in result}
    for engine, milliseconds in in_turn(built, rounds).items():
        results[engine]["ms"] = milliseconds
    return results


def in_turn(workers, rounds):
    """Returns each engine's median milliseconds; they have been built and run one after another."""
    times = {engine: [] for engine in workers}
    for _ in range(rounds):
        for engine, row in times.items():
            if sum(row) < SECONDS or len(row) < 3:
                workers[engine].ask("run")
                answer = workers[engine].ask("run")
                if isinstance(answer, float):
                    row.append(answer)
    return {engine: 1000 * statistics.median(row) for engine, row in times.items()}


def product_rate(worker, sizes=(512, 1024, 2048)):
    """Returns the best GFLOP/s of square float32 products on all devices."""
    best = 0.0
    for size in sizes:
        flop = worker.ask(json.dumps({"mode": "product", "H": size}))["flop"]
        best = max(best, flop / min(worker.ask("run") for _ in range(5)) / 1e9)
    return best


def main():
    """Measures what is missing and rewrites the page after each case, unless --quick."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few cases, printed and not kept")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    options = parser.parse_args()
    workers = {engine: Worker(engine) for engine in ENGINES}
    stored = json.loads(STORE.read_text()) if STORE.exists() and not (options.fresh or options.quick) else {}
    stored.setdefault("rate", product_rate(workers["ours"]))
    for case, engines in cases(options.quick):
        key = json.dumps(case)
        if key in stored:
            continue
        chosen = {engine: workers[engine] for engine in engines}
        stored[key] = measure(chosen, case, 3 if options.quick else ROUNDS)
        times = {engine: round(result.get("ms", -1), 1) for engine, result in stored[key].items()}
        print({name: value for name, value in case.items() if value is not None}, times, flush=True)
        if not options.quick:
            STORE.parent.mkdir(parents=True, exist_ok=True)
            STORE.write_text(json.dumps(stored))
            write_section("recurrence", performance_page(stored, SHAPES, NETWORKS, a_case))
    page = performance_page(stored, SHAPES, NETWORKS, a_case)
    if options.quick:
        print(page)
    else:
        write_section("recurrence", page)
        draw_curves(stored, a_case)


if __name__ == "__main__":
    main()
