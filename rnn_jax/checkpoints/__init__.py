"""What a run keeps on disk: its folder and its checkpoints."""

from rnn_jax.checkpoints.checkpoints import Checkpoints, Evaluation, RunState
from rnn_jax.checkpoints.orbax_store import SaveError
from rnn_jax.checkpoints.restore import read_config, restored
from rnn_jax.checkpoints.workdir import fresh_workdir, open_workdir

__all__ = [
    "Checkpoints",
    "Evaluation",
    "RunState",
    "SaveError",
    "fresh_workdir",
    "open_workdir",
    "read_config",
    "restored",
]
