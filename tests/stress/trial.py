"""One trial of tests.stress.faults: a small run, something that happens to it, and the run that goes on."""

import json
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

from configs import smoke
from rnn_jax.checkpoints.checkpoints import DAMAGED, FOLDER
from rnn_jax.checkpoints.workdir import RESULTS
from tests.stress import injection
from tests.stress.injection import Act, Child

STEPS, EVERY = 36, 3  # of the run; steps between checkpoints
WORDS = {0: ("awful", "dull", "boring"), 1: ("great", "lovely", "moving")}
DAY = 86_400


def job(path: Path) -> Any:
    """Writes 120 made-up reviews to a file; returns the config of a run of 36 steps, a checkpoint every 3."""
    draw = random.Random(0)
    rows = []
    for index in range(120):
        words = draw.choices(["the", "film", "with", "an", "actor", "is", "in", "it"], k=draw.randint(5, 20))
        words += [*draw.choices(WORDS[index % 2], k=2), str(index)]
        rows.append({"text": " ".join(words), "label": index % 2})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = smoke.get_config()
    settings.data.source = str(path)
    settings.data.validation_share = settings.data.test_share = 0.2
    settings.text.max_length = 24
    settings.batch.size, settings.batch.buckets = 8, 1
    settings.model.embedding_dim = settings.model.hidden = 8
    settings.train.epochs, settings.train.evaluate_every = 4, EVERY / 9
    settings.train.average, settings.train.keep_checkpoints = 0.9, 2
    return settings


def complete(workdir: Path) -> list[int]:
    """Returns the steps of the complete checkpoints."""
    folder = workdir / FOLDER
    return (
        sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
        if folder.exists()
        else []
    )


def outcome(workdir: Path) -> dict[str, Any]:
    """Returns how a finished run ended: its last checkpoint, its tests, and the step it had begun with."""
    results = json.loads((workdir / RESULTS).read_text())
    digests = json.loads((workdir / FOLDER / str(STEPS) / "digests" / "metadata").read_text())
    return {
        "last": {name: digests[name] for name in ("params", "progress")},
        "test": [results[name] for name in ("loss", "accuracy", "confusion_matrix", "best_step")],
        "from": results["resumed_at"],
    }


def nothing() -> None:
    """No fault."""


