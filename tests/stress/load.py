"""A server under load: 32 clients ask for some seconds, and again while it is told to stop.

Run `python -m tests.stress.load`; needs the extra `serve`. It prints requests per second and the times that
clients waited, of a bidirectional LSTM with random weights; server and clients share this machine.
Every request that the server has read has to be answered, and rightly.
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import bilstm
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.inference.predictor import Predictor
from rnn_jax.models.classifier import build_classifier

CLIENTS = 32
NAMES = ("negative", "positive")
TEXTS = 64  # different ones
STOPPED = re.compile(r"stopped: ([\d,]+) of ([\d,]+) requests answered")


class Load(NamedTuple):
    """What clients saw.

    Attributes:
      seconds: what each answered request took.
      wrong: answers that are not those of the model.
      cut: requests whose connection ended without an answer: the server had not read them, or they are lost.
      turned_away: requests whose connection was refused.
    """

    seconds: list[float]
    wrong: list[str]
    cut: list[str]
    turned_away: list[str]


def make_model(folder: Path, words: int, hidden: int) -> Predictor:
    """Saves a classifier with random weights that reads up to so many words, and returns it."""
    config = bilstm.get_config()
    config.text.max_length, config.model.hidden = words, hidden
    vocabulary = " ".join(f"w{number}" for number in range(5000))
    tokenizer = Tokenizer.train([vocabulary], 6000, lowercase=True, strip_html=True)
    model = build_classifier(tokenizer.vocab_size, len(NAMES), **config.model)
    params = model.init(jax.random.key(0), jnp.ones((1, 2), jnp.int32), jnp.array([2]))["params"]
    buckets = [size for size in (32, 64, 128, 256) if size < words] + [words]
    task = {"label_names": list(NAMES), "label_values": [0, 1], "buckets": buckets}
    predictor = Predictor(config, model, params, tokenizer, task, step=1)  # type: ignore[arg-type]
    predictor.save(folder)
    return predictor


def make_texts(words: int) -> list[str]:
    """Returns texts of 1 to `words` words, more short than long ones."""
    rng = random.Random(0)
    lengths = [round(words ** rng.random()) for _ in range(TEXTS)]
    return [" ".join(f"w{rng.randrange(5000)}" for _ in range(length)) for length in lengths]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Gives a server that is ready, as a process, and its port."""
    command = [sys.executable, "-m", "rnn_jax.cli", "serve", "--workdir", str(folder), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            lines = iter(process.stdout.readline, "")
            ready = next((line for line in lines if line.startswith("ready:")), "")
            assert ready, "the server ended before it was ready"
            yield process, int(ready.rsplit(":", 1)[1])
        finally:
            if process.poll() is None:
                process.kill()


def put_under_load(port: int, texts: list[str], labels: list[str], seconds: float) -> Load:
    """Asks as CLIENTS clients, each again as soon as it is answered, for so long or until it is refused."""
    load = Load([], [], [], [])
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        rng = random.Random(number)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            while time.perf_counter() < end:
                place = rng.randrange(len(texts))
                if not _ask(connection, texts[place], labels[place], load):
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def _ask(connection: http.client.HTTPConnection, text: str, label: str, load: Load) -> bool:
    """Asks once, and returns whether there was an answer."""
    start = time.perf_counter()
    try:
        if connection.sock is None:
            connection.connect()
    except OSError as error:
        load.turned_away.append(repr(error))
        return False
    try:
        body, headers = json.dumps({"text": text}), {"content-type": "application/json"}
        connection.request("POST", "/predict", body, headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, http.client.HTTPException) as error:
        load.cut.append(repr(error))
        return False
    load.seconds.append(time.perf_counter() - start)
    if answer.status != 200 or found["label"] != label:
        load.wrong.append(f"{answer.status} {found}"[:200])
    return True


def stop_under_load(
    process: "subprocess.Popen[str]", port: int, texts: list[str], labels: list[str], seconds: float
) -> tuple[Load, int, int]:
    """Sends SIGTERM in the middle. Returns what clients saw, and how much was answered and read."""
    timer = threading.Timer(seconds / 2, process.send_signal, [signal.SIGTERM])
    timer.start()
    load = put_under_load(port, texts, labels, seconds)
    output, _ = process.communicate(timeout=60)
    found = STOPPED.search(output)
    assert found, f"the server did not end as it should: {output[-2000:]}"
    answered, received = (int(count.replace(",", "")) for count in found.groups())
    return load, answered, received


def main(seconds: float = 10.0, words: int = 256, hidden: int = 64) -> None:
    """Prints what clients saw, and whether all that the server read was answered."""
    with tempfile.TemporaryDirectory() as parent:
        predictor = make_model(Path(parent, "model"), words, hidden)
        texts = make_texts(words)
        labels = predictor.predict(texts).labels
        print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
        with serving(Path(parent, "model")) as (process, port):
            start = time.perf_counter()
            load = put_under_load(port, texts, labels, seconds)
            took = time.perf_counter() - start
            middle, late = np.percentile(np.array(load.seconds) * 1000, [50, 99])
            print(
                f"{CLIENTS} clients, texts of 1 to {words} words, {hidden} hidden units: "
                f"{len(load.seconds) / took:,.0f} requests/s, half within {middle:.0f} ms, "
                f"99 % within {late:.0f} ms"
            )
            stop, answered, received = stop_under_load(process, port, texts, labels, seconds / 2)
            seen = len(load.seconds) + len(stop.seconds)
            print(
                f"stopped under load: the server read {received:,} requests and answered {answered:,}; "
                f"clients got {seen:,} answers, {len(stop.turned_away)} were refused a connection, "
                f"{len(stop.cut)} were cut before the server had read them"
            )
            assert received == answered == seen, "a request is lost"
            assert not load.wrong + stop.wrong, (load.wrong + stop.wrong)[:3]
            assert process.returncode == 0


if __name__ == "__main__":
    main()
