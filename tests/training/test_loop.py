"""The training program as a whole, on small made-up reviews."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import rnn_jax
import train_loop
from configs import smoke
from rnn_jax.errors import InputError
from rnn_jax.training import loop, trainer
from rnn_jax.training.logger import NonFiniteLossError
from rnn_jax.training.programs import CompiledByShape
from rnn_jax.training.trainer import Trainer
from tests.helpers.cases import slow_but
from tests.helpers.cut import assert_same_run, train_until_killed
from tests.helpers.jobs import tiny_config, tiny_language_config, write_documents, write_reviews

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reviews(tmp_path):
    return write_reviews(tmp_path / "reviews.jsonl", 120)


def test_a_run_learns_and_leaves_a_workdir_that_explains_itself(tmp_path, reviews):
    workdir = tmp_path / "run"
    config = tiny_config(reviews, train__epochs=30, train__evaluate_every=10.0)
    results = train_loop.train_and_evaluate(config, workdir)
    assert results == json.loads((workdir / "results.json").read_text())
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "task.json",
        "metrics.jsonl",
        "results.json",
        "checkpoints",
        "lock",
        "learning_curves.png",
        "confusion_matrix.png",
    }
    assert json.loads((workdir / "config.json").read_text())["model"]["hidden"] == 8
    rows = [json.loads(line) for line in reviews.read_text().splitlines()]
    metrics = rnn_jax.load(workdir).evaluate([row["text"] for row in rows], [row["label"] for row in rows])
    assert metrics.summary()["accuracy"] > 0.95
    assert np.sum(results["confusion_matrix"]) == results["examples"] == 24


@pytest.mark.slow
def test_best_checkpoint_is_that_of_the_best_validation(tmp_path, reviews):
    workdir = tmp_path / "run"
    results = train_loop.train_and_evaluate(tiny_config(reviews, train__epochs=6), workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    validation = [line for line in lines if line["split"] == "validation"]
    best = max(validation, key=lambda line: (line["accuracy"], -line["loss"]))
    assert results["best_step"] == best["step"]
    assert rnn_jax.load(workdir).step == best["step"]
    assert rnn_jax.load(workdir, which="last").step == results["steps"]


UNFREEZING = {
    "train__freeze": (("embedding", 2), ("encoder", 1)),
    "optimizer__rates": (("encoder", 0.5),),
    "train__adversarial": 0.5,
    "train__average": 0.9,
    "train__label_smoothing": 0.1,
    "model__word_dropout": 0.1,
}


@pytest.mark.slow
@pytest.mark.parametrize(("cuts", "changes"), [((1, 3), {}), ((1, 2), UNFREEZING)])
def test_resumed_run_equals_uninterrupted_one(tmp_path, reviews, cuts, changes):
    """Cut twice, after so many epochs: a second start from 0 would be seen in where the last one begins."""
    config = tiny_config(
        reviews,
        train__epochs=4,
        train__evaluate_every=0.5,
        batch__buckets=2,
        model__cell="gru",
        **changes,
    )
    whole = train_loop.train_and_evaluate(config, tmp_path / "whole")
    first, second = cuts
    train_until_killed(config, tmp_path / "cut", 2 * first)
    train_until_killed(config, tmp_path / "cut", 2 * (second - first))
    resumed = train_loop.train_and_evaluate(config, tmp_path / "cut")
    interval = round(0.5 * whole["steps"] / 4)
    assert resumed["resumed_at"] == 2 * second * interval > 0
    assert resumed["confusion_matrix"] == whole["confusion_matrix"]
    assert resumed["loss"] == whole["loss"]
    assert_same_run(tmp_path / "whole", tmp_path / "cut", whole["steps"])


@pytest.mark.slow
def test_an_embedding_is_pretrained_transferred_and_stays_frozen(tmp_path, reviews, capsys):
    """The tutorial's procedure: another network, another vocabulary, the same rows."""
    train_loop.train_and_evaluate(tiny_config(reviews), tmp_path / "old")
    changes = {"model__cell": "lstm", "model__bidirectional": True, "text__vocab_size": 20}
    config = tiny_config(reviews, train__freeze=("embedding",), **changes)
    config.embedding.from_workdir = str(tmp_path / "old")
    results = train_loop.train_and_evaluate(config, tmp_path / "new")
    said = capsys.readouterr().out
    assert "taken: embedding/embedding, 18 of 18 words known" in said
    assert results["parameters"] - results["trained_parameters"] == 20 * 8
    assert f"{20 * 8} frozen" in said
    old, new = (rnn_jax.load(tmp_path / name, which) for name, which in (("old", "best"), ("new", "last")))
    rows = [old.tokenizer.words.index(word) for word in new.tokenizer.words]
    expected = np.asarray(old.params["embedding"]["embedding"])[rows]
    assert np.asarray(new.params["embedding"]["embedding"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__freeze": ("embeding",)},
            r"train.freeze has the pattern 'embeding'.*Did you mean 'embedding'",
        ),
        ({"optimizer__rates": (("head", -1.0),)}, r"optimizer.rates holds \('head', -1.0\)"),
        ({"train__average": 1.5}, r"train.average is 1.5"),
        (
            {"train__row_sparse": True, "train__freeze": ("embedding",)},
            r"train.freeze is .* but train.row_sparse",
        ),
        ({"embedding__missing": "median"}, r"embedding.missing is 'median'"),
        ({"embedding__from_workdir": "nowhere"}, r"config.embedding.from_workdir is 'nowhere'"),
        ({"embedding__vectors": "glove.txt"}, r"glove.txt"),
    ],
)
def test_what_cannot_be_pretrained_or_frozen_is_said_before_training(tmp_path, reviews, changes, message):
    with pytest.raises(InputError, match=message):
        train_loop.train_and_evaluate(tiny_config(reviews, **changes), tmp_path / "run")


