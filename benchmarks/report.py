"""docs/performance.md: sections that commands rewrite, and the machine they ran on."""

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

PAGE = Path("docs/performance.md")
PACKAGES = ("jax", "flax", "torch", "keras")


def processor():
    """Returns the processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    flags = (re.search(r"flags\s*: (.*)", text) or ["", ""])[1].split()
    widths = [flag for flag in ("avx512f", "avx2") if flag in flags]
    bfloat16 = "bfloat16 units" if {"avx512_bf16", "amx_bf16"} & set(flags) else "no bfloat16 units"
    return f"{name[1] if name else platform.machine()} ({', '.join([*widths[:1], bfloat16])})"


def machine():
    """Returns where and with what a measurement was made."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    date = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{date}, {os.cpu_count()} cores of a shared {processor()}, {', '.join(versions)}"


def replace_section(page, name, text):
    """Returns the page with the text between the marks of the section, which is added if it is not there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text}\n{end}"
    if begin not in page:
        return f"{page.rstrip()}\n\n{section}\n"
    before, rest = page.split(begin, 1)
    return before + section + rest.split(end, 1)[1]


def write_section(name, text):
    """Writes the section to the page."""
    page = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    PAGE.write_text(replace_section(page, name, text))
