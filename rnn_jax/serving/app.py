"""The application: routes, limits, and errors as JSON, for any server that speaks ASGI."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from rnn_jax.errors import InputError
from rnn_jax.inference.predictor import Predictor
from rnn_jax.serving.answers import Answers
from rnn_jax.serving.batcher import Batcher
from rnn_jax.serving.limits import Limits, Refused, busy, read_json, texts_of
from rnn_jax.serving.openapi import openapi
from rnn_jax.serving.page import HEADERS, PAGE

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise InputError(f"serving needs {error.name}; pip install 'rnn_jax[serve]'") from error

MOST = 64  # texts for which a batch waits; under load, so many are read together


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
        self._batcher: Batcher[dict[str, Any]] | None = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Runs the batcher as long as the server runs."""
        async with Batcher(self.answers.predict, MOST, self.limits.waiting) as self._batcher:
            yield

    @property
    def batcher(self) -> Batcher[dict[str, Any]]:
        """What answers; it is there once `lifespan` has begun."""
        if self._batcher is None:
            raise InputError(
                "the application has not started: the server has to run its lifespan; one that mounts it is "
                "built with lifespan=app.service.lifespan, and a TestClient is used in a with statement"
            )
        return self._batcher

    async def predict(self, request: Request) -> Response:
        """Answers POST /predict."""
        asked, left = await self._asked(request, ("text", "texts"))
        texts = texts_of(asked, self.limits, self.answers.predictor.pair)
        found = await self._in_time(self.batcher.submit(texts), left)
        return JSONResponse(found[0] if "text" in asked else {"predictions": found})

    async def explain(self, request: Request) -> Response:
        """Answers POST /explain."""
        asked, left = await self._asked(request, ("text", "label"))
        (text,) = texts_of({"text": asked.get("text")}, self.limits, self.answers.predictor.pair)
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
            "target": predictor.head.target,
            "pair": predictor.pair,
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


class App:
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


def make_app(predictor: Predictor, limits: Limits | None = None) -> App:
    """Returns the ASGI application of a classifier, for any server that speaks ASGI.

    GET / is a page, POST /predict and POST /explain answer in JSON, GET /health and GET /openapi.json tell
    what there is. Nothing is compiled before the first request; `serve_model` compiles all before it listens.

    Args:
      predictor: what `load` returned.
      limits: what requests may be; None takes the defaults.

    Raises:
      InputError: another model than a classifier, or a limit that is not above 0.
    """
    return app_of(Service(Answers(predictor), (limits or Limits()).check()))


def app_of(service: Service) -> App:
    """Returns the application around a service: its routes, and every error as JSON."""
    predictor = service.answers.predictor
    described = openapi(service.limits, predictor.label_names, predictor.head.target, predictor.pair)

    async def description(_: Request) -> Response:
        return JSONResponse(described)

    routes = [
        Route("/", _page),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/explain", service.explain, methods=["POST"]),
        Route("/health", service.health),
        Route("/openapi.json", description),
    ]
    handlers: dict[Any, Any] = {
        Refused: _refused,
        HTTPException: _not_found,
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    return App(Starlette(routes=routes, exception_handlers=handlers, lifespan=service.lifespan), service)


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers=HEADERS)


async def _refused(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _not_found(request: Request, error: Any) -> Response:
    asked = f"{request.method} {request.url.path[:100]}"
    message = f"{asked}: {error.detail}; /openapi.json tells what there is"
    return JSONResponse({"error": message}, error.status_code, error.headers)


async def _gone(*_: Any) -> Response:
    return JSONResponse({"error": "the connection was closed before the body had come"}, 400)


async def _broken(*_: Any) -> Response:  # the error itself is logged, and not told to strangers
    return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)
