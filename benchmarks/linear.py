"""Linear recurrences against our LSTM and peers: training and forward times, of texts and long sequences.

Run `python -m benchmarks.linear` (five minutes); needs torch, and memax and recurrentgemma for their columns
(benchmarks/linear_peers.py). Every cell has a process of its own, and they take turns, so that all see the
same machine. Times are medians. What was measured is kept in runs/benchmarks and not measured again;
`--fresh` starts over, and `--mode train` measures one half.
"""

import argparse
import json
from pathlib import Path

from benchmarks.recurrence import SHAPES, Worker, a_case, in_turn
from benchmarks.report import machine, write_section

STORE = Path("runs/benchmarks/linear.json")
LONG = {"T = 4,096": (4, 4096, 128, 128), "T = 16,384": (4, 16_384, 128, 128)}
CELLS = ("LSTM", "MinGRU", "MinLSTM", "SRU", "LRU", "RGLRU")
PEERS = {"torch's LSTM": "torch", "memax's LRU": "memax", "recurrentgemma's RGLRU": "recurrentgemma"}
COLUMNS = *CELLS, *PEERS
MODES = {"train": "Training", "forward": "Forward"}
ROUNDS, LIMIT = 7, 60
TEXT = """## Linear recurrences

Make these tables again: `python -m benchmarks.linear`. They have milliseconds of one layer in float32,
medians of interleaved runs on one device. In brackets: the time of our LSTM, which runs in native kernels,
over the cell's. Shapes (batch, steps, inputs, units): {shapes}.
Training computes a loss on the final hidden state and its gradient with respect to all weights. Forward
computes all outputs and the final state. The LRU of memax (0.1.1) and the RG-LRU of recurrentgemma (1.0.1)
are layers of other JAX libraries, with JAX's own flags and one device. {machine}.
"""
REASONS = """\
Take linear cells where layers are wide or sequences long. MinGRU, MinLSTM and RG-LRU run in one native
kernel each way: gates stay in registers from the product to the state, and are written once for the gradient.
What is left is the products, and they bound the gain: for the values and the gradients of a step where E
is H, an LSTM makes five times as many multiplications as a minGRU, 20 H^2 against 4 H^2. So ten times at
T = 16,384 is out of reach here. In SRU and LRU the recurrence takes less than a tenth of the
time. The rest goes into products and into gates, which XLA computes in several passes over memory. An
LRU's states are complex, and 2H numbers are multiplied with H to make its outputs. The peers run their
recurrences by a scan of JAX's: an associative one over all states (memax), or one step at a time, unrolled
(recurrentgemma)."""


def case_of(cell, shape, mode):
    """Returns one line of work for an engine."""
    return a_case(shape, mode=mode, cell=cell.rpartition(" ")[2])


def measure(workers, shape, mode):
    """Returns the median milliseconds of each cell at a shape; None where it took too long."""
    answers = {name: each.ask(json.dumps(case_of(name, shape, mode))) for name, each in workers.items()}
    built = {name: workers[name] for name, answer in answers.items() if "error" not in answer}
    # Threads of torch go on spinning for a while after a run, and would take a core from what runs next.
    torch = {name: each for name, each in built.items() if name.startswith("torch")}
    ours = {name: each for name, each in built.items() if name not in torch}
    return dict.fromkeys(workers) | in_turn(ours, ROUNDS) | in_turn(torch, ROUNDS)


def table(times):
    """Returns the lines of a table, from {shape: {cell: milliseconds}}."""
    yield "| | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for name in filter(times.get, SHAPES | LONG):
        row = times[name]
        yield f"| {name} | " + " | ".join(entry(row, cell) for cell in COLUMNS) + " |"


def entry(row, cell):
    """Returns the milliseconds of a cell, and how many times as fast as our LSTM it is."""
    if row.get(cell) is None:
        return "-"
    ratio = f" ({row['LSTM'] / row[cell]:.1f})" if row["LSTM"] and cell != "LSTM" else ""
    return f"{row[cell]:.3g}{ratio}"


def page(measured):
    """Returns the section of docs/performance.md."""
    shapes = ", ".join(f"{name} {shape}" for name, shape in (SHAPES | LONG).items())
    lines = [TEXT.format(shapes=shapes, machine=machine())]
    for mode, title in MODES.items():
        if measured.get(mode):
            lines += [f"### {title}", "", *table(measured[mode]), ""]
    return "\n".join([*lines, REASONS])


def main():
    """Measures what has not been measured, prints it, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="measure all again")
    parser.add_argument("--mode", choices=MODES, help="measure one half only")
    options = parser.parse_args()
    measured = json.loads(STORE.read_text()) if STORE.exists() and not options.fresh else {}
    engines = dict.fromkeys(CELLS, "ours, 1 device") | PEERS
    workers = {cell: Worker(engine, LIMIT) for cell, engine in engines.items()}
    for mode in [options.mode] if options.mode else MODES:
        for name, shape in (SHAPES | LONG).items():
            if name not in measured.setdefault(mode, {}):
                measured[mode][name] = measure(workers, shape, mode)
                STORE.parent.mkdir(parents=True, exist_ok=True)
                STORE.write_text(json.dumps(measured))
            print(mode, name, {cell: entry(measured[mode][name], cell) for cell in COLUMNS}, flush=True)
    write_section("linear", page(measured))


if __name__ == "__main__":
    main()
