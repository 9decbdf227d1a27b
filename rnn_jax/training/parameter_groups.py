"""Parameter groups say which parameters train, from which step on, and how fast; paths choose them.

A path is the names on the way to an array: "embedding/embedding", "encoder/forward_rnn/cell/hi/kernel". A
pattern is a path, the beginning of one ("encoder/forward_rnn"), or either with wildcards ("encoder/*/cell").
"""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import jax

from rnn_jax.errors import nearest, require
from rnn_jax.trees import Params, Tree, leaves_by_path

FROZEN = "frozen"
Flags = Tree  # like the parameters, of booleans


class Group(NamedTuple):
    """Parameters that train from step `start` on, at `factor` times the learning rate; infinity is never."""

    start: float = 0
    factor: float = 1.0

    @property
    def name(self) -> str:
        """The label of the group in `Groups.labels`."""
        return FROZEN if math.isinf(self.start) else f"from step {self.start:.0f}, rate x {self.factor:g}"


class Groups(NamedTuple):
    """The groups of a network's parameters.

    Attributes:
      labels: a tree like the parameters; each leaf is the name of its group.
      members: the groups by name.
    """

    labels: Tree
    members: dict[str, Group]

    def trained(self, step: int) -> Flags:
        """Returns a tree like the parameters: True where they train at `step`."""
        return jax.tree.map(lambda label: self.members[label].start <= step, self.labels)

    def sizes(self, params: Params) -> dict[str, int]:
        """Returns the number of parameters of each group, by name."""
        sizes = dict.fromkeys(sorted(self.members), 0)
        for leaf, label in zip(jax.tree.leaves(params), jax.tree.leaves(self.labels), strict=True):
            sizes[label] += leaf.size
        return sizes

    def count(self, params: Params, total: float = math.inf) -> int:
        """Returns the number of parameters that ever train in a run of `total` steps."""
        return sum(size for label, size in self.sizes(params).items() if self.members[label].start < total)

    def describe(self, params: Params, total: float = math.inf) -> str:
        """Returns a line with the number of parameters, and that of each group if there are several.

        It says which groups a run of `total` steps ends before.
        """
        sizes = self.sizes(params)
        late = {label for label, group in self.members.items() if total <= group.start < math.inf}
        notes = {label: f", which never comes: there are {total:,} steps" for label in late}
        parts = [f"{size:,} {label}{notes.get(label, '')}" for label, size in sizes.items()]
        return f"parameters: {sum(sizes.values()):,}" + (f" ({'; '.join(parts)})" if len(parts) > 1 else "")

    def starts(self) -> list[int]:
        """Returns the steps at which a group begins to train, in order; the first is 0."""
        return sorted({0, *(int(group.start) for name, group in self.members.items() if name != FROZEN)})

    def phase(self, step: int) -> int:
        """Returns the last of `starts` that is not after `step`."""
        return max(start for start in self.starts() if start <= step)


def group_parameters(
    params: Params,
    freeze: Sequence[str | tuple[str, int]],
    rates: Sequence[tuple[str, float]],
    steps_per_epoch: int,
) -> Groups:
    """Returns the groups of a tree of parameters. If several patterns match a parameter, the last one counts.

    Args:
      params: a nested dict of arrays; a parameter's path is its keys, joined with "/".
      freeze: patterns of parameters that never train, and pairs (pattern, epoch) of parameters that train
        from that epoch on, an integer from 0 (gradual unfreezing, Howard & Ruder 2018).
      rates: pairs (pattern, factor of the learning rate, above 0) (discriminative rates, of the same paper).
      steps_per_epoch: the number of steps in an epoch, at least 1.

    Raises:
      InputError: a pattern matches nothing (the message lists the paths), an epoch or a factor is out of its
        range, or nothing trains at step 0.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.training import group_parameters
    >>> params = {"embedding": {"embedding": jnp.ones((5, 2))}, "head": {"kernel": jnp.ones((2, 1))}}
    >>> groups = group_parameters(params, freeze=(("embedding", 1),), rates=(), steps_per_epoch=10)
    >>> groups.starts(), groups.labels["embedding"]
    ([0, 10], {'embedding': 'from step 10, rate x 1'})
    """
    paths = list(leaves_by_path(params))
    groups = dict.fromkeys(paths, Group())
    for pattern, epoch in map(freezing_of, freeze):
        for path in matching("train.freeze", pattern, paths):
            groups[path] = groups[path]._replace(start=epoch * steps_per_epoch)
    for pattern, factor in map(rate_of, rates):
        for path in matching("optimizer.rates", pattern, paths):
            groups[path] = groups[path]._replace(factor=float(factor))
    require(
        any(group.start == 0 for group in groups.values()),
        f"train.freeze is {tuple(freeze)!r}, which leaves nothing to train in the first epoch",
    )
    labels = [groups[path].name for path in paths]
    return Groups(
        jax.tree.unflatten(jax.tree.structure(params), labels),
        {group.name: group for group in groups.values()},
    )


def matches(pattern: str, path: str) -> bool:
    """Returns whether a pattern is the path, matches it, or is or matches its beginning.

    >>> [matches(pattern, "encoder/cell/hi/kernel") for pattern in ("encoder", "*/hi", "enc")]
    [True, True, False]
    """
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def matching(argument: str, pattern: str, paths: Sequence[str]) -> list[str]:
    """Returns the paths that a pattern matches; if there is none, raises InputError with all paths."""
    found = [path for path in paths if matches(pattern, path)]
    beginnings = {
        "/".join(path.split("/")[:size]): 0 for path in paths for size in range(1, path.count("/") + 2)
    }
    require(
        bool(found),
        f"{argument} has the pattern {pattern!r}, which matches no parameter.{nearest(pattern, beginnings)} "
        f"The parameters are: {', '.join(paths)}",
    )
    return found


def select(params: Tree, chosen: Flags) -> tuple[Tree, Tree]:
    """Returns two trees, the parameters where `chosen` is True and the others; each has None elsewhere."""
    return (
        jax.tree.map(lambda leaf, here: leaf if here else None, params, chosen),
        jax.tree.map(lambda leaf, here: None if here else leaf, params, chosen),
    )


def join(first: Tree, second: Tree) -> Tree:
    """Puts the two trees that `select` returned together again."""
    return jax.tree.map(
        lambda one, other: other if one is None else one, first, second, is_leaf=lambda leaf: leaf is None
    )


def freezing_of(entry: object) -> tuple[str, float]:
    """Returns the pattern of an entry of `freeze`, and the epoch from which it trains."""
    if isinstance(entry, str):
        return entry, math.inf
    pair = tuple(entry) if isinstance(entry, list | tuple) else ()
    require(
        len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int) and pair[1] >= 0,
        f"train.freeze holds {entry!r}; give a pattern, or a pair (pattern, first epoch that trains it)",
    )
    return pair[0], pair[1]


def rate_of(entry: object) -> tuple[str, float]:
    """Returns the pattern of an entry of `rates`, and its factor."""
    pair = tuple(entry) if isinstance(entry, list | tuple) else ()
    require(
        len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int | float) and pair[1] > 0,
        f"optimizer.rates holds {entry!r}; give pairs (pattern, factor of the learning rate above 0)",
    )
    return pair[0], pair[1]
