"""One and two processes here, and a model of more: how long a step takes, and how much is the reduction.

Run `python -m benchmarks.scaling`; it writes the tables of docs/scaling.md. The layouts take turns.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import path_aware_map

from benchmarks.many_devices import BATCH, KINDS, TIME, WIDTH, WORDS, predicted
from benchmarks.report import machine, replace_section
from configs import bilstm
from rnn_jax.data.batches import Batch
from rnn_jax.distributed.data_parallel import (
    batch_mesh,
    joined_rows,
    on_every_device,
    own_rows,
    sum_over_batch,
)
from rnn_jax.distributed.host import DEVICE_COUNT_FLAG, cores
from rnn_jax.distributed.preemption import Interruption
from rnn_jax.distributed.processes import Membership, joined
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.losses import make_classifier_loss
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.steps import init_params, init_state, make_train_step

PAGE = Path("docs", "scaling.md")
WARM_UP, STEPS = 4, 12
LAYOUTS = {"1 process, 2 devices": (1, 2), "2 processes, 1 device each": (2, 1)}
SIZES = (1, 2**14, 2**18, 2**22)  # floats


def build(kind: str, mesh: Any) -> tuple[Callable[..., Any], Any, int]:
    """Returns a train step of configs/bilstm.py, its first state, and the parameters beside the table."""
    model = build_classifier(WORDS, 2, **bilstm.get_config().model.to_dict() | {"embedding_dim": WIDTH})
    params, rate = init_params(model, jax.random.key(0)), optax.constant_schedule(1e-3)
    rows = RowAdam(rate) if kind == "row-sparse" else None
    trained = path_aware_map(lambda path, _: kind != "frozen" or path[0] != "embedding", params)
    optimizer = optax.adam(rate)
    if kind == "frozen":
        optimizer = optax.masked(optimizer, trained)
    state = init_state(params, optimizer)

    def apply_fn(variables, *arguments, **options):
        words = len(variables["params"]["embedding"]["embedding"])
        return model.clone(vocab_size=words).apply(variables, *arguments, **options)

    step = make_train_step(make_classifier_loss(apply_fn), optimizer, mesh, rows, trained)
    state = on_every_device(rows.init(state) if rows else state, mesh)
    return step, state, sum(leaf.size for leaf in jax.tree.leaves(params)) - WORDS * WIDTH


def a_batch(seed: int, size: int) -> Batch:
    """Returns this process's rows of a batch of words as frequent as words are."""
    random, shares = np.random.default_rng(seed), 1 / np.arange(1, WORDS)
    token_ids = 1 + random.choice(WORDS - 1, (size, TIME), p=shares / shares.sum()).astype(np.int32)
    ones = np.ones(size, np.int32)
    batch = Batch(token_ids, TIME * ones, np.arange(size, dtype=np.int32) % 2, ones.astype(np.float32), ones)
    return Batch(*(leaf[own_rows(size)] for leaf in batch))


def timed(function: Callable[[int], Any]) -> list[float]:
    """Returns the median milliseconds of a warm call, and the mean ones of this process's cores."""
    times, spent = [], 0.0
    for turn in range(WARM_UP + STEPS):
        spent = spent if turn > WARM_UP else time.process_time()
        began = time.perf_counter()
        jax.block_until_ready(function(turn))
        times.append(1000 * (time.perf_counter() - began))
    return [statistics.median(times[WARM_UP:]), 1000 * (time.process_time() - spent) / STEPS]


def measure() -> dict[str, Any]:
    """Returns what this process measures, together with the others."""
    mesh, key, found = batch_mesh(), jax.random.key(1), dict[str, Any]()
    for kind, size in [*((kind, BATCH) for kind in KINDS), ("frozen", BATCH // 4)]:
        step, state, found["head"] = build(kind, mesh)
        holder, batches = [state], [joined_rows(a_batch(seed, size), mesh) for seed in range(4)]

        def run(turn, step=step, holder=holder, batches=batches):
            holder[0], metrics = step(holder[0], batches[turn % 4], key)
            return metrics

        found[kind if size == BATCH else "quarter"] = timed(run)
    total = jax.jit(sum_over_batch(lambda rows: (rows.sum(0), ()), mesh))
    for size in SIZES:
        rows = joined_rows(np.ones((len(jax.local_devices()), size), np.float32), mesh)
        found[str(size)] = timed(partial(lambda rows, _: total(rows), rows))
    with Interruption() as interruption:
        began = time.perf_counter()
        for number in range(10_000):
            interruption.due(number)
        found["asked"] = [(time.perf_counter() - began) * 100, 0.0]
    return found


def measured(processes: int, devices: int) -> dict[str, Any]:
    """Returns what process 0 of so many measured, the time of cores added up over all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": f"{DEVICE_COUNT_FLAG}={devices}"}
    command = [sys.executable, "-m", "benchmarks.scaling", "--member"]
    members = [
        subprocess.Popen(
            [*command, str(port), str(processes), str(index)], env=environment, stdout=subprocess.PIPE
        )
        for index in range(processes)
    ]
    said = [member.communicate()[0] for member in members]
    assert not any(member.returncode for member in members)
    found = [json.loads(one.decode().splitlines()[-1]) for one in said]
    both = {
        name: [found[0][name][0], sum(one[name][1] for one in found)] for name in found[0] if name != "head"
    }
    return {"head": found[0]["head"], **both}


def best(rounds: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Returns by name the least milliseconds of the rounds, and the least of cores."""
    names = [name for name in rounds[0] if name != "head"]
    return {name: [min(pair) for pair in zip(*(one[name] for one in rounds), strict=True)] for name in names}


def here(found: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the table of what was measured: the best round of each layout."""
    first, second = (best(rounds) for rounds in found.values())
    rows = [(f"a step, {kind}: {what} reduced", kind) for kind, what in KINDS.items()]
    rows += [(f"a step, frozen, {BATCH // 4} texts", "quarter")]
    rows += [(f"a reduction of {4 * size:,} bytes", str(size)) for size in SIZES]
    lines = [
        f"| {label} | {first[key][0]:.2f} | {second[key][0]:.2f} | {second[key][0] / first[key][0]:.2f} "
        f"| {first[key][1]:.2f} | {second[key][1]:.2f} | {second[key][1] / first[key][1]:.2f} |"
        for label, key in rows
    ]
    names = " | ".join(found)
    head = f"| milliseconds | {names} | ratio | of cores: {names} | ratio |\n|---|---|---|---|---|---|---|\n"
    asked = f"{first['asked'][0]:.2f} and {second['asked'][0]:.2f} µs a step"
    rounds = len(next(iter(found.values())))
    note = f"Asking whether to end: {asked}. {rounds} rounds; cores to run on: {cores()}. {machine()}."
    return f"{head}{chr(10).join(lines)}\n\n{note}"


def main() -> None:
    """Measures every layout and writes the tables, or is one of the processes that measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--member", nargs=3, type=int, metavar=("PORT", "PROCESSES", "PROCESS"))
    options = parser.parse_args()
    if options.member:
        port, count, index = options.member
        with joined(Membership(f"127.0.0.1:{port}", count, index) if count > 1 else None):
            print(json.dumps(measure()), flush=True)
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LAYOUTS}
    for _ in range(options.rounds):
        for name, layout in LAYOUTS.items():
            found[name].append(measured(*layout))
            print(name, found[name][-1], flush=True)
    page = replace_section(PAGE.read_text(), "measured", here(found))
    PAGE.write_text(replace_section(page, "model", predicted(found[next(iter(found))][0]["head"])))


if __name__ == "__main__":
    main()
