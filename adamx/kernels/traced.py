"""A leaf's step as a traced function of its own arrays, the numbers that all leaves share computed once, outside.

Leaves of one kind, of one shape with equally stored slots, differ only in their arrays and in the key of their random
bits: one such function serves them all.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._annotations import Array
from .._leaf import SharedInputs, Step
from ..moments.noise import Noise


class Brought(NamedTuple):
    """The inputs that differ from leaf to leaf: the arrays of `Leaf`, the key of its random bits, `Part.first`."""

    g: Any
    p: Any
    stored: list[Any]
    residual: Any
    key: Any
    first: Any


def brought(step: Step) -> Brought:
    """The inputs of a leaf's step that are its own."""
    leaf, part = step.leaf, step.noise.part
    return Brought(leaf.g, leaf.p, leaf.stored, leaf.residual, step.noise.key, None if part is None else part.first)


def with_brought(step: Step, brought: Brought, shared: SharedInputs, elements: Array | None = None) -> Step:
    """The step of another leaf of its kind, or of a block of one whose elements have these numbers, without `first`."""
    leaf = step.leaf._replace(g=brought.g, p=brought.p, stored=brought.stored, residual=brought.residual)
    part = step.noise.part
    if part is not None:
        part = part._replace(first=brought.first)
        elements = elements if elements is None else elements + brought.first
    noise = Noise(brought.key, shared.count, elements=elements, part=part)
    return dataclasses.replace(step, leaf=leaf, shared=shared, noise=noise)


def kind(step: Step) -> Hashable:
    """A key that is equal for leaves of one kind."""
    arrays, tree = jax.tree.flatten(brought(step))
    strides = None if step.noise.part is None else step.noise.part.strides
    own = step.leaf.decays, id(step.leaf.rounding), strides, id(step.shared)
    return tree, *(jax.typeof(x) for x in arrays), *own


class Traced(NamedTuple):
    """A function of own arguments and shared ones, traced and split in two.

    Attributes:
        outside: computes the scalars that depend on scalars only, from the shared arguments and the leaf's scalars.
        given: the shared arguments' arrays.
        inside: the rest, a traced function of the own arguments' arrays and the scalars.
        structure: the tree of its results.
    """

    outside: Any
    given: list[Array]
    inside: Any
    structure: Any

    def scalars(self, of_leaf: Sequence[Any] = ()) -> list[Array]:
        """What `inside` reads besides the own arguments; `of_leaf` are a leaf's scalars."""
        return as_function(self.outside)(*self.given, *of_leaf)


def trace(
    function: Callable[[Any, SharedInputs, Any, list[Any]], Any],
    own: Any,
    shared: SharedInputs,
    total: Any,
    of_leaf: Sequence[Any] = (),
) -> Traced:
    """`function(own, shared, total, of_leaf)` as a function of the arrays of `own`.

    Numbers of Python, such as constant hyperparameters, become constants of the traced function.

    Args:
        function: what is traced.
        own: the leaf's arrays, or their shapes.
        shared: the inputs that all leaves share.
        total: the rule's measure over all leaves.
        of_leaf: scalars of the leaf.
    """
    values, tree = jax.tree.flatten((shared.rule_as_given, shared.count, shared.grad_scale, total))
    constants = [None if is_array(x) else x for x in values]
    given = [x for x in values if is_array(x)]

    def flat(own: Any, given: list[Any], of_leaf: list[Any]) -> Any:
        rest = iter(given)
        rule, count, scale, total = tree.unflatten([next(rest) if x is None else x for x in constants])
        return function(own, SharedInputs(rule, count, scale, shared.sums), total, of_leaf)

    closed, out = jax.make_jaxpr(flat, return_shape=True)(own, given, list(of_leaf))
    outside, inside = _split(closed, len(jax.tree.leaves(own)))
    return Traced(outside, given, inside, jax.tree.structure(out))


def _split(closed: Any, own: int) -> tuple[Any, Any]:
    """Split a traced function in two: the scalars that do not depend on its first `own` arguments, and the rest."""
    from jax.extend.core import Literal  # `jax.extend` imports Pallas

    jaxpr = closed.jaxpr
    outside, inside, depends = [], [], set(jaxpr.invars[:own])
    for eqn in jaxpr.eqns:
        mine = any(v in depends for v in eqn.invars if not isinstance(v, Literal))
        if mine or any(getattr(v.aval, "shape", ()) for v in eqn.outvars):
            inside.append(eqn)
            depends.update(eqn.outvars)
        else:
            outside.append(eqn)
    read = {v for eqn in inside for v in eqn.invars if not isinstance(v, Literal)}
    read.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
    made = (*jaxpr.invars[own:], *(v for eqn in outside for v in eqn.outvars))
    between = [v for v in made if v in read]
    unnamed = jaxpr.debug_info.with_unknown_names()
    first = jaxpr.replace(invars=jaxpr.invars[own:], outvars=between, eqns=outside, debug_info=unnamed)
    then = jaxpr.replace(invars=[*jaxpr.invars[:own], *between], eqns=inside, debug_info=unnamed)
    return closed.replace(jaxpr=first), closed.replace(jaxpr=then)


def as_function(closed: Any) -> Callable[..., list[Array]]:
    """A jaxpr as a named function; JAX names an unnamed one by printing the whole jaxpr at every trace."""
    from jax.extend.core import jaxpr_as_fun

    def step(*operands: Array) -> list[Array]:
        return jaxpr_as_fun(closed)(*operands)

    return step


def is_array(x: Any) -> bool:
    """Whether a leaf of a tree of numbers is an array rather than a number of Python."""
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) and not isinstance(x, float)
