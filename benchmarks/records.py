"""Records: what finished runs measured, in a JSON file beside the page that shows it.

They are committed, so that runs of several days, or machines, make one table. A run is measured again when
it differs from configs/lstm.py in other settings; delete its record when the code has become better.
"""

import datetime
import json

from benchmarks.report import processor
from configs import lstm
from rnn_jax.config import flatten
from rnn_jax.distributed.host import cores

KEPT = ("accuracy", "train_accuracy", "examples", "parameters", "trained_parameters", "examples_per_second")


def flat(settings):
    """Returns the settings by their dotted names, as JSON gives them back."""
    return flatten(json.loads(json.dumps(settings)))


def recipe(config, without=("seed",)):
    """Returns the settings in which a config differs from configs/lstm.py, but for those named."""
    plain = flat(lstm.get_config().to_dict())
    return {
        key: value
        for key, value in flat(config.to_dict()).items()
        if key not in without and plain.get(key) != value
    }


def summary(results):
    """Returns what is kept of a run's results."""
    kept = {key: results[key] for key in KEPT if key in results}
    return kept | {"validation": results["validation"]["accuracy"], "seconds": results["seconds"]}


def cores_of(runs):
    """Returns on how many cores they ran: "2", or "1 or 2"."""
    return " or ".join(str(count) for count in sorted({run["cores"] for run in runs}))


class Records:
    """The records of one file: `records.measure(name, settings, run)`."""

    def __init__(self, path):
        self.path = path
        self.lines = json.loads(path.read_text()) if path.exists() else {}

    def has(self, name, settings):
        """Returns whether a run of these settings was measured."""
        return name in self.lines and self.lines[name]["settings"] == settings

    def of(self, name, settings):
        """Returns the records of all seeds of a recipe that were measured with these settings."""
        keys = [f"{name}-{seed}" for seed in self.seeds()]
        return [self.lines[key] for key in keys if self.has(key, settings)]

    def seeds(self):
        """Returns the seeds of all records, whose names end in them."""
        return sorted({int(name.rpartition("-")[2]) for name in self.lines})

    def measure(self, name, settings, run):
        """Returns the record of a run; `run()` makes its numbers, a dict, where there is none yet."""
        if not self.has(name, settings):
            date = str(datetime.datetime.now(tz=datetime.UTC).date())
            numbers = run()
            ran_on = {"date": date, "processor": processor(), "cores": cores()}
            self.lines[name] = {"settings": settings, **ran_on, **numbers}
            lines = (f"{json.dumps(key)}: {json.dumps(line)}" for key, line in sorted(self.lines.items()))
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return self.lines[name]
