"""A leaf's step as a traced function of its own arrays, the numbers that all leaves share computed once, outside.

Leaves of one kind, of one shape with equally stored slots, differ only in their arrays and in the key of their random
bits: one such function serves them all. So it does for leaves of groups whose numbers alone differ.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
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
    """A key that is equal for leaves of one kind, whatever their groups."""
    arrays, tree = jax.tree.flatten(brought(step))
    strides = None if step.noise.part is None else step.noise.part.strides
    own = step.leaf.decays, id(step.leaf.rounding), strides
    return tree, *(jax.typeof(x) for x in arrays), *own


class Traced(NamedTuple):
    """A function of own arguments and shared ones, traced and split in two.

    Attributes:
        outside: computes the scalars that depend on scalars only, from the shared arguments and the leaf's scalars.
        given: the shared arguments' arrays.
        inside: the rest, a traced function of the own arguments' arrays and the scalars.
        structure: the tree of its results.
        numbers: of `inside`, which it reads after the scalars.
    """

    outside: Any
    given: list[Array]
    inside: Any
    structure: Any
    numbers: tuple[np.ndarray, ...] = ()

    def scalars(self, of_leaf: Sequence[Any] = (), known: dict[Hashable, Any] | None = None) -> list[Any]:
        """What `inside` reads besides the own arguments.

        Args:
            of_leaf: a leaf's scalars.
            known: what has been computed for other functions in the same program; added to.
        """
        made = _computed(self.outside, [*self.given, *of_leaf], {} if known is None else known)
        return [*made, *self.numbers]


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
    values, tree = jax.tree.flatten((shared.rule_as_given, shared.count, shared.grad_scale, shared.begun, total))
    constants = [None if is_array(x) else x for x in values]
    given = [x for x in values if is_array(x)]

    def flat(own: Any, given: list[Any], of_leaf: list[Any]) -> Any:
        rest = iter(given)
        rule, count, scale, begun, total = tree.unflatten([next(rest) if x is None else x for x in constants])
        return function(own, SharedInputs(rule, count, scale, shared.sums, begun), total, of_leaf)

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


def with_shared_code(functions: Sequence[Traced]) -> list[Traced]:
    """The functions, of which those that differ in numbers only have one `inside` that reads these."""
    alike: dict[Hashable, list[int]] = {}
    for i, traced in enumerate(functions):
        alike.setdefault((_form(traced.inside), traced.structure), []).append(i)
    done = list(functions)
    for places in alike.values():
        written = [[_bits(x) for x in _literals(functions[i].inside.jaxpr)] for i in places]
        columns = [*zip(*written, strict=True)]
        differing = [*dict.fromkeys(column for column in columns if len(set(column)) > 1)]
        inside = _reading(
            functions[places[0]].inside, [differing.index(c) if c in differing else None for c in columns]
        )
        for turn, i in enumerate(places):
            numbers = (_number(*column[turn]) for column in differing)
            done[i] = functions[i]._replace(inside=inside, numbers=tuple(numbers))
    return done


def text(traced: Traced) -> Hashable:
    """A key that is equal for functions that compute the same of arrays of other shapes, elementwise as they are.

    Compared are primitives, numbers and parameters that are one word or number, those of called functions too; not
    tuples and other parameters, which tell shapes. Where they are all that differs, the rule is taken at its word that
    it is elementwise: that its groups differ in the same numbers in every shape.
    """
    return traced.structure, *_words(traced.inside.jaxpr), _form(traced.outside, numbers=True)


def _words(jaxpr: Any) -> Iterator[Hashable]:
    for eqn in jaxpr.eqns:
        yield eqn.primitive
        for x in eqn.params.values():
            if hasattr(x, "eqns"):
                yield tuple(_words(getattr(x, "jaxpr", x)))
            elif isinstance(x, (bool, int, float, str, np.dtype)):
                yield x
    yield from map(_bits, _literals(jaxpr))


def in_other_shapes(one: Traced, first: Traced, functions: Sequence[Traced]) -> list[Traced]:
    """What `with_shared_code` made of `first` and others, with arrays of the shapes of `one`, which has its text."""
    shared, own = functions[0].inside.jaxpr, len(first.inside.jaxpr.invars)
    operands = {v: i for i, v in enumerate(shared.invars[own:])}
    pairs = zip(_read(first.inside.jaxpr), _read(shared), strict=True)
    inside = _reading(one.inside, [operands.get(v) if v is not x else None for x, v in pairs if _is_literal(x)])
    return [traced._replace(inside=inside) for traced in functions]


@functools.lru_cache(1024)
def _number(dtype: np.dtype, bits: bytes) -> np.ndarray:
    return np.frombuffer(bits, dtype).reshape(())


def _literals(jaxpr: Any) -> Iterator[Any]:
    """The numbers in the text of a traced function, in order."""
    return filter(_is_literal, _read(jaxpr))


def _read(jaxpr: Any) -> list[Any]:
    return [*(v for eqn in jaxpr.eqns for v in eqn.invars), *jaxpr.outvars]


def _is_literal(v: Any) -> bool:
    from jax.extend.core import Literal  # `jax.extend` imports Pallas

    return isinstance(v, Literal)


def _bits(literal: Any) -> tuple[np.dtype, bytes]:
    return literal.aval.dtype, np.asarray(literal.val, literal.aval.dtype).tobytes()


def _form(closed: Any, numbers: bool = False) -> Hashable:
    """A key that is equal for traced functions that differ in numbers only, or not even in `numbers`."""
    from jax.extend.core import Literal

    jaxpr = getattr(closed, "jaxpr", closed)
    places = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}

    def place(v: Any) -> Hashable:
        if isinstance(v, Literal):
            return v.aval, numbers and _bits(v)
        return places[v]

    equations = []
    for eqn in jaxpr.eqns:
        equations.append((eqn.primitive, settings(eqn), *map(place, eqn.invars)))
        places.update((v, len(places) + i) for i, v in enumerate(eqn.outvars))
    types = (v.aval for v in (*jaxpr.constvars, *jaxpr.invars))
    return (*types, *map(id, getattr(closed, "consts", ())), *equations, *map(place, jaxpr.outvars))


@functools.lru_cache(64)
def _whole_form(closed: Any) -> Hashable:
    return _form(closed, numbers=True)


def settings(equation: Any) -> Hashable:
    """The parameters of an equation."""

    def setting(x: Any) -> Hashable:
        if hasattr(x, "eqns"):
            return _whole_form(x)
        if isinstance(x, (tuple, list)):
            return tuple(map(setting, x))
        return x if isinstance(x, Hashable) else id(x)

    return tuple((name, setting(x)) for name, x in equation.params.items())


def _reading(closed: Any, operands: Sequence[int | None]) -> Any:
    """The traced function, with those of its numbers as operands, its last, that have a number among these."""
    from jax.extend.core import Literal, Var

    jaxpr, turn, added = closed.jaxpr, iter(operands), dict[int, Any]()

    def read(v: Any) -> Any:
        if not isinstance(v, Literal) or (i := next(turn)) is None:
            return v
        return added.setdefault(i, Var(v.aval.update(weak_type=False)))

    eqns = [eqn.replace(invars=[read(v) for v in eqn.invars]) for eqn in jaxpr.eqns]
    outvars = [read(v) for v in jaxpr.outvars]
    invars = [*jaxpr.invars, *(added[i] for i in sorted(added))]
    unnamed = jaxpr.debug_info.with_unknown_names()
    return closed.replace(jaxpr=jaxpr.replace(invars=invars, outvars=outvars, eqns=eqns, debug_info=unnamed))


def _computed(closed: Any, given: Sequence[Any], known: dict[Hashable, Any]) -> list[Array]:
    """The results of a traced function of scalars, without those of its equations that are in `known`."""
    from jax.extend.core import Literal

    jaxpr = closed.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *given), strict=True))
    value = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
    unnamed = jaxpr.debug_info.with_unknown_names()
    for eqn in jaxpr.eqns:
        read = [*dict.fromkeys(v for v in eqn.invars if not isinstance(v, Literal))]
        told = (_bits(v) if isinstance(v, Literal) else id(values[v]) for v in eqn.invars)
        key = eqn.primitive, settings(eqn), *told
        if key not in known:
            alone = jaxpr.replace(constvars=[], invars=read, outvars=eqn.outvars, eqns=[eqn], debug_info=unnamed)
            operands = [values[v] for v in read]
            known[key] = as_function(closed.replace(jaxpr=alone, consts=[]))(*operands), operands  # whose ids stay
        values.update(zip(eqn.outvars, known[key][0], strict=True))
    return [value(v) for v in jaxpr.outvars]


def as_function(closed: Any) -> Callable[..., list[Array]]:
    """A jaxpr as a named function; JAX names an unnamed one by printing the whole jaxpr at every trace."""
    from jax.extend.core import jaxpr_as_fun

    def step(*operands: Array) -> list[Array]:
        return jaxpr_as_fun(closed)(*operands)

    return step


def is_array(x: Any) -> bool:
    """Whether a leaf of a tree of numbers is an array rather than a number of Python."""
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) and not isinstance(x, float)
