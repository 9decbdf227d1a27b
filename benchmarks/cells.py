"""Which recurrence, and is it worth it? Every cell in the tutorial's networks, and docs/cells.md from them.

Run `python -m benchmarks.cells`; needs the extra `reviews`. Each cell stands in the plain, stacked and
bidirectional network of benchmarks/tutorial.py, and in a plain one that pools its outputs: with a learned
embedding, and with the one that validation found best there. The learning rate is chosen for each cell and
embedding first. What finished runs measured is kept in docs/cells.json: it can be stopped and started;
`--seeds 0` runs the first seed.
"""

import itertools
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import tutorial
from benchmarks.records import Records, recipe
from benchmarks.report import machine
from benchmarks.tutorial import choice_row, row, seconds_of, stem
from rnn_jax.models.encoder import CELLS

POOLED = "plain, pooled"  # the last state, the mean and the maximum are the feature, not the last state alone
NETWORKS = ("plain", POOLED, "stacked", "bidirectional")
EMBEDDINGS = ("learned", "transferred, frozen")
RATES, DROPOUT = (0.003, 0.01), 0.3
DOCS = Path("docs")
MARKERS = dict(zip(NETWORKS, "o*s^", strict=True))
HEADER = """# Which recurrence?

Which cell reads a review best, and is it worth its time? Make this page again: `python -m benchmarks.cells`.

The task, the networks and the two embeddings are those of [the tutorial](tutorial.md): 32 units, an
embedding of 32, 20,000 reviews of at most 500 words, and the last hidden state as the feature. "Plain,
pooled" joins the mean and the maximum over time to it (`model.pooling="concat"`). The embeddings are the
learned one, and the frozen one from a network with a larger vocabulary, which had the best validation
accuracy of all kinds there. Each cell is described in [Layers](layers.md#cells). Numbers are means over
seeds, with their standard deviation where there are several. The standard error of one accuracy on {test:,}
reviews is 0.6 points. Seconds are those of five epochs of steps, without compilation,
of the fastest seed: other programs ran beside some. {machine}.

![test accuracy against seconds of training](cells.png)

| cell | network | embedding | seeds | test, % | train - test, points | parameters trained | seconds | cores |
|---|---|---|---|---|---|---|---|---|
"""
CHOICE = """
RG-LRU was measured again with its kernel, when the machine was slower. On that day a minLSTM took as long:
7, 9, 24 and 9 seconds with the frozen embedding, and an RG-LRU 6, 8, 20 and 11.

What to read from it:

- **The GRU is the one to take.** It is the best in every network, or as good as the best: 89.9 to 90.5 % with
  a learned embedding and 90.5 to 90.8 % with the frozen one. The sLSTM comes near, for five to six times the
  seconds, and the LSTM does with the frozen embedding.
- **The embedding matters more than the cell.** With the frozen one every network is better, half of them by
  1.2 points or more. A plain minGRU on it has 89.7 % after two seconds of training. A plain LSTM on a learned
  one has 88.9 % after eight.
- **More layers** pay for minGRU, minLSTM and SRU: 0.6 to 0.7 points with the frozen embedding, and 2.3 to 3.3
  with the learned one. Their gates know one input alone; those of a second layer know what came before.
  Layers do not pay for the GRU, the LSTM and the sLSTM. One of three stacked LSTMs with a learned embedding
  has not learned at all (50.0 %): the rate was chosen for one layer.
- **Pooling** pays where a cell forgets. With the learned embedding the mean and the maximum bring 1.1 to
  5.2 points to the simple cell, minGRU, minLSTM, SRU and LRU, about what two more layers bring to the three
  in the middle, and to minLSTM and SRU in fewer seconds. With the frozen one they bring 2.4 points to the
  simple cell, 0.8 to the LRU, and 0.0 to 0.4 to all others. The GRU does not need them.
- **Two directions** bring 2.3 points to the simple cell, and 1.1 and 1.2 to SRU and LRU, with a learned
  embedding, and 1.0 to the simple cell with the frozen one. They bring no more than the error to all others.

## Learning rate

It was chosen for each cell and embedding, by the validation accuracy (%) of the plain network with seed 0.

| cell | embedding | {rates} |
|---|---|{rule}
"""


