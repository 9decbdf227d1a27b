"""The arithmetic and the tables of the benchmarks; what they measure is not tested."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from benchmarks import cells as cells_page
from benchmarks import (
    gpu,
    imdb,
    inference,
    inference_engines,
    long_text,
    machine_page,
    many_devices,
    tagging,
    tutorial,
)
from benchmarks.engines import model_of, review_lengths
from benchmarks.epoch import later_epoch, table, time_to
from benchmarks.machine import cases as machine_cases
from benchmarks.performance import performance_page, ratio, train_flop
from benchmarks.records import Records, recipe
from benchmarks.recurrence import NETWORKS, SHAPES, a_case, cases, curve_cases
from benchmarks.report import machine, replace_section
from configs import bilstm
from rnn_jax.training.loop import check_config
from tests.helpers.predictors import make_predictor
from tests.stress import equality

EPOCHS = [(30.0, 0.8), (40.0, 0.88), (52.0, 0.87), (62.0, 0.9)]


def test_an_epoch_is_timed_between_validations_and_the_goal_from_the_start():
    assert later_epoch(EPOCHS) == 10
    assert time_to(EPOCHS, 0.87) == 40
    assert time_to(EPOCHS, 0.95) is None


def test_the_table_of_epochs_divides_by_ours():
    slow = [(60.0, 0.5), (80.0, 0.6)]
    lines = table({"rnn_jax": EPOCHS, "torch": slow}).splitlines()
    assert lines[2] == "| rnn_jax | 30 | 10.0 | 1.0 | 40 | 90.0 |"
    assert lines[3] == "| torch | 60 | 20.0 | 2.0 | not in 2 epochs | 60.0 |"


def test_a_section_is_replaced_and_the_rest_of_the_page_kept():
    page = replace_section("# Page\n\nbefore\n", "one", "first")
    page = replace_section(page + "after\n", "two", "other")
    page = replace_section(page, "one", "second")
    assert "first" not in page
    assert page.index("before") < page.index("second") < page.index("after") < page.index("other")


def test_operations_of_a_training_step():
    rows, gates = 32 * 500, 4 * 32
    one = 2 * rows * gates * (3 * 32 + 2 * 32)  # U three times, W twice: x needs no gradient
    assert train_flop(a_case(SHAPES["S"])) == one
    assert train_flop(a_case(SHAPES["S"], "bi")) == 2 * one
    assert train_flop(a_case(SHAPES["S"], 2)) == 2 * one + 2 * rows * gates * 32


def two_cores(monkeypatch, kernels):
    for name in ("benchmarks.performance.cores", "rnn_jax.distributed.host.cores"):
        monkeypatch.setattr(name, lambda: 2)
    monkeypatch.setattr("rnn_jax.distributed.host.why_missing", lambda **dtype: "" if kernels else "none")


def test_the_ratio_is_of_the_best_peer_and_our_choice_of_devices(monkeypatch):
    two_cores(monkeypatch, kernels=False)
    results = {"ours": {"ms": 4.0}, "ours, 1 device": {"ms": 2.0}, "torch": {"ms": 7.0}, "flax": {"ms": 5.0}}
    narrow, wide = a_case(SHAPES["S"]), a_case(SHAPES["L"])
    assert ratio(narrow, results) == pytest.approx(1.25)
    assert ratio(wide, results) == pytest.approx(2.5)
    assert ratio(narrow, {"ours": {"ms": 4.0}, "torch": {"error": "none"}}) is None
    two_cores(monkeypatch, kernels=True)
    assert ratio(narrow, results) == pytest.approx(2.5)  # kernels share the rows: one device


def test_every_case_is_another_and_the_page_shows_what_there_is(monkeypatch):
    two_cores(monkeypatch, kernels=False)
    every = [json.dumps(case) for case, _ in cases(quick=False)]
    assert len(set(every)) == len(every) > len(list(curve_cases()))
    stored = {"rate": 100.0, json.dumps(a_case(SHAPES["S"])): {"ours": {"ms": 4.0}, "torch": {"ms": 6.0}}}
    page = performance_page(stored, SHAPES, NETWORKS, a_case)
    assert "| uni S | 4.0 | - | - | 6.0 | - | - | - | **1.50** |" in page


def test_the_table_of_the_tagger_has_means_over_seeds():
    run = {"accuracy": 0.951, "validation": 0.953, "parameters": 3000000, "words_per_second": 9000.0}
    run |= {"seconds": {"data": 10, "train": 110}, "words_per_cpu_second": 7000.0, "cores": 2}
    row = tagging.table([run, run | {"accuracy": 0.953}]).splitlines()[-1]
    assert row == "| 2 | **95.2 ± 0.1** | 95.3 ± 0.0 | 3,000,000 | 2.0 | 9,000 | 7,000 | 2 |"


def test_the_tutorials_settings():
    config = tutorial.settings("stacked bidirectional", "GloVe, frozen", (0.0, 0.01), 2)
    check_config(config)
    assert (config.model.layers, config.model.bidirectional, config.model.embedding_dim) == (3, True, 50)
    assert config.train.freeze == ("embedding",)
    assert (config.model.embedding_dropout, config.optimizer.learning_rate) == (0.0, 0.01)
    config = tutorial.settings("plain", "transferred, fine-tuned", (0.0, 0.01), 2)
    assert config.train.freeze == ()
    assert config.embedding.from_workdir.endswith("pretrain-2")


@pytest.mark.slow
def test_the_tutorials_page_is_of_the_dropout_and_rate_that_validation_chose(tmp_path, monkeypatch):
    monkeypatch.setattr(tutorial, "DOCS", tmp_path)
    records = Records(tmp_path / "tutorial.json")
    numbers = {"train_accuracy": 0.95, "trained_parameters": 8353, "seconds": {"train": 60.0}, "cores": 1}
    for kind, choice in itertools.product(tutorial.KINDS, tutorial.CHOICES):
        case, good = ("plain", kind, choice, 0), choice == (0.0, 0.003)
        line = numbers | {
            "examples": 9,
            "validation": 0.9 if good else 0.8,
            "accuracy": 0.88 if good else 0.99,
        }
        records.measure(tutorial.key(*case), recipe(tutorial.settings(*case)), lambda line=line: line)
    for choice, accuracy in (((0.0, 0.003), 0.90), ((0.3, 0.003), 0.99)):
        case, line = ("plain", "transferred, frozen", choice, 1), numbers | {"accuracy": accuracy}
        records.measure(tutorial.key(*case), recipe(tutorial.settings(*case)), lambda line=line: line)
    tutorial.write(records)
    page = (tmp_path / "tutorial.md").read_text()
    assert "| plain | transferred, frozen | 2 | 89.0 ± 1.4 | 6.0 | 8,353 | 60 | 1 |\n" in page
    assert "| learned | 80.0 | 80.0 | **90.0** | 80.0 |\n" in page
    assert (tmp_path / "tutorial.png").exists()


def test_the_page_of_cells_is_of_the_rate_that_validation_chose_for_each_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(cells_page, "DOCS", tmp_path)
    records = Records(tmp_path / "cells.json")
    numbers = {"train_accuracy": 0.95, "trained_parameters": 8353, "seconds": {"train": 60.0}, "cores": 2}

    def keep(*case, validation, accuracy):
        line = numbers | {"examples": 9, "validation": validation, "accuracy": accuracy}
        records.measure(cells_page.key(*case), recipe(cells_page.settings(*case)), lambda: line)

    for cell, good in (("gru", 0.01), ("lru", 0.003)):
        for rate in cells_page.RATES:
            validation, accuracy = (0.9, 0.88) if rate == good else (0.8, 0.99)
            keep(cell, "plain", "learned", rate, 0, validation=validation, accuracy=accuracy)
            keep(cell, "stacked", "learned", rate, 1, validation=validation, accuracy=accuracy)
    keep("sru", "plain", "learned", 0.01, 0, validation=0.9, accuracy=0.9)  # the other rate is not measured
    cells_page.write(records)
    page = (tmp_path / "cells.md").read_text()
    assert "| `lru` | plain | learned | 1 | 88.0 | 7.0 | 8,353 | 60 | 2 |\n" in page
    assert "| `gru` | stacked | learned | 1 | 88.0 | 7.0 | 8,353 | 60 | 2 |\n" in page
    assert "| `gru` | learned | 80.0 | **90.0** |\n" in page
    assert "`sru`" not in page
    assert (tmp_path / "cells.png").exists()
    assert cells_page.settings("gru", cells_page.POOLED, "learned", 0.01, 0).model.pooling == "concat"
    config = cells_page.settings("slstm", "stacked", "transferred, frozen", 0.01, 2)
    check_config(config)
    assert (config.model.cell, config.model.layers, config.train.freeze) == ("slstm", 3, ("embedding",))


def test_a_record_is_kept_until_its_recipe_changes(tmp_path):
    made = []

    def run():
        made.append(1)
        return {"accuracy": 0.9}

    config = bilstm.get_config()
    for _ in range(2):
        record = Records(tmp_path / "records.json").measure("bilstm-0", recipe(config), run)
    assert record["accuracy"] == 0.9
    assert record["settings"] == {"model.bidirectional": True}
    assert len(made) == 1
    config.train.freeze = ("embedding",)
    assert not Records(tmp_path / "records.json").has("bilstm-0", recipe(config))
    Records(tmp_path / "records.json").measure("bilstm-0", recipe(config), run)
    assert len(made) == 2


def test_a_recipes_seed_and_source_are_not_part_of_it():
    settings = imdb.settings("imdb_t0")
    assert settings["model.cell"] == "gru"
    assert not {"seed", "data.source", "text.vocabulary_source"} & set(settings)
    assert "data.soft_labels" not in imdb.settings("imdb_t4")


def test_a_recipe_that_needs_other_programs_counts_their_seconds_and_runs_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imdb.RUNS.mkdir(parents=True)
    commands, clock = [], itertools.count(step=10.0)

    def finish(command, **_):
        commands.append(command)
        if "train_loop.py" in command:
            Path(command[3].removeprefix("--workdir=")).mkdir(exist_ok=True)

    monkeypatch.setattr(imdb.subprocess, "run", finish)
    monkeypatch.setattr(imdb.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(imdb, "read_source", lambda _: {"unsupervised": Dataset.from_dict({"text": ["a"]})})
    settings, seconds = imdb.prepare(7, "folder")
    assert seconds == 50.0
    *trained, predicted = commands
    parts = "imdb_t0-7", "imdb_lm_forward-7", "imdb_lm_backward-7", "imdb_teacher-7"
    assert [Path(command[3].removeprefix("--workdir=")).name for command in trained] == list(parts)
    assert "--config.direction=backward" in trained[2]
    assert "--config.data.soft_labels=" in trained[3]
    assert "--workdir=runs/imdb/imdb_teacher-7" in predicted
    config = imdb.rnn_jax.recipe("imdb_t4")
    assert [entry[:2] for entry in settings["embedding.take"][1:]] == [
        entry[:2] for entry in config.embedding.take[1:]
    ]
    assert settings["data.soft_labels"] == Path("runs/imdb/soft-7.parquet")
    assert imdb.prepare(7, "folder")[1] == 50.0
    assert commands[5:] == [predicted]  # the others are read from the record
    (imdb.RUNS / "imdb_t0-7" / imdb.SECONDS).unlink()  # as when it runs again and does not end
    imdb.prepare(7, "folder")
    assert commands[6:] == [trained[0], predicted]


def test_the_page_of_recipes_has_what_was_measured(tmp_path):
    records = Records(tmp_path / "imdb.json")
    for seed, accuracy in enumerate((0.91, 0.93)):
        numbers = {
            "accuracy": accuracy,
            "validation": 0.9,
            "trained_parameters": 1000,
            "wall": 100.0,
            "cores": 2,
            "sentences": 0.7,
        }
        records.measure(f"imdb_t0-{seed}", imdb.settings("imdb_t0"), lambda numbers=numbers: numbers)
    line = (
        "| `imdb_t0`: at most 10 minutes | 2 | **92.0 ± 1.4** | 90.0 ± 0.0 | 70.0 ± 0.0 | 1,000 | 100 | 2 |"
    )
    assert imdb.table(records).endswith("|\n" + line)


def test_the_page_of_long_texts_has_the_runs_that_were_measured_and_the_published_numbers(tmp_path):
    records = Records(tmp_path / "long_text.json")
    numbers = {"accuracy": 0.861, "validation": 0.87, "parameters": 4000, "wall": 3600.0, "cores": 2}
    records.measure("long_text-lru", long_text.settings("long_text", "lru"), lambda: numbers)
    with_evidence = long_text.settings("long_text_evidence", "lru")
    records.measure("long_text_evidence-lru", with_evidence, lambda: numbers | {"accuracy": 0.9})
    records.measure("long_text-lstm", {"model.cell": "other settings"}, lambda: numbers)
    lines = long_text.table(records).splitlines()
    assert "| `lru` | bytes alone | **86.1** | 87.0 | 4,000 | 60 | 2 |" in lines
    assert "| `lru` | bytes and their evidence | **90.0** | 87.0 | 4,000 | 60 | 2 |" in lines
    assert not any(line.startswith("| `lstm`") for line in lines)
    others = [line for line in lines if "S5" in line]
    assert others == ["| S5 (Smith et al. 2023) | bytes alone | 89.3 | - | - | - | - |"]
    assert with_evidence["text.max_length"] == 4096
    assert "data.source" not in with_evidence


def test_a_run_of_bytes_keeps_what_its_program_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = {"accuracy": 0.861, "validation": {"accuracy": 0.87}, "parameters": 4000, "seconds": {}}
    commands = []

    def finish(command, **_):
        commands.append(command)
        (workdir := imdb.RUNS / "long_text-lru").mkdir(parents=True)
        (workdir / "results.json").write_text(json.dumps(results))

    monkeypatch.setattr(imdb.subprocess, "run", finish)
    numbers = long_text.run("long_text", "lru", "folder")
    wanted = {"--config.model.cell=lru", "--config.data.source=folder"}
    assert wanted <= {*commands[0]}
    assert f"--workdir={imdb.RUNS / 'long_text-lru'}" in commands[0]
    records = Records(tmp_path / "long_text.json")
    records.measure("long_text-lru", long_text.settings("long_text", "lru"), lambda: numbers)
    assert "| `lru` | bytes alone | **86.1** | 87.0 | 4,000 | 0 | " in long_text.table(records)


def test_the_model_of_scaling_counts_what_is_reduced_and_how_long_that_takes():
    table = many_devices.WORDS * many_devices.WIDTH
    assert many_devices.reduced_bytes("frozen", 8, 10) == 40
    assert many_devices.reduced_bytes("dense", 8, 10) == 4 * (10 + table)
    one = many_devices.BATCH * many_devices.TIME * many_devices.WIDTH
    assert many_devices.reduced_bytes("row-sparse", 1, 10) == 4 * (10 + one) < 4 * table
    assert many_devices.reduced_bytes("row-sparse", 13, 10) == many_devices.reduced_bytes("dense", 13, 10)
    assert many_devices.step_seconds(10**6, 1, 1e9, 1.0) == many_devices.COMPUTE
    assert many_devices.step_seconds(10**6, 2, 1e9, 0.001) == pytest.approx(
        many_devices.COMPUTE + 0.001 + 0.002
    )


def test_the_machine_is_named_without_its_address():
    assert "cores of a shared" in machine()


def test_distances_are_absolute_and_shares_of_the_tolerance():
    assert equality.distance([1.0, 2.0], [1.0, 4.0], rtol=0.5, atol=2.0) == (2.0, 0.5)
    assert equality.distance([], [], 0, 0) == equality.distance(0, 0, 0, 0) == (0, 0)


def test_what_a_test_compares_is_noted_by_case_and_still_compared():
    watch, item = (
        equality.Watch(),
        SimpleNamespace(nodeid="tests/inference/test_export.py::test_one_is_two[1]"),
    )

    def compare():
        np.testing.assert_allclose(1.0, 1.5, 0, atol=1)
        np.testing.assert_allclose(1.0, 2.0, rtol=0.1)

    call = watch.pytest_runtest_call(item)
    next(call)
    with pytest.raises(AssertionError):
        compare()
    with pytest.raises(StopIteration):
        call.send(None)
    assert watch.found == {
        "tests/inference/test_export.py::test_one_is_two": {item.nodeid: [(0.5, 0.5), (1, 5)]}
    }
    assert "| one is two | 1 | 1 | 500% |" in equality.table(watch)


def a_record(case, **times):
    numbers = {name: {"ms": ms, "compile": 0.5, "bytes": 2**20} for name, ms in times.items()}
    return {"settings": case | {"backends": [*times]}, "date": "2026-01-01", **numbers}


def test_the_page_of_backends_shows_what_auto_takes_and_how_much_it_loses(tmp_path, monkeypatch):
    case = a_case((32, 100, 128, 128), mode="forward")
    record = a_record(case, native=2.2, fused=2.0, scan=4.0)
    assert machine_page.loss(record) == pytest.approx(1.1)
    assert machine_page.loss(record, without="native") == 1
    lines = {"one: products": {"settings": {"mode": "product"}, "gflops": 200}, "one: a layer": record}
    page = machine_page.page(lines)
    share = 2 * 32 * 100 * 4 * 128 * 256 / 2.2e-3 / 200e9
    row = f"| **2.2** | 2 | 4 | {share:.0%} | 1, 1, 1 | 0.5, 0.5, 0.5 |"
    assert f"| LSTM, forward, 32 rows, 100 steps, 128 units {row}" in page
    assert "at most 10% more time than the fastest" in page
    monkeypatch.setattr(machine_page, "PICTURE", tmp_path / "backends.png")
    machine_page.draw(lines)
    assert (tmp_path / "backends.png").stat().st_size > 1000


def test_every_shape_of_the_machine_is_another_and_its_operations_are_counted_once():
    every = [json.dumps(case) for case in machine_cases()]
    assert len(set(every)) == len(every)
    train, forward = (a_case((8, 10, 32, 64), mode=mode) for mode in ("train", "forward"))
    assert machine_page.flop(forward) == 2 * 80 * 256 * (32 + 64)
    assert machine_page.flop(train) == train_flop(train)


def test_inference_compares_ours_with_the_best_peer_that_ran():
    ours = {"ours": [0.5, 1.5], "ours, inline": [0.5]}
    stored = {"4 True": {**ours, "torch": [4.0], "onnx": [2.0], "keras": {"error": "none"}}}
    rates = {"ours": 4.0, "ours, inline": 8.0, "torch": 1.0, "onnx": 2.0}
    assert inference.throughput(stored["4 True"], 4) == rates
    assert inference.rates_table(stored, True).splitlines()[-1] == "| 4 | 4 | 8 | 1 | - | 2 | - | **4.00** |"
    stored = {"stream, 1": {"ours": [0.1], "ours, inline": [0.2], "torch": [0.3]}}
    assert inference.steps_table(stored).splitlines()[-1] == "| stream, 1 | 10 | 5 | 3 | **3.00** |"


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["torch", "onnx"])
def test_peers_of_inference_say_what_we_say(tmp_path, peer):
    for module in {"torch": ["torch"], "onnx": ["onnx", "onnxruntime"]}[peer]:
        pytest.importorskip(module)
    predictor = make_predictor(cell="lstm", pooling="last", hidden=4, bidirectional=True)
    predictor.save(tmp_path)
    rows = predictor.tokenizer.encode(["a great film", "dull", "a moving film and an awful film", ""])[:3]
    build = {"torch": inference_engines.build_torch, "onnx": inference_engines.build_onnx}[peer]
    expected = inference_engines.without_tokenizer(predictor, rows)
    np.testing.assert_allclose(build(tmp_path)(rows), expected, atol=1e-4)
    np.testing.assert_allclose(build(tmp_path)(rows[2:]), expected[2:], atol=1e-4)


def test_batches_of_peers_are_sorted_and_hold_each_text_once():
    rows = [np.arange(1, length + 1) for length in (5, 2, 9, 1)]
    batches = list(inference_engines.sorted_batches(rows, 2, multiple=4))
    assert [places for places, _, _ in batches] == [[3, 1], [0, 2]]
    assert [ids.shape for _, ids, _ in batches] == [(2, 4), (2, 12)]
    assert batches[1][1][0].tolist() == [1, 2, 3, 4, 5, *[0] * 7]


def test_ragged_rows_of_the_gpu_table_have_lengths_and_their_share_of_padding():
    ragged = [case for label, case in gpu.cases() if label.endswith("ragged")]
    assert len(ragged) == 16
    lengths = review_lengths(ragged[0])
    assert lengths.shape == (32,)
    assert 1 <= lengths.min() < lengths.max() <= 500
    assert gpu.padding("S") == 1 - lengths.mean() / 500
    assert review_lengths(a_case(SHAPES["S"])) is None


def test_the_gpu_table_divides_the_best_peer_by_each_of_ours():
    times = {"ours": 2.0, "ours, persistent": 0.5, "torch": 1.0, "cudnn": 3.0}
    assert (
        gpu.table([("a", times)]).splitlines()[2]
        == "| a | 2.00 | 0.50 | - | 1.00 | 3.00 | **0.50** | **2.00** |"
    )
    assert (
        gpu.table([("a", {"torch": 1.0})]).splitlines()[2] == "| a | - | - | - | 1.00 | - | **-** | **-** |"
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ours", "flax"])
def test_engines_read_ragged_rows_up_to_their_lengths(engine):
    case = a_case((2, 5, 3, 4), "bi")
    init, apply = model_of(engine, case)
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    params = init(jax.random.key(1), x)
    final, _ = apply(params, x, jnp.array([3, 5]))
    alone, _ = apply(params, x[:1, :3])
    np.testing.assert_allclose(final[:1], alone, rtol=1e-6)
