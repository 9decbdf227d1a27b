"""The server: routes, limits, and a stop that answers what it has accepted."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from rnn_jax.errors import InputError, require
from rnn_jax.inference.predictor import Predictor
from rnn_jax.serving.answers import Answers
from rnn_jax.serving.batcher import Batcher
from rnn_jax.serving.limits import Limits, Refused, busy, read_json, texts_of
from rnn_jax.serving.openapi import openapi
from rnn_jax.serving.page import HEADERS, PAGE

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise InputError(f"serving needs {error.name}; pip install 'rnn_jax[serve]'") from error

MOST = 64  # texts for which a batch waits; under load, so many are read together
DRAIN = 0.3  # seconds for which a server that stops still accepts, and asks its clients to close


class Service:
    """The routes of one classifier.

    Attributes:
      answers: the classifier.
      limits: what requests may be.
      received, answered: requests so far.
      stopping: whether a stop was asked for.
    """

    def __init__(self, answers: Answers, limits: Limits):
        """Takes the classifier and the limits."""
        self.answers, self.limits = answers, limits
        self.received = self.answered = self.explaining = 0
        self.stopping = False
        self.batcher: Batcher[dict[str, Any]]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Runs the batcher as long as the server runs."""
        async with Batcher(self.answers.predict, MOST, self.limits.waiting) as self.batcher:
            yield

    async def predict(self, request: Request) -> Response:
        """Answers POST /predict."""
        asked, left = await self._asked(request, ("text", "texts"))
        texts = texts_of(asked, self.limits)
        found = await self._in_time(self.batcher.submit(texts), left)
        return JSONResponse(found[0] if "text" in asked else {"predictions": found})

    async def explain(self, request: Request) -> Response:
        """Answers POST /explain."""
        asked, left = await self._asked(request, ("text", "label"))
        (text,) = texts_of({"text": asked.get("text")}, self.limits)
        label = asked.get("label")
        if not isinstance(label, str | None):
            raise Refused(422, "label is no string; give the name of a label, or leave it out")
        if self.explaining >= self.limits.explanations:
            raise busy(f"{self.explaining} explanations are waiting already")
        self.explaining += 1
        work = asyncio.ensure_future(self.batcher.alone(self.answers.explain, text, label))
        work.add_done_callback(lambda _: setattr(self, "explaining", self.explaining - 1))
        return JSONResponse(await self._in_time(work, left))

    async def health(self, _: Request) -> Response:
        """Answers GET /health."""
        predictor = self.answers.predictor
        about = {
            "status": "stopping" if self.stopping else "ok",
            "labels": list(predictor.label_names),
            "step": predictor.step,
            "waiting": self.batcher.waiting,
            "limits": self.limits._asdict(),
        }
        return JSONResponse(about, 503 if self.stopping else 200)

    async def _asked(self, request: Request, known: tuple[str, ...]) -> tuple[dict[str, Any], float]:
        """Returns the object in the body, and the time of the loop at which the answer has to be there."""
        end = asyncio.get_running_loop().time() + self.limits.seconds
        size, most = 0, self.limits.body_bytes
        too_large = Refused(413, f"the body is over {most:,} bytes; send fewer or shorter texts a request")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large
        parts = []
        try:
            async with asyncio.timeout_at(end):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError as error:
            seconds = f"{self.limits.seconds:g} seconds"
            raise Refused(408, f"the body did not come within {seconds}", {"connection": "close"}) from error
        return read_json(request.headers.get("content-type", ""), b"".join(parts), known), end

    async def _in_time(self, work: Awaitable[Any], end: float) -> Any:
        try:
            async with asyncio.timeout_at(end):
                return await work
        except TimeoutError as error:
            raise busy(f"there was no answer within {self.limits.seconds:g} seconds") from error


class _Counted:
    """An ASGI application around another: counts requests, and closes connections of a server that stops."""

    def __init__(self, app: Callable[..., Awaitable[None]], service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-content-type-options", b"nosniff")]
                extra += [(b"connection", b"close")] * self.service.stopping
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.service.answered += 1

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.service.received += 1
        await self.app(scope, receive, counted)


def make_app(predictor: Predictor, limits: Limits | None = None) -> _Counted:
    """Returns the ASGI application of a classifier, for any server that speaks ASGI.

    GET / is a page, POST /predict and POST /explain answer in JSON, GET /health and GET /openapi.json tell
    what there is. Nothing is compiled before the first request; `serve_model` compiles all before it listens.

    Args:
      predictor: what `load` returned.
      limits: what requests may be; None takes the defaults.

    Raises:
      InputError: a limit that is not above 0.
    """
    return _app(Service(Answers(predictor), (limits or Limits()).check()))


def _app(service: Service) -> _Counted:
    described = openapi(service.limits, service.answers.predictor.label_names)

    def failed(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"error": message}, status, headers)

    async def refused(_: Request, error: Any) -> Response:
        return failed(error.status, error.message, error.headers)

    async def not_found(request: Request, error: Any) -> Response:
        message = (
            f"{request.method} {request.url.path[:100]}: {error.detail}; /openapi.json tells what there is"
        )
        return failed(error.status_code, message, error.headers)

    async def gone(*_: Any) -> Response:
        return failed(400, "the connection was closed before the body had come")

    async def broken(*_: Any) -> Response:  # the error itself is logged, and not told to strangers
        return failed(500, "the server failed on this request; its log says why")

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE, headers=HEADERS)

    async def description(_: Request) -> Response:
        return JSONResponse(described)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/explain", service.explain, methods=["POST"]),
            Route("/health", service.health),
            Route("/openapi.json", description),
        ],
        exception_handlers={
            Refused: refused,
            HTTPException: not_found,
            ClientDisconnect: gone,
            Exception: broken,
        },
        lifespan=service.lifespan,
    )
    return _Counted(app, service)


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
      InputError: an address that cannot be listened on, or a limit that is not above 0.
    """
    limits = (limits or Limits()).check()
    bound = _bind(host, port)
    service = Service(Answers(predictor), limits)
    print(f"compiling {len(service.answers.shapes)} shapes ...", end=" ", flush=True)
    start = time.perf_counter()
    service.answers.compile()
    print(f"{time.perf_counter() - start:.0f} s", flush=True)
    config = uvicorn.Config(
        _app(service),
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=int(limits.seconds) + 5,
    )
    # Uvicorn raises the signal again when it has stopped; a stop that was asked for is no failure.
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, lambda *_: None) for name in names}
    try:
        _Server(config, service).run([bound])
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    print(f"stopped: {service.answered:,} of {service.received:,} requests answered", file=sys.stderr)


def _bind(host: str, port: int) -> socket.socket:
    """Returns a bound socket that does not listen yet: until all is compiled, clients are refused."""
    require(0 <= port < 2**16, f"port is {port}; give a number from 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise InputError(
            f"cannot listen on host {host!r}, port {port}: {error.strerror or error}; "
            "give another --port, or an address of this machine as --host"
        ) from error
    return bound
