"""What a dense gradient and dense Adam moments of the embedding cost, and row-sparse updates instead.

Run `python -m benchmarks.embedding`. With 1,000 words the table costs next to nothing: the step's own time.
"""

import functools
import statistics
import time

import jax
import numpy as np
import optax

from benchmarks.report import machine, write_section
from configs import bilstm
from rnn_jax.data.batches import Batch
from rnn_jax.distributed.data_parallel import batch_mesh, on_every_device
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.losses import make_classifier_loss
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.steps import init_params, init_state, make_train_step

BATCH, TIME, WARM_UP, ROUNDS = 32, 256, 150, 50


def a_batch(vocab_size, seed):
    """Returns a batch of words as frequent as words are: the r-th in proportion to 1/r."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocab_size)
    token_ids = 1 + random.choice(vocab_size - 1, (BATCH, TIME), p=shares / shares.sum()).astype(np.int32)
    rows = np.arange(BATCH, dtype=np.int32)
    return Batch(token_ids, np.full(BATCH, TIME, np.int32), rows % 2, np.ones(BATCH, np.float32), rows)


def build(vocab_size, embedding_dim, row_sparse):
    """Returns a function that runs one more train step of configs/bilstm.py at this size."""
    settings = bilstm.get_config().model.to_dict() | {"embedding_dim": embedding_dim}
    model = build_classifier(vocab_size, 2, **settings)
    rate, mesh = optax.constant_schedule(1e-3), batch_mesh()
    optimizer, rows = optax.adam(rate), RowAdam(rate) if row_sparse else None
    state = init_state(init_params(model, jax.random.key(0)), optimizer)
    holder = [on_every_device(rows.init(state) if rows else state, mesh)]

    def apply_fn(variables, *arguments, **options):
        words = len(variables["params"]["embedding"]["embedding"])
        return model.clone(vocab_size=words).apply(variables, *arguments, **options)

    train_step, key = (
        make_train_step(make_classifier_loss(apply_fn), optimizer, mesh, rows),
        jax.random.key(1),
    )

    def run(batch):
        holder[0], metrics = train_step(holder[0], batch, key)
        jax.block_until_ready(metrics)

    return run


def medians(functions, vocab_size):
    """Returns the median milliseconds of each, called in turn, once rows lag as far as they will."""
    times = [[] for _ in functions]
    for turn in range(WARM_UP + ROUNDS):
        batch = a_batch(vocab_size, turn)
        for function, row in zip(functions, times, strict=True):
            began = time.perf_counter()
            function(batch)
            if turn >= WARM_UP:
                row.append(1000 * (time.perf_counter() - began))
    return [statistics.median(row) for row in times]


def main():
    """Prints the table and writes it to the page."""
    lines = ["| words | width | dense Adam, ms | row-sparse, ms | dense over row-sparse |", "|---" * 5 + "|"]
    for embedding_dim in (32, 100):
        for vocab_size in (1000, 10_000, 50_000, 200_000):
            make = functools.partial(build, vocab_size, embedding_dim)
            dense, sparse = medians([make(False), make(True)], vocab_size)
            line = f"| {vocab_size:,} | {embedding_dim} | {dense:.1f} | {sparse:.1f} | {dense / sparse:.2f} |"
            print(line, flush=True)
            lines.append(line)
    table = "\n".join(lines)
    text = (
        "Dense Adam reads and writes the whole embedding at every step; `config.train.row_sparse` a batch's "
        f"rows. A train step of `configs/bilstm.py`, 32 reviews of 256 words:\n\n{table}\n\n{machine()}. "
        "Remake: `python -m benchmarks.embedding`."
    )
    write_section("embedding", text)


if __name__ == "__main__":
    main()
