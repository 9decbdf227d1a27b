"""What a dense gradient and dense Adam moments of the embedding cost: a train step at several vocabularies.

Run `python -m benchmarks.embedding`. "frozen" is the same step with no gradient and no update of the table:
the difference is what row-sparse updates could save at most.
"""

import functools
import statistics
import time

import jax
import numpy as np
import optax

from benchmarks.report import machine, write_section
from configs import bilstm
from rnn_jax.batches import Batch
from rnn_jax.models import build_classifier
from rnn_jax.parallel import batch_mesh, on_every_device
from rnn_jax.training import init_state, make_train_step

BATCH, TIME, ROUNDS = 32, 256, 15


def a_batch(vocab_size):
    """Returns a batch of words as frequent as words are: the r-th in proportion to 1/r."""
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, vocab_size)
    token_ids = 1 + random.choice(vocab_size - 1, (BATCH, TIME), p=shares / shares.sum()).astype(np.int32)
    rows = np.arange(BATCH, dtype=np.int32)
    return Batch(token_ids, np.full(BATCH, TIME, np.int32), rows % 2, np.ones(BATCH, np.float32), rows)


def build(vocab_size, embedding_dim, frozen):
    """Returns a function that runs one more train step of configs/bilstm.py at this size."""
    settings = bilstm.get_config().model.to_dict() | {"embedding_dim": embedding_dim}
    model = build_classifier(vocab_size, 2, **settings)
    optimizer, mesh = optax.adam(1e-3), batch_mesh()

    def apply_fn(variables, *arguments, **options):
        params = variables["params"]
        if frozen:
            params = params | {"embedding": jax.lax.stop_gradient(params["embedding"])}
        return model.apply({"params": params}, *arguments, **options)

    state = init_state(model, optimizer, jax.random.key(0))
    if frozen:
        labels = {name: "frozen" if name == "embedding" else "trained" for name in state.params}
        optimizer = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optimizer}, labels)
        state = state._replace(opt_state=optimizer.init(state.params))
    holder = [on_every_device(state, mesh)]
    train_step = make_train_step(apply_fn, optimizer, jax.random.key(1), mesh)

    def run(batch):
        holder[0], metrics = train_step(holder[0], batch)
        jax.block_until_ready(metrics)

    return run


def medians(functions, batch):
    """Returns the median milliseconds of each, called in turn."""
    times = [[] for _ in functions]
    for turn in range(ROUNDS + 2):
        for function, row in zip(functions, times, strict=True):
            began = time.perf_counter()
            function(batch)
            if turn > 1:
                row.append(1000 * (time.perf_counter() - began))
    return [statistics.median(row) for row in times]


def main():
    """Prints the table and writes it to the page."""
    lines = [
        "| words | width | dense Adam, ms | table frozen, ms | share of the step |",
        "|---|---|---|---|---|",
    ]
    for embedding_dim in (32, 100):
        for vocab_size in (10_000, 50_000, 200_000):
            make = functools.partial(build, vocab_size, embedding_dim)
            dense, frozen = medians([make(False), make(True)], a_batch(vocab_size))
            times = f"{dense:.1f} | {frozen:.1f} | {1 - frozen / dense:.0%}"
            line = f"| {vocab_size:,} | {embedding_dim} | {times} |"
            print(line, flush=True)
            lines.append(line)
    table = "\n".join(lines)
    text = (
        "The embedding's gradient and Adam moments are dense. A train step of `configs/bilstm.py`, "
        f"32 reviews of 256 words:\n\n{table}\n\n{machine()}. Remake: `python -m benchmarks.embedding`."
    )
    write_section("embedding", text)


if __name__ == "__main__":
    main()
