"""The server: it listens when all is compiled, and its stop answers what it has accepted."""

import asyncio
import contextlib
import signal
import socket
import sys
import time

from rnn_jax.errors import InputError, require
from rnn_jax.inference.predictor import Predictor
from rnn_jax.serving.answers import Answers
from rnn_jax.serving.app import Service, app_of
from rnn_jax.serving.limits import Limits

try:
    import uvicorn
except ImportError as error:
    raise InputError(f"serving needs {error.name}; pip install 'rnn_jax[serve]'") from error

DRAIN = 0.3  # seconds for which a server that stops still accepts, and asks its clients to close


class _Server(uvicorn.Server):
    """A server whose stop begins with a moment in which it still accepts, and asks its clients to close."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            host, port, *_ = listening.getsockname()
            shown = f"[{host}]" if ":" in host else host
            print(f"ready: http://{shown}:{port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.stopping = True
        await asyncio.sleep(DRAIN)
        await super().shutdown(sockets)


def serve_model(
    predictor: Predictor, host: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None
) -> None:
    """Answers requests until SIGTERM or Ctrl-C, and then those that are under way.

    All shapes that a text can be padded to are compiled before it listens.

    Args:
      predictor: what `load` returned.
      host: the address to listen on; "0.0.0.0" lets other machines in.
      port: 0 takes a free one, which is printed.
      limits: what requests may be; None takes the defaults.

    Raises:
      InputError: another model than a classifier, an address that cannot be listened on, or a limit that is
        not above 0.
    """
    limits = (limits or Limits()).check()
    with _bind(host, port) as bound:
        service = Service(Answers(predictor), limits)
        print(f"compiling {len(service.answers.shapes)} shapes ...", end=" ", flush=True)
        start = time.perf_counter()
        service.answers.compile()
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        _run(_Server(_config(service), service), bound)
    print(f"stopped: {service.answered:,} of {service.received:,} requests answered", file=sys.stderr)


def _run(server: uvicorn.Server, bound: socket.socket) -> None:
    """Runs a server until a signal stops it; Uvicorn raises that again, but a stop is no failure."""
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, lambda *_: None) for name in names}
    try:
        server.run([bound])
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        app_of(service),
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=service.limits.connections,
        timeout_graceful_shutdown=int(service.limits.seconds) + 5,
    )


def _bind(host: str, port: int) -> socket.socket:
    """Returns a bound socket that does not listen yet: until all is compiled, clients are refused."""
    require(0 <= port < 2**16, f"port is {port}; give a number from 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as on_failure:
            bound = on_failure.enter_context(socket.socket(family))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            on_failure.pop_all()
    except (OSError, UnicodeError) as error:  # the latter of "127.0.0..1", which is no name
        raise InputError(
            f"cannot listen on host {host!r}, port {port}: {getattr(error, 'strerror', None) or error}; "
            "give another --port, or an address of this machine as --host"
        ) from error
    return bound
