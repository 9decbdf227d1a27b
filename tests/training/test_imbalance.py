"""Rare classes: weights of the loss, what chooses the best checkpoint, and what the log warns of."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import load
from rnn_jax.checkpoints.checkpoints import best_step, out_of_patience
from rnn_jax.data import Batches
from rnn_jax.errors import InputError
from rnn_jax.models import make_classifier_loss
from rnn_jax.models.heads import ClassHead
from rnn_jax.models.metrics import Metrics
from rnn_jax.settings import classifier_settings, completed
from rnn_jax.training import train_and_evaluate
from rnn_jax.training.classification import check_classifier, factors_of, monitored


def rare(source):
    """Writes 99:1 data, in which one word tells the minority; returns the settings of a small run on it."""
    rng, rows = np.random.default_rng(0), []
    for number in range(2000):
        words = [f"w{k}" for k in rng.integers(0, 20, 5)]
        is_rare = number % 100 == 0
        if is_rare:
            words[rng.integers(5)] = "alarm"
        rows.append({"text": " ".join([*words, f"n{number}"]), "label": "rare" if is_rare else "usual"})
    source.mkdir()
    held = [{**row, "text": f"{row['text']} held"} for row in rows if row["label"] == "rare"]
    held += [{**row, "text": f"{row['text']} held"} for row in rows[1:60]]
    for name, part in (
        ("train", rows),
        ("validation", held),
        ("test", [{**r, "text": r["text"] + " t"} for r in held]),
    ):
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = classifier_settings()
    config.data.source, config.text.vocab_size, config.text.max_length = str(source), 40, 8
    config.batch.buckets, config.devices = 1, 1
    config.train.class_weights, config.train.monitor = "balanced", "macro_f1"
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rare")
    config = rare(folder / "data")
    return folder / "run", train_and_evaluate(config, folder / "run")


@pytest.mark.slow
def test_with_weights_the_minority_of_99_to_1_is_found(run):
    rare_class = run[1]["scores"]["classes"]["rare"]
    assert rare_class["support"] == 20
    assert rare_class["recall"] == 1.0


@pytest.mark.slow
def test_scores_of_a_run_are_those_that_evaluate_finds(run):
    workdir, results = run
    rows = [json.loads(line) for line in (workdir.parent / "data" / "test.jsonl").read_text().splitlines()]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    found = load(workdir).evaluate(texts, labels)
    assert found.summary()["accuracy"] == pytest.approx(results["accuracy"])
    classes, expected = dict(found.scores), dict(results["scores"])
    assert classes.pop("classes") == expected.pop("classes")
    assert classes == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="strange"):
        load(workdir).evaluate(texts[:1], ["strange"])


@pytest.mark.slow
def test_validation_has_what_is_monitored_and_the_best_step_has_the_most_of_it(run):
    workdir, results = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["macro_f1"] for line in lines if line["split"] == "validation"}
    assert results["validation"]["macro_f1"] == max(found.values()) == found[results["best_step"]]


def test_weights_multiply_the_loss_of_each_class_and_leave_the_count():
    rows = [np.array([5])] * 3
    batch = Batches(rows, np.array([0, 1, 1]), buckets=(2,), batch_size=4)(seed=0, step=0)
    logits = jnp.array([[1.0, -1.0]] * 4)
    loss_fn = make_classifier_loss(
        lambda variables, *_, **__: variables["params"], class_weights=np.array([3.0, 0.5])
    )
    total, (metrics, count, _) = loss_fn(logits, (), batch, jax.random.key(0))
    easy, hard = -np.log(1 / (1 + np.exp(-2))), -np.log(1 / (1 + np.exp(2)))
    assert float(total) == pytest.approx(3 * easy + 2 * 0.5 * hard, rel=1e-5)
    assert float(count) == 3.0  # the number of examples, not the sum of factors
    assert float(metrics.loss) == pytest.approx(easy + 2 * hard, rel=1e-5)  # what is reported has no weights


@pytest.mark.parametrize(("monitor", "best"), [("", 2), ("macro_f1", 1), ("loss", 3)])
def test_best_checkpoint_and_patience_follow_the_monitor(monitor, best):
    values = [(1, 0.80, 0.7, 0.5), (2, 0.90, 0.4, 0.6), (3, 0.85, 0.5, 0.3), (4, 0.85, 0.5, 0.4)]
    evaluations = [
        {"step": step, "accuracy": accuracy, "macro_f1": f1, "loss": loss}
        | ({"monitor": monitor} if monitor else {})
        for step, accuracy, f1, loss in values
    ]
    assert best_step(evaluations, [1, 2, 3, 4]) == best
    assert out_of_patience(evaluations, 4 - best)
    assert not out_of_patience(evaluations, 5 - best)


def test_an_evaluation_gets_the_monitored_value_only_where_one_is_named():
    metrics, head = Metrics(np.float32(1), np.array([[98.0, 0.0], [2.0, 0.0]])), ClassHead(("a", "b"))
    assert monitored("", head, metrics) == {}
    assert monitored("loss", head, metrics) == {"monitor": "loss"}
    assert monitored("balanced_accuracy", head, metrics) == {
        "balanced_accuracy": 0.5,
        "monitor": "balanced_accuracy",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("monitor", "roc_auc", "train.monitor"),
        ("class_weights", "even", "train.class_weights is 'even'; give 'balanced'"),
        ("class_weights", '{"a": 0}', "factors above 0"),
        ("class_weights", "[1, 2]", "factors above 0"),
    ],
)
def test_a_monitor_or_weights_that_cannot_be_are_refused(name, value, message):
    config = classifier_settings()
    config.train[name] = value
    with pytest.raises(InputError, match=message):
        check_classifier(config)


def test_factors_are_read_from_json_and_old_configs_have_none():
    assert factors_of('{"a b": 2, "c": 0.5}') == {"a b": 2, "c": 0.5}
    assert completed({"task": "classify", "train": {}})["train"] == {"monitor": "", "class_weights": ""}


@pytest.mark.slow
def test_the_log_warns_of_one_class_and_has_the_table(tmp_path, capsys):
    config = rare(tmp_path / "data")
    config.train.epochs, config.train.class_weights = 1, '{"rare": 50}'
    train_and_evaluate(config, tmp_path / "run")
    log = capsys.readouterr().out
    assert "warning: 99.0% of the texts to train on are 'usual'" in log
    assert "precision  recall" in log
    assert "calibration_error" in log
