"""The site: every page is in its navigation, every link leads somewhere, nothing is loaded from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.helpers.pages import DOCS, ROOT

SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//|<link[^>]*href=\"?(?:https?:)?//|@import"
)


def pages_of(nav):
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from pages_of(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once():
    listed = sorted(pages_of(SETTINGS["nav"]))
    assert listed == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_wing_has_its_page_of_the_reference():
    wings = {path.parent.name for path in (ROOT / "rnn_jax").glob("*/__init__.py")}
    assert wings <= {path.stem for path in (DOCS / "api").glob("*.md")}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not LOADED.search(text), page
        assert not re.search(r"<blockquote>\s*<blockquote>", text), f"{page} has a doctest that is no code"
    assert [path.name for path in tmp_path.rglob("*.json")] == ["search_index.json"]
    assert not list(tmp_path.rglob("*.py"))
