"""Hostile input: 10,400 cases of files, texts, settings and commands that are wrong, odd or made to do harm.

Run `python -m benchmarks.hostile`; it writes a section of docs/reliability.md. Each case has to end with a right
answer, compared with an independent reading, or with the documented error, within a time and a memory.
"""

import argparse
import collections
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SECONDS, MEBIBYTES = 60, 1024  # that a case may take, beside those that the process has before
FAILED = {"wrong", "died", "too slow", "too large"}
PAGE = Path("docs", "reliability.md")
HEADER = """## Bad input

{cases:,} cases, drawn from a seed: files damaged and made to do harm, odd texts, settings of any type, in worker
processes. Each has to be refused with the documented error (`InputError`; of a command, one line and exit code 2)
or to give the answer of an independent reader (`csv`, `json`, `pyarrow`, `numpy`), in {seconds} s and {most:,} MiB.
None executes code: no file that the library reads has a pickle in it.

Remake it: `python -m benchmarks.hostile` ({minutes:.0f} minutes). {machine}.

| room | cases | kinds | refused | answered | failed | slowest, s | most memory, MiB |
|---|---|---|---|---|---|---|---|
"""


def rooms():
    """Returns what draws a case, by name, in the order in which cases are drawn; the workers alone import it."""
    from benchmarks.hostile_arrays import parameter_case, vector_case
    from benchmarks.hostile_calls import command_case, conversion_case, setting_case
    from benchmarks.hostile_tables import table_case
    from benchmarks.hostile_use import run_case, text_case

    shares = {
        "tables: CSV, JSON, Parquet": (table_case, 5),
        "word vectors and archives": (vector_case, 5),
        "files of parameters": (parameter_case, 3),
        "folders of runs": (run_case, 2),
        "texts to predict": (text_case, 1),
        "`rnn-jax`": (command_case, 2),
        "configs": (setting_case, 1),
        "arrays to convert": (conversion_case, 1),
    }
    return [(name, case) for name, (case, share) in shares.items() for _ in range(share)]


def run(number: int, seed: int, drawn: list) -> dict:
    """Runs a case in this process, and returns what came of it."""
    from benchmarks.hostile_use import Refused
    from rnn_jax.errors import InputError

    room, case = drawn[number % len(drawn)]
    rng = random.Random(seed * 10**6 + number)
    with tempfile.TemporaryDirectory() as folder:
        kind, answer = case(rng, Path(folder))
        before, began, said = _memory(reset=True), time.perf_counter(), ""
        try:
            answer()
            outcome = "answered"
        except (InputError, Refused) as error:
            outcome, said = "refused", str(error)[:300]
        except BaseException:  # what it is for: anything else is a failure, a panic of a library too
            outcome, said = "wrong", traceback.format_exc()[-3000:]
        seconds = time.perf_counter() - began
    grown = _memory(reset=False) - before
    if outcome != "wrong" and grown > MEBIBYTES:
        outcome = "too large"
    return {
        "case": number,
        "room": room,
        "kind": kind,
        "outcome": outcome,
        "said": said,
        "seconds": seconds,
        "memory": grown,
    }


def _memory(reset: bool) -> float:
    """Returns the most memory, in MiB, that the process held since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def work(numbers: list[int], seed: int) -> None:
    """Prints what came of each case, before it "begun", as JSON lines."""
    import jax

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    jax.config.update("jax_compilation_cache_dir", os.environ["HOSTILE_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    drawn = rooms()
    for _, case in dict(drawn).items():  # what they import and compile is not of a case
        for first in range(3):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    case(random.Random(first), Path(folder))[1]()
                except Exception:  # it is a case that is run for its own result, too
                    continue
    for number in numbers:
        print(json.dumps({"begun": number}), file=out)
        print(json.dumps(run(number, seed, drawn)), file=out)


def results(numbers: list[int], seed: int):
    """Yields what came of each case; a worker that dies or takes too long is followed by another."""
    left = list(numbers)
    while left:
        command = [
            sys.executable,
            "-m",
            "benchmarks.hostile",
            "--work",
            ",".join(map(str, left)),
            "--seed",
            str(seed),
        ]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        begun, limit = None, 300  # until the first case has begun it imports and compiles
        while True:
            ready = select.select([worker.stdout], [], [], limit)[0]
            line = worker.stdout.readline() if ready else b""
            if not line:
                worker.kill()
                outcome = "died" if ready else "too slow"
                if left:
                    number = left[0] if begun is None else begun
                    yield {
                        "case": number,
                        "room": "?",
                        "kind": "?",
                        "outcome": outcome,
                        "said": f"{worker.wait()}",
                        "seconds": SECONDS,
                        "memory": 0,
                    }
                    left = left[left.index(number) + 1 :]
                break
            found = json.loads(line)
            limit = SECONDS
            if "begun" in found:
                begun = found["begun"]
            else:
                left.remove(found["case"])
                yield found


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
            f"| {name} | {len(cases):,} | {kinds} | {counts['refused']:,} | {counts['answered']:,} | {failed} "
            f"| {slowest:.1f} | {memory:,.0f} |\n"
        )
    return "".join(lines)


def main() -> None:
    """Runs the cases and writes the section; ends with code 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_400)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-page", action="store_true", help="leave docs/reliability.md as it is")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(list(map(int, options.work.split(","))), options.seed)
        return
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
    from benchmarks.report import machine, replace_section

    header = HEADER.format(cases=cases, seconds=SECONDS, most=MEBIBYTES, minutes=minutes, machine=machine())
    page = PAGE.read_text() if PAGE.exists() else "# Reliability\n"
    PAGE.write_text(replace_section(page, "bad input", header + lines.rstrip()))


if __name__ == "__main__":
    main()
