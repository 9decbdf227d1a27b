"""The commands in README and the pages name what exists: programs, flags, settings, files, extras."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from rnn_jax import cli
from rnn_jax.settings import recipe, recipe_path
from rnn_jax.training.automatic import AUTO
from rnn_jax.training.command import read_config_file, with_overrides
from tests.helpers.pages import DOCS, HISTORY, PAGES, ROOT, commands

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
COMMANDS = sorted({tuple(words) for page in PAGES if page != HISTORY for words in commands(page)})
OTHER_PROGRAMS = ("mkdocs", "python3", "source", "pip install")
FILES = re.compile(r"(?:rnn_jax|configs|tests|benchmarks|docs)/(?!NAME)[\w/]*\.(?:py|md|png)")


def check_training(words):
    """Fails unless the arguments of a training command exist, and its settings take their values."""
    options, overrides = cli.parser().parse_known_args(["train", *words])
    if options.start and not (options.config or options.recipe):
        with_overrides(recipe("lstm"), overrides)
        return
    own = options.config and (Path(options.config).parent == Path() or Path(options.config).stem == "NAME")
    path = options.config or recipe_path("lstm" if options.recipe == AUTO else options.recipe)
    read_config_file(recipe_path("lstm") if own else ROOT / path, overrides)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_names_what_exists(words):
    if "..." in words:
        return
    line = " ".join(words)
    if words[:2] == ("python", "train_loop.py"):
        check_training(words[2:])
    elif words[0] == "rnn-jax" and len(words) == 2:  # its name alone
        assert words[1] in {function.__name__ for function in cli.COMMANDS}
    elif words[:2] == ("rnn-jax", "train"):
        check_training(words[2:])
    elif words[0] == "rnn-jax":
        cli.parser().parse_args(words[1:])
    elif words[:2] == ("python", "-m"):
        assert importlib.util.find_spec(words[2]), words[2]
    elif found := re.match(r"pip install -e \.\[([\w,]+)\]", line):
        assert set(found[1].split(",")) <= {*EXTRAS, "NAME"}
    else:
        assert line.startswith(OTHER_PROGRAMS) or line == "pytest", line


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.stem)
def test_a_page_names_files_that_exist(page):
    missing = [name for name in FILES.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing


def test_readme_links_to_files_and_ci_runs_its_tests():
    for link in re.findall(r"\]\(([\w/.]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link
    assert 'pip install -q -e ".[test]" && pytest' in (ROOT / ".ci" / "run").read_text()


def test_the_architecture_names_every_file_of_the_package():
    text = (DOCS / "architecture.md").read_text()
    for path in (ROOT / "rnn_jax").glob("[!_]*.py"):
        assert f"`{path.stem}`" in text, path
    for path in (ROOT / "rnn_jax").glob("*/*.py"):
        section = re.search(rf"### {path.parent.name}\n(.*?)\n##", text, re.DOTALL)[1]
        assert path.name == "__init__.py" or f"`{path.name}`" in section, path


def test_where_is_what_names_tables_and_classes_that_exist():
    code = "".join(path.read_text() for path in (ROOT / "rnn_jax").rglob("*.py"))
    names = re.findall(r"`([A-Z]\w+|\w+_\w+)`", (DOCS / "where.md").read_text())
    assert len(names) > 10
    assert not [
        name for name in names if not re.search(rf"(?:class |def |^|    ){name}[(:\s=]", code, re.MULTILINE)
    ]
