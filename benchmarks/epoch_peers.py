"""The tutorial's bidirectional network as a user of Keras or torch writes it, for benchmarks/epoch.py.

Run by it as `python -m benchmarks.epoch_peers keras|torch EPOCHS`. Reviews are padded to 500 words on the
left, as the tutorial's `pad_sequences` does, and shuffled, in batches of 32; no mask and no packing, which is
the faster way in both. Each prints one line an epoch.
"""

import os
import sys

import numpy as np

REVIEWS = "runs/benchmarks/reviews.npz"
LENGTH, VOCABULARY, EMBEDDING, HIDDEN, BATCH = 500, 10_000, 32, 32, 32


def report(epoch, accuracy):
    """Says the validation accuracy of an epoch to whoever measures."""
    print(f"epoch {epoch} validation accuracy {accuracy:.4f}", flush=True)


def train_keras(reviews, epochs):
    """Compiles and fits a Sequential model on the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = [
        keras.layers.Embedding(VOCABULARY, EMBEDDING),
        keras.layers.Bidirectional(keras.layers.LSTM(HIDDEN)),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), *layers])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    say = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: report(epoch, logs["val_accuracy"]))
    model.fit(
        reviews["train_ids"],
        reviews["train_labels"],
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(reviews["validation_ids"], reviews["validation_labels"]),
        callbacks=[say],
        verbose=0,
    )


def train_torch(reviews, epochs):
    """Loops over a DataLoader, on as many threads as there are cores."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(VOCABULARY, EMBEDDING)
            self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(2 * HIDDEN, 1)

        def forward(self, ids):
            hidden = self.lstm(self.embedding(ids))[1][0]
            return self.head(torch.cat([hidden[0], hidden[1]], dim=-1))[:, 0]

    def loader(split, shuffle):
        ids, labels = torch.from_numpy(reviews[f"{split}_ids"]), torch.from_numpy(reviews[f"{split}_labels"])
        return DataLoader(TensorDataset(ids, labels.float()), batch_size=BATCH, shuffle=shuffle)

    torch.set_num_threads(os.cpu_count() or 1)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters())
    loss_fn = torch.nn.BCEWithLogitsLoss()
    for epoch in range(epochs):
        model.train()
        for ids, labels in loader("train", shuffle=True):
            optimizer.zero_grad()
            loss_fn(model(ids), labels).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            hits = [
                ((model(ids) > 0) == (labels > 0.5)).float() for ids, labels in loader("validation", False)
            ]
        report(epoch, torch.cat(hits).mean().item())


if __name__ == "__main__":
    with np.load(REVIEWS) as arrays:
        {"keras": train_keras, "torch": train_torch}[sys.argv[1]](dict(arrays), int(sys.argv[2]))