def settings(cell, network, embedding, rate, seed):
    """Returns the config of one run."""
    config = tutorial.settings("plain" if network == POOLED else network, embedding, (DROPOUT, rate), seed)
    config.model.cell = cell
    config.model.pooling = "concat" if network == POOLED else "last"
    return config


def measure(records, *case):
    """Measures one run, if there is no record of it."""
    tutorial.measure(records, key(*case), settings(*case), case[-1])


def key(*case):
    """Returns the name of the record of one run."""
    return stem(*case[:-1], seed=case[-1])


def attempts(records, cell, embedding):
    """Returns the validation accuracy of every rate that was tried for a cell and an embedding."""
    cases = {rate: (cell, "plain", embedding, rate, 0) for rate in RATES}
    return {
        rate: records.lines[key(*case)]["validation"]
        for rate, case in cases.items()
        if records.has(key(*case), recipe(settings(*case)))
    }


def chosen(records, cell, embedding):
    """Returns the rate of the best plain network."""
    found = attempts(records, cell, embedding)
    return max(found, key=found.get)


def finished(records):
    """Returns the records of all finished runs with the chosen rates, by (cell, network, embedding)."""
    results = {}
    for cell, embedding, network in itertools.product(CELLS, EMBEDDINGS, NETWORKS):
        if set(attempts(records, cell, embedding)) == set(RATES):
            case = cell, network, embedding, chosen(records, cell, embedding)
            seeds = {key(*case, seed): recipe(settings(*case, seed)) for seed in records.seeds()}
            runs = [records.lines[name] for name, wanted in seeds.items() if records.has(name, wanted)]
            results |= {case[:3]: runs} if runs else {}
    return results


def draw(results):
    """Draws accuracy against seconds, a panel for each embedding: colours are cells, marks are networks."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, len(EMBEDDINGS), sharex=True, sharey=True)
    colours = {cell: f"C{number}" for number, cell in enumerate(CELLS)}
    for (cell, network, embedding), runs in results.items():
        accuracy = 100 * statistics.mean(run["accuracy"] for run in runs)
        axes = panels[EMBEDDINGS.index(embedding)]
        axes.plot(seconds_of(runs), accuracy, MARKERS[network], color=colours[cell], alpha=0.8)
    for axes, embedding in zip(panels, EMBEDDINGS, strict=True):
        axes.set(title=embedding, xscale="log", xlabel="seconds of training")
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test accuracy, %")
    keys = [panels[0].plot([], [], "o", color=colour, label=cell)[0] for cell, colour in colours.items()]
    keys += [
        panels[0].plot([], [], mark, color="black", label=network)[0] for network, mark in MARKERS.items()
    ]
    figure.legend(handles=keys, loc="outside right upper")
    figure.savefig(DOCS / "cells.png", dpi=120)


def write(records):
    """Writes the page and the picture of all that is measured."""
    results = finished(records)
    table = "".join(row([f"`{cell}`", *names], runs) for (cell, *names), runs in results.items())
    rates = " | ".join(f"rate {rate}" for rate in RATES)
    choice = CHOICE.format(rates=rates, rule="---|" * len(RATES))
    for cell, embedding in dict.fromkeys((cell, embedding) for cell, _, embedding in results):
        choice += choice_row([f"`{cell}`", embedding], attempts(records, cell, embedding))
    header = HEADER.format(test=next(iter(results.values()))[0]["examples"], machine=machine())
    (DOCS / "cells.md").write_text(header + table + choice)
    draw(results)


def main():
    """Trains what is missing, a seed at a time, and writes the page after each cell."""
    seeds = tutorial.begin(__doc__)
    records = Records(DOCS / "cells.json")
    for seed, cell in itertools.product(seeds, CELLS):
        for embedding, rate in itertools.product(EMBEDDINGS, RATES):
            measure(records, cell, "plain", embedding, rate, 0)
        for embedding, network in itertools.product(EMBEDDINGS, NETWORKS):
            measure(records, cell, network, embedding, chosen(records, cell, embedding), seed)
        write(records)


if __name__ == "__main__":
    main()
