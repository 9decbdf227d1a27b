"""docs/small_data.md and docs/small_data.png, from what benchmarks/small_data.py measured."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report import machine, replace_section
from benchmarks.results import spread
from rnn_jax.training.automatic import METHODS as AUTO_METHODS
from rnn_jax.training.automatic import RANKED, Given, chosen_method

DOCS, NAIVE_BAYES = Path("docs"), "NB-SVM"
NOISE = 0.004  # the standard error of an accuracy of 90 % on 5,000 reviews
METHODS = {  # by name, the line of the picture; docs/small_data.md says what they are
    "plain": "C7-o",
    "plain, evidence": "C7--s",
    "labelled vectors": "C1-o",
    "labelled vectors, evidence": "C1--s",
    "GloVe": "C2-o",
    "word2vec": "C0-o",
    "evidence": "C0--s",
    "strong": "C3--s",
    NAIVE_BAYES: "k:^",
}


def cells(lines, sizes, show):
    """Returns the cells of a table's line: what `show` makes of the records of each size, if any."""
    return " | ".join(show(lines[size]) if lines.get(size) else "-" for size in sizes)


def seconds(runs):
    """Returns the mean of the processor's seconds of runs."""
    return f"{statistics.mean(run['cpu'] for run in runs):,.0f}"


def accuracy_of(runs):
    """Returns mean and deviation of the accuracy, and of how many runs where these are fewer than three."""
    return spread([run["accuracy"] for run in runs]) + f" ({len(runs)})" * (len(runs) < 3)


def table(found, sizes, show):
    """Returns a table with a line for each method that has records; `found` has lists of them by case."""
    head = " | ".join(f"{size:,}" for size in sizes)
    lines = [f"| method | {head} |", "|---|" + "---|" * len(sizes)]
    for method in METHODS:
        own = {size: found.get((method, size)) for size in sizes}
        if any(own.values()):
            lines.append(f"| {method} | {cells(own, sizes, show)} |")
    return "\n".join(lines)


def ranking(found, size):
    """Returns the methods of `recipe="auto"` at a number of labels, the best first, as `RANKED` has them.

    Of those whose mean is within a deviation over seeds of the best mean, and at least within the standard
    error of one accuracy, the one of the fewest seconds is next. What is not measured is last.
    """
    left = {name: found[name, size] for name in AUTO_METHODS if found.get((name, size))}
    ranked = []
    while left:
        means = {name: statistics.mean(run["accuracy"] for run in runs) for name, runs in left.items()}
        best = max(means, key=means.get)
        values = [run["accuracy"] for run in left[best]]
        noise = max(NOISE, statistics.stdev(values) if len(values) > 1 else 0)
        near = [name for name in left if means[name] >= means[best] - noise]
        ranked.append(min(near, key=lambda name: statistics.mean(run["cpu"] for run in left[name])))
        del left[ranked[-1]]
    return tuple(ranked + [name for name in AUTO_METHODS if name not in ranked])


def auto_table():
    """Returns what `recipe="auto"` takes by the number of labels and by what is there."""
    cases = {
        "unlabelled texts": ("texts", True, True),
        "none": ("", True, True),
        "none, no gensim": ("", False, True),
        "numbers or pairs; unlabelled texts": ("texts", True, False),
        "numbers or pairs; none": ("", True, False),
    }
    lines = [f"| labels | {' | '.join(cases)} |", "|---|" + "---|" * len(cases)]
    for size in RANKED:
        taken = [chosen_method(Given(size, *case)) for case in cases.values()]
        lines.append(f"| {size:,} | {' | '.join(taken)} |")
    return "\n".join(lines)


def draw(found, sizes):
    """Draws the accuracy of each method by the number of labels, with the deviation over seeds."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for method, line in METHODS.items():
        points = [
            (size, [100 * run["accuracy"] for run in found[method, size]])
            for size in sizes
            if found.get((method, size))
        ]
        if points:
            means = [statistics.mean(values) for _, values in points]
            bars = [statistics.stdev(values) if len(values) > 1 else 0 for _, values in points]
            where = [size for size, _ in points]
            axes.errorbar(where, means, bars, fmt=line, label=method, capsize=2, markersize=5)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set(xlabel="labelled reviews", ylabel="accuracy on 5,000 other reviews, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(DOCS / "small_data.png", dpi=120)


def write(found, tried, sizes, tuned):
    """Writes the tables and the picture.

    Args:
      found: the records to report, a list for each (method, labels).
      tried: by (method, labels), the accuracy of each choice on the rows that settings are chosen on.
      sizes, tuned: the numbers of labels that are reported, and those that settings are chosen at.
    """
    made = f"Make these tables again: `python -m benchmarks.small_data --source FOLDER`. {machine()}."
    accuracy, cost = table(found, sizes, accuracy_of), table(found, sizes, seconds)
    page = (DOCS / "small_data.md").read_text()
    page = replace_section(page, "accuracy", f"{made}\n\n{accuracy}")
    page = replace_section(page, "seconds", cost)
    page = replace_section(page, "auto", auto_table())
    page = replace_section(page, "choices", table(tried, tuned, choice_cell))
    (DOCS / "small_data.md").write_text(page)
    draw(found, sizes)
    for size in sizes:
        print(f"{size:,} labels, the best first: {ranking(found, size)}")


def choice_cell(accuracies):
    """Returns the accuracy of each choice, the best one in bold."""
    best = max(accuracies, key=accuracies.get)
    shown = {name: f"{name} {100 * value:.1f}" for name, value in accuracies.items()}
    shown[best] = f"**{shown[best]}**"
    return ", ".join(shown.values())
