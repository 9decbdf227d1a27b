"""The section and the picture of what benchmarks/machine.py measured."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.performance import cell, train_flop
from rnn_jax.layers.backends import BACKENDS, Work, fastest

PICTURE = Path("docs/backends.png")
COLOURS = dict(zip(BACKENDS, ("#0072b2", "#d55e00", "#009e73", "#56b4e9", "#cc79a7"), strict=True))
MODES = {"forward": "forward", "train": "training"}
TEXT = """## Backends

Make this section again: `python -m benchmarks.machine`. It runs one layer by every backend of ours that
applies ([what they are](layers.md#backends)), on one device, and keeps what it measured in
`docs/backends.json`. Training is the gradient of a loss on the final hidden state.

![time of each backend over the fastest, by units, rows, and forward or training]({picture})

The picture shows how many times as long as the fastest backend each one takes. Rings are what
`backend="auto"` takes. Its rule is in `rnn_jax/layers/backends.py`. A test holds the rule to the file: its
choice may nowhere take over 5 % more time than another backend of ours.

- **One step**, as in a stream: scan. One step has nothing to fuse.
- **Few rows or few steps**: fused. A call of the native kernels begins with a copy of the weights in another
  order, and the kernels compute eight rows at a time.
- **Else** native, where it applies, and fused where it does not.

The choice may be another for the values of a layer than for its gradients. Then training takes the one, and a
call that is not differentiated takes the other."""


def auto(record, without=""):
    """Returns the backend that "auto" takes for the layer of a record, also where one is not there."""
    case = record["settings"]
    able = [name for name in case["backends"] if name != without]
    return fastest(able, Work(case["B"], case["T"], case["H"], case["mode"] == "train"))


def loss(record, without=""):
    """Returns how many times as long as the fastest backend that of "auto" takes."""
    times = {name: record[name]["ms"] for name in record["settings"]["backends"] if name != without}
    return times[auto(record, without)] / min(times.values())


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
    """Returns the table of times, share of the product rate, memory and compilation."""
    times = " | ".join(f"{name}, ms" for name in names)
    lines = [f"| | {times} | share of products | MiB: {', '.join(names)} | compile, s |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for record in records:
        case = record["settings"]
        found = {name: record.get(name) for name in names}
        shown = {name: cell(each and each["ms"], "{:.3g}") for name, each in found.items()}
        shown[auto(record)] = f"**{shown[auto(record)]}**"
        rows = f"{case['B']} row{'s'[: case['B'] > 1]}, {case['T']} step{'s'[: case['T'] > 1]}"
        label = f"{case['cell']}, {MODES[case['mode']]}, {rows}, {case['H']} units"
        label += "" if case["dtype"] == "float32" else f", {case['dtype']}"
        share = flop(case) / record[auto(record)]["ms"] / 1e6 / rate
        peaks = ", ".join(cell(each and each["bytes"] / 2**20, "{:.3g}") for each in found.values())
        built = ", ".join(cell(each and each["compile"], "{:.1f}") for each in found.values())
        lines.append(f"| {label} | {' | '.join(shown.values())} | {share:.0%} | {peaks} | {built} |")
    return "\n".join(lines)


def page(lines):
    """Returns the Markdown of all machines."""
    parts = [TEXT.format(picture=PICTURE.name)]
    for machine, (rate, records) in by_machine(lines).items():
        worst = max(map(loss, records))
        shown = sorted((record for record in records if listed(record["settings"])), key=order)
        names = [name for name in BACKENDS if any(name in record for record in records)]
        dates = sorted({record["date"] for record in records})
        text = (
            f'Over {len(records)} shapes, what "auto" takes (bold) needs at most {worst - 1:.0%} more time '
            f"than the fastest. The share is of the rate of XLA's square float32 products, {rate} GFLOP/s. "
            f"Memory is what the compiled program takes beside its arguments and results. {dates[-1]}."
        )
        if "native" in names:
            rest = max(loss(record, "native") for record in records)
            text += f" Where there are no native kernels, the most is {rest - 1:.0%}, on one device."
        parts += [f"### On {machine}", text, table_of(shown, rate, names)]
    return "\n\n".join(parts)


def listed(case):
    """Returns whether a case has a line in the table."""
    return case["T"] == 1 or (case["B"] == 32 and case["H"] in (32, 128, 512, 1024))


def order(record):
    """Returns what the lines of the table are sorted by."""
    return tuple(record["settings"][key] for key in ("T", "dtype", "cell", "mode", "B", "H"))


def draw(lines):
    """Draws times over the fastest: a row of panels for each machine and mode, a column for each batch."""
    machines = by_machine(lines)
    figure = Figure(figsize=(10, 3 * 2 * len(machines)), layout="constrained")
    panels = figure.subplots(2 * len(machines), 3, sharex=True, sharey=True, squeeze=False)
    rows = [(records, mode) for _, records in machines.values() for mode in MODES]
    for line, (records, mode) in zip(panels, rows, strict=True):
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
