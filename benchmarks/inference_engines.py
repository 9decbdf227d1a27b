"""The engines of benchmarks/inference.py, each as a good user of it writes it, each in a process of its own.

Run by it as `python -m benchmarks.inference_engines ENGINE FOLDER`. It reads a case as one line of JSON and
answers with what it found; then, for every further line "run", with the seconds of each call.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

LARGEST = 256  # texts that a peer reads together, sorted by length: its fastest


def sorted_batches(rows, size, multiple=1):
    """Yields (places, ids, lengths) of rows in batches of similar length, padded to a multiple of words."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        lengths = np.array([len(rows[place]) for place in places])
        ids = np.zeros((len(places), -(-max(1, lengths.max()) // multiple) * multiple), np.int64)
        for row, place in zip(ids, places, strict=True):
            row[: len(rows[place])] = rows[place]
        yield places, ids, lengths


def in_batches(network, multiple=1):
    """Returns a function of rows of word ids that gives the probability of the second class of each."""

    def predict(rows):
        found = np.zeros(len(rows), np.float32)
        for places, ids, lengths in sorted_batches(rows, LARGEST, multiple):
            found[places] = network(ids, lengths)
        return found

    return predict


def weights_of(folder):
    """Returns the parameters of a saved model by their paths."""
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def torch_lstm(weights, path):
    """Returns an LSTM layer of torch with our weights; both ways where there are two directions."""
    import torch

    suffixes = {name: f"{path}/{name}" for name in ("forward_rnn", "backward_rnn")}
    both = any(key.startswith(suffixes["backward_rnn"]) for key in weights)
    cells = [f"{suffix}/cell" for suffix in suffixes.values()] if both else [f"{path}/cell"]
    width, units = weights[f"{cells[0]}/ii/kernel"].shape
    layer = torch.nn.LSTM(width, units, batch_first=True, bidirectional=both)
    with torch.no_grad():
        for cell, suffix in zip(cells, ("l0", "l0_reverse"), strict=False):
            gates = {side: [weights[f"{cell}/{side}{gate}/kernel"].T for gate in "ifgo"] for side in "ih"}
            bias = np.concatenate([weights[f"{cell}/h{gate}/bias"] for gate in "ifgo"])
            getattr(layer, f"weight_ih_{suffix}").copy_(torch.tensor(np.concatenate(gates["i"])))
            getattr(layer, f"weight_hh_{suffix}").copy_(torch.tensor(np.concatenate(gates["h"])))
            getattr(layer, f"bias_ih_{suffix}").copy_(torch.tensor(bias))
            getattr(layer, f"bias_hh_{suffix}").zero_()
    return layer.eval()


def torch_classifier(folder):
    """Returns the network in torch: packed where rows differ, as is where there is one."""
    import torch

    weights = weights_of(folder)

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding.from_pretrained(torch.tensor(weights["embedding/embedding"]))
            self.lstm = torch_lstm(weights, "encoder")
            self.kernel = torch.nn.Parameter(torch.tensor(weights["head/kernel"]))
            self.bias = torch.nn.Parameter(torch.tensor(weights["head/bias"]))

        def forward(self, ids, lengths=None):
            x = self.embedding(ids)
            if lengths is not None:
                x = torch.nn.utils.rnn.pack_padded_sequence(
                    x, lengths, batch_first=True, enforce_sorted=False
                )
            hidden = self.lstm(x)[1][0]
            return torch.sigmoid(torch.cat(list(hidden), dim=-1) @ self.kernel + self.bias)[:, 0]

    return Classifier().eval()


def build_torch(folder, compiled=False):
    """Returns `predict(rows)` of torch, eager or compiled by inductor."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    model = torch_classifier(folder)
    model = torch.compile(model, dynamic=True) if compiled else model

    def network(ids, lengths):
        with torch.inference_mode():
            one = len(ids) == 1
            found = (
                model(torch.from_numpy(ids))
                if one
                else model(torch.from_numpy(ids), torch.from_numpy(lengths))
            )
            return found.numpy()

    return in_batches(network)


def onnx_constants(weights, cells):
    """Returns the weights as ONNX has them: its gates are input, output, forget and cell."""

    def stacked(side, part):
        return np.stack(
            [np.concatenate([weights[f"{cell}/{side}{gate}/{part}"].T for gate in "iofg"]) for cell in cells]
        )

    bias = stacked("h", "bias")
    return {
        "table": weights["embedding/embedding"],
        "W": stacked("i", "kernel"),
        "R": stacked("h", "kernel"),
        "B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
        "kernel": weights["head/kernel"],
        "bias": weights["head/bias"],
        "flat": np.array([0, -1]),
    }


def onnx_model(weights):
    """Returns the network as ONNX: an LSTM both ways with the lengths of the rows."""
    from onnx import TensorProto, helper, numpy_helper

    cells = [f"encoder/{way}/cell" for way in ("forward_rnn", "backward_rnn")]
    constants = onnx_constants(weights, cells)
    units = weights[f"{cells[0]}/hi/kernel"].shape[0]
    lstm = {"direction": "bidirectional", "hidden_size": units}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("LSTM", ["x", "W", "R", "B", "lengths"], ["", "h"], **lstm),
        helper.make_node("Transpose", ["h"], ["rows"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["rows", "flat"], ["pooled"]),
        helper.make_node("Gemm", ["pooled", "kernel", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["T", "B"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
        ],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["B", 1])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def build_onnx(folder):
    """Returns `predict(rows)` of ONNX Runtime, with all its optimisations and a thread for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    model = onnx_model(weights_of(folder)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def network(ids, lengths):
        fed = {"ids": np.ascontiguousarray(ids.T), "lengths": lengths.astype(np.int32)}
        return session.run(["p"], fed)[0][:, 0]

    return in_batches(network)


def build_keras(folder):
    """Returns `predict(rows)` of Keras on the JAX backend; it compiles for each of a few padded lengths."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    weights = weights_of(folder)
    words, width = weights["embedding/embedding"].shape
    cells = [f"encoder/{way}/cell" for way in ("forward_rnn", "backward_rnn")]
    ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(words, width, mask_zero=True)
    lstm = keras.layers.Bidirectional(keras.layers.LSTM(weights[f"{cells[0]}/hi/kernel"].shape[0]))
    head = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(ids, head(lstm(embedding(ids))))
    embedding.set_weights([weights["embedding/embedding"]])
    head.set_weights([weights["head/kernel"], weights["head/bias"]])
    arrays = []
    for cell in cells:
        for side, part in (("i", "kernel"), ("h", "kernel"), ("h", "bias")):
            arrays.append(
                np.concatenate([weights[f"{cell}/{side}{gate}/{part}"] for gate in "ifgo"], axis=-1)
            )
    lstm.set_weights(arrays)
    sizes = [1, 4, 16, 64, LARGEST]

    def network(ids, lengths):
        rows = next(size for size in sizes if size >= len(ids))
        padded = np.zeros((rows, ids.shape[1]), np.int32)
        padded[: len(ids)], padded[len(ids) :, 0] = ids, 1
        return np.asarray(model.predict_on_batch(padded))[: len(ids), 0]

    return in_batches(network, multiple=125)


def word_by_word(name, ours):
    """Returns a function of no arguments that reads or draws words, and how many a row: ours, or torch's."""
    import importlib

    return getattr(importlib.import_module("benchmarks.inference_steps"), "ours" if ours else "torch")(name)


class Engine:
    """One engine with the texts, asked to predict some of them."""

    def __init__(self, name, folder):
        self.name, folder = name, Path(folder)
        texts = json.loads((folder / "texts.json").read_text())
        self.texts, self.forget = texts["timed"], lambda: None
        if name.startswith("ours"):
            import jax

            import rnn_jax

            jax.config.update("jax_cpu_enable_async_dispatch", name == "ours")

            model = rnn_jax.load(folder / "model")
            tokenizer = model.tokenizer
            self.with_texts = lambda texts: model.predict(texts).probabilities[:, 1]
            self.with_rows = lambda rows: without_tokenizer(model, rows)
            self.forget = forgetting(tokenizer, texts["others"])
        else:
            from rnn_jax.data.tokenizer import Tokenizer

            tokenizer = Tokenizer.load(folder / "model" / "tokenizer.json")
            build = {"torch": build_torch, "torch, compiled": lambda f: build_torch(f, True)}
            build |= {"onnx": build_onnx, "keras": build_keras}
            self.with_rows = build[name](folder / "model")
            library = tokenizer.backend

            def with_texts(texts):
                found = library.encode_batch_fast(texts, add_special_tokens=False)
                return self.with_rows(cut([encoding.ids for encoding in found]))

            self.with_texts = with_texts
        self.rows = cut([row.tolist() for row in tokenizer.encode(self.texts)])

    def prepare(self, case):
        """Returns the probabilities of the texts that a case asks for, and keeps what is to be timed."""
        if "words" in case:
            call, words = word_by_word(case["words"], self.name.startswith("ours"))
            call()
            self.run = lambda: [seconds(call) / words for _ in range(case["calls"])]
            return []
        size, calls = case["batch"], case["calls"]
        given = (self.texts, self.with_texts) if case["texts"] else (self.rows, self.with_rows)
        every, function = given
        parts = [every[start : start + size] for start in range(0, size * calls, size)]
        found = [function(part) for part in parts]

        def run():
            self.forget()
            return [seconds(function, part) for part in parts]

        self.run = run
        return np.concatenate(found).tolist()


def cut(rows, most=500):
    """Returns rows of word ids of at most `most`: a quarter from the start, the rest from the end."""
    from rnn_jax.data.tokenizer import truncate

    return truncate([np.asarray(row, np.int32) for row in rows], most, "head_tail")


def forgetting(tokenizer, others):
    """Returns a function after which a tokeniser remembers the pieces of other texts alone."""
    tokenizer.encode(others)
    remembered, known = tokenizer._chunks, dict(tokenizer._chunks)

    def forget():
        remembered.clear()
        remembered.update(known)

    return forget


def without_tokenizer(model, rows):
    """Returns what our predictor says of rows of word ids."""
    with_rows = model.tokenizer.encode
    try:
        model.tokenizer.encode = lambda texts: rows
        return model.predict([""] * len(rows)).probabilities[:, 1]
    finally:
        model.tokenizer.encode = with_rows


def seconds(function, *arguments):
    """Returns the seconds of one call."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def main(name, folder):
    """Answers the lines of standard input until it ends."""
    engine = None
    for line in sys.stdin:
        try:
            engine = engine or Engine(name, folder)
            answer = engine.run() if line.strip() == "run" else engine.prepare(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
