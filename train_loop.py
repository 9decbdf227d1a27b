"""Trains and evaluates a text classifier, or a language model.

python train_loop.py --config configs/bilstm.py [--workdir W] [--config.model.hidden=64]
                     [--coordinator HOST:PORT --processes N --process I]  # on each of several hosts
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import language_model, lstm
from rnn_jax.checkpoints.checkpoints import out_of_patience
from rnn_jax.checkpoints.workdir import CLASSIFY, LANGUAGE, fresh_workdir, save_task
from rnn_jax.data.encoding import default_cache
from rnn_jax.distributed.broadcast import first, in_turn, require_same, say
from rnn_jax.distributed.host import restart
from rnn_jax.distributed.preemption import Interrupted, Interruption
from rnn_jax.distributed.processes import joined, membership
from rnn_jax.errors import InputError, choose, require
from rnn_jax.settings import check_settings, flatten
from rnn_jax.training.classification import build_classifier_run, check_classifier, load_classifier_data
from rnn_jax.training.language_modelling import build_language_run, check_language, load_language_data
from rnn_jax.training.logger import Meter, NonFiniteLossError, Stopwatch, check_tensorboard
from rnn_jax.training.regularisers import exchange
from rnn_jax.training.report import measurements, report_confusion, write_report
from rnn_jax.training.run_folder import SharedRun
from rnn_jax.training.trainer import Run, compile_ahead, results_of

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; a run in it is resumed. Default: runs/...")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Host:port of process 0, the same for all; auto asks the cluster, such as SLURM."
)
PROCESSES = flags.DEFINE_integer("processes", None, "The number of processes.")
PROCESS = flags.DEFINE_integer("process", None, "The number of this process, from 0.")


class Task(NamedTuple):
    """A kind of run: the config that explains its settings, its functions, and what it says at its end."""

    reference: ModuleType
    check: Callable[[ConfigDict], None]
    load: Callable[[ConfigDict, Path], Any]  # the data
    build: Callable[..., Run]
    report: Callable[[Path, Any, Any], dict[str, Any]]  # of the workdir, the test metrics and the data
    closing: str


TASKS = {
    CLASSIFY: Task(
        lstm,
        check_classifier,
        load_classifier_data,
        build_classifier_run,
        lambda workdir, test, data: report_confusion(workdir, test, data.label_names),
        "test accuracy {accuracy:.2%} on {examples:,} reviews\n"
        "use it: rnn-jax predict --workdir {workdir} 'what a film'",
    ),
    LANGUAGE: Task(
        language_model,
        check_language,
        load_language_data,
        build_language_run,
        lambda workdir, test, data: {},
        "perplexity {perplexity:.1f} of {words:,} words held out\n"
        "use it: set embedding.from_workdir to {workdir}, or rnn-jax sample --workdir {workdir} --prompt the",
    ),
}


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains to the end, or on from the last checkpoint in `workdir`, and returns what results.json holds.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; said before any training.
      NonFiniteLossError: training diverged.
      SaveError: a checkpoint cannot be written.
      Interrupted: SIGTERM or Ctrl-C came, and the step that was under way is done and saved.
    """
    workdir, clock = Path(workdir), Stopwatch("data", "pretrain", "compile", "train", "eval")
    task = check_config(config)
    require_same("the config", lambda: repr(flatten(config.to_dict())))
    finished = first(partial(results_of, config, workdir))
    if finished:
        return finished
    with clock("data"):
        data = in_turn(partial(prepare_data, config))
        require_same("the data", data.digest)
    say(data.describe())
    with (
        SharedRun(workdir, config.to_dict(), config.train.keep_checkpoints) as shared,
        Interruption() as interruption,
    ):
        first(lambda: save_task(workdir, data.tokenizer, shared.begun, **data.task))
        with clock("pretrain"):
            run = task.build(config, data, default_cache(), not shared.begun, say)
        state, evaluations = shared.restore(run.template, say)
        state = exchange(state) if shared.begun else state
        start = step = int(state.step)
        clock.add(evaluations[-1].get("seconds", {}) if evaluations else {})
        with shared.journal(run.plan.total, start, config.log.tensorboard) as journal:
            journal.say(f"steps {start} to {run.plan.total}")
            with clock("compile"):
                journal.say(compile_ahead(run, state, data))
            meter = Meter(journal, config.log.every, run.plan.rate, shared.newest)
            while step < run.plan.total and not out_of_patience(evaluations, config.train.patience):
                step = min(run.plan.total, (step // run.plan.interval + 1) * run.plan.interval)
                with clock("train"):
                    state = run.trainer.train_until(step, state, data.train, config.seed, meter, interruption)
                if int(state.step) < step:
                    shared.save(exchange(state), evaluations)
                    raise Interrupted(int(state.step), interruption.signal)
                with clock("train"):
                    state = run.settle(state)
                with clock("eval"):
                    used = exchange(state)
                    metrics = run.evaluate(used.params, data.validation).summary()
                meter.evaluated(step, metrics)
                evaluations.append({"step": step, **metrics, "seconds": dict(clock.seconds)})
                shared.save(used, evaluations)
            best = shared.best()
            with clock("eval"):
                test = run.evaluate(shared.restore_params(best, state.params), data.test)
        measured = measurements(run, state, data, clock, evaluations, best, test.unit)
        measured |= {"resumed_at": start, "seed": config.seed}
        return first(
            lambda: write_report(workdir, test, task.report(workdir, test, data), journal.history, measured)
        )


def check_config(config: ConfigDict) -> Task:
    """Returns the kind of run that a config is of. Raises InputError for a setting that cannot be."""
    require("task" in config, f"config.task is missing; give one of: {', '.join(TASKS)}")
    task = choose("config.task", config.task, TASKS)
    reference = task.reference
    source = f"configs/{Path(str(reference.__file__)).name}"
    check_settings(config.to_dict(), reference.get_config().to_dict(), reference.LEAST, source)
    task.check(config)
    if config.log.tensorboard:
        check_tensorboard()
    return task


def prepare_data(config: ConfigDict) -> Any:
    """Returns the batches of each split."""
    return TASKS[config.task].load(config, default_cache())


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is left of the command line, restarted as `host` says; exits if no such setting."""
    try:
        rest = app.parse_flags_with_usage(arguments)
        model = CONFIG.value.get("model", {})
    except (AttributeError, KeyError) as error:
        sys.exit("error: no such setting: " + str(error.args[0]).replace("\n", ". "))
    except (OSError, SyntaxError) as error:  # the config is a Python file: what it raises itself is its own
        sys.exit("error: --config cannot be read: " + " ".join(str(error).split()))
    if flags.FLAGS["verbosity"].using_default_value:
        # absl.app would make it INFO, where Orbax tells its every step.
        flags.FLAGS.verbosity = logging.WARNING  # type: ignore[assignment]
    restart(CONFIG.value.get("devices", 0), model.get("hidden", 0), model.get("dtype", "float32"))
    return rest


def main(_: Sequence[str]) -> None:
    """Runs the config of the command line."""
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = WORKDIR.value
    try:
        with joined(membership(COORDINATOR.value, PROCESSES.value, PROCESS.value)):
            workdir = first(lambda: str(WORKDIR.value or fresh_workdir(name)))
            say(f"workdir: {workdir}")
            results = train_and_evaluate(CONFIG.value, workdir)
            say(f"seconds: {results['seconds']}")
            say(TASKS[CONFIG.value.task].closing.format(workdir=workdir, **results))
    except (InputError, NonFiniteLossError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        print(f"{interrupted}; to go on, give the same command with --workdir {workdir}", file=sys.stderr)
        sys.exit(128 + interrupted.signal)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
