"""The command `rnn-jax serve` as a process: ready when it says so, and nothing lost when it is stopped."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from rnn_jax.cli import main
from rnn_jax.errors import InputError
from rnn_jax.serving import serve_model
from tests.helpers.predictors import make_predictor
from tests.helpers.runs import make_run

BODY = json.dumps({"text": "a great film"}).encode()


def half_asked(port):
    """Returns a connection on which half of a request was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = (
        f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}"
    )
    connection.sendall(f"{head}\r\n\r\n".encode() + BODY[:5])
    return connection


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def answer_on(connection):
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.headers["connection"], json.loads(answer.read())


@pytest.mark.slow
def test_a_stop_answers_what_was_begun_and_refuses_what_comes_later(tmp_path):
    make_run(tmp_path / "w")
    command = [sys.executable, "-m", "rnn_jax.cli", "serve", "--workdir", tmp_path / "w"]
    with subprocess.Popen(
        [*command, "--port", "0", "--seconds", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            port = int(next(line for line in server.stdout if line.startswith("ready:")).rsplit(":", 1)[1])
            with half_asked(port) as never:
                status, closes, found = answer_on(never)
            assert (status, closes) == (408, "close")
            assert found == {"error": "the body did not come within 2 seconds"}
            with half_asked(port) as begun:
                server.send_signal(signal.SIGTERM)
                while is_open(port):
                    time.sleep(0.01)
                begun.sendall(BODY[5:])
                status, closes, found = answer_on(begun)
            assert (status, closes) == (200, "close")
            assert found["label"] in ("negative", "positive")
            _, told = server.communicate(timeout=20)
            assert told == "stopped: 2 of 2 requests answered\n"
            assert server.returncode == 0
        finally:
            server.kill()


def test_an_address_that_cannot_be_listened_on_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr("rnn_jax.serving.answers.Answers.compile", lambda self: pytest.fail("compiled"))
    predictor = make_predictor()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"cannot listen on host '127\.0\.0\.1', port {port}: Address .*--port"
        ):
            serve_model(predictor, port=port)
    with pytest.raises(InputError, match=r"port is 70000; give a number from 0 to 65535"):
        serve_model(predictor, port=70_000)
    with pytest.raises(InputError, match=r"cannot listen on host '192\.0\.2\.1'.*an address of this machine"):
        serve_model(predictor, host="192.0.2.1", port=0)
    with pytest.raises(InputError, match=r"cannot listen on host '127\.0\.0\.\.1', port 0: .*an address of"):
        serve_model(predictor, host="127.0.0..1", port=0)


def test_the_command_refuses_bad_limits_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--workdir", str(tmp_path), "--texts", "0"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "rnn-jax: texts is 0; give a number above 0\n"


@pytest.mark.slow
def test_the_library_is_imported_without_a_server_or_a_hub():
    check = (
        "import sys, rnn_jax, rnn_jax.cli;"
        "extra = {'starlette', 'uvicorn', 'huggingface_hub'} & set(sys.modules);"
        "assert not extra, extra; sys.modules.update(starlette=None, uvicorn=None)\n"
        "try: import rnn_jax.serving\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "pip install 'rnn_jax[serve]'" in done.stdout