class Trial:
    """One run and what happens to it. A method of FAULTS does it, and leaves a run that is to be resumed."""

    def __init__(self, settings: Any, workdir: Path, draw: random.Random):
        self.settings, self.workdir, self.draw = settings, workdir, draw
        self.reached = 0  # the last step that is known to have been done
        self.terminated = 0  # the step in which it was asked to end

    def start(self, fault: Act = nothing) -> Child:
        return Child(self.settings, self.workdir, fault)

    def end(self, child: Child, *codes: int) -> None:
        """Waits for a process and checks how it ended."""
        code = child.wait()
        assert code in codes, f"exit code {code}, not one of {codes}: {child.said[-2000:]}"

    def resume(self, reference: dict[str, Any]) -> int:
        """Runs to the end, checks what came of it, and returns the steps that were done twice."""
        before, finished = complete(self.workdir), (self.workdir / RESULTS).exists()
        child = self.start()
        self.end(child, 0)
        found = outcome(self.workdir)
        damaged = {int(path.name.split("-")[0]) for path in (self.workdir / DAMAGED).glob("*")}
        assert bool(damaged) == ("cannot be read" in child.said), child.said[-2000:]
        assert found["last"] == reference["last"], "the last checkpoint differs"
        first = found["from"]
        if not finished:
            assert first == max([0, *(step for step in before if step not in damaged)]) >= self.terminated
        if all(step > first for step in damaged):  # else the best one may have been lost
            assert found["test"] == reference["test"], "the test results differ"
        return 0 if finished else max(0, self.reached - first)

    def in_a_step(self, number: int) -> Act:
        """Returns a fault: a signal in a step after the third save began: two checkpoints are complete."""
        self.reached = self.draw.randint(3 * EVERY + 2, STEPS - 1)
        return injection.at_step(self.reached, injection.send(number))

    def in_a_save(self, act: Act, delay: float) -> Act:
        """Returns a fault: `act` after a save that is not the first has begun."""
        save = self.draw.randint(2, STEPS // EVERY)
        self.reached = save * EVERY
        return injection.at_save(save, self.draw.uniform(0, delay), act)

    def kill_in_a_step(self) -> None:
        self.end(self.start(self.in_a_step(signal.SIGKILL)), -signal.SIGKILL)

    def kill_at_any_time(self) -> None:
        kill = injection.later(self.draw.uniform(0, 8), injection.send(signal.SIGKILL))
        self.end(self.start(kill), -signal.SIGKILL, 0)

    def kill_in_a_save(self) -> None:
        self.end(self.start(self.in_a_save(injection.send(signal.SIGKILL), 0.1)), -signal.SIGKILL, 0)

    def terminate_in_a_step(self) -> None:
        self.end(self.start(self.in_a_step(signal.SIGTERM)), 128 + signal.SIGTERM)
        self.terminated = self.reached

    def terminate_in_a_save(self) -> None:
        self.end(self.start(self.in_a_save(injection.send(signal.SIGTERM), 0.1)), 128 + signal.SIGTERM, 0)
        self.terminated = self.reached

    def fill_the_disk(self) -> None:
        child = self.start(self.in_a_save(injection.fill_disk(self.draw.randint(0, 2000)), 0))
        self.end(child, 1)
        said = ("SaveError: a checkpoint cannot be written", "metrics cannot be written")
        assert any(each in child.said for each in said), child.said[-2000:]

    def forbid_writing(self) -> None:
        fault = self.in_a_save(partial(injection.lock_folder, self.workdir, True), 0)

        def arm() -> None:
            injection.obey_modes()
            fault()

        forbidden = self.start(arm)
        self.end(forbidden, 1)
        assert "SaveError: a checkpoint cannot be written" in forbidden.said, forbidden.said[-2000:]
        again = self.start(injection.obey_modes)
        self.end(again, 1)
        assert "cannot be written to; give another --workdir" in again.said, again.said[-2000:]
        injection.lock_folder(self.workdir, False)

    def cut_a_file(self) -> None:
        self.kill_in_a_step()
        file = self.some_file()
        file.write_bytes(file.read_bytes()[: self.draw.randrange(file.stat().st_size)])

    def flip_a_bit(self) -> None:
        self.kill_in_a_step()
        file = self.some_file()
        content = bytearray(file.read_bytes())
        content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(8)
        file.write_bytes(content)

    def change_the_config(self) -> None:
        self.kill_in_a_step()
        self.settings.optimizer.learning_rate *= 2
        child = self.start()
        self.end(child, 1)
        assert "another config (optimizer.learning_rate" in child.said
        self.settings.optimizer.learning_rate /= 2

    def change_the_data(self) -> None:
        texts, source = Path(self.settings.data.source).read_text(), self.workdir.with_suffix(".jsonl")
        source.write_text(texts)
        self.settings = self.settings.copy_and_resolve_references()
        self.settings.data.source = str(source)
        self.kill_in_a_step()
        source.write_text(texts.replace(self.draw.choice(WORDS[1]), "odd"))
        child = self.start()
        self.end(child, 1)
        assert "began with other data" in child.said
        source.write_text(texts)

    def jump_in_time(self) -> None:
        clock = injection.jump(self.draw.choice([-1000, -1, 1, 1000]) * DAY)
        kill = self.in_a_step(signal.SIGKILL)
        self.end(self.start(lambda: (clock(), kill())[1]), -signal.SIGKILL)

    def run_twice(self) -> None:
        first = self.start(self.in_a_step(signal.SIGKILL))
        second = self.start()
        codes = sorted([first.wait(), second.wait()])
        refused = [child for child in (first, second) if "another run is under way" in child.said]
        assert len(refused) == 1, (first.said, second.said)
        assert codes in ([-signal.SIGKILL, 1], [0, 1]), (first.said, second.said)

    def some_file(self) -> Path:
        """Returns a file, not an empty one, of one of the checkpoints."""
        files = [file for file in sorted((self.workdir / FOLDER).rglob("*")) if file.is_file()]
        return self.draw.choice([file for file in files if file.stat().st_size])
