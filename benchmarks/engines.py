"""The engines of benchmarks/recurrence.py, each as a good user of it writes it, each in a process of its own.

Run by it as `python -m benchmarks.engines ENGINE`. It reads a case as one line of JSON, answers with what
building it took, then, for every further line "run", with the seconds of one run.
"""

import json
import os
import sys
import time

from benchmarks import linear_peers


def review_lengths(case):
    """Returns the lengths [B] of the rows of a ragged case, or None where all rows have full length.

    They are spread as those of IMDB's reviews: half have more than 174 words, the mean is 230. T cuts them.
    """
    import numpy as np

    if not case.get("ragged"):
        return None
    words = 174 * np.exp(0.75 * np.random.default_rng(0).normal(size=case["B"]))
    return np.clip(words.astype(np.int32), 1, case["T"])


def build_torch(case):
    """Returns a function without arguments that runs torch.nn.LSTM or GRU, and nothing measured yet."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    place = {"device": "cuda" if torch.cuda.is_available() else "cpu", "dtype": getattr(torch, case["dtype"])}
    make = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[case["cell"]]
    sizes = case["E"], case["H"], case["layers"]
    layer = make(*sizes, batch_first=True, bidirectional=case["bidirectional"], **place)
    x = torch.randn(case["B"], case["T"], case["E"], **place)
    directions = 2 if case["bidirectional"] else 1
    target = torch.randn(case["B"], directions * case["H"], **place)
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    lengths = review_lengths(case)
    rnn = torch.nn.utils.rnn

    def run():
        if lengths is None:
            return layer(x)
        rows = torch.from_numpy(lengths)
        packed, carry = layer(rnn.pack_padded_sequence(x, rows, batch_first=True, enforce_sorted=False))
        return rnn.pad_packed_sequence(packed, batch_first=True)[0], carry

    def forward():
        with torch.inference_mode():
            run()
        wait()

    def train():
        layer.zero_grad()
        carry = run()[1]
        hidden = (carry[0] if isinstance(carry, tuple) else carry)[-directions:]
        ((torch.cat(list(hidden), dim=-1) - target) ** 2).mean().backward()
        wait()

    return {"forward": forward, "train": train}[case["mode"]], {}


def our_model(engine, case):
    """Returns (init, apply) of our layers: apply(params, x, lengths) -> (final hidden state, outputs)."""
    import jax.numpy as jnp

    import rnn_jax

    make = getattr(rnn_jax, f"{case['cell']}Cell")
    backend = "persistent" if engine == "ours, persistent" else "auto"

    def rnn():
        cell = make(case["H"], dtype=jnp.dtype(case["dtype"]))
        return rnn_jax.RNN(cell, remat=case.get("remat"), backend=backend)

    def layer():
        return rnn_jax.Bidirectional(rnn(), rnn()) if case["bidirectional"] else rnn()

    stack = [layer() for _ in range(case["layers"])]
    model = stack[0] if len(stack) == 1 else rnn_jax.Stacked(stack)

    def apply(params, x, lengths=None):
        carry, outputs = model.apply(params, x, lengths)
        return model.final_hidden(carry), outputs

    return model.init, apply


def flax_model(case):
    """Returns (init, apply) of Flax's layers, likewise."""
    import flax.linen as nn
    import jax.numpy as jnp

    make = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell}[case["cell"]]

    class Peer(nn.Module):
        @nn.compact
        def __call__(self, x, lengths=None):
            for _ in range(case["layers"]):
                layer = nn.RNN(make(case["H"]), return_carry=True)
                if case["bidirectional"]:
                    backward = nn.RNN(make(case["H"]), return_carry=True)
                    layer = nn.Bidirectional(layer, backward, return_carry=True)
                carry, x = layer(x, seq_lengths=lengths)
            carries = carry if case["bidirectional"] else [carry]
            finals = [carry[-1] if isinstance(carry, tuple) else carry for carry in carries]
            return jnp.concatenate(finals, axis=-1), x

    model = Peer()
    return model.init, model.apply


