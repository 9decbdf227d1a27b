"""The tagger of configs/tagger.py on a treebank, several seeds, and the table of docs/tagging.md from them.

Run `python -m benchmarks.tagging --source FOLDER`, where FOLDER has the treebank's files by split. Needs the
extra `reviews`, for the word vectors. What finished runs measured is kept in docs/tagging.json: it can be
stopped and started.
"""

import argparse
import os
import statistics
from functools import partial
from pathlib import Path

from benchmarks.records import Records, cores_of, recipe
from benchmarks.report import machine, replace_section
from benchmarks.results import spread
from configs import tagger
from rnn_jax.distributed.host import restart
from rnn_jax.training.loop import train_and_evaluate

SEEDS = (0, 1, 2)
RUNS, PAGE, RECORDS = Path("runs", "tagging"), Path("docs", "tagging.md"), Path("docs", "tagging.json")
KEPT = ("accuracy", "words", "parameters", "words_per_second", "seconds")
TABLE = """Make this table again: `python -m benchmarks.tagging --source FOLDER`. {machine}.

| seeds | test, % | validation, % | parameters | minutes | words/s | words/s of one core's time | cores |
|---|---|---|---|---|---|---|---|
| {seeds} | **{test}** | {validation} | {parameters} | {minutes} | {speed:,.0f} | {cpu:,.0f} | {cores} |"""


def measure(config, seed, workdir):
    """Returns what is kept of one run, and the processor time that all of it took."""
    config.seed = seed
    before = os.times()
    results = train_and_evaluate(config, workdir)
    used = os.times()
    cpu = used.user + used.system - before.user - before.system
    kept = {key: results[key] for key in KEPT}
    trained = results["words_per_second"] * results["seconds"]["train"]
    return kept | {
        "validation": results["validation"]["accuracy"],
        "cpu_seconds": round(cpu, 1),
        "words_per_cpu_second": round(trained / cpu, 1),
    }


def table(runs):
    """Returns the table of the runs, one of each seed."""

    def mean(value):
        return statistics.mean(map(value, runs))

    return TABLE.format(
        machine=machine(),
        seeds=len(runs),
        test=spread([run["accuracy"] for run in runs]),
        validation=spread([run["validation"] for run in runs]),
        parameters=f"{runs[0]['parameters']:,}",
        minutes=f"{mean(lambda run: sum(run['seconds'].values())) / 60:.1f}",
        speed=mean(lambda run: run["words_per_second"]),
        cpu=mean(lambda run: run["words_per_cpu_second"]),
        cores=cores_of(runs),
    )


def main():
    """Trains what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="the folder of the treebank")
    source = parser.parse_args().source
    restart(0, tagger.get_config().model.hidden)
    records, runs = Records(RECORDS), []
    for seed in SEEDS:
        config = tagger.get_config()
        settings = recipe(config, ("seed", "data.source"))
        config.data.source = source
        run = partial(measure, config, seed, RUNS / f"tagger-{seed}")
        runs.append(records.measure(f"tagger-{seed}", settings, run))
        PAGE.write_text(replace_section(PAGE.read_text(), "table", table(runs)))


if __name__ == "__main__":
    main()
