"""The wheel alone, in an empty folder: it has every wing, and a recipe, a config and Python train."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.jobs import write_reviews

ROOT = Path(__file__).parents[2]
CONFIG = """
import rnn_jax

def get_config():
    config = rnn_jax.recipe("smoke")
    config.train.epochs = 2
    return config
"""
PROGRAM = """
import sys
import rnn_jax
config = rnn_jax.recipe("smoke")
config.data.source = sys.argv[1]
results = rnn_jax.train_and_evaluate(config, "runs/python")
print(results["steps"], rnn_jax.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns a folder in which the wheel is unpacked, and nothing else of the project."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(installed, folder, *command):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_wing_is_imported_from_it(installed, tmp_path):
    wings = sorted(path.parent.name for path in (ROOT / "rnn_jax").glob("*/__init__.py"))
    names = [f"rnn_jax.{wing}" for wing in wings]
    program = f"import importlib; print([importlib.import_module(name).__file__ for name in {names}])"
    assert eval(run(installed, tmp_path, "-c", program)) == [
        str(installed / "rnn_jax" / wing / "__init__.py") for wing in wings
    ]


def test_it_has_the_recipes_of_the_repository(installed):
    folders = (installed / "rnn_jax" / "recipes", ROOT / "configs")
    shipped, ours = ({path.name: path.read_text() for path in folder.glob("*.py")} for folder in folders)
    assert shipped == ours
    assert len(shipped) > 10


def test_a_recipe_a_config_and_python_train(installed, tmp_path):
    source = f"--config.data.source={write_reviews(tmp_path / 'reviews.jsonl', 120)}"
    (tmp_path / "my.py").write_text(CONFIG)
    train = ("-m", "rnn_jax.cli", "train", "--workdir")
    assert "test accuracy" in run(installed, tmp_path, *train, "runs/recipe", "--recipe", "smoke", source)
    assert "test accuracy" in run(installed, tmp_path, *train, "runs/mine", "--config", "my.py", source)
    said = run(installed, tmp_path, "-c", PROGRAM, tmp_path / "reviews.jsonl").split()
    assert said[-1] == str(installed / "rnn_jax" / "__init__.py")
    steps = {
        name: json.loads((tmp_path / "runs" / name / "results.json").read_text())["steps"]
        for name in ("recipe", "mine", "python")
    }
    assert steps == {"recipe": int(said[-2]), "mine": 2 * int(said[-2]), "python": int(said[-2])}


LISTS = """
import rnn_jax
texts = [f"{kind} film {number}" for number in range(40) for kind in ("a fine", "a dull")]
model = rnn_jax.fit(texts, ["good", "bad"] * 40, recipe="smoke", progress=False)
print(*model.predict(texts[:2]).labels, rnn_jax.__file__)
"""


def test_two_lists_become_a_model_and_leave_the_folder_empty(installed, tmp_path):
    *labels, file = run(installed, tmp_path, "-c", LISTS).split()
    assert {*labels} <= {"good", "bad"}
    assert file == str(installed / "rnn_jax" / "__init__.py")
    assert not list(tmp_path.iterdir())