def keras_model(case):
    """Returns (init, apply) of Keras layers on the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax.numpy as jnp
    import keras

    make = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}[case["cell"]]
    x = keras.Input((case["T"], case["E"]))
    outputs = x
    for _ in range(case["layers"]):
        layer = make(case["H"], return_sequences=True, return_state=True)
        outputs, *states = (keras.layers.Bidirectional(layer) if case["bidirectional"] else layer)(outputs)
    last = len(states) // 2 if case["bidirectional"] else len(states)
    finals = states[::last]  # h comes first in Keras
    model = keras.Model(x, [*finals, outputs])
    others = [variable.value for variable in model.non_trainable_variables]

    def apply(params, x):
        *finals, outputs = model.stateless_call(params, others, x)[0]
        return jnp.concatenate(finals, axis=-1), outputs

    return lambda key, x: [variable.value for variable in model.trainable_variables], apply


def model_of(engine, case):
    """Returns (init, apply) of any engine but torch."""
    if engine == "cudnn":
        from benchmarks.cudnn import cudnn_model

        return cudnn_model(case)
    if engine == "keras":
        return keras_model(case)
    if engine in linear_peers.MODELS:
        return linear_peers.MODELS[engine](case)
    return our_model(engine, case) if engine.startswith("ours") else flax_model(case)


def build_jax(engine, case):
    """Returns a function that runs the compiled program, and what building it took: seconds and bytes."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    from rnn_jax.distributed.data_parallel import batch_mesh, on_every_device

    init, apply = model_of(engine, case)
    x = jax.random.normal(jax.random.key(0), (case["B"], case["T"], case["E"]))
    width = case["H"] * (2 if case["bidirectional"] else 1)
    target = jax.random.normal(jax.random.key(1), (case["B"], width))
    params = init(jax.random.key(2), x[:1, :2] if engine != "keras" else x)
    lengths = review_lengths(case)
    rows = (x, target) if lengths is None else (x, target, jnp.asarray(lengths))

    def loss(params, x, target, *lengths):
        return ((apply(params, x, *lengths)[0].astype(jnp.float32) - target) ** 2).mean()

    def train(params, *rows):
        return jax.lax.pmean(jax.value_and_grad(loss)(params, *rows), "batch")

    def forward(params, x, target, *lengths):
        return apply(params, x, *lengths)

    mesh, split, whole = batch_mesh(), P("batch"), P()
    specs = (whole, *[split] * len(rows))
    function, out = {"train": (train, whole), "forward": (forward, split)}[case["mode"]]
    program = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False))
    rows = [jax.device_put(array, jax.sharding.NamedSharding(mesh, split)) for array in rows]
    params, began = on_every_device(params, mesh), time.perf_counter()
    lowered = program.lower(params, *rows)
    traced = time.perf_counter()
    compiled = lowered.compile()
    measured = {
        "trace": traced - began,
        "compile": time.perf_counter() - traced,
        "bytes": mesh.size * compiled.memory_analysis().temp_size_in_bytes,
    }
    return lambda: jax.block_until_ready(compiled(params, *rows)), measured


def product_rate(case):
    """Returns a function that multiplies square float32 matrices on all devices at once."""
    import jax
    from jax.sharding import PartitionSpec as P

    from rnn_jax.distributed.data_parallel import batch_mesh

    mesh, size = batch_mesh(), case["H"]
    a = jax.random.normal(jax.random.key(0), (mesh.size, size, size))
    a = jax.device_put(a, jax.sharding.NamedSharding(mesh, P("batch")))
    program = jax.jit(jax.shard_map(lambda a: a @ a, mesh=mesh, in_specs=P("batch"), out_specs=P("batch")))
    return lambda: program(a).block_until_ready(), {"flop": 2 * mesh.size * size**3}


def main(engine):
    """Answers the lines of standard input until it ends."""
    run = None
    for line in sys.stdin:
        if line.strip() == "run":
            began = time.perf_counter()
            run()
            answer = time.perf_counter() - began
        else:
            case = json.loads(line)
            try:
                if case["mode"] == "product":
                    run, answer = product_rate(case)
                else:
                    run, answer = build_torch(case) if engine == "torch" else build_jax(engine, case)
                run()
                run()
            except Exception as error:  # any engine may refuse a case in its own way
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
