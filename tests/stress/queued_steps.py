"""A training loop over several CPU devices that reads no result, and prints the loss of the last step.

`python -m tests.stress.queued_steps DEVICES UNITS STEPS [free]`: "free" calls the step without its bound.
"""

import os
import sys
from typing import Any

from tests.helpers.devices import flags_for


def main() -> None:
    """Trains a classifier of made-up texts on two cores, whatever the machine has."""
    devices, units, steps, free = *map(int, sys.argv[1:4]), "free" in sys.argv
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["XLA_FLAGS"] = flags_for(devices)
    import jax
    import numpy as np
    import optax

    from rnn_jax import RNN, LSTMCell, TextClassifier
    from rnn_jax.data import Batches
    from rnn_jax.distributed import batch_mesh, on_every_device
    from rnn_jax.models import make_classifier_loss
    from rnn_jax.training import init_params, init_state, make_train_step

    random, mesh = np.random.default_rng(0), batch_mesh(devices)
    texts = list(random.integers(2, 50, (64, 32)))
    batches = Batches(texts, np.arange(64) % 2, buckets=(32,), batch_size=32)
    model = TextClassifier(vocab_size=50, embedding_dim=units, num_classes=2, encoder=RNN(LSTMCell(units)))
    optimizer, key = optax.adam(0.01), jax.random.key(0)
    apply_fn: Any = model.apply
    train_step: Any = make_train_step(make_classifier_loss(apply_fn), optimizer, mesh)
    state = on_every_device(init_state(init_params(model, key), optimizer), mesh)
    step = train_step._function if free else train_step
    batch = batches(0, 0)  # one for all steps, so that the loop runs ahead as far as it may
    for _ in range(steps):
        state, metrics = step(state, batch, key)
    print(metrics.summary()["loss"])


if __name__ == "__main__":
    main()
