"""The section and the picture of what benchmarks/machine.py measured."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.performance import cell, train_flop
from rnn_jax.layers.backends import BACKENDS, Work, fastest

PICTURE = Path("docs/backends.png")
COLOURS = dict(zip(BACKENDS, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=False))
MODES = {"forward": "forward", "train": "training"}
TEXT = """## Backends

Make this section again: `python -m benchmarks.machine`. It runs one layer on one device by every backend of ours that
applies ([which they are](layers.md#backends)), and keeps what it measured in `docs/backends.json`. Training is the
gradient of a loss on the final hidden state. A time is the least of several samples. The picture shows how many times as
long as the fastest each backend takes. The ring is what `backend="auto"` takes.

![each backend of ours over the fastest, by units, rows, and forward or training]({picture})"""


def auto(record):
    """Returns the backend that "auto" takes for the layer of a record."""
    case = record["settings"]
    return fastest(case["backends"], Work(case["B"], case["T"], case["H"], case["mode"] == "train"))


def loss(record):
    """Returns how many times as long as the fastest backend that of "auto" takes."""
    times = {name: record[name]["ms"] for name in record["settings"]["backends"]}
    return times[auto(record)] / min(times.values())


def by_machine(lines):
    """Returns {machine: (GFLOP/s of products, [records of layers])}."""
    machines = {}
    for name, record in lines.items():
        rate, layers = machines.get(machine := name.partition(": ")[0], (None, []))
        products = record["settings"]["mode"] == "product"
        machines[machine] = (record["gflops"], layers) if products else (rate, [*layers, record])
    return machines


def flop(case):
    """Returns the operations that no implementation can leave out."""
    if case["mode"] == "train":
        return train_flop(case)
    gates = {"LSTM": 4, "GRU": 3}[case["cell"]]
    return 2 * case["B"] * case["T"] * gates * case["H"] * (case["E"] + case["H"])


def table_of(records, rate, names):
    """Returns the table of times, share of the product rate, memory and compilation; that of "auto" is bold."""
    times = " | ".join(f"{name}, ms" for name in names)
    lines = [f"| | {times} | share of products | MiB: {', '.join(names)} | compile, s |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for record in records:
        case = record["settings"]
        found = {name: record.get(name) for name in names}
        shown = {name: cell(each and each["ms"], "{:.3g}") for name, each in found.items()}
        shown[auto(record)] = f"**{shown[auto(record)]}**"
        label = f"{case['cell']}, {MODES[case['mode']]}, {case['B']} x {case['T']}, {case['H']} units"
        label += "" if case["dtype"] == "float32" else f", {case['dtype']}"
        share = flop(case) / record[auto(record)]["ms"] / 1e6 / rate
        peaks = ", ".join(cell(each and each["bytes"] / 2**20, "{:.3g}") for each in found.values())
        built = ", ".join(cell(each and each["compile"], "{:.1f}") for each in found.values())
        lines.append(f"| {label} | {' | '.join(shown.values())} | {share:.0%} | {peaks} | {built} |")
    return "\n".join(lines)


def page(lines, units):
    """Returns the Markdown of all machines; the tables have rows of these units."""
    parts = [TEXT.format(picture=PICTURE.name)]
    for machine, (rate, records) in by_machine(lines).items():
        worst = max(records, key=loss)
        shown = [
            record for record in records if record["settings"]["H"] in units and listed(record["settings"])
        ]
        names = [name for name in BACKENDS if any(name in record for record in records)]
        parts += [
            f"### On {machine}",
            f'Square float32 products reach {rate} GFLOP/s. Over {len(records)} shapes, what "auto" takes is at most '
            f"{loss(worst) - 1:.0%} slower than the fastest. Bold is what it takes. Sizes are rows x steps; the peak is of "
            f"the temporary memory of the compiled program. {worst['date']}.",
            table_of(sorted(shown, key=order), rate, names),
        ]
    return "\n\n".join(parts)


def listed(case):
    """Returns whether a case has a line in the table: the batches of 32, and single steps."""
    return case["B"] == 32 or case["T"] == 1


def order(record):
    """Returns what the table is sorted by."""
    return tuple(record["settings"][key] for key in ("T", "dtype", "cell", "mode", "B", "H"))[::1]


def draw(lines):
    """Draws each backend's time over the fastest: a row for each machine and mode, a column for each batch."""
    machines = by_machine(lines)
    figure = Figure(figsize=(10, 3 * 2 * len(machines)), layout="constrained")
    panels = figure.subplots(2 * len(machines), 3, sharex=True, sharey=True, squeeze=False)
    rows = [(machine, records, mode) for machine, (_, records) in machines.items() for mode in MODES]
    for line, (machine, records, mode) in zip(panels, rows, strict=True):
        for axes, batch in zip(line, (1, 32, 256), strict=True):
            wanted = {"cell": "LSTM", "dtype": "float32", "mode": mode, "B": batch, "T": 100}
            of_panel = [record for record in records if wanted.items() <= record["settings"].items()]
            draw_panel(axes, sorted(of_panel, key=lambda record: record["settings"]["H"]))
            axes.set_title(f"{MODES[mode]}, {batch} row{'s'[: batch > 1]}", fontsize=10)
        line[0].set_ylabel("time over the fastest")
    for axes in panels[-1]:
        axes.set_xlabel("units")
    figure.suptitle("; ".join(machines) + ": an LSTM over 100 steps", fontsize=10)
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(PICTURE, dpi=120)


def draw_panel(axes, records):
    """Draws the backends of one panel, and a ring around that of "auto"."""
    best = [min(record[name]["ms"] for name in record["settings"]["backends"]) for record in records]
    units = [record["settings"]["H"] for record in records]
    for name in BACKENDS:
        points = [
            (size, record[name]["ms"] / least)
            for size, record, least in zip(units, records, best, strict=True)
            if name in record
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], label=name, markersize=4)
    chosen = [record[auto(record)]["ms"] / least for record, least in zip(records, best, strict=True)]
    axes.plot(units, chosen, "o", mfc="none", mec="black", markersize=10, label='"auto" takes')
    axes.set(xscale="log", yscale="log", xticks=units, xticklabels=units, yticks=(1, 1.5, 2, 3, 4))
    axes.set_yticklabels(("1", "1.5", "2", "3", "4"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
