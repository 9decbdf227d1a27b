"""A program whose parameters stay the same: what they alone decide is computed once, and not in every call.

Joining and scaling the weights of a recurrent layer takes about as long as all steps of a short text. So the
program is cut in two: the operations that only parameters reach, and all others, which a call runs.
"""

from collections.abc import Sequence
from functools import lru_cache
from operator import is_
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun

from rnn_jax.trees import Tree


class Prepared:
    """Calls `program(variables, *arrays, **more)`, and computes once what only the variables decide.

    Attributes:
      program: the jitted function; it returns one array.

    >>> import jax.numpy as jnp
    >>> double = Prepared(jax.jit(lambda w, x: 2 * w + x))  # 2 * w is computed in the first call
    >>> w, x = jnp.array(3.0), jnp.array(1.0)
    >>> float(double(w, x)), float(double(w, 2 * x)), float(double(2 * w, x))
    (7.0, 8.0, 13.0)
    """

    def __init__(self, program: Any):
        """Takes a jitted function."""
        self.program = program
        self._parts: dict[Any, Any] = {}  # of `cut`, by the shapes of a call
        self._known: tuple[list[Any], dict[str, Any]] = [], {}  # variables, and what was computed of them

    def __call__(self, variables: Tree, *arrays: Any, **more: Any) -> Any:
        """Returns what the program does."""
        leaves, tree = jax.tree.flatten(variables)
        names = tuple(sorted(more))
        others = [*arrays, *map(more.__getitem__, names)]
        key = tree, names, *((other.shape, other.dtype) for other in others)
        if key not in self._parts:
            like = (jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in [*leaves, *others])
            self._parts[key] = cut(self.program, tree, names, *like)
        text, prepare, finish = self._parts[key]
        same, computed = self._known
        if len(same) != len(leaves) or not all(map(is_, same, leaves)):
            self._known = _, computed = leaves, {}
        if text not in computed:  # most shapes share one
            computed[text] = prepare(*leaves)
        (result,) = finish(*computed[text], *leaves, *others)
        return result


@lru_cache(maxsize=256)
def cut(program: Any, tree: Any, names: tuple[str, ...], *like: jax.ShapeDtypeStruct) -> tuple[str, Any, Any]:
    """Returns the two parts of a program, and the first one's text.

    Args:
      program: a jitted function of variables, arrays, and arrays by name.
      tree, names: the structure of the variables; the names, sorted.
      like: the types of the variables' leaves, of the arrays, and of those by name.

    Returns:
      (text, prepare, finish): `finish(*prepare(*leaves), *leaves, *others)` are the results, as a list.
    """
    count, named = tree.num_leaves, len(like) - len(names)
    by_name = dict(zip(names, like[named:], strict=True))
    traced = program.trace(jax.tree.unflatten(tree, like[:count]), *like[count:named], **by_name)
    closed = traced.jaxpr
    whole = closed.jaxpr
    known, first, rest = {*whole.constvars, *whole.invars[:count]}, [], []
    for equation in whole.eqns:
        variables = [one for one in equation.invars if isinstance(one, Var)]
        # What reads nothing, such as an array of zeros, is made where it is wanted.
        if variables and known.issuperset(variables) and not equation.effects:
            first.append(equation)
            known.update(equation.outvars)
        else:
            rest.append(equation)
    read = {one for equation in rest for one in equation.invars if isinstance(one, Var)}
    read.update(one for one in whole.outvars if isinstance(one, Var))
    made = [one for equation in first for one in equation.outvars if one in read]

    def part(invars: Sequence[Var], outvars: Sequence[Any], equations: Sequence[JaxprEqn]) -> ClosedJaxpr:
        debug_info = whole.debug_info.with_unknown_names()
        return ClosedJaxpr(
            Jaxpr(whole.constvars, invars, outvars, equations, debug_info=debug_info), closed.consts
        )

    prepare = part(whole.invars[:count], made, first)
    finish = part([*made, *whole.invars], whole.outvars, rest)
    return str(prepare), jax.jit(jaxpr_as_fun(prepare)), jax.jit(jaxpr_as_fun(finish))
