"""Leaves of one kind share one function of the program and are traced once.

Tracing and compiling take time in proportion to the size of the program. Leaves of one shape with equally stored slots
differ only in their arrays and in the key of their random bits. Results are the same up to rounding, where XLA fuses
differently.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..._annotations import Array
from ..._leaf import SharedInputs, Step, StepResult
from ..._noise import Noise

Take: TypeAlias = Callable[[Step, Any], StepResult]
"""`Step.apply` or `Step.update`; the second argument is the rule's measure over all leaves."""


_CAN_KEEP_APART = jax.__version_info__ >= (0, 9)
"""Earlier versions of JAX cannot differentiate operations with XLA metadata."""


class Brought(NamedTuple):
    """The inputs that differ from leaf to leaf: the arrays of `Leaf`, and the key of its random bits."""

    g: Any
    p: Any
    stored: list[Any]
    residual: Any
    key: Any


class Shared(NamedTuple):
    """The inputs that all leaves share: the rule's numbers, the step number, the gradient scale, the rule's measure."""

    numbers: list[Any]
    step_number: Array
    grad_scale: Array | None
    total: Any


def taken(steps: Sequence[Step | None], take: Take, total: Any) -> list[StepResult | None]:
    """The result of `take` for each leaf; `None` where there is no step."""
    # Updates are added to the weights by the caller, in the same loop if XLA may inline the function.
    kept_apart = take is not Step.update
    groups: dict[Hashable, list[int]] = {}
    programmed = in_a_program()
    for i, step in enumerate(steps):
        if step is not None:
            groups.setdefault(_kind(step) if programmed else i, []).append(i)
    keys = _opaque_keys([step for group in groups.values() if len(group) > 1 for i in group if (step := steps[i])])
    done: list[StepResult | None] = [None] * len(steps)
    for group in groups.values():
        members = [step for i in group if (step := steps[i])]
        if len(group) == 1:
            done[group[0]] = take(members[0], total)
            continue
        step_alike = _Outlined(members[0], take, total, kept_apart)
        for i, step in zip(group, members, strict=True):
            done[i] = step_alike(_brought(step)._replace(key=next(keys)))
    return done


def in_a_program() -> bool:
    """Whether this runs under `jax.jit`; eager `jax.vmap` and `jax.grad` would compile a function at each call."""
    return isinstance(jax.lax.add(np.int32(0), np.int32(0)), Tracer)


def _brought(step: Step) -> Brought:
    leaf = step.leaf
    return Brought(leaf.g, leaf.p, leaf.stored, leaf.residual, step.noise.key)


def _kind(step: Step) -> Hashable:
    """A key that is equal for leaves of one kind."""
    arrays, tree = jax.tree.flatten(_brought(step))
    return tree, *(jax.typeof(x) for x in arrays), step.leaf.decays, id(step.leaf.rounding)


class _Outlined:
    """The step of one leaf as a function of the arrays of any leaf of its kind.

    Numbers that do not depend on the leaf, such as bias corrections, are computed once, outside.
    """

    def __init__(self, first: Step, take: Take, total: Any, kept_apart: bool) -> None:
        numbers, tree = jax.tree.flatten(first.shared.rule_as_given)
        constants = [None if _is_array(x) else x for x in numbers]
        given = [x for x in numbers if _is_array(x)]
        shared = Shared(given, first.shared.count, first.shared.grad_scale, total)

        def step(brought: Brought, shared: Shared) -> StepResult:
            numbers = iter(shared.numbers)
            rule = tree.unflatten([next(numbers) if x is None else x for x in constants])
            now = SharedInputs(rule, shared.step_number, shared.grad_scale)
            leaf = first.leaf._replace(g=brought.g, p=brought.p, stored=brought.stored, residual=brought.residual)
            noise = Noise(brought.key, shared.step_number)
            return take(dataclasses.replace(first, leaf=leaf, shared=now, noise=noise), shared.total)

        brought = _brought(first)
        closed, out = jax.make_jaxpr(step, return_shape=True)(brought, shared)
        outside, self._inside = _split(closed, len(jax.tree.leaves(brought)))
        self._numbers = outside(*jax.tree.leaves(shared))
        self._out = jax.tree.structure(out)
        self._call = jax.jit(self._on_each_platform if kept_apart and _CAN_KEEP_APART else self._inside)

    def __call__(self, brought: Brought) -> StepResult:
        arrays = [jnp.asarray(x) for x in jax.tree.leaves(brought)]
        return self._out.unflatten(self._call(*arrays, *self._numbers))

    def _on_each_platform(self, *operands: Array) -> list[Array]:
        """The function; on CPUs marked as not inlineable, as XLA would optimise each inlined copy separately."""
        from jax.experimental.xla_metadata import set_xla_metadata  # which imports Pallas: a tenth of a second

        function = jax.jit(self._inside)

        def kept(*operands: Array) -> list[Array]:
            first, *others = function(*operands)
            return [cast(Array, set_xla_metadata(first, inlineable="false")), *others]

        return jax.lax.platform_dependent(*operands, cpu=kept, default=function)


def _split(closed: Any, own: int) -> tuple[Callable[..., list[Array]], Callable[..., list[Array]]]:
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
    return _as_function(closed.replace(jaxpr=first)), _as_function(closed.replace(jaxpr=then))


def _as_function(closed: Any) -> Callable[..., list[Array]]:
    """A jaxpr as a named function; JAX names an unnamed one by printing the whole jaxpr at every trace."""
    from jax.extend.core import jaxpr_as_fun

    def step(*operands: Array) -> list[Array]:
        return jaxpr_as_fun(closed)(*operands)

    return step


def _is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) and not isinstance(x, float)


def _opaque_keys(steps: Sequence[Step]) -> Any:
    """The keys of the leaves' random bits, hidden from constant folding on CPUs.

    XLA compiles equal loops once, but not loops that differ in a constant. A loop that never runs, as the step number
    is not negative, hides the constants at the cost of a microsecond.
    """
    keys = [step.noise.key for step in steps]
    if not any(step.is_random for step in steps) or any(isinstance(key, Tracer) for key in keys):
        return iter(keys)
    count = steps[0].shared.count

    def by_loop() -> list[Any]:
        turned = lambda carry: (carry[0] + 1, [*carry[1][1:], carry[1][0]])  # noqa: E731
        return jax.lax.while_loop(lambda carry: carry[0] < 0, turned, (count, keys))[1]

    return iter(jax.lax.platform_dependent(cpu=by_loop, default=lambda: [jnp.asarray(x) for x in keys]))
