"""Leaves of one kind share one function of the program and are traced once.

Tracing and compiling take time in proportion to the size of the program. Leaves of one shape with equally stored slots
differ only in their arrays and in the key of their random bits. Results are the same up to rounding, where XLA fuses
differently.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..._annotations import Array
from ..._leaf import SharedInputs, Step, StepResult
from ..manual import varying
from ..traced import (
    Brought,
    Traced,
    as_function,
    brought,
    in_other_shapes,
    kind,
    text,
    trace,
    with_brought,
    with_shared_code,
)

Take: TypeAlias = Callable[[Step, Any], StepResult]
"""`Step.apply` or `Step.update`; the second argument is the rule's measure over all leaves."""


_CAN_KEEP_APART = jax.__version_info__ >= (0, 9)
"""Earlier versions of JAX cannot differentiate operations with XLA metadata."""


def taken(steps: Sequence[Step | None], take: Take, total: Any) -> list[StepResult | None]:
    """The result of `take` for each leaf; `None` where there is no step."""
    # Updates are added to the weights by the caller, in the same loop if XLA may inline the function.
    kept_apart = take is not Step.update
    kinds: dict[Hashable, list[int]] = {}
    programmed = in_a_program()
    for i, step in enumerate(steps):
        if step is not None:
            kinds.setdefault(kind(step) if programmed else i, []).append(i)
    done: list[StepResult | None] = [None] * len(steps)
    together: list[list[int]] = []
    for places in kinds.values():
        if len(places) > 1:
            together.append(places)
        elif (step := steps[places[0]]) is not None:
            done[places[0]] = take(step, total)
    alike = [[step for i in places if (step := steps[i])] for places in together]
    traced: dict[Hashable, tuple[Traced, list[Traced]]] = {}
    functions = [_of_groups(leaves, take, total, traced) for leaves in alike]
    keys, scalars = _opaque(alike, functions)
    for places, leaves, of_groups, read in zip(together, alike, functions, scalars, strict=True):
        calls = {id(x.inside): _call(x.inside, kept_apart) for x in of_groups.values()}
        for i, step in zip(places, leaves, strict=True):
            function = of_groups[id(step.shared)]
            arrays = [jnp.asarray(x) for x in jax.tree.leaves(brought(step)._replace(key=next(keys)))]
            new = calls[id(function.inside)](*arrays, *read[id(step.shared)])
            done[i] = function.structure.unflatten(new)
    return done


def in_a_program() -> bool:
    """Whether this runs under `jax.jit`; eager `jax.vmap` and `jax.grad` would compile a function at each call."""
    return isinstance(jax.lax.add(np.int32(0), np.int32(0)), Tracer)


def of_one_kind(first: Step, take: Take, total: Any) -> Traced:
    """The step of one leaf, traced as a function of the arrays of any leaf of its kind and group."""

    def step(brought: Brought, shared: SharedInputs, total: Any, _: list[Any]) -> StepResult:
        return take(with_brought(first, brought, shared), total)

    return trace(step, brought(first), first.shared, total)


def _of_groups(
    alike: Sequence[Step], take: Take, total: Any, known: dict[Hashable, tuple[Traced, list[Traced]]]
) -> dict[int, Traced]:
    """The function of leaves of one kind, for each of their groups.

    Args:
        alike: the leaves.
        take: what the function computes.
        total: the rule's measure over all leaves.
        known: by groups and text, the function of the first group of other shapes, and those of all; added to.
    """
    groups = {id(step.shared): step for step in alike}
    first, *others = groups.values()
    one = of_one_kind(first, take, total)
    if not others:
        return dict.fromkeys(groups, one)
    if (told := (*groups, text(one))) in known:
        functions = in_other_shapes(one, *known[told])
    else:
        functions = with_shared_code([one, *(of_one_kind(x, take, total) for x in others)])
        if first.rule.elementwise and len({id(x.inside) for x in functions}) == 1:
            known[told] = one, functions
    return dict(zip(groups, functions, strict=True))