@pytest.mark.slow
def test_a_refused_setting_is_said_before_word_vectors_and_can_be_mended(tmp_path, reviews, monkeypatch):
    config = tiny_config(reviews, train__freeze=("embeding",))
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "start_from", lambda *_: pytest.fail("made word vectors"))
        with pytest.raises(InputError, match="Did you mean 'embedding'"):
            train_loop.train_and_evaluate(config, tmp_path / "run")
    config.train.freeze = ("embedding",)
    assert train_loop.train_and_evaluate(config, tmp_path / "run")["resumed_at"] == 0


@pytest.mark.parametrize("kind", slow_but(["classifier"], ["classifier", "language model"]))
def test_a_run_does_not_go_on_with_other_data(tmp_path, kind):
    reviews = write_reviews(tmp_path / "reviews.jsonl", 40)
    config = tiny_config(reviews) if kind == "classifier" else tiny_language_config(reviews)
    train_until_killed(config, tmp_path / "run", 1)
    before, kept = reviews.read_text(), (tmp_path / "run" / "tokenizer.json").read_bytes()
    reviews.write_text(before.replace("moving", "clever"))
    message = r"began with other data.*\(data: '\w+' -> '\w+'\).* another --workdir"
    with pytest.raises(InputError, match=message):
        train_loop.train_and_evaluate(config, tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == kept
    reviews.write_text(before)
    assert train_loop.train_and_evaluate(config, tmp_path / "run")["resumed_at"] > 0


@pytest.mark.slow
def test_run_killed_with_sigkill_resumes_to_the_same_bits(tmp_path):
    reviews = write_reviews(tmp_path / "reviews.jsonl", 400)
    settings = dict(train__epochs=15, train__evaluate_every=0.5, train__keep_checkpoints=1)
    config = tiny_config(reviews, **settings)
    whole = train_loop.train_and_evaluate(config, tmp_path / "whole")
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[3]); import train_loop;"
        "from ml_collections import ConfigDict;"
        "train_loop.train_and_evaluate(ConfigDict(json.loads(open(sys.argv[1]).read())), sys.argv[2])"
    )
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(config.to_dict()))
    command = [sys.executable, "-c", program, saved, tmp_path / "cut", ROOT]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    while (
        not (tmp_path / "cut" / "checkpoints").exists()
        or len(list((tmp_path / "cut" / "checkpoints").iterdir())) < 2
    ):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = train_loop.train_and_evaluate(config, tmp_path / "cut")
    assert resumed["loss"] == whole["loss"]
    assert_same_run(tmp_path / "whole", tmp_path / "cut", whole["steps"])


