"""The program that trains, from its arguments to its exit code: `rnn-jax train`, and train_loop.py."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from rnn_jax.checkpoints.workdir import fresh_workdir
from rnn_jax.distributed.broadcast import on_process_zero, say
from rnn_jax.distributed.host import restart
from rnn_jax.distributed.preemption import Interrupted
from rnn_jax.distributed.processes import joined, membership
from rnn_jax.errors import InputError, nearest, require
from rnn_jax.settings import recipe_path
from rnn_jax.training.logger import NonFiniteLossError
from rnn_jax.training.loop import TASKS, train_and_evaluate

FLAGS = ("--config", "--recipe", "--workdir", "--coordinator", "--processes", "--process", "--verbosity")


def read_config_file(path: str | Path, overrides: Sequence[str]) -> ConfigDict:
    """Returns the settings of a config file, changed by overrides such as "--config.model.hidden=64".

    Raises:
      InputError: the file cannot be read, or an override is of no setting or of another type.
    """
    for name in (name for name in overrides if name.startswith("-") and not name.startswith("--config.")):
        flag = name.split("=")[0]
        raise InputError(f"{flag} is no argument of train.{nearest(flag, FLAGS)}")
    file, _, _ = str(path).partition(".py:")  # FILE.py:ARGUMENT calls get_config(ARGUMENT)
    require(
        Path(path).is_file() or Path(f"{file}.py").is_file(),
        f"--config is {str(path)!r}, which is no file; give a Python file with get_config()",
    )
    arguments = ["train", f"--config={path}", *overrides]
    values = flags.FlagValues()  # separate, so that a program that imports this one keeps its own flags
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True, sys_argv=arguments)
    try:
        rest = values(arguments)
        config = values["config"].value
        require(
            isinstance(config, ConfigDict), f"--config {path} has a get_config() that returns no ConfigDict"
        )
    except (AttributeError, KeyError) as error:
        cause = error.args[0] if isinstance(error.args[0], KeyError) else error
        raise InputError("no such setting: " + str(cause.args[0]).replace("\n", ". ")) from error
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from error
    except (OSError, SyntaxError, ImportError) as error:  # the file is a program: others are its own
        raise InputError("--config cannot be read: " + " ".join(str(error).split())) from error
    require(len(rest) == 1, f"{rest[1:2]} is no argument of train; write --config.SECTION.KEY=VALUE")
    return config


def run_command(options: argparse.Namespace) -> None:
    """Trains as the arguments say, restarted in the environment of rnn_jax.distributed.host.

    Exits with 1 and one line where that cannot be, and with 128 and the signal's number where one ended it.
    """
    workdir = options.workdir
    try:
        path = recipe_path(options.recipe) if options.recipe else Path(options.config)
        config = read_config_file(path, options.overrides)
        logging.set_verbosity(options.verbosity)  # absl's own default is where Orbax tells its every step
        model = config.get("model", {})
        restart(config.get("devices", 0), model.get("hidden", 0), model.get("dtype", "float32"))
        with joined(membership(options.coordinator, options.processes, options.process)):
            workdir = on_process_zero(lambda: str(workdir or fresh_workdir(path.stem)))
            say(f"workdir: {workdir}")
            results = train_and_evaluate(config, workdir)
            say(f"seconds: {results['seconds']}")
            say(TASKS[config.task].close(workdir, results))
    except (InputError, NonFiniteLossError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        print(f"{interrupted}; to go on, give the same command with --workdir {workdir}", file=sys.stderr)
        sys.exit(128 + interrupted.signal)
