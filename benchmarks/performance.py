"""Tables and pictures of what benchmarks/recurrence.py measured."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report import machine
from rnn_jax.distributed.host import cores, cpu_devices

OURS = ("ours", "ours, 1 device", "ours, fused")
PEERS = ("torch", "flax", "flax, split", "keras")
PICTURE = Path("docs/performance.png")


def fastest(results, engines):
    """Returns (milliseconds, engine) of the fastest of them, or None where none was measured."""
    times = [(results[engine]["ms"], engine) for engine in engines if "ms" in results.get(engine, {})]
    return min(times) if times else None


def chosen(case):
    """Returns the engine that the library would choose for the case: the number of CPU devices."""
    return OURS[cpu_devices(case["H"], case["dtype"]) < cores()]


def ratio(case, results, peers=None):
    """Returns the best peer's time over ours; `peers` gives the results of peers, where they are others."""
    ours, peer = fastest(results, [chosen(case)]), fastest(peers or results, PEERS)
    return peer[0] / ours[0] if ours and peer else None


def train_flop(case):
    """Returns the operations of a training step that no implementation can leave out; x needs no gradient."""
    gates, directions = {"LSTM": 4, "GRU": 3}[case["cell"]], 1 + case["bidirectional"]
    rows, hidden, width, total = case["B"] * case["T"], case["H"], case["E"], 0
    for layer in range(case["layers"]):
        products = 2 * (width + hidden) + hidden + (width if layer else 0)
        total += directions * 2 * rows * gates * hidden * products
        width = directions * hidden
    return total


def cell(value, form="{:.1f}"):
    """Returns a table's cell; a dash for what was not measured."""
    return "-" if value is None else form.format(value)


def times_table(stored, shapes, rows):
    """Returns the table of milliseconds and ratios of (label, case) rows."""
    lines = [
        f"| | {' | '.join((*OURS, *PEERS))} | best peer over ours |",
        "|---" * (len(OURS) + len(PEERS) + 2) + "|",
    ]
    for label, case in rows:
        results = stored.get(json.dumps(case))
        if results:
            times = [cell(results.get(engine, {}).get("ms")) for engine in (*OURS, *PEERS)]
            lines.append(f"| {label} | {' | '.join(times)} | **{cell(ratio(case, results), '{:.2f}')}** |")
    return "\n".join(lines) if len(lines) > 2 else ""


def bfloat16_table(stored, shapes, networks, a_case):
    """Returns bfloat16 training times against the best float32 peer."""
    lines = ["| | ours | ours in float32 | torch | best float32 peer over ours |", "|---" * 5 + "|"]
    for network in networks:
        for name, shape in shapes.items():
            case = a_case(shape, network, dtype="bfloat16")
            low, full = stored.get(json.dumps(case)), stored.get(json.dumps(a_case(shape, network)))
            if low and full:
                ours = [chosen(case)]
                times = [fastest(low, ours), fastest(full, ours), fastest(low, ["torch"])]
                cells = " | ".join(cell(time[0] if time else None) for time in times)
                lines.append(f"| {network} {name} | {cells} | **{cell(ratio(case, low, full), '{:.2f}')}** |")
    return "\n".join(lines)


def cost_table(stored, shapes, a_case):
    """Returns memory, share of the product rate and compilation, of a training step of one LSTM layer."""
    lines = [
        "| | ours, MiB | ours with remat, MiB | Flax, MiB | Flax over ours, with remat "
        "| share of the product rate | trace, compile: ours, s | Flax, s |",
        "|---" * 8 + "|",
    ]
    for name, shape in shapes.items():
        case = a_case(shape)
        kept, less = (stored.get(json.dumps(a_case(shape, remat=remat))) for remat in (None, True))
        if not (kept and less and "bytes" in kept["flax"]):
            continue
        one, remat, flax = (
            results[engine]["bytes"] / 2**20
            for results, engine in ((kept, OURS[1]), (less, OURS[1]), (kept, "flax"))
        )
        milliseconds, engine = fastest(kept, [chosen(case)])
        share = train_flop(case) / milliseconds / 1e6 / stored["rate"]
        built = [f"{kept[engine]['trace']:.1f}, {kept[engine]['compile']:.1f}" for engine in (engine, "flax")]
        lines.append(
            f"| {name} | {one:.0f} | {remat:.0f} | {flax:.0f} | {flax / one:.1f}, {flax / remat:.1f} "
            f"| {share:.0%} | {built[0]} | {built[1]} |"
        )
    return "\n".join(lines)


def performance_page(stored, shapes, networks, a_case):
    """Returns the Markdown of all tables."""
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    parts = [
        "## Layer by layer",
        "Make these tables again: `python -m benchmarks.recurrence`. They have milliseconds, medians of "
        f"interleaved runs. Shapes (batch, steps, inputs, units): {listed}. Training computes a loss on the "
        "final hidden state and its gradient with respect to all weights. Forward computes all outputs and "
        'the final state. "Ours" is what the library takes by itself: on one device for each core, and on '
        'one device. "Ours, fused" is without the native kernels. The ratio uses the number of devices that '
        "the library chooses."
        f" {machine()}; square float32 products reach {stored['rate']:.0f} GFLOP/s.",
    ]
    for kind in ("LSTM", "GRU"):
        for mode in ("train", "forward"):
            rows = [
                (f"{network} {name}", a_case(shape, network, kind, mode))
                for network in networks
                for name, shape in shapes.items()
            ]
            table = times_table(stored, shapes, rows)
            parts += [f"### {kind}, {mode}", table] if table else []
    parts += ["### LSTM, train, bfloat16 products", bfloat16_table(stored, shapes, networks, a_case)]
    parts += ["### What a training step costs (one LSTM layer)", cost_table(stored, shapes, a_case)]
    if PICTURE.exists():
        parts.append(f"![training time over steps, batch, units and layers]({PICTURE.name})")
    return "\n\n".join(parts)


def draw_curves(stored, a_case):
    """Draws training time as one size changes and the others stay at (16, 256, 100, 128) and one layer."""
    base = {"T": 256, "B": 16, "H": 128, "layers": 1}
    names = {"T": "steps", "B": "batch", "H": "units", "layers": "layers"}
    cases = [(json.loads(key), results) for key, results in stored.items() if key.startswith("{")]
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axes, varied in zip(figure.subplots(1, 4), base, strict=True):
        for engine, marker in (("ours", "o"), ("torch", "s"), ("flax, split", "^")):
            points = sorted(
                (case[varied], results[engine]["ms"])
                for case, results in cases
                if case["E"] == 100
                and case | {varied: None} == a_case((16, 256, 100, 128)) | base | {varied: None}
                and "ms" in results.get(engine, {})
            )
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=engine)
        sizes = [size for size, _ in points]
        axes.set(xscale="log", yscale="log", xlabel=names[varied], xticks=sizes, xticklabels=sizes)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("training step, ms")
    figure.axes[0].legend()
    figure.savefig(PICTURE, dpi=120)
