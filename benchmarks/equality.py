"""How far apart results are that have to be equal: other frameworks, layouts, transformations, exports.

Run `python -m benchmarks.equality`; needs the extras `test`, `interop` and `bench`. It runs the tests of
these promises, with everything they compare through numpy's `assert_allclose` measured, and writes a section
of docs/reliability.md: the figures are the tests' own.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.report import machine, replace_section

PAGE = Path("docs", "reliability.md")
FILES = {
    "Other frameworks": ("torch", "flax", "convert"),
    "Every state, transformations": ("carries", "transformations"),
    "Word by word, which words decide": ("streaming", "attribution"),
    "Exports": ("export",),
}
HEADER = """## Equality

What the tests compare, and how far apart it is: the largest absolute difference of all numbers and cases, and
the largest share of what a test allows. Test names are sentences; `tests/test_*.py` has their code. What has
to be equal to the bit is, and is not listed.

Remake it: `python -m benchmarks.equality` ({minutes:.0f} minutes). {machine}.

| test | cases | largest difference | of what is allowed |
|---|---|---|---|
"""


class Distance(NamedTuple):
    """How far two arrays are apart at most, and the largest share of the tolerance."""

    apart: float
    share: float

    def farther(self, other: "Distance") -> "Distance":
        """Returns the larger of each."""
        return Distance(*map(max, self, other))


def distance(actual, desired, rtol=1e-7, atol=0.0) -> Distance:
    """Returns how far apart the arguments of `assert_allclose` are."""
    actual, desired = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (actual, desired)))
    apart = np.abs(actual - desired)
    allowed = atol + rtol * np.abs(desired)
    shares = np.divide(apart, allowed, out=np.zeros_like(apart), where=apart > 0)
    return Distance(float(apart.max(initial=0)), float(shares.max(initial=0)))


class Watch:
    """A plugin of pytest that notes what each test compares, and the seconds of all."""

    def __init__(self):
        self.found: dict[str, dict[str, Distance]] = {}  # by test function, by case
        self.seconds = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Runs one test with `assert_allclose` watched."""
        compare, notes = np.testing.assert_allclose, self.found.setdefault(item.nodeid.split("[")[0], {})

        def watched(actual, desired, *rest, **named):
            limits = dict(zip(("rtol", "atol"), rest, strict=False)) | {
                name: named[name] for name in ("rtol", "atol") if name in named
            }
            new = distance(actual, desired, **limits)
            notes[item.nodeid] = new.farther(notes.get(item.nodeid, new))
            return compare(actual, desired, *rest, **named)

        np.testing.assert_allclose = watched
        try:
            return (yield)
        finally:
            np.testing.assert_allclose = compare

    def pytest_runtest_logreport(self, report):
        """Adds up the time."""
        self.seconds += report.duration


def row(name: str, cases: dict[str, Distance]) -> str:
    """Returns the table's line of one test."""
    sentence = name.split("::test_")[1].replace("_", " ")
    most = Distance(*map(max, zip(*cases.values(), strict=True)))
    return f"| {sentence} | {len(cases)} | {most.apart:.1g} | {most.share:.0%} |\n"


def table(watch: Watch) -> str:
    """Returns the section."""
    text = HEADER.format(minutes=max(1, watch.seconds / 60), machine=machine())
    for title, names in FILES.items():
        rows = [
            row(name, cases)
            for name, cases in watch.found.items()
            if cases and name.split("::")[0] in {f"tests/test_{each}.py" for each in names}
        ]
        text += f"| **{title}** | | | |\n{''.join(rows)}"
    return text.rstrip("\n")


def main():
    """Runs the tests and, if they pass, writes the section."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    files, watch = [f"tests/test_{name}.py" for names in FILES.values() for name in names], Watch()
    code = pytest.main(["-q", "-n", "0", *files], plugins=[watch])
    if code:
        raise SystemExit(f"the tests failed (pytest ended with {int(code)}); {PAGE} is as it was")
    PAGE.write_text(replace_section(PAGE.read_text(), "equality", table(watch)))


if __name__ == "__main__":
    main()
