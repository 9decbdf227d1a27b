"""Trains and evaluates a text classifier.

python train_loop.py --config configs/bilstm.py [--workdir W] [--config.model.hidden=64]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import lstm as reference
from rnn_jax.checkpoint import Checkpoints, out_of_patience
from rnn_jax.data import Data, load_data
from rnn_jax.encoding import default_cache
from rnn_jax.errors import InputError, choose, require
from rnn_jax.host import describe_environment, restart
from rnn_jax.journal import Journal, check_tensorboard
from rnn_jax.meter import Meter, NonFiniteLossError, Stopwatch
from rnn_jax.models import build_classifier
from rnn_jax.optimizer import build_optimizer
from rnn_jax.parallel import batch_mesh, on_every_device
from rnn_jax.report import write_report
from rnn_jax.rows import RowAdam
from rnn_jax.settings import check_settings
from rnn_jax.text import TRUNCATIONS
from rnn_jax.training import (
    CompiledByShape,
    TrainState,
    evaluate,
    init_state,
    make_eval_step,
    make_train_step,
    train_until,
)
from rnn_jax.workdir import RESULTS, check_workdir, fresh_workdir, open_workdir, read_json, save_task

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; a run in it is resumed. Default: runs/...")


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains to the end, or on from the last checkpoint in `workdir`, and returns what results.json holds.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; said before any training.
      NonFiniteLossError: training diverged.
    """
    workdir, clock = Path(workdir), Stopwatch("data", "compile", "train", "eval")
    check_config(config)
    check_workdir(workdir, config.to_dict())
    if (workdir / RESULTS).exists():
        return read_json(workdir / RESULTS)
    with clock("data"):
        data = prepare_data(config)
    open_workdir(workdir, config.to_dict())
    save_task(workdir, data.tokenizer, **data.task)
    run = build_run(config, data)
    with Checkpoints(workdir, config.train.keep_checkpoints) as checkpoints:
        state, evaluations = checkpoints.restore(run.state)
        start: int = int(state.step)
        step = start
        clock.add(evaluations[-1]["seconds"] if evaluations else {})
        with Journal(workdir, run.total, start, config.log.tensorboard) as journal:
            journal.say(f"{data.describe()}\nparameters: {state.parameters:,}; steps {start} to {run.total}")
            with clock("compile"):
                journal.say(compile_ahead(run, data))
            meter = Meter(
                journal, config.log.every, run.rate, lambda: f"{checkpoints.path(checkpoints.latest)}"
            )
            while step < run.total and not out_of_patience(evaluations, config.train.patience):
                step = min(run.total, (step // run.interval + 1) * run.interval)
                with clock("train"):
                    state = run.settle(
                        train_until(step, state, run.train_step, data.train, config.seed, meter)
                    )
                with clock("eval"):
                    metrics = evaluate(run.eval_step, state.params, data.validation.in_order()).summary()
                meter.evaluated(step, metrics)
                evaluations.append({"step": step, **metrics, "seconds": dict(clock.seconds)})
                checkpoints.save(state, evaluations)
            best = checkpoints.steps("best", fallback=False)[0]
            with clock("eval"):
                test = evaluate(run.eval_step, checkpoints.restore_params(best), data.test.in_order())
    trained = step / data.train.steps_per_epoch * len(data.train.examples)
    measured = {
        "best_step": best,
        "validation": next(evaluation for evaluation in evaluations if evaluation["step"] == best),
        "steps": step,
        "resumed_at": start,
        "parameters": state.parameters,
        "seconds": {phase: round(value, 2) for phase, value in clock.seconds.items()},
        "examples_per_second": round(trained / clock.seconds["train"], 1),
        "padding_waste": round(data.train.padding_waste, 4),
        "compilations": {"train": len(run.train_step.seconds), "eval": len(run.eval_step.seconds)},
        "shapes": [list(shape) for shape in data.train.shapes],
        "seed": config.seed,
    }
    return write_report(workdir, test, data.label_names, journal.history, measured)


def check_config(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    check_settings(config.to_dict(), reference.get_config().to_dict(), reference.LEAST)
    build_classifier(3, 2, **config.model)
    build_optimizer(1, **config.optimizer)
    if config.log.tensorboard:
        check_tensorboard()
    require(
        not config.train.row_sparse or config.optimizer.name == "adam",
        f"train.row_sparse is an option of adam, but optimizer.name is {config.optimizer.name!r}",
    )
    choose("text.truncate", config.text.truncate, TRUNCATIONS)


def prepare_data(config: ConfigDict) -> Data:
    """Returns the batches of the three splits."""
    return load_data(config.data, config.text, config.batch.size, config.batch.buckets, default_cache())


class Run(NamedTuple):
    """What trains: the state before the first step, the two steps, the learning rate, and how many steps."""

    state: TrainState
    train_step: CompiledByShape
    settle: Callable[[TrainState], TrainState]  # before the parameters are used
    eval_step: CompiledByShape
    rate: Callable[[int], float]
    total: int
    interval: int  # steps between evaluations


def build_run(config: ConfigDict, data: Data) -> Run:
    """Builds the model and the optimiser, and the two steps from them."""
    epoch = data.train.steps_per_epoch
    total, interval = config.train.epochs * epoch, max(1, round(config.train.evaluate_every * epoch))
    model = build_classifier(data.tokenizer.vocab_size, len(data.label_names), **config.model)
    optimizer, rate = build_optimizer(total, **config.optimizer)
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    mesh = batch_mesh(config.devices)
    state = init_state(model, optimizer, init_key)
    rows = RowAdam(rate, b1=config.optimizer.momentum) if config.train.row_sparse else None
    state = on_every_device(rows.init(state) if rows else state, mesh)
    settle = jax.jit(rows.settle, donate_argnums=0) if rows else lambda state: state

    def apply_fn(variables, *arguments, **options):
        words = len(variables["params"]["embedding"]["embedding"])  # with row_sparse, those of a batch
        return model.clone(vocab_size=words).apply(variables, *arguments, **options)

    train_step = CompiledByShape(make_train_step(apply_fn, optimizer, dropout_key, mesh, rows))
    eval_step = CompiledByShape(make_eval_step(apply_fn, mesh))
    return Run(state, train_step, settle, eval_step, rate, total, interval)


def compile_ahead(run: Run, data: Data) -> str:
    """Compiles both steps for every shape that will come, and says how long each took."""
    for batch in data.train.one_of_each_shape():
        run.train_step.executable(run.state, batch)
    for batches in (data.validation, data.test):
        for batch in batches.one_of_each_shape():
            run.eval_step.executable(run.state.params, batch)
    seconds = ", ".join(f"{shape} {value:.1f} s" for shape, value in run.train_step.seconds.items())
    devices = f"{run.state.step.sharding.num_devices} ({jax.default_backend()}); {describe_environment()}"
    compiled = f"the train step for {seconds}; the eval step for {len(run.eval_step.seconds)} shapes"
    return f"devices: {devices}\ncompiled {compiled}"


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is left of the command line, restarted as rnn_jax.host says; exits if no such setting."""
    try:
        rest = app.parse_flags_with_usage(arguments)
    except (AttributeError, KeyError) as error:
        sys.exit("error: no such setting: " + str(error.args[0]).replace("\n", ". "))
    if flags.FLAGS["verbosity"].using_default_value:
        # absl.app would make it INFO, where Orbax tells its every step.
        flags.FLAGS.verbosity = logging.WARNING  # type: ignore[assignment]
    restart(CONFIG.value.get("devices", 0), CONFIG.value.get("model", {}).get("hidden", 0))
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
