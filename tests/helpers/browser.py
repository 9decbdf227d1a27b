"""A real browser that opens the page of a server."""

import contextlib
import shutil
import subprocess
import threading
import time
import urllib.parse

import uvicorn

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=8000", "--dump-dom"),
]


@contextlib.contextmanager
def listening(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", http="h11"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def opened(app, text, folder):
    """Returns the DOM of the page after it has asked about a text."""
    with listening(app) as port:
        url = f"http://127.0.0.1:{port}/#text={urllib.parse.quote(text)}"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