@pytest.mark.slow
def test_finished_run_is_returned_and_not_repeated(tmp_path, reviews, monkeypatch, capsys):
    config = tiny_config(reviews, train__epochs=1)
    results = train_loop.train_and_evaluate(config, tmp_path / "run")
    monkeypatch.delattr(loop, "prepare_data")
    capsys.readouterr()
    assert train_loop.train_and_evaluate(config, tmp_path / "run") == results
    assert "is finished already, and is used as it is" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tilde_of_a_workdir_is_the_home_folder_as_for_every_other_command(tmp_path, reviews, monkeypatch):
    """A shell leaves it to the program in `--workdir=~/runs/a`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "taken").write_text("no folder of a run")
    with pytest.raises(InputError, match=f"{tmp_path / 'taken'} exists and is no run"):
        rnn_jax.train_and_evaluate(tiny_config(reviews), "~/taken")


def test_changed_config_is_refused_by_key(tmp_path, reviews):
    train_loop.train_and_evaluate(tiny_config(reviews, train__epochs=1), tmp_path / "run")
    with pytest.raises(InputError, match=r"model\.hidden: 8 -> 16.*train\.epochs: 1 -> 2"):
        train_loop.train_and_evaluate(
            tiny_config(reviews, train__epochs=2, model__hidden=16), tmp_path / "run"
        )


@pytest.mark.slow
def test_each_shape_is_compiled_once_and_none_while_training(tmp_path, reviews, monkeypatch):
    compilations, counts = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: (
            compilations.append(name) if name.endswith("backend_compile_duration") else None
        )
    )
    train_until = Trainer.train_until

    def counted(*arguments):
        before = len(compilations)
        state = train_until(*arguments)
        counts.append(len(compilations) - before)
        return state

    monkeypatch.setattr(Trainer, "train_until", counted)
    results = train_loop.train_and_evaluate(tiny_config(reviews, batch__buckets=3), tmp_path / "run")
    assert results["compilations"]["train"] == len(results["shapes"]) == 3
    assert compilations, "the listener heard nothing"
    assert counts[1:] == [0, 0]  # the first stretch may compile helpers of the log, none may come later


@pytest.mark.slow
def test_non_finite_loss_names_step_examples_and_checkpoint(tmp_path, reviews):
    config = tiny_config(
        reviews, optimizer__name="sgd", optimizer__learning_rate=1e38, optimizer__clip_norm=0.0
    )
    config.optimizer.schedule = "constant"
    with pytest.raises(
        NonFiniteLossError, match=r"at step \d+, on training examples \[\d+.*last good checkpoint"
    ):
        train_loop.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.slow
def test_training_stops_when_patience_is_out(tmp_path, reviews):
    config = tiny_config(reviews, train__epochs=20, train__patience=2, optimizer__learning_rate=1e-12)
    results = train_loop.train_and_evaluate(config, tmp_path / "run")
    evaluations = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        if "validation" in line
    ]
    assert len(evaluations) < 20
    steps_per_epoch = evaluations[0]["step"]
    assert results["steps"] == 3 * steps_per_epoch


@pytest.mark.slow
def test_three_classes_with_names_of_their_own(tmp_path):
    source = write_reviews(tmp_path / "reviews.jsonl", 90, labels=("bad", "good", "meh"))
    config = tiny_config(source)
    results = train_loop.train_and_evaluate(config, tmp_path / "run")
    assert results["label_names"] == ["bad", "good", "meh"]
    assert np.shape(results["confusion_matrix"]) == (3, 3)
    predictor = rnn_jax.load(tmp_path / "run")
    labels, probabilities = predictor.predict(["great lovely film", ""])
    assert set(labels) <= {"bad", "good", "meh"}
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_words_come_from_the_named_corpus(tmp_path, reviews):
    (tmp_path / "large.jsonl").write_text(json.dumps({"text": "zebra zebra great"}) + "\n")
    config = tiny_config(reviews, text__vocabulary_source=str(tmp_path / "large.jsonl"), train__epochs=1)
    train_loop.train_and_evaluate(config, tmp_path / "run")
    assert rnn_jax.load(tmp_path / "run").tokenizer.words == ["[PAD]", "[UNK]", "zebra", "great"]


def classifier(folder):
    return tiny_config(write_reviews(folder / "reviews.jsonl", 120), train__epochs=1, model__dropout=0.2)


def language_model(folder):
    changes = {"train__epochs": 1, "model__output_dropout": 0.2, "objective__negatives": 5}
    return tiny_language_config(write_documents(folder / "texts.jsonl", 60), **changes)


@pytest.mark.slow
@pytest.mark.parametrize("make_config", [classifier, language_model])
def test_seeds_differ_and_repeat_and_share_the_compiled_steps(tmp_path, monkeypatch, make_config):
    losses, programs, compile_step = [], [], CompiledByShape.compile

    def spied(step, *arguments):
        programs[-1].append(step.function.lower(*arguments).as_text())
        compile_step(step, *arguments)

    monkeypatch.setattr(CompiledByShape, "compile", spied)
    for run, seed in enumerate((0, 0, 1)):
        config = make_config(tmp_path)
        config.seed = seed
        programs.append([])
        losses.append(train_loop.train_and_evaluate(config, tmp_path / f"run{run}")["loss"])
    assert losses[0] == losses[1] != losses[2]
    assert len(programs[0]) >= 2
    assert programs[0] == programs[1] == programs[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__hiden": 3}, r"config\.model\.hiden is not a setting.*model\.hidden"),
        ({"model__hidden": "32"}, r"config\.model\.hidden is '32', a str; give a int"),
        ({"model__cell": "ltsm"}, r"model\.cell is 'ltsm'.*Did you mean 'lstm'"),
        ({"text__truncate": "middle"}, r"text\.truncate is 'middle'"),
        ({"text__max_length": 0}, r"max_length is 0"),
        ({"text__vocab_size": 2}, r"vocab_size is 2"),
        ({"batch__size": 0}, r"batch.size is 0"),
        ({"batch__buckets": 0}, r"buckets is 0"),
        ({"train__epochs": 0}, r"train\.epochs is 0; give at least 1"),
        ({"train__evaluate_every": 0.0}, r"train\.evaluate_every is 0"),
        ({"train__keep_checkpoints": 0}, r"keep_checkpoints is 0"),
        ({"optimizer__name": "adamm"}, r"optimizer\.name is 'adamm'"),
        ({"data__validation_share": 1.5}, r"validation_share is 1\.5"),
        ({"log__every": 0}, r"log\.every is 0"),
    ],
)
def test_bad_settings_are_refused_before_any_file_is_written(tmp_path, reviews, change, message):
    config = smoke.get_config()
    config.data.source = str(reviews)
    with config.unlocked():
        for key, value in change.items():
            section, name = key.split("__")
            if name in config[section]:
                with config.ignore_type():
                    config[section][name] = value
            else:
                config[section][name] = value
    with pytest.raises(InputError, match=message):
        train_loop.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_command_line_refuses_unknown_settings_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "train_loop.py"), f"--config={ROOT}/configs/smoke.py"]
    command += ["--config.model.hiden=64"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'Did you mean "hidden"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.model.hidden=wide", "error: flag --config.model.hidden=wide"),
        ("--confg=3", "error: --confg is no argument of train. Did you mean '--config'"),
    ],
)
def test_what_a_setting_cannot_be_is_refused_in_one_line(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        train_loop.main(["train", f"--config={ROOT}/configs/smoke.py", argument])
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_command_line_trains_with_overrides_from_any_folder(tmp_path, reviews):
    command = [sys.executable, str(ROOT / "train_loop.py"), f"--config={ROOT}/configs/smoke.py"]
    command += [f"--config.data.source={reviews}", "--config.model.hidden=4", "--config.text.max_length=20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (workdir,) = (tmp_path / "runs").iterdir()
    assert json.loads((workdir / "config.json").read_text())["model"]["hidden"] == 4
    assert f"{workdir.relative_to(tmp_path)}" in done.stdout
    assert "Orbax" not in done.stderr


@pytest.mark.slow
def test_row_sparse_training_is_dense_training(reviews, tmp_path):
    losses = []
    for choice in (False, True):
        config = tiny_config(reviews, train__row_sparse=choice)
        losses.append(train_loop.train_and_evaluate(config, tmp_path / str(choice))["validation"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_row_sparse_training_is_adams(reviews, tmp_path):
    config = tiny_config(reviews, train__row_sparse=True, optimizer__name="sgd")
    with pytest.raises(InputError, match=r"row_sparse is an option of adam, but optimizer.name is 'sgd'"):
        train_loop.train_and_evaluate(config, tmp_path)
