"""`train_and_evaluate(config, workdir)`: where the parts of training meet, and the table of tasks."""

from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rnn_jax.checkpoints.checkpoints import out_of_patience
from rnn_jax.checkpoints.workdir import CLASSIFY, LANGUAGE, TAG, save_task
from rnn_jax.config import check_settings, flatten
from rnn_jax.data.encoding import default_cache
from rnn_jax.data.pipeline import RunData
from rnn_jax.data.sources import Source
from rnn_jax.distributed.broadcast import in_turn, on_process_zero, require_same, say
from rnn_jax.distributed.preemption import Interrupted, Interruption
from rnn_jax.errors import choose, require
from rnn_jax.files import path_of
from rnn_jax.training.classification import CLASSIFICATION
from rnn_jax.training.language_modelling import LANGUAGE_MODELLING
from rnn_jax.training.logger import Meter, Stopwatch, check_tensorboard
from rnn_jax.training.regularisers import exchange
from rnn_jax.training.report import measurements, write_report
from rnn_jax.training.run_folder import SharedRun
from rnn_jax.training.tagging import TAGGING
from rnn_jax.training.tasks import Results, Task
from rnn_jax.training.trainer import build_run, compile_ahead, results_of

# By config.task, such as TASKS["language"]; a task of one's own is added here.
TASKS: dict[str, Task] = {CLASSIFY: CLASSIFICATION, LANGUAGE: LANGUAGE_MODELLING, TAG: TAGGING}


def train_and_evaluate(config: ConfigDict, workdir: str | Path, source: "Source | None" = None) -> Results:
    """Trains to the end, from the last checkpoint in `workdir` if there is one; returns the results.

    Args:
      config: the settings, such as `rnn_jax.recipe("bilstm")`; rnn_jax/settings.py explains each.
      workdir: the run's folder: new, empty, or that of a run with the same settings, which then goes on.
      source: splits by name, in place of what `config.data.source` names.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; raised before any training.
      NonFiniteLossError: training diverged.
      SaveError: a checkpoint cannot be written.
      Interrupted: SIGTERM or Ctrl-C came, and the step that was under way is done and saved.
    """
    workdir, clock = path_of(workdir), Stopwatch("data", "pretrain", "compile", "train", "eval")
    task = check_config(config)
    require_same("the config", lambda: repr(flatten(config.to_dict())))
    if finished := on_process_zero(partial(results_of, config, workdir, task.measures, say)):
        return finished
    with clock("data"):
        data = in_turn(partial(prepare_data, config, source))
        require_same("the data", data.digest)
    say(data.describe())
    with (
        SharedRun(workdir, config.to_dict(), config.train.keep_checkpoints) as shared,
        Interruption() as interruption,
    ):
        on_process_zero(partial(save_data, workdir, task, data, shared.begun))
        with clock("pretrain"):
            run = build_run(config, data, task.network(config, data), default_cache(), not shared.begun, say)
        state, evaluations = shared.restore(run.template, say)
        state = exchange(state) if shared.begun else state
        start = step = int(state.step)
        clock.add(evaluations[-1].get("seconds", {}) if evaluations else {})
        with shared.journal(run.plan.total, start, config.log.tensorboard) as journal:
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
                    metrics = run.validate((used := exchange(state)).params, data.validation)
                meter.evaluated(step, metrics)
                evaluations.append({"step": step, **metrics, "seconds": dict(clock.seconds)})
                shared.save(used, evaluations)
            best = shared.best()
            with clock("eval"):
                chosen = shared.restore_params(best, state.params)
                test, scores = run.test(chosen, data.test, journal.say)
        measured = measurements(run, state, data, clock, start, evaluations, best, test.unit)
        measured |= scores | {"resumed_at": start, "seed": config.seed}
        report = partial(task.report, workdir, test, data)
        return on_process_zero(lambda: write_report(workdir, test, report(), journal.history, measured))


def save_data(workdir: Path, task: Task, data: RunData[Any], begun: bool) -> None:
    """Writes all that using the model needs beside its config and parameters."""
    save_task(workdir, data.tokenizer, begun, **data.task)
    task.keep(workdir, data)


def check_config(config: ConfigDict) -> Task:
    """Returns the task of a config, after a check of every setting.

    Raises:
      InputError: a setting is missing, unknown, of another type or out of its range.

    >>> from rnn_jax.settings import language_model_settings
    >>> from rnn_jax.training import TASKS, check_config
    >>> check_config(language_model_settings()) == TASKS["language"]
    True
    """
    require("task" in config, f"config.task is missing; give one of: {', '.join(TASKS)}")
    task = choose("config.task", config.task, TASKS)
    check_settings(config.to_dict(), task.settings, task.least, f"task {config.task!r} (rnn_jax/settings.py)")
    task.check(config)
    if config.log.tensorboard:
        check_tensorboard()
    return task.of(config)


def prepare_data(config: ConfigDict, source: "Source | None" = None) -> RunData[Any]:
    """Returns the data of a run whose config was checked."""
    given = () if source is None else (source,)
    return TASKS[config.task].load(config, default_cache(), *given)
