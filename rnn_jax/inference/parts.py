"""Any number of texts, a part at a time, so that a stream of them needs no more memory than one part."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rnn_jax.progress import Bar

Text = TypeVar("Text")
PART = 4096  # texts that are read, tokenised and sorted by length together
PATIENCE = 2.0  # seconds without a bar
FEW = 64  # texts that get no bar: making one takes as long as reading one of them


def in_parts(texts: Iterable[Text], given: object, progress: bool) -> Iterator[tuple[list[Text], Bar]]:
    """Yields lists of PART texts each, and the bar that is to be told of each text that is done.

    Args:
      texts: what is read, a part at a time.
      given: what the texts come from, whose length the bar shows if it has one.
      progress: whether a terminal or a notebook shows the bar where this takes more than PATIENCE.

    >>> [part for part, _ in in_parts(iter("ab"), "ab", progress=False)]
    [['a', 'b']]
    """
    total, rest = len(given) if isinstance(given, Sized) else None, iter(texts)
    with bar_of(total, progress) as bar:
        while part := list(itertools.islice(rest, PART)):
            yield part, bar


def bar_of(total: int | None, progress: bool) -> Bar:
    """Returns the bar that in_parts shows, on standard error: the output may be what was predicted."""
    show = progress and (total is None or total > FEW)
    return Bar(total, after=PATIENCE, file=sys.stderr, show=show)
