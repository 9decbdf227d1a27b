"""Trains and evaluates a text classifier.

python train_loop.py --config configs/bilstm.py [--workdir W] [--config.model.hidden=64]
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import lstm as reference
from rnn_jax.checkpoint import Checkpoints, out_of_patience
from rnn_jax.data import Data, load_data
from rnn_jax.encoding import default_cache
from rnn_jax.errors import InputError, choose, require
from rnn_jax.groups import freezing_of, rate_of
from rnn_jax.host import restart
from rnn_jax.journal import Journal, check_tensorboard
from rnn_jax.meter import Meter, NonFiniteLossError, Stopwatch
from rnn_jax.models import build_classifier
from rnn_jax.optimizer import build_optimizer
from rnn_jax.pretrained import Start
from rnn_jax.regularisers import exchange
from rnn_jax.report import write_report
from rnn_jax.run import Run, build_run, compile_ahead, regularisers
from rnn_jax.settings import check_settings
from rnn_jax.text import TRUNCATIONS
from rnn_jax.training import TrainState, evaluate
from rnn_jax.workdir import CONFIG as SAVED_CONFIG
from rnn_jax.workdir import RESULTS, check_workdir, fresh_workdir, open_workdir, read_json, save_task

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; a run in it is resumed. Default: runs/...")


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains to the end, or on from the last checkpoint in `workdir`, and returns what results.json holds.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; said before any training.
      NonFiniteLossError: training diverged.
    """
    workdir, clock = Path(workdir), Stopwatch("data", "pretrain", "compile", "train", "eval")
    say = partial(print, flush=True)
    check_config(config)
    check_workdir(workdir, config.to_dict())
    if (workdir / RESULTS).exists():
        return read_json(workdir / RESULTS)
    if not (workdir / SAVED_CONFIG).exists():
        Start(**config.embedding).check()
    with clock("data"):
        data = prepare_data(config)
    say(data.describe())
    open_workdir(workdir, config.to_dict())
    save_task(workdir, data.tokenizer, **data.task)
    with Checkpoints(workdir, config.train.keep_checkpoints) as checkpoints:
        with clock("pretrain"):
            run = build_run(config, data, default_cache(), checkpoints.latest is None, say)
        state, evaluations = checkpoints.restore(run.template(checkpoints.latest or 0))
        state = exchange(state) if evaluations else state
        start = step = int(state.step)
        clock.add(evaluations[-1]["seconds"] if evaluations else {})
        with Journal(workdir, run.total, start, config.log.tensorboard) as journal:
            journal.say(f"steps {start} to {run.total}")
            with clock("compile"):
                journal.say(compile_ahead(run, state, data))
            meter = Meter(
                journal, config.log.every, run.rate, lambda: f"{checkpoints.path(checkpoints.latest)}"
            )
            while step < run.total and not out_of_patience(evaluations, config.train.patience):
                step = min(run.total, (step // run.interval + 1) * run.interval)
                with clock("train"):
                    state = run.trainer.train_until(step, state, data.train, config.seed, meter)
                    state = run.settle(state)
                with clock("eval"):
                    used = exchange(state)
                    metrics = evaluate(run.eval_step, used.params, data.validation.in_order()).summary()
                meter.evaluated(step, metrics)
                evaluations.append({"step": step, **metrics, "seconds": dict(clock.seconds)})
                checkpoints.save(used, evaluations)
            best = checkpoints.steps("best", fallback=False)[0]
            with clock("eval"):
                test = evaluate(run.eval_step, checkpoints.restore_params(best), data.test.in_order())
    measured = {
        "best_step": best,
        "validation": next(evaluation for evaluation in evaluations if evaluation["step"] == best),
        "resumed_at": start,
        "seed": config.seed,
        **measurements(run, state, data, clock),
    }
    return write_report(workdir, test, data.label_names, journal.history, measured)


def measurements(run: Run, state: TrainState, data: Data, clock: Stopwatch) -> dict[str, Any]:
    """Returns the sizes of a finished run, and what it took."""
    trained = int(state.step) / data.train.steps_per_epoch * len(data.train.examples)
    return {
        "steps": int(state.step),
        "parameters": state.parameters,
        "trained_parameters": run.trainer.groups.count(state.params),
        "seconds": {phase: round(value, 2) for phase, value in clock.seconds.items()},
        "examples_per_second": round(trained / clock.seconds["train"], 1),
        "padding_waste": round(data.train.padding_waste, 4),
        "compilations": {"train": run.trainer.compilations, "eval": len(run.eval_step.seconds)},
        "shapes": [list(shape) for shape in data.train.shapes],
    }


def check_config(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    check_settings(config.to_dict(), reference.get_config().to_dict(), reference.LEAST)
    build_classifier(3, 2, **config.model)
    settings = dict(config.optimizer)
    for entry in settings.pop("rates"):
        rate_of(entry)
    for entry in config.train.freeze:
        freezing_of(entry)
    build_optimizer(1, **settings)
    regularisers(config)
    if config.log.tensorboard:
        check_tensorboard()
    require(
        not config.train.row_sparse or config.optimizer.name == "adam",
        f"train.row_sparse is an option of adam, but optimizer.name is {config.optimizer.name!r}",
    )
    dense = {"train": ("freeze", "adversarial", "average"), "optimizer": ("rates",)}
    for section, name in ((section, name) for section, names in dense.items() for name in names):
        require(
            not (config.train.row_sparse and config[section][name]),
            f"{section}.{name} is {config[section][name]}, but train.row_sparse reads and changes a batch's "
            "rows alone; set train.row_sparse to False",
        )
    choose("text.truncate", config.text.truncate, TRUNCATIONS)


def prepare_data(config: ConfigDict) -> Data:
    """Returns the batches of the three splits."""
    return load_data(config.data, config.text, config.batch.size, config.batch.buckets, default_cache())


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is left of the command line, restarted as rnn_jax.host says; exits if no such setting."""
    try:
        rest = app.parse_flags_with_usage(arguments)
    except (AttributeError, KeyError) as error:
        sys.exit("error: no such setting: " + str(error.args[0]).replace("\n", ". "))
    if flags.FLAGS["verbosity"].using_default_value:
        # absl.app would make it INFO, where Orbax tells its every step.
        flags.FLAGS.verbosity = logging.WARNING  # type: ignore[assignment]
    model = CONFIG.value.get("model", {})
    restart(CONFIG.value.get("devices", 0), model.get("hidden", 0), model.get("dtype", "float32"))
    return rest


def main(_: Sequence[str]) -> None:
    """Runs the config of the command line."""
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = Path(WORKDIR.value) if WORKDIR.value else fresh_workdir(name)
    print(f"workdir: {workdir}", flush=True)
    try:
        results = train_and_evaluate(CONFIG.value, workdir)
    except (InputError, NonFiniteLossError) as error:
        sys.exit(f"error: {error}")
    print(f"test accuracy {results['accuracy']:.2%} on {results['examples']:,} reviews")
    print(f"seconds: {results['seconds']}")
    print(f"use it: rnn-jax predict --workdir {workdir} 'what a film'")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