def _call(inside: Any, kept_apart: bool) -> Callable[..., list[Array]]:
    """A function of the program; on CPUs marked as not inlineable, as XLA would optimise each copy separately."""
    function = as_function(inside)
    if not (kept_apart and _CAN_KEEP_APART):
        return jax.jit(function)

    def on_each_platform(*operands: Array) -> list[Array]:
        from jax.experimental.xla_metadata import set_xla_metadata  # which imports Pallas: a tenth of a second

        inlined = jax.jit(function)

        def kept(*operands: Array) -> list[Array]:
            first, *others = inlined(*operands)
            return [cast(Array, set_xla_metadata(first, inlineable="false")), *others]

        return jax.lax.platform_dependent(*operands, cpu=kept, default=inlined)

    return jax.jit(on_each_platform)


def _opaque(
    alike: Sequence[Sequence[Step]], functions: Sequence[dict[int, Traced]]
) -> tuple[Iterator[Any], list[dict[int, list[Any]]]]:
    """The keys of the leaves' random bits in order, and the scalars of each function.

    Keys and the numbers that groups differ in are hidden from constant folding: XLA compiles equal loops once, but not
    loops that differ in a constant, or of which one reads the same number twice.
    """
    keys = [step.noise.key for leaves in alike for step in leaves]
    random = any(step.is_random for leaves in alike for step in leaves)
    told: dict[Hashable, Any] = {}
    if random and not any(isinstance(key, Tracer) for key in keys):
        told = {("key", i): key for i, key in enumerate(keys)}
    known: dict[Hashable, Any] = {}
    outsides = {id(function.outside): function for of_groups in functions for function in of_groups.values()}
    made = {i: function.scalars(known=known) for i, function in outsides.items()}
    scalars = [{i: made[id(function.outside)] for i, function in of_groups.items()} for of_groups in functions]
    name = lambda i, x: (i, id(x) if isinstance(x, Tracer) else (x.dtype, np.asarray(x).tobytes()))  # noqa: E731
    several = [read for read in scalars if len(read) > 1]
    told |= {name(i, x): x for read in several for mine in read.values() for i, x in enumerate(mine)}
    hidden = dict(zip(told, behind_barrier([*told.values()], alike[0][0].shared.count), strict=True)) if told else {}
    for read in several:
        read.update({group: [hidden[name(i, x)] for i, x in enumerate(mine)] for group, mine in read.items()})
    return iter([hidden.get(("key", i), key) for i, key in enumerate(keys)]), scalars


@jax.custom_jvp
def behind_barrier(arrays: Sequence[Any], count: Array) -> list[Array]:
    """The arrays, none of which is there before all are, and none of which is known when the program is compiled.

    CPUs' compiler drops barriers; there a loop that never runs, as the step number is not negative, is one, at the cost
    of a microsecond. Derivatives pass by it. Arrays that vary over other axes of a `jax.shard_map` have other barriers.
    """

    def by_loop() -> list[Any]:
        other = lambda carry: (carry[0] + 1, [x + x for x in carry[1]])  # noqa: E731
        return jax.lax.while_loop(lambda carry: carry[0] < 0, other, (count, list(arrays)))[1]

    def by_barrier() -> list[Any]:
        alike: dict[frozenset[str], dict[int, Array]] = {}  # results vary over all axes that any operand does
        for i, x in enumerate(arrays):
            alike.setdefault(varying([x]), {})[i] = jnp.asarray(x)
        done = {i: x for some in alike.values() for i, x in jax.lax.optimization_barrier(some).items()}
        return [done[i] for i in range(len(arrays))]

    return jax.lax.platform_dependent(cpu=by_loop, default=by_barrier)


@behind_barrier.defjvp
def _past_barrier(primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    return behind_barrier(*primals), tangents[0]
