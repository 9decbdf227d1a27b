"""The table of commands, the arguments read, and every error as one line and an exit code."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NoReturn, TextIO

import jax

import rnn_jax.cli.arguments as arguments
from rnn_jax.cli import commands
from rnn_jax.errors import InputError
from rnn_jax.files import path_of

Command = Callable[[argparse.Namespace], None]

# In the order of the help. A new command is a function in commands.py, its arguments, and a line here.
COMMANDS: dict[Command, Callable[[argparse.ArgumentParser], None]] = {
    commands.train: arguments.add_train,
    commands.predict: arguments.add_predict,
    commands.evaluate: arguments.add_evaluate,
    commands.export: arguments.add_export,
    commands.vectors: arguments.add_vectors,
    commands.sample: arguments.add_sample,
    commands.serve: arguments.add_serve,
    commands.push: arguments.add_push,
    commands.report: arguments.add_report,
}
DESCRIPTION = """Recurrent networks for text: train one, and use it.

`rnn-jax COMMAND --help` explains a command and has examples."""


def main(given: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends it with one line and exit code 2, or 1 where it trains."""
    sys.stdout = sys.stdout or _nowhere()  # a closed one is None
    sys.stderr = sys.stderr or _nowhere()
    whole = parser()
    options, overrides = whole.parse_known_args(given)
    if options.run is commands.train:
        options.overrides = overrides
    elif overrides:
        whole.error(f"unrecognized arguments: {' '.join(overrides)}")
    try:
        if getattr(options, "out", None):
            options.out = path_of(options.out)
        options.run(options)
        sys.stdout.flush()
    except InputError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        _end(f"standard output cannot show {error.object[error.start : error.end]!r}: {error}")
    except KeyboardInterrupt:  # what was to be a whole file has not taken its name
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        _drop_output()
        sys.exit(1)
    except OSError as error:  # such as a full disk
        _drop_output()
        _end(str(error))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="rnn-jax", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole.add_argument("--version", action="version", version=version())
    added = whole.add_subparsers(required=True, metavar="command")
    for function, add_arguments in COMMANDS.items():
        command = added.add_parser(
            function.__name__,
            help=(function.__doc__ or "").split("\n")[0],
            description=function.__doc__,
            epilog=arguments.EXAMPLES[function.__name__],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=function)
        add_arguments(command)
    return whole


def version() -> str:
    """Returns one line with the versions that a report of a fault needs."""
    try:
        own = metadata.version("rnn_jax")
    except metadata.PackageNotFoundError:  # run from a folder of sources
        own = "(not installed)"
    return f"rnn-jax {own} (jax {jax.__version__}, Python {platform.python_version()})"


def _end(message: str) -> NoReturn:
    print(f"rnn-jax: {message}", file=sys.stderr)
    sys.exit(2)


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
