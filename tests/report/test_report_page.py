"""The page of a run: what a browser reads off it is what results.json says, and hostile texts stay texts."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from rnn_jax import cli, load
from rnn_jax.checkpoints.workdir import CONFIG, METRICS, RESULTS
from rnn_jax.errors import InputError
from rnn_jax.report import write_html
from tests.helpers.runs import make_run

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-quic"
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
NAMES = ("dull</td><script>document.title='taken'</script>", "fine")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder of a finished run whose test texts and labels are hostile, with its results."""
    workdir = tmp_path_factory.mktemp("report") / "run"
    make_run(workdir, names=NAMES)
    source = workdir.parent / "source"
    source.mkdir()
    for split, count in (("train", 6), ("validation", 4), ("test", 20)):
        rows = [{"text": f"{HOSTILE} {split} film {n} great", "label": n % 2} for n in range(count)]
        (source / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = json.loads((workdir / CONFIG).read_text())
    config["data"] |= {"source": str(source), "label_names": NAMES}
    (workdir / CONFIG).write_text(json.dumps(config))
    predictor = load(workdir)
    metrics = predictor.evaluate([row["text"] for row in map(json.loads, _lines(source))], [0, 1] * 10)
    confusion = np.asarray(metrics.confusion).astype(int).tolist()
    extra = {
        "scores": metrics.scores,
        "confusion_matrix": confusion,
        "label_names": NAMES,
        "versions": {"python": "3"},
    }
    (workdir / RESULTS).write_text(json.dumps(metrics.summary() | extra))
    lines = [{"split": s, "step": n, "loss": 1 / n} for n in (1, 2) for s in ("train", "validation")]
    (workdir / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_html(workdir)
    return workdir


def _lines(source):
    return (source / "test.jsonl").read_text().splitlines()


def test_the_page_has_every_part_and_loads_nothing(run):
    page = (run / "report.html").read_text()
    for part in ("Loss", "ROC", "Precision and recall", "Calibration", "Accuracy by length"):
        assert f"<h3>{part}</h3>" in page
    assert 'class="card mistake"' in page
    assert not re.search(
        r"<(script|img|link|iframe)|(src|href)=|url\(", page.replace(html.escape(HOSTILE), "")
    )


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page with")
def test_a_browser_reads_the_numbers_of_results_json_and_runs_no_text(run, tmp_path):
    command = [
        BROWSER,
        *FLAGS.split(),
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
        f"file://{run}/report.html",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    results = json.loads((run / RESULTS).read_text())
    assert "<title>run: report</title>" in dom
    numbers = dict(re.findall(r'<tr><th scope="row">(\w+)</th><td>([^<]*)</td>', dom))
    assert float(numbers["accuracy"]) == results["accuracy"]
    assert float(numbers["loss"]) == results["loss"]
    assert float(numbers["macro_f1"]) == results["scores"]["macro_f1"]
    assert float(numbers["calibration_error"]) == results["scores"]["calibration_error"]
    body = re.search(r'<table id="confusion">.*?</table>', dom, re.DOTALL)[0]
    counts = [int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", body)]
    assert counts == np.ravel(results["confusion_matrix"]).tolist()


def test_a_page_without_its_source_says_why(run):
    config = (run / CONFIG).read_text()
    try:
        (run / CONFIG).write_text(config.replace(f"{run.parent}/source", f"{run.parent}/gone.csv"))
        page = write_html(run).read_text()
    finally:
        (run / CONFIG).write_text(config)
    assert "gone.csv" in page
    assert 'id="missing"' in page
    assert "<h3>ROC</h3>" not in page
    assert 'id="confusion"' in page


def test_a_source_that_changed_is_not_shown_as_the_one_that_was_tested(run):
    source = run.parent / "source" / "test.jsonl"
    before = source.read_text()
    try:
        source.write_text(before + json.dumps({"text": "one more", "label": 1}) + "\n")
        page = write_html(run).read_text()
    finally:
        source.write_text(before)
    assert "the source has changed: its test split has 21 texts" in page


@pytest.mark.slow
def test_many_classes_become_a_list_of_the_commonest_mistakes(tmp_path):
    names = tuple(f"class{n}" for n in range(40))
    make_run(tmp_path / "run", names=names, values=tuple(range(40)), accuracies=(0.5,))
    confusion = np.eye(40, dtype=int) * 5
    confusion[7, 3] = 4
    results = {"accuracy": 0.9, "confusion_matrix": confusion.tolist()}
    (tmp_path / "run" / RESULTS).write_text(json.dumps(results))
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    config["data"]["source"] = "gone.csv"
    (tmp_path / "run" / CONFIG).write_text(json.dumps(config))
    page = write_html(tmp_path / "run").read_text()
    assert 'id="confusion"' not in page
    assert '<th scope="row">class7</th><td>class3</td><td>4</td>' in page


def test_a_run_that_has_not_finished_is_refused(tmp_path):
    make_run(tmp_path / "run", accuracies=(0.5,))
    with pytest.raises(InputError, match="the run has not finished"):
        write_html(tmp_path / "run")


@pytest.fixture
def damaged(run):
    """Gives a function that changes a file of the run; the files are as they were at the end."""
    before = {name: (run / name).read_text() for name in (RESULTS, METRICS, CONFIG)}

    def change(name, text):
        (run / name).write_text(text)
        config = json.loads(before[CONFIG])
        config["data"]["source"] = "gone.csv"
        (run / CONFIG).write_text(json.dumps(config))

    yield change
    for name, text in before.items():
        (run / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (RESULTS, '{"accuracy": 0.', r"results\.json cannot be read"),
        (RESULTS, "[]", r"results\.json is no report of this run; delete it"),
        (RESULTS, '{"scores": []}', r"results\.json is no report of this run"),
        (RESULTS, '{"confusion_matrix": [[1, 2], [3]]}', r"results\.json is no report of this run"),
        (METRICS, '{"split": "train", "st\n{}\n', r"metrics\.jsonl: line 1 has no metrics of a step"),
        (METRICS, '{"split": "other", "step": 1}\n{}\n', r"metrics\.jsonl: line 1 has no metrics of a step"),
    ],
)
def test_damaged_files_of_a_run_are_refused_by_name(run, damaged, name, text, message):
    damaged(name, text)
    with pytest.raises(InputError, match=message):
        write_html(run)


def test_a_last_line_of_metrics_that_was_cut_off_is_left_out(run, damaged):
    damaged(METRICS, (run / METRICS).read_text() + '{"split": "train", "st')
    assert "<h3>Loss</h3>" in write_html(run).read_text()


def test_a_saved_model_with_its_report_is_replaced(run, tmp_path):
    model = load(run)
    model.save(tmp_path / "saved")
    (tmp_path / "saved" / "report.html").write_text("the page of the model that was here")
    model.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "report.html").exists()


def test_the_command_prints_where_the_page_is(run, capsys):
    cli.main(["report", "--workdir", str(run)])
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
