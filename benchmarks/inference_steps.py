"""Word by word, for benchmarks/inference.py: streams, single steps and samples, ours and torch's.

Each function of a name such as "sample, 64" returns a call without arguments, and the words a row it takes.
"""

import numpy as np

WORDS, EMBEDDING, HIDDEN, DRAWN, TEMPERATURE = 10_000, 32, 32, 100, 0.8


def ours(name):
    """Returns our call."""
    import jax
    import jax.numpy as jnp

    from rnn_jax import RNN, LanguageModel, LSTMCell, TextClassifier
    from rnn_jax.data.tokenizer import Tokenizer
    from rnn_jax.inference.stream import Stream, make_steps
    from rnn_jax.inference.writer import sample_all

    what, rows = name.split(", ")
    rows, encoder, key = int(rows), RNN(LSTMCell(HIDDEN)), jax.random.key(0)
    tokenizer = Tokenizer.of_words([f"w{index}" for index in range(2, WORDS)], lowercase=True)
    if what == "stream":
        model = TextClassifier(WORDS, EMBEDDING, 2, encoder)
        params = model.init(key, jnp.ones((1, 1), int), jnp.ones(1, int))["params"]
        stream = Stream(make_steps(model), params, tokenizer)
        return lambda: stream.feed("w17").probabilities, 1
    if what == "step":
        x = np.ones((rows, 1, EMBEDDING), np.float32)
        params = encoder.init(key, x)
        step = jax.jit(lambda params, x, carry: encoder.apply(params, x, None, carry))
        state = [step(params, x, None)[0]]

        def call():
            state[0], outputs = step(params, x, state[0])
            return np.asarray(outputs)

        call()
        return call, 1
    model = LanguageModel(WORDS, EMBEDDING, encoder)
    params = model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]
    keys, prompts = jax.random.split(key, rows), [f"w{index + 2}" for index in range(rows)]
    known, options = (model.apply, params, tokenizer, prompts), {"temperature": TEMPERATURE, "top_k": 0}
    return lambda: sample_all(*known, DRAWN, keys=keys, **options), DRAWN


def torch(name):
    """Returns torch's call: an LSTMCell, which is its fastest for single steps."""
    import torch

    what, rows = name.split(", ")
    rows = int(rows)
    embedding, cell = torch.nn.Embedding(WORDS, EMBEDDING), torch.nn.LSTMCell(EMBEDDING, HIDDEN)
    head, state = torch.nn.Linear(HIDDEN, 1), [None]
    words = {f"w{index}": index for index in range(WORDS)}

    @torch.inference_mode()
    def stream():
        state[0] = cell(embedding(torch.tensor([words["w17"]])), state[0])
        return torch.sigmoid(head(state[0][0])).numpy()

    x = torch.ones(rows, EMBEDDING)

    @torch.inference_mode()
    def step():
        state[0] = cell(x, state[0])
        return state[0][0].numpy()

    bias = torch.zeros(WORDS)
    bias[0] = -torch.inf

    @torch.inference_mode()
    def sample():
        carry, word, drawn = None, torch.arange(2, rows + 2), []
        for _ in range(DRAWN):
            carry = cell(embedding(word), carry)
            logits = torch.addmm(bias, carry[0], embedding.weight.T) / TEMPERATURE
            word = torch.multinomial(torch.softmax(logits, dim=-1), 1)[:, 0]
            drawn.append(word)
        return torch.stack(drawn, dim=1).tolist()

    return {"stream": (stream, 1), "step": (step, 1), "sample": (sample, DRAWN)}[what]
