"""Bars and lines: on a terminal, in a notebook, elsewhere, and not at all."""

import io
import logging
import sys
import threading
from types import SimpleNamespace

import pytest

from rnn_jax.progress import Bar, quiet, tell


def test_a_quiet_line_goes_to_the_log_and_to_nobody_else(capsys, caplog):
    with caplog.at_level(logging.INFO, "rnn_jax"), quiet():
        tell("a line")
        with quiet(False):  # within, it stays quiet
            tell("another")
    tell("a third")
    assert capsys.readouterr() == ("a third\n", "")
    assert caplog.messages == ["a line", "another"]


def test_quiet_is_for_its_own_thread(capsys):
    with quiet():
        thread = threading.Thread(target=tell, args=["from a thread"])
        thread.start()
        thread.join()
    assert capsys.readouterr().out == "from a thread\n"


def test_nothing_is_drawn_off_a_terminal_or_where_it_is_not_wanted(monkeypatch):
    file = io.StringIO()
    with Bar(10, file=file) as bar:
        bar.advance(3)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with quiet(), Bar(10, file=file) as bar:
        bar.update(5)
    with Bar(10, file=file, show=False) as bar:
        bar.update(5)
    with Bar(10, file=file, after=60.0) as bar:
        bar.update(5)
    assert file.getvalue() == ""
    with Bar(10, file=file) as bar:
        bar.update(5, "loss 0.5")
    assert "5/10" in file.getvalue()
    assert "loss 0.5" in file.getvalue()


@pytest.fixture
def notebook(monkeypatch):
    """A notebook's display: the pictures that it got, and those that took their places."""
    pictures = []
    handle = SimpleNamespace(update=pictures.append)
    display = lambda picture, display_id: pictures.append(picture) or handle  # noqa: E731
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rnn_jax.progress.OFTEN", 0.0)
    return pictures


def test_a_notebook_gets_one_picture_that_is_changed(notebook, capsys):
    with Bar(10) as bar:
        bar.update(5, "loss 0.5")
        bar.say("a line")
        bar.update(10)
    out, err = capsys.readouterr()
    assert (out, err) == ("a line\n", "")
    assert len(notebook) == 4
    html = notebook[1]._repr_mimebundle_([], [])["text/html"]
    assert "5/10" in html
    assert "loss 0.5" in html
    assert "10/10" in notebook[-1]._repr_mimebundle_([], [])["text/html"]
