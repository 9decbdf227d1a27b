"""One network on many devices and in several processes."""

from rnn_jax.distributed.data_parallel import batch_mesh, on_every_device, sum_over_batch
from rnn_jax.distributed.pacing import paced
from rnn_jax.distributed.preemption import Interrupted, Interruption
from rnn_jax.distributed.processes import Membership, PeerLostError, joined, membership

__all__ = [
    "Interrupted",
    "Interruption",
    "Membership",
    "PeerLostError",
    "batch_mesh",
    "joined",
    "membership",
    "on_every_device",
    "paced",
    "sum_over_batch",
]
