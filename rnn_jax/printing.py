"""What the commands print: tables, and predictions as JSON lines."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rnn_jax.inference import Prediction


def json_lines(texts: Sequence[str], prediction: Prediction, names: Sequence[str]) -> list[str]:
    """Returns a line for each text, with its label and the probability of every label."""
    return [
        json.dumps(
            {"text": text, "label": label, "probabilities": dict(zip(names, map(float, row), strict=True))}
        )
        for text, label, row in zip(texts, prediction.labels, prediction.probabilities, strict=True)
    ]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under the names of their columns."""
    # In a pipe nothing limits the width, so that no row is folded.
    console = Console(
        markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 10_000
    )
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def one_line(text: str) -> str:
    """Returns the first 200 characters, those that no terminal shows as spaces, runs of spaces as one."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(c if c.isprintable() else " " for c in text[:200]).encode(encoding, "replace")
    return " ".join(shown.decode(encoding).split()) + ("..." if len(text) > 200 else "")
