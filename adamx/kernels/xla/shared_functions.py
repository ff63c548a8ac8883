"""Leaves of one kind share one function of the program and are traced once.

Tracing and compiling take time in proportion to the size of the program. Leaves of one shape with equally stored slots
differ only in their arrays and in the key of their random bits. Results are the same up to rounding, where XLA fuses
differently.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..._annotations import Array
from ..._leaf import SharedInputs, Step, StepResult
from ..traced import Brought, as_function, brought, kind, trace, with_brought

Take: TypeAlias = Callable[[Step, Any], StepResult]
"""`Step.apply` or `Step.update`; the second argument is the rule's measure over all leaves."""


_CAN_KEEP_APART = jax.__version_info__ >= (0, 9)
"""Earlier versions of JAX cannot differentiate operations with XLA metadata."""


def taken(steps: Sequence[Step | None], take: Take, total: Any) -> list[StepResult | None]:
    """The result of `take` for each leaf; `None` where there is no step."""
    # Updates are added to the weights by the caller, in the same loop if XLA may inline the function.
    kept_apart = take is not Step.update
    groups: dict[Hashable, list[int]] = {}
    programmed = in_a_program()
    for i, step in enumerate(steps):
        if step is not None:
            groups.setdefault(kind(step) if programmed else i, []).append(i)
    keys = _opaque_keys([step for group in groups.values() if len(group) > 1 for i in group if (step := steps[i])])
    done: list[StepResult | None] = [None] * len(steps)
    for group in groups.values():
        members = [step for i in group if (step := steps[i])]
        if len(group) == 1:
            done[group[0]] = take(members[0], total)
            continue
        step_alike = _Outlined(OfOneKind(members[0], take, total), kept_apart)
        for i, step in zip(group, members, strict=True):
            done[i] = step_alike(brought(step)._replace(key=next(keys)))
    return done


def in_a_program() -> bool:
    """Whether this runs under `jax.jit`; eager `jax.vmap` and `jax.grad` would compile a function at each call."""
    return isinstance(jax.lax.add(np.int32(0), np.int32(0)), Tracer)


class OfOneKind:
    """The step of one leaf, traced as a function of the arrays of any leaf of its kind.

    Attributes:
        inside: the function, of a leaf's arrays and of `numbers`.
        numbers: what does not depend on the leaf, such as bias corrections, computed once, outside.
        structure: the tree of its results.
    """

    def __init__(self, first: Step, take: Take, total: Any) -> None:
        def step(brought: Brought, shared: SharedInputs, total: Any, _: list[Any]) -> StepResult:
            return take(with_brought(first, brought, shared), total)

        traced = trace(step, brought(first), first.shared, total)
        self.inside, self.numbers, self.structure = traced.inside, traced.scalars(), traced.structure


class _Outlined:
    """A function of the program that steps one leaf."""

    def __init__(self, step: OfOneKind, kept_apart: bool) -> None:
        self._numbers, self._out = step.numbers, step.structure
        self._inside = as_function(step.inside)
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


def _opaque_keys(steps: Sequence[Step]) -> Any:
    """The keys of the leaves' random bits, hidden from constant folding.

    XLA compiles equal loops once, but not loops that differ in a constant.
    """
    keys = [step.noise.key for step in steps]
    if not any(step.is_random for step in steps) or any(isinstance(key, Tracer) for key in keys):
        return iter(keys)
    return iter(behind_barrier(keys, steps[0].shared.count))


def behind_barrier(arrays: Sequence[Any], count: Array) -> list[Array]:
    """The arrays, none of which is there before all are, and none of which is known when the program is compiled.

    CPUs' compiler drops barriers; there a loop that never runs, as the step number is not negative, is one, at the cost
    of a microsecond.
    """

    def by_loop() -> list[Any]:
        other = lambda carry: (carry[0] + 1, [x + x for x in carry[1]])  # noqa: E731
        return jax.lax.while_loop(lambda carry: carry[0] < 0, other, (count, list(arrays)))[1]

    def by_barrier() -> list[Any]:
        return list(jax.lax.optimization_barrier([jnp.asarray(x) for x in arrays]))

    return jax.lax.platform_dependent(cpu=by_loop, default=by_barrier)
