"""The program that trains, from its arguments to its exit code: `rnn-jax train`, and train_loop.py."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from rnn_jax.checkpoints.restore import settings_of_run
from rnn_jax.checkpoints.workdir import fresh_workdir
from rnn_jax.config import starting_from
from rnn_jax.distributed.broadcast import on_process_zero, say
from rnn_jax.distributed.host import fusion_pays, restart
from rnn_jax.distributed.preemption import Interrupted
from rnn_jax.distributed.processes import joined, membership
from rnn_jax.errors import InputError, nearest, require
from rnn_jax.files import path_of
from rnn_jax.settings import recipe, recipe_path
from rnn_jax.training.automatic import AUTO, NO_START, automatic_settings
from rnn_jax.training.logger import NonFiniteLossError
from rnn_jax.training.loop import TASKS, train_and_evaluate

ARGUMENTS = ("config", "recipe", "from", "workdir", "coordinator", "processes", "process", "verbosity")
FLAGS = tuple(f"--{name}" for name in ARGUMENTS)


def read_config_file(path: str | Path, overrides: Sequence[str]) -> ConfigDict:
    """Returns the settings of a config file, changed by overrides such as "--config.model.hidden=64".

    Raises:
      InputError: the file cannot be read, or an override is of no setting or of another type.
    """
    _check_overrides(overrides)
    file, _, _ = str(path).partition(".py:")  # FILE.py:ARGUMENT calls get_config(ARGUMENT)
    require(
        Path(path).is_file() or Path(f"{file}.py").is_file(),
        f"--config is {str(path)!r}, which is no file; give a Python file with get_config()",
    )
    config = _parsed(config_flags.DEFINE_config_file, [f"--config={path}", *overrides])
    require(isinstance(config, ConfigDict), f"--config {path} has a get_config() that returns no ConfigDict")
    return config


def with_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns settings changed by overrides such as "--config.model.hidden=64".

    Raises:
      InputError: an override is of no setting or of another type.

    >>> from rnn_jax.settings import recipe
    >>> with_overrides(recipe("smoke"), ["--config.model.hidden=64"]).model.hidden
    64
    """
    _check_overrides(overrides)
    return _parsed(partial(config_flags.DEFINE_config_dict, config=config), overrides)


def _check_overrides(overrides: Sequence[str]) -> None:
    for name in (name for name in overrides if name.startswith("-") and not name.startswith("--config.")):
        flag = name.split("=")[0]
        raise InputError(f"{flag} is no argument of train.{nearest(flag, FLAGS)}")


def _parsed(define: Callable[..., object], arguments: Sequence[str]) -> Any:
    """Returns the value of the flag --config, which `define` defines, after `arguments`."""
    arguments = ["train", *arguments]
    values = flags.FlagValues()  # separate, so that a program that imports this one keeps its own flags
    try:
        define("config", flag_values=values, lock_config=True, sys_argv=arguments)
        rest = values(arguments)
        config = values["config"].value
    except (AttributeError, KeyError) as error:
        cause = error.args[0] if isinstance(error.args[0], KeyError) else error
        raise InputError("no such setting: " + str(cause.args[0]).replace("\n", ". ")) from error
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from error
    except (OSError, SyntaxError, ImportError) as error:  # the file is a program: others are its own
        raise InputError("--config cannot be read: " + " ".join(str(error).split())) from error
    require(len(rest) == 1, f"{rest[1:2]} is no argument of train; write --config.SECTION.KEY=VALUE")
    return config


def chosen_config(options: argparse.Namespace) -> tuple[str, ConfigDict, str]:
    """Returns the settings that the arguments name, the name of the folder of a new run, and a line or "".

    The line says why `--recipe auto` chose the settings.

    Raises:
      InputError: no settings are named, or they cannot be read.
    """
    _check_overrides(options.overrides)
    if options.recipe == AUTO:
        require(not options.start, NO_START)
        config, why = automatic_settings(with_overrides(recipe("bilstm"), options.overrides))
        return AUTO, with_overrides(config, options.overrides), why
    if options.recipe or options.config:
        path = recipe_path(options.recipe) if options.recipe else Path(options.config)
        if not options.start:
            return path.stem, read_config_file(path, options.overrides), ""
        name, config = path.stem, read_config_file(path, ())
    else:
        require(bool(options.start), "give --config FILE, --recipe NAME or --from RUN")
        name, config = Path(options.start).name, settings_of_run(path_of(options.start))
    return name, with_overrides(starting_from(config, path_of(options.start)), options.overrides), ""


def run_command(options: argparse.Namespace) -> None:
    """Trains as the arguments say, restarted in the environment of rnn_jax.distributed.host.

    Exits with 1 and one line where that cannot be, and with 128 and the signal's number where one ended it.
    """
    workdir = options.workdir
    try:
        name, config, why = chosen_config(options)
        logging.set_verbosity(options.verbosity)  # absl's own default is where Orbax tells its every step
        model = config.get("model", {})
        options_of_layers = model.get("dtype", "float32"), model.get("layer_norm", False)
        fusion = fusion_pays(config.get("task", ""), model.get("cell", ""))
        restart(config.get("devices", 0), model.get("hidden", 0), *options_of_layers, fusion)
        with joined(membership(options.coordinator, options.processes, options.process)):
            workdir = on_process_zero(lambda: str(workdir or fresh_workdir(name)))
            say(f"workdir: {workdir}" + f"\n{why}" * bool(why))
            results = train_and_evaluate(config, workdir)
            say(f"seconds: {results['seconds']}")
            say(TASKS[config.task].of(config).close(workdir, results))
    except (InputError, NonFiniteLossError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        print(f"{interrupted}; to go on, give the same command with --workdir {workdir}", file=sys.stderr)
        sys.exit(128 + interrupted.signal)
