"""Hostile input: 10,400 cases of files, texts, settings and commands, wrong or made to do harm.

Run `python -m tests.stress.hostile`; needs the extra `interop`; writes a section of docs/reliability.md. Each
case has to end with a right answer, compared with an independent reading, or with the documented error,
within a time and a memory.
"""

import argparse
import collections
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import machine, replace_section
from rnn_jax.files import EXPANSION, FREE, LARGEST_TEXT
from rnn_jax.vectors.readers import BROKEN, LONGEST_LINE, WIDEST
from tests.stress.hostile_worker import MEBIBYTES, SECONDS

NOTHING = {"room": "?", "kind": "?", "seconds": SECONDS, "memory": 0}
FAILED = {"wrong", "died", "too slow", "too large"}
PAGE = Path("docs", "reliability.md")
HEADER = """## Bad input

Bad or malicious input is either read correctly or rejected with an `InputError`. The error names the file or
the argument, what is wrong, and what to do. A command prints it after `rnn-jax:` or `error:`, without a
traceback, and ends with code 1 or 2. Texts that are not a list of strings raise a `TypeError`. Input that is
odd but well formed is read as it is.

- Tables are UTF-8, with or without a byte order mark, with any line ending. These are refused: another
  encoding; an archive under another name; rows with more fields than the header; quotes that are not closed;
  a column or a field named twice; JSON that is not objects, or is nested deeper than Python's limit; half of
  a surrogate pair; labels of two types, missing labels, or fractions. An empty field of a CSV is missing;
  "NA" and "null" are texts, and formulas are only text.
- A compressed file (`.gz`, `.zip`, `.npz`, Parquet, a checkpoint) may expand to {expansion} times its
  size, or to {free} MiB if that is more. It is read as a stream. No member is unpacked to disk, whatever its
  name. A table may take a few times the size of its file in memory.
- Word vectors may have lines of up to {line:,} bytes and up to {widest:,} numbers. If most of the first
  {broken:,} lines of a file hold no vector, the rest is not read.
- A run's `config.json`, `task.json` and `tokenizer.json` may have up to {largest} MiB. The sizes in them have
  limits too, in `rnn_jax/checkpoints/restore.py`. Only the vocabulary is taken from a tokeniser. Patterns or
  padding that this version does not write are refused.
- A named pipe, a device or a folder in the place of a file is refused at once.
- No reader executes what it reads. None uses pickle, and numpy's is switched off. `train_loop.py --config`
  does run the Python file that you give it, so give it only files that you would run.

The proof is {cases:,} cases, drawn from a seed, in worker processes: files that are damaged or malicious, odd
texts, settings of any type. Each must either be refused as described or give the answer of an independent
reader (`csv`, `json`, `pyarrow`, `numpy`), within {seconds} s and {most:,} MiB.

Make this section again: `python -m tests.stress.hostile` ({minutes:.0f} minutes). {machine}.

| what is read | cases | kinds | refused | answered | failed | slowest, s | most memory, MiB |
|---|---|---|---|---|---|---|---|
"""


def results(numbers: list[int], seed: int) -> Iterator[dict]:
    """Yields what came of each case; a worker that dies or takes too long is followed by another."""
    left = list(numbers)
    while left:
        command = [sys.executable, "-m", "tests.stress.hostile_worker", json.dumps(left), str(seed)]
        worker = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        lines: Any = worker.stdout
        begun, limit = -1, 300  # before the first case it imports and compiles
        while left:
            ready = select.select([lines], [], [], limit)[0]
            line = lines.readline() if ready else b""
            if not line:
                break
            found, limit = json.loads(line), SECONDS
            if "begun" in found:
                begun = found["begun"]
            else:
                left.remove(found["case"])
                yield found
        worker.kill()
        code = worker.wait()
        if left and begun < 0:
            raise SystemExit(f"a worker ended with code {code} before its first case")
        if left:
            outcome = "died" if ready else "too slow"
            left = left[left.index(begun) + 1 :]
            yield {"case": begun, "outcome": outcome, "said": f"code {code}", **NOTHING}


def table(found: list[dict]) -> str:
    """Returns a row for each room, and one for all."""
    lines = []
    by_room = collections.defaultdict(list)
    for each in found:
        by_room[each["room"]].append(each)
    for name, cases in [*by_room.items(), ("all", found)]:
        counts = collections.Counter(each["outcome"] for each in cases)
        kinds = len({each["kind"] for each in cases})
        failed = sum(counts[outcome] for outcome in FAILED)
        slowest, memory = max(each["seconds"] for each in cases), max(each["memory"] for each in cases)
        lines.append(
            f"| {name} | {len(cases):,} | {kinds} | {counts['refused']:,} | {counts['answered']:,} "
            f"| {failed} | {slowest:.1f} | {memory:,.0f} |\n"
        )
    return "".join(lines)


def main() -> None:
    """Runs the cases and writes the section; ends with code 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_400)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-page", action="store_true", help="do not write docs/reliability.md")
    options = parser.parse_args()
    found, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"HOSTILE_CACHE": cache, "RNN_JAX_CACHE": f"{cache}/rnn_jax", "HF_HUB_OFFLINE": "1"}
        for each in results(list(range(options.first, options.first + options.cases)), options.seed):
            found.append(each)
            if each["outcome"] in FAILED or each["seconds"] > SECONDS / 4:
                print(json.dumps(each), flush=True)
    minutes = (time.perf_counter() - began) / 60
    print(table(found))
    if not options.no_page:
        write(table(found), minutes, len(found))
    sys.exit(any(each["outcome"] in FAILED for each in found))


def write(lines: str, minutes: float, cases: int) -> None:
    """Writes the section, and leaves the others of the page."""
    bounds = {
        "expansion": EXPANSION,
        "free": FREE // 2**20,
        "largest": LARGEST_TEXT // 2**20,
        "line": LONGEST_LINE,
        "widest": WIDEST,
        "broken": BROKEN,
        "seconds": SECONDS,
        "most": MEBIBYTES,
    }
    header = HEADER.format(cases=cases, minutes=minutes, machine=machine(), **bounds)
    page = PAGE.read_text() if PAGE.exists() else "# Reliability\n"
    PAGE.write_text(replace_section(page, "bad input", header + lines.rstrip()))


if __name__ == "__main__":
    main()
