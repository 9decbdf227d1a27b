"""Where to project the inputs: inside the loop, hoisted before it, or Flax's nn.RNN, which projects inside.

Run `python -m benchmarks.projection`. Times are medians of interleaved runs, so read the ratios.
"""

import statistics
import time

import flax.linen as nn
import jax

from rnn_jax import RNN, GRUCell, LSTMCell
from rnn_jax.layers.recurrence import project_inputs

SHAPES = {"S": (32, 500, 32, 32), "M": (64, 256, 100, 128), "wide": (32, 200, 512, 32)}  # B, T, E, H
CELLS = {"LSTM": (LSTMCell, nn.OptimizedLSTMCell), "GRU": (GRUCell, nn.GRUCell)}
ROUNDS = 9


def hoisted(cell, params, x_BTE):
    """Returns outputs [B, T, H] of a scan over inputs that are projected beforehand."""
    weights = cell.apply({"params": params["cell"]}, x_BTE.shape[-1], method="weights")
    carry = cell.initialize_carry(jax.random.key(0), x_BTE[:, 0].shape)
    z_TBG = project_inputs(weights, x_BTE.swapaxes(0, 1))
    return jax.lax.scan(lambda carry, z_BG: cell.step(weights, carry, z_BG), carry, z_TBG)[1].swapaxes(0, 1)


def medians(functions, *arguments):
    """Returns the median milliseconds of each function, called in turn after one call that compiles."""
    for function in functions:
        jax.block_until_ready(function(*arguments))
    times = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, row in zip(functions, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            row.append(1000 * (time.perf_counter() - start))
    return [statistics.median(row) for row in times]


def compare(name, shape):
    """Yields (direction, milliseconds of the three) for one cell at one shape."""
    batch, steps, size, units = shape
    ours, flax_cell = CELLS[name]
    x_BTE = jax.random.normal(jax.random.key(0), (batch, steps, size))
    inside, flax_rnn = RNN(ours(units)), nn.RNN(flax_cell(units))
    params = inside.init(jax.random.key(1), x_BTE)["params"]
    forwards = [
        lambda params, x: inside.apply({"params": params}, x)[1],
        lambda params, x: hoisted(ours(units), params, x),
        lambda params, x: flax_rnn.apply({"params": params}, x),
    ]

    def training(forward):
        return jax.value_and_grad(lambda params, x: (forward(params, x) ** 2).mean())

    yield "forward", medians([jax.jit(forward) for forward in forwards], params, x_BTE)
    yield "train", medians([jax.jit(training(forward)) for forward in forwards], params, x_BTE)


if __name__ == "__main__":
    print("| shape | cell | | inside, ms | hoisted, ms | Flax, ms | hoisted / inside | Flax / inside |")
    print("|---|---|---|---|---|---|---|---|")
    for label, shape in SHAPES.items():
        for name in CELLS:
            for direction, (inside, before, flax) in compare(name, shape):
                times = (
                    f"{inside:.1f} | {before:.1f} | {flax:.1f} | {before / inside:.2f} | {flax / inside:.2f}"
                )
                print(f"| {label} | {name} | {direction} | {times} |", flush=True)
