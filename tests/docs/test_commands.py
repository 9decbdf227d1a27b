"""The commands in README and the pages name what exists: programs, flags, settings, files, extras."""

import ast
import importlib.util
import re
import tomllib

import pytest
from absl import flags

import rnn_jax
import train_loop  # noqa: F401  # which defines the flags
from rnn_jax import cli
from tests.helpers.pages import DOCS, HISTORY, PAGES, ROOT, commands

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
COMMANDS = sorted({tuple(words) for page in PAGES if page != HISTORY for words in commands(page)})
OTHER_PROGRAMS = ("mkdocs", "python3", "source", "pip install")
FILES = re.compile(r"(?:rnn_jax|configs|tests|benchmarks|docs)/(?!NAME)[\w/]*\.(?:py|md|png)")
TRAINS = hasattr(rnn_jax, "train_and_evaluate")  # else what training has in the package is yet to come


def config_of(name):
    """Returns the config of a recipe; of a reader's own file, the reference."""
    path = ROOT / "configs" / f"{name}.py"
    module = "lstm" if name in ("my", "NAME") else name
    assert path.exists() or module == "lstm", f"there is no recipe {name}"
    return importlib.import_module(f"configs.{module}").get_config()


def check_training(words):
    """Fails unless the flags of a training command exist, and its settings take their values."""
    given = dict(re.fullmatch(r"--?([\w.]+)=(.*)", word).groups() for word in paired(words))
    recipe = given.pop("recipe", None) or re.search(r"(\w+)\.py", given.pop("config"))[1]
    config = config_of(recipe)
    for name, value in given.items():
        if name.startswith("config."):
            *section, key = name.split(".")[1:]
            place = config[section[0]] if section else config
            assert key in place, name
            kind = type(place[key])
            read = value if kind is str else ast.literal_eval(value)
            assert kind(read) == read, f"{name} is a {kind.__name__}"
        else:
            assert name in flags.FLAGS, name


def paired(words):
    """Returns flags as --name=value, where the value may have been a word of its own."""
    joined = []
    for word in words:
        if word.startswith("--"):
            joined.append(word)
        else:
            joined[-1] += f"={word}"
    return joined


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_names_what_exists(words):
    if "..." in words or (words[:2] == ("rnn-jax", "train") and not TRAINS):
        return
    line = " ".join(words)
    if words[:2] == ("python", "train_loop.py"):
        check_training(words[2:])
    elif words[:2] == ("rnn-jax", "train"):
        assert "train" in {function.__name__ for function in cli.COMMANDS}
        check_training(words[2:])
    elif words[0] == "rnn-jax" and len(words) == 2:
        assert words[1] in {function.__name__ for function in cli.COMMANDS}
    elif words[0] == "rnn-jax":
        cli._parser().parse_args(words[1:])
    elif words[:2] == ("python", "-m"):
        assert importlib.util.find_spec(words[2]), words[2]
    elif found := re.match(r"pip install -e \.\[([\w,]+)\]", line):
        assert set(found[1].split(",")) <= {*EXTRAS, "NAME"}
    else:
        assert line.startswith(OTHER_PROGRAMS) or line == "pytest", line


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.stem)
def test_a_page_names_files_that_exist(page):
    missing = [name for name in FILES.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing or (missing[0].endswith("loop.py") and not TRAINS)


def test_readme_links_to_files_and_ci_runs_its_tests():
    for link in re.findall(r"\]\(([\w/.]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link
    assert 'pip install -q -e ".[test]" && pytest' in (ROOT / ".ci" / "run").read_text()


def test_the_architecture_names_every_file_of_the_package():
    text = (DOCS / "architecture.md").read_text()
    for path in (ROOT / "rnn_jax").glob("*/*.py"):
        section = re.search(rf"### {path.parent.name}\n(.*?)\n##", text, re.DOTALL)[1]
        assert path.name == "__init__.py" or f"`{path.name}`" in section, path
