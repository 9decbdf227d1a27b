"""The arguments of every command, and the examples that its help ends with."""

import argparse
from pathlib import Path
from typing import Any

TEXT, LABEL = "text", "label"  # the columns of texts and of labels where none is named
VECTOR_SETTINGS: dict[str, tuple[Any, str]] = {
    "dim": (128, "numbers in a vector"),
    "window": (5, "words on each side that count as context"),
    "epochs": (8, "times that the texts are read"),
    "min_count": (5, "uses that a word needs to get a vector"),
    "seed": (0, "of all that is random"),
    "workers": (1, "threads; with more than one, no two runs are equal"),
}
SAMPLE_SETTINGS: dict[str, tuple[Any, str]] = {
    "words": (50, "words to add"),
    "temperature": (0.8, "near 0 the likeliest words, above 1 unlikely ones oftener"),
    "top_k": (40, "draw from so many of the likeliest words; 0 draws from all"),
    "seed": (0, "of the draws"),
}
SERVE_SETTINGS: dict[str, tuple[Any, str]] = {
    "body_bytes": (2**20, "the largest body of a request"),
    "texts": (256, "the most texts of a request"),
    "characters": (20_000, "the longest text"),
    "seconds": (10.0, "the longest that a request takes"),
}

EXAMPLES = {  # by command
    "report": """examples:
  rnn-jax report --workdir runs/a""",
    "train": """examples:
  rnn-jax train --recipe smoke
  rnn-jax train --recipe bilstm --workdir runs/a --config.data.source=texts.csv --config.model.hidden=64
  rnn-jax train --config my_config.py
  rnn-jax train --from runs/a --workdir runs/b --config.data.source=more.csv --config.train.epochs=2

Every setting is explained in rnn_jax/settings.py. The same command with the --workdir of a run that was
interrupted goes on with it.""",
    "predict": """examples:
  rnn-jax predict --workdir runs/a "a moving, brilliant film" "dull from start to end"
  rnn-jax predict --workdir runs/a --input texts.csv --column body
  rnn-jax predict --workdir runs/a --input texts.csv --out labelled.csv
  rnn-jax predict --workdir runs/a --workdir runs/b --input texts.csv --out soft.csv --probabilities
  cat texts.txt | rnn-jax predict --workdir runs/a --format jsonl > labelled.jsonl

--out keeps the columns of --input and adds `predicted` and `probability`: one row out for each row in. A text
that is empty or missing is a text without words. A tagger adds `words` and `predicted`, the tags, both joined
by spaces. Files of any size are read and written a part at a time.""",
    "evaluate": """examples:
  rnn-jax evaluate --workdir runs/a --data texts.csv
  rnn-jax evaluate --workdir runs/a --data texts/ --split validation --format jsonl""",
    "export": """example:
  rnn-jax export --workdir runs/a --out classifier.zip""",
    "vectors": """example:
  rnn-jax vectors --data texts.csv --out vectors.txt --dim 64""",
    "sample": """example:
  rnn-jax sample --workdir runs/lm --prompt "the film" --words 20 --temperature 0.7""",
    "serve": """examples:
  rnn-jax serve --workdir runs/a
  rnn-jax serve --workdir hf://ada/model --port 9000
  curl -H 'content-type: application/json' -d '{"text": "a moving film"}' localhost:8000/predict

Open http://127.0.0.1:8000 for a page to try it. --host 0.0.0.0 lets other machines in: anyone who reaches the
port may ask. SIGTERM and Ctrl-C stop it after the requests that are under way are answered.""",
    "push": """examples:
  rnn-jax push --workdir runs/a ada/model --license mit --language en
  rnn-jax push --workdir runs/a ada/model --private

Needs a token of the Hugging Face hub that may write: run `hf auth login`, or set HF_TOKEN.""",
}


