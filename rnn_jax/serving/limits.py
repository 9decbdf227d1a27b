"""What a request may be: its size, its texts, its time; and the answers to one that is not."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rnn_jax.errors import nearest, require

JSON_TYPE = "application/json"


class Refused(Exception):
    """A request that is not answered as it asked: a status of HTTP and a message that says the fix."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class Limits(NamedTuple):
    """What a server takes of its clients.

    Attributes:
      body_bytes: the largest body of a request; a larger one is answered 413.
      texts: the most texts of a request; more are answered 422.
      characters: the longest text; a longer one is answered 422.
      seconds: the longest that a request takes: 408 where its body has not come by then, 503 where its answer
        has not.
      waiting: the most texts that wait for their turn; a request beyond them is answered 503, unless it is
        the only one.
      explanations: the most explanations that wait; likewise.
      connections: the most open connections; beyond them all is answered 503.

    >>> Limits(texts=0).check()
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: texts is 0; give a number above 0
    """

    body_bytes: int = 2**20
    texts: int = 256
    characters: int = 20_000
    seconds: float = 10.0
    waiting: int = 4096
    explanations: int = 16
    connections: int = 1024

    def check(self) -> "Limits":
        """Returns them. Raises InputError where one is not above 0."""
        for name, value in self._asdict().items():
            require(0 < value < float("inf"), f"{name} is {value}; give a number above 0")
        return self


def read_json(content_type: str, body: bytes, known: tuple[str, ...]) -> dict[str, Any]:
    """Returns the object in the body of a request. Raises Refused for anything but JSON with known keys."""
    # A page of another site can post a form or plain text to this machine, but no JSON without being let in.
    if content_type.split(";")[0].strip().lower() != JSON_TYPE:
        raise Refused(
            415, f"the content type is {content_type[:100]!r}; send JSON with 'content-type: {JSON_TYPE}'"
        )
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise Refused(422, f"the body is no JSON object; give one with {' or '.join(known)}")
    for key in value:
        if key not in known:
            raise Refused(422, f"{key[:100]!r} is none of: {', '.join(known)}.{nearest(key[:100], known)}")
    return value


def texts_of(asked: Mapping[str, Any], limits: Limits, pair: bool = False) -> list[Any]:
    """Returns the texts, or pairs of texts, that are asked about.

    Raises:
      Refused: they are not strings, or lists of two strings for a pair, or too many.
    """
    if ("text" in asked) == ("texts" in asked):
        one = '["...", "..."]' if pair else '"..."'
        raise Refused(422, f'give one of {{"text": {one}}} and {{"texts": [{one}, {one}]}}')
    texts = [asked["text"]] if "text" in asked else asked["texts"]
    if not isinstance(texts, list):
        raise Refused(422, f"texts is a {type(texts).__name__}; give a list of strings, or a string as text")
    if len(texts) > limits.texts:
        raise Refused(422, f"there are {len(texts):,} texts; give at most {limits.texts:,} a request")
    for position, text in enumerate(texts):
        name = "text" if "text" in asked else f"texts[{position}]"
        if not pair:
            _check_text(name, text, limits)
            continue
        if not (isinstance(text, list) and len(text) == 2):
            raise Refused(422, f"{name} is {json.dumps(text)[:100]}; give two strings, the pair to compare")
        for place, one in enumerate(text):
            _check_text(f"{name}[{place}]", one, limits)
    return texts


def _check_text(name: str, text: object, limits: Limits) -> None:
    if not isinstance(text, str):
        raise Refused(422, f"{name} is {json.dumps(text)[:100]}, not a string")
    if len(text) > limits.characters:
        raise Refused(
            422, f"{name} has {len(text):,} characters; give at most {limits.characters:,}, or cut it"
        )


def busy(what: str) -> Refused:
    """Returns the answer to a request that would wait too long."""
    return Refused(503, f"{what}; ask again in a second", {"retry-after": "1"})
