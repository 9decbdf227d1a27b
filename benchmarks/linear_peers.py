"""The linear recurrences of other JAX libraries for benchmarks/linear.py, where their packages are installed.

Both have more requirements than the extra `bench`, old releases among them: give them an environment of their
own. A layer of theirs has as many outputs as inputs, so a product stands before it where ours has one.
"""


def memax_model(case):
    """Returns (init, apply) of memax's LRU, a row at a time: apply(params, x) -> (final output, outputs)."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from memax.linen.semigroups.lru import LRU

    class Peer(nn.Module):
        @nn.compact
        def __call__(self, x):
            units = case["H"]
            if case["E"] != units:
                x = nn.Dense(units)(x)
            algebra, scan = LRU.default_algebra(recurrent_size=units), LRU.default_scan()
            layer = LRU(algebra=algebra, scan=scan, hidden_size=units, recurrent_size=units)
            return layer(layer.zero_carry(), (x, jnp.zeros(x.shape[0], bool)))[1]

    model = Peer()

    def apply(params, x):
        outputs = jax.vmap(lambda row: model.apply(params, row))(x)
        return outputs[:, -1], outputs

    return lambda key, x: model.init(key, x[0]), apply


def recurrentgemma_model(case):
    """Returns (init, apply) of recurrentgemma's RG-LRU with whole gates, likewise."""
    import flax.linen as nn
    import jax.numpy as jnp
    from recurrentgemma.jax.layers import RGLRU

    class Peer(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(case["H"])(x)
            positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
            outputs, last = RGLRU(width=case["H"], num_heads=1)(x, positions)
            return last, outputs

    model = Peer()
    return model.init, model.apply


MODELS = {"memax": memax_model, "recurrentgemma": recurrentgemma_model}