def add_train(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax train`; settings, --config.SECTION.KEY=VALUE, are read later."""
    command.allow_abbrev = False  # --config.model.hidden is no abbreviation
    command.usage = (
        "rnn-jax train (--config FILE | --recipe NAME | --from RUN) [--workdir W] "
        "[--config.SECTION.KEY=VALUE ...]"
    )
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument("--config", help="a Python file with get_config(), which returns the settings")
    chosen.add_argument(
        "--recipe",
        help="a recipe that comes with the library, such as bilstm; auto takes the best for so many labels",
    )
    command.add_argument(
        "--from",
        dest="start",
        metavar="RUN",
        help="the folder of a run to start from: its best parameters, and its settings where no --config or "
        "--recipe is given",
    )
    command.add_argument(
        "--workdir", help="the run's folder; a run in it goes on (default: a new one in runs/)"
    )
    command.add_argument(
        "--coordinator", help="host:port of process 0, the same for all; auto asks the cluster"
    )
    command.add_argument("--processes", type=int, help="the number of processes")
    command.add_argument("--process", type=int, help="the number of this process, from 0")
    command.add_argument(
        "--verbosity",
        type=int,
        default=-1,
        help="absl's: -1 warnings, 0 also XLA's flags and what Orbax does, 1 all",
    )


def add_predict(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax predict`."""
    _add_run(command, several=True)
    _add_format(command)
    command.add_argument("texts", nargs="*", help="texts; without them and --input, lines of stdin")
    command.add_argument("--input", help="a file of texts, such as CSV, JSON lines or Parquet")
    command.add_argument(
        "--out", type=Path, help="a .csv, .tsv, .jsonl or .parquet file to write the rows of --input into"
    )
    command.add_argument(
        "--probabilities",
        action="store_true",
        help="with --out, add the probability of every class too, for config.data.soft_labels",
    )


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax evaluate`."""
    _add_run(command, several=True)
    _add_format(command)
    command.set_defaults(column=None)  # of a tagger's words: the column that it was trained on
    command.add_argument("--data", required=True, help="a file or folder, or a dataset's name on the hub")
    command.add_argument("--split", help="the split to evaluate on (default: test, else the first)")
    command.add_argument(
        "--label-column", help=f"the column of the labels or tags (default: {LABEL}; of a tagger its own)"
    )


def add_export(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax export`."""
    _add_run(command)
    command.add_argument("--out", required=True, type=Path, help="the file to write, a zip archive")


def add_vectors(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax vectors`."""
    _add_column(command)
    command.add_argument("--data", required=True, help="a file or folder, or a dataset's name on the hub")
    command.add_argument("--out", required=True, type=Path, help="the .txt or .vec file to write")
    _add_settings(command, VECTOR_SETTINGS)


def add_sample(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax sample`."""
    _add_run(command)
    command.add_argument("--prompt", required=True, help="the words to go on from")
    _add_settings(command, SAMPLE_SETTINGS)


def add_serve(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax serve`."""
    _add_run(command)
    command.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", default=8000, type=int, help="0 takes a free one (default: 8000)")
    _add_settings(command, SERVE_SETTINGS)


def add_push(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax push`."""
    _add_run(command)
    command.add_argument("repository", help="user/name on the Hugging Face hub")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--license", default="", help="for the model card, such as mit")
    command.add_argument("--language", default="", help="of the texts, such as en")
    command.add_argument("--dataset", default="", help="the hub's name of the data, user/name")


def add_report(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rnn-jax report`."""
    command.add_argument("--workdir", required=True, help="the folder of a finished run")


def _add_run(command: argparse.ArgumentParser, several: bool = False) -> None:
    place = "the folder of a trained run or saved model, or hf://user/name"
    if several:
        again = f"{place}; given again, the mean of all"
        command.add_argument("--workdir", required=True, action="append", help=again)
    else:
        command.add_argument("--workdir", required=True, help=place)
    command.add_argument("--which", default="best", type=_which, help="best, last, or a step (default: best)")
    command.add_argument("--fallback", action="store_true", help="take another checkpoint if it is damaged")


def _add_column(command: argparse.ArgumentParser) -> None:
    command.add_argument("--column", default=TEXT, help=f"the column of the texts (default: {TEXT})")
    command.add_argument("--delimiter", default="", help="between the fields of a CSV (default: found)")
    command.add_argument("--encoding", default="", help="of a file of text, such as cp1252 (default: UTF-8)")


def _add_format(command: argparse.ArgumentParser) -> None:
    _add_column(command)
    command.add_argument("--format", default="table", choices=("table", "jsonl"))


def _add_settings(command: argparse.ArgumentParser, settings: dict[str, tuple[Any, str]]) -> None:
    for name, (default, text) in settings.items():
        option = f"--{name.replace('_', '-')}"
        command.add_argument(option, default=default, type=type(default), help=f"{text} (default: {default})")


def _which(value: str) -> str | int:
    return int(value) if value.isdecimal() else value
