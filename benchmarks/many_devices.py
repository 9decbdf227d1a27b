"""A model of training on many devices, none of it measured: what a step reduces, and how long it takes."""

import numpy as np

WORDS, WIDTH, BATCH, TIME = 50_000, 100, 32, 128  # of the network; texts and words of a device's batch
KINDS = {"dense": "the whole table", "row-sparse": "a batch's rows", "frozen": "no table"}
NETWORKS = {"200 Gb/s, 10 µs": (25e9, 10e-6), "10 Gb/s, 50 µs": (1.25e9, 50e-6)}  # bytes/s; s a message
DEVICES = (8, 64, 256, 1024)
COMPUTE = 0.010  # seconds that a device computes in a step


def reduced_bytes(kind: str, devices: int, head: int) -> int:
    """Returns the bytes of a gradient; `head` is the number of parameters that are not the table."""
    rows = {"dense": WORDS, "frozen": 0, "row-sparse": min(WORDS, BATCH * TIME * devices)}[kind]
    return 4 * (head + rows * WIDTH)


def step_seconds(size: int, devices: int, bandwidth: float, latency: float) -> float:
    """Returns the seconds of a step on so many devices, each with as many rows as one alone would have.

    COMPUTE, and an all-reduce that sends 2 (N - 1) / N of the bytes from each device, in 2 log2(N) messages
    one after another.
    """
    return COMPUTE + 2 * (devices - 1) / devices * size / bandwidth + 2 * np.log2(devices) * latency


def predicted(head: int) -> str:
    """Returns the table of the model."""
    lines = ["| gradient | network | " + " | ".join(f"{count:,} devices" for count in DEVICES) + " |"]
    lines.append("|---" * (2 + len(DEVICES)) + "|")
    for kind in KINDS:
        for network, (bandwidth, latency) in NETWORKS.items():
            cells = []
            for count in DEVICES:
                size = reduced_bytes(kind, count, head)
                seconds = step_seconds(size, count, bandwidth, latency)
                cells.append(f"{size / 1e6:.2g} MB, {1000 * seconds:.1f} ms, {COMPUTE / seconds:.0%}")
            lines.append(f"| {kind} | {network} | {' | '.join(cells)} |")
    return "\n".join(lines)
