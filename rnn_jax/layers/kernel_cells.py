"""The cells that there are native kernels for, and what a kernel's caller must know beyond a `FusedStep`."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from rnn_jax.layers.recurrence import GRU, LSTM, SIMPLE, FusedStep, split_gates
from rnn_jax.trees import Tree


class KernelCell(NamedTuple):
    """A cell that the kernels run.

    Attributes:
      step: what it computes. The kernels get the weights as the fused backend does, scaled by `step.scales`.
      memory: whether the carry is LSTMCarry(c, h), and not h alone.
      kept: the number of arrays [H] that a kernel keeps of a step for the backward pass.
      activations: (kept [..., kept * H], h [..., H]) -> the activations of `step`, from what was kept.
    """

    step: FusedStep
    memory: bool
    kept: int
    activations: Callable[[jax.Array, jax.Array], Tree]


# The place of a cell is its number in C++: `Kind` in rnn_jax/native/recurrence.h, with `kept_of`.
KERNEL_CELLS = (
    KernelCell(SIMPLE, memory=False, kept=0, activations=lambda kept, h: h),
    KernelCell(LSTM, memory=True, kept=4, activations=lambda kept, h: kept),
    KernelCell(GRU, memory=False, kept=4, activations=lambda kept, h: tuple(split_gates(kept, 4))),
)
CELLS = tuple(cell.step for cell in KERNEL_CELLS)
