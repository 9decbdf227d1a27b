"""Trains and evaluates a text classifier.

python train_loop.py --config configs/bilstm.py [--workdir W] [--config.model.hidden=64]
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import lstm as reference
from rnn_jax.batches import Batches, bucket_lengths
from rnn_jax.checkpoint import Checkpoints, score
from rnn_jax.corpus import load_corpus
from rnn_jax.encoding import default_cache, encode_splits
from rnn_jax.errors import InputError, require
from rnn_jax.journal import Journal
from rnn_jax.meter import Meter, NonFiniteLossError, Stopwatch
from rnn_jax.models import build_classifier
from rnn_jax.optimizer import build_optimizer
from rnn_jax.report import write_report
from rnn_jax.settings import check_settings
from rnn_jax.sources import read_texts
from rnn_jax.text import Tokenizer, truncate
from rnn_jax.training import (
    CompiledByShape,
    TrainState,
    evaluate,
    init_state,
    make_eval_step,
    make_train_step,
)
from rnn_jax.workdir import RESULTS, fresh_workdir, open_workdir, read_json, save_task

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The run's config, a file of configs/.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder; an existing run is resumed. Default: runs/..."
)


class Data(NamedTuple):
    """Batches of each split, and what turned the texts into them."""

    train: Batches
    validation: Batches
    test: Batches
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    label_values: tuple[int | str | bool, ...]
    dropped: int


def prepare_data(config: ConfigDict) -> Data:
    """Reads, splits, encodes and buckets the reviews."""
    corpus = load_corpus(**config.data)
    text = config.text
    vocabulary = corpus.train.texts
    if text.vocabulary_source:
        vocabulary = read_texts(text.vocabulary_source, config.data.text_column)
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    tokenizer, encoded = encode_splits(
        {name: split.texts for name, split in splits.items()},
        vocabulary,
        vocab_size=text.vocab_size,
        lowercase=text.lowercase,
        strip_html=text.strip_html,
        cache=default_cache(),
    )
    rows = {name: truncate(encoded[name], text.max_length, text.truncate) for name in splits}
    buckets = bucket_lengths([len(row) for row in rows["train"]], text.max_length, config.batch.buckets)
    batches = {
        name: Batches(rows[name], split.labels, buckets, config.batch.size) for name, split in splits.items()
    }
    return Data(
        **batches,
        tokenizer=tokenizer,
        label_names=corpus.label_names,
        label_values=corpus.label_values,
        dropped=corpus.dropped,
    )


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains to the end, or on from the last checkpoint in `workdir`, and returns what results.json holds.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; said before any training.
      NonFiniteLossError: training diverged.
    """
    workdir, clock = Path(workdir), Stopwatch("data", "compile", "train", "eval")
    check_config(config)
    open_workdir(workdir, config.to_dict())
    if (workdir / RESULTS).exists():
        return read_json(workdir / RESULTS)
    with clock("data"):
        data = prepare_data(config)
    save_task(
        workdir,
        data.tokenizer,
        label_names=data.label_names,
        label_values=data.label_values,
        buckets=data.train.buckets,
    )

    model = build_classifier(data.tokenizer.vocab_size, len(data.label_names), **config.model)
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    epoch = data.train.steps_per_epoch
    total, interval = config.train.epochs * epoch, max(1, round(config.train.evaluate_every * epoch))
    optimizer, rate = build_optimizer(total, **config.optimizer)
    state = init_state(model, optimizer, init_key)
    train_step = CompiledByShape(make_train_step(model.apply, optimizer, dropout_key))
    eval_step = CompiledByShape(make_eval_step(model.apply))
    with Checkpoints(workdir, config.train.keep_checkpoints) as checkpoints:
        state, evaluations = resume(checkpoints, state)
        start = step = int(state.step)
        clock.add(evaluations[-1]["seconds"] if evaluations else {})
        with Journal(workdir, total, start, config.log.tensorboard) as journal:
            journal.say(describe(data, state, total))
            with clock("compile"):
                compile_ahead(train_step, eval_step, state, data)
            journal.say(
                f"compiled {len(train_step.seconds)} shapes in {sum(train_step.seconds.values()):.1f} s"
            )
            meter = Meter(journal, config.log.every, rate, lambda: f"{checkpoints.path(checkpoints.latest)}")
            while step < total and not out_of_patience(evaluations, config.train.patience):
                step = min(total, (step // interval + 1) * interval)
                with clock("train"):
                    state = train_until(step, state, train_step, data.train, config.seed, meter)
                with clock("eval"):
                    metrics = evaluate(eval_step, state.params, data.validation.in_order()).summary()
                meter.evaluated(step, metrics)
                evaluations.append({"step": step, **metrics, "seconds": dict(clock.seconds)})
                checkpoints.save(step, state.params, progress_of(state), evaluations)
            best = checkpoints.steps("best", fallback=False)[0]
            with clock("eval"):
                test = evaluate(eval_step, checkpoints.restore_params(best), data.test.in_order())
    measured = {
        "best_step": best,
        "validation": next(evaluation for evaluation in evaluations if evaluation["step"] == best),
        "steps": step,
        "resumed_at": start,
        "parameters": state.parameters,
        "seconds": {phase: round(value, 2) for phase, value in clock.seconds.items()},
        "examples_per_second": round(step / epoch * len(data.train.examples) / clock.seconds["train"], 1),
        "padding_waste": round(data.train.padding_waste, 4),
        "compilations": {"train": len(train_step.seconds), "eval": len(eval_step.seconds)},
        "shapes": data.train.shapes,
        "seed": config.seed,
    }
    return write_report(workdir, test, data.label_names, journal.history, measured)


def check_config(config: ConfigDict) -> None:
    """Raises InputError for a setting that is unknown, of the wrong type or out of range."""
    check_settings(config.to_dict(), reference.get_config().to_dict())
    build_classifier(3, 2, **config.model)
    build_optimizer(1, **config.optimizer)
    for name, value in {
        "epochs": config.train.epochs,
        "keep_checkpoints": config.train.keep_checkpoints,
    }.items():
        require(value > 0, f"train.{name} is {value}; give at least 1")
    require(
        config.train.evaluate_every > 0, f"train.evaluate_every is {config.train.evaluate_every}; in epochs"
    )
    require(config.train.patience >= 0, f"train.patience is {config.train.patience}; 0 never stops early")
    require(config.log.every > 0, f"log.every is {config.log.every}; give at least 1 step")


def progress_of(state: TrainState) -> dict[str, Any]:
    """Returns what a checkpoint holds beside the parameters."""
    return {"step": state.step, "opt_state": state.opt_state}


def resume(checkpoints: Checkpoints, state: TrainState) -> tuple[TrainState, list[dict[str, Any]]]:
    """Returns the state and the evaluations of the last checkpoint; without one, `state` and none."""
    if checkpoints.latest is None:
        return state, []
    params, progress, evaluations = checkpoints.restore(checkpoints.latest, state.params, progress_of(state))
    return jax.device_put(TrainState(progress["step"], params, progress["opt_state"])), evaluations


def describe(data: Data, state: TrainState, total: int) -> str:
    """Returns the first lines of a run's log."""
    train, validation, test = (len(split.examples) for split in (data.train, data.validation, data.test))
    return (
        f"reviews: {train:,} train, {validation:,} validation, {test:,} test"
        f" ({data.dropped:,} dropped that stood in two); "
        f"labels: {', '.join(data.label_names)}; vocabulary: {data.tokenizer.vocab_size:,}\n"
        f"shapes [batch, time]: {data.train.shapes}; padding waste {data.train.padding_waste:.1%}\n"
        f"parameters: {state.parameters:,}; "
        f"steps {int(state.step)} to {total} on {jax.devices()[0].device_kind}"
    )


def compile_ahead(
    train_step: CompiledByShape, eval_step: CompiledByShape, state: TrainState, data: Data
) -> None:
    """Compiles both steps for every shape that will come, so that no step of training waits for it."""
    for batch in data.train.one_of_each_shape():
        train_step.executable(state, batch)
    for batches in (data.validation, data.test):
        for batch in batches.one_of_each_shape():
            eval_step.executable(state.params, batch)


def train_until(
    stop: int, state: TrainState, train_step: CompiledByShape, batches: Batches, seed: int, meter: Meter
) -> TrainState:
    """Returns the state after step `stop`."""
    for step in range(int(state.step), stop):
        batch = batches(seed, step)
        state, metrics = train_step(state, batch)
        meter.push(step + 1, batch, metrics)
    meter.flush()
    return state


def out_of_patience(evaluations: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Returns whether the last `patience` evaluations brought no better one; never for patience 0."""
    scores = [score(evaluation) for evaluation in evaluations]
    return 0 < patience < len(scores) and max(scores[:-patience]) >= max(scores[-patience:])


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is left of the command line; exits with one line for a setting that no config has."""
    try:
        rest = app.parse_flags_with_usage(arguments)
    except (AttributeError, KeyError) as error:
        sys.exit("error: no such setting: " + str(error.args[0]).replace("\n", ". "))
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING  # absl.app would make it INFO, where Orbax tells every step
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
