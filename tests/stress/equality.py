"""How far apart results are that have to be equal: other frameworks, layouts, transformations, exports.

Run `python -m tests.stress.equality`; needs the extras `test`, `interop` and `bench`. It runs the tests of
these promises, with everything they compare through numpy's `assert_allclose` measured, and writes a section
of docs/reliability.md: the figures are the tests' own.
"""

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.report import machine, replace_section

PAGE = Path("docs", "reliability.md")
FILES = {
    "Other frameworks": (
        "tests/properties/test_torch.py",
        "tests/properties/test_flax.py",
        "tests/convert/test_frameworks.py",
    ),
    "Every state, transformations": (
        "tests/properties/test_carries.py",
        "tests/properties/test_transformations.py",
    ),
    "Word by word, which words decide": (
        "tests/inference/test_stream.py",
        "tests/inference/test_attribution.py",
    ),
    "Exports": ("tests/inference/test_export.py",),
}
HEADER = """## Equality

Some results have to be equal up to rounding. The table says how far apart they are: the largest absolute
difference of all numbers and cases, and the largest share of the tolerance of the test. Test names are
sentences; search `tests/` for their code. Results that have to be equal to the bit are equal, and are not
listed.

Make this section again: `python -m tests.stress.equality` ({minutes:.0f} minutes). {machine}.

| test | cases | largest difference | share of the tolerance |
|---|---|---|---|
"""


class Distance(NamedTuple):
    """How far two arrays are apart at most, and the largest share of the tolerance."""

    apart: float
    share: float


def distance(actual, desired, rtol: float, atol: float) -> Distance:
    """Returns how far apart the arguments of `assert_allclose` are."""
    actual, desired = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (actual, desired)))
    apart = np.abs(actual - desired)
    allowed = atol + rtol * np.abs(desired)
    shares = np.divide(apart, allowed, out=np.zeros_like(apart), where=apart > 0)
    return Distance(float(apart.max(initial=0)), float(shares.max(initial=0)))


class Watch:
    """A plugin of pytest that notes what each test compares, the seconds of all, and how many are skipped."""

    def __init__(self):
        self.found: dict[str, dict[str, list[Distance]]] = {}  # by test function, by case
        self.seconds, self.skipped = 0.0, 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Runs one test with `assert_allclose` watched."""
        compare, notes = np.testing.assert_allclose, self.found.setdefault(item.nodeid.split("[")[0], {})

        def watched(actual, desired, rtol=1e-7, atol=0, **options):
            notes.setdefault(item.nodeid, []).append(distance(actual, desired, rtol, atol))
            compare(actual, desired, rtol, atol, **options)

        np.testing.assert_allclose = watched
        try:
            return (yield)
        finally:
            np.testing.assert_allclose = compare

    def pytest_runtest_logreport(self, report):
        """Adds up the time and the skips."""
        self.seconds += report.duration
        self.skipped += report.skipped


def row(name: str, cases: dict[str, list[Distance]]) -> str:
    """Returns the table's line of one test."""
    sentence = name.split("::test_")[1].replace("_", " ")
    apart, share = map(max, zip(*itertools.chain(*cases.values()), strict=True))
    return f"| {sentence} | {len(cases)} | {apart:.1g} | {share:.0%} |\n"


def table(watch: Watch) -> str:
    """Returns the section."""
    text = HEADER.format(minutes=max(1, watch.seconds / 60), machine=machine())
    for title, files in FILES.items():
        rows = [
            row(name, cases) for name, cases in watch.found.items() if cases and name.split("::")[0] in files
        ]
        text += f"| **{title}** | | | |\n{''.join(rows)}"
    return text.rstrip("\n")


def main():
    """Runs the tests and, if they pass, writes the section."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    watch = Watch()
    code = pytest.main(["-q", "-n", "0", *itertools.chain(*FILES.values())], plugins=[watch])
    if code:
        raise SystemExit(f"the tests failed (pytest ended with {int(code)}); {PAGE} is as it was")
    if watch.skipped:
        raise SystemExit(f"{watch.skipped} tests were skipped; install the extras. {PAGE} is as it was")
    PAGE.write_text(replace_section(PAGE.read_text(), "equality", table(watch)))


if __name__ == "__main__":
    main()
