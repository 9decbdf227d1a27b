"""A training run that is killed, and what it has to have in common with one that was not."""

import json

import jax
import numpy as np
import pytest

import train_loop
from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.training.trainer import Trainer


class Killed(Exception):
    pass


def train_until_killed(config, workdir, parts):
    """Trains on to the evaluation that comes after so many others, which are saved."""
    train_until, calls = Trainer.train_until, []

    def killed_later(*arguments):
        calls.append(arguments)
        if len(calls) > parts:
            raise Killed
        return train_until(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_until", killed_later)
        with pytest.raises(Killed):
            train_loop.train_and_evaluate(config, workdir)


def lines_of(workdir, split):
    """Returns the lines of the metrics of a split."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


def assert_same_run(first, second, step):
    """The last checkpoints and all losses are equal to the last bit."""
    stored = []
    for workdir in (first, second):
        with Checkpoints(workdir) as checkpoints:
            assert checkpoints.latest == step
            progress = checkpoints.restore_item(step, "progress")
            stored.append({"params": checkpoints.restore_params(step), "progress": progress})
    leaves = [jax.tree_util.tree_leaves_with_path(tree) for tree in stored]
    assert len(leaves[0]) == len(leaves[1]) > 10
    for (path, ours), (_, theirs) in zip(*leaves, strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes(), jax.tree_util.keystr(path)
    for split in ("train", "validation"):
        losses = [[(line["step"], line["loss"]) for line in lines_of(run, split)] for run in (first, second)]
        assert losses[0] == losses[1]
