"""Steps of rules that sum over elements, in programs for several devices: sums that can share an all-reduce do.

XLA's compilers make one all-reduce of several that follow each other in the program, up to one that needs the result of
another. A leaf's sums may need each other's results; taken leaf by leaf, hardly any could be joined. So all leaves take
their sums in stages: those that need no other's result, then those that need only these, and so on.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._annotations import Array
from ..._leaf import SharedInputs, Step, StepResult
from ..traced import Traced, as_function, brought, kind
from .shared_functions import Take, behind_barrier, of_one_kind
from .together import alike, computed, is_call, marked


def taken_in_stages(steps: Sequence[Step], take: Take, total: Any, several: bool = True) -> list[StepResult]:
    """The result of `take` for each leaf, in a program for several devices or one."""
    functions: dict[Hashable, tuple[Traced, list[Array]]] = {}
    computed: dict[Hashable, Any] = {}
    waiting: list[_Equation] = []
    results, count = [], steps[0].shared.count
    for step in told(steps, several, marked):
        if (mine := (kind(step), id(step.shared))) not in functions:
            function = of_one_kind(step, take, total)
            functions[mine] = function, function.scalars(known=computed)
        function, scalars = functions[mine]
        arrays = [jnp.asarray(x) for x in jax.tree.leaves(brought(step))]
        equations, made = _equations(function.inside, [*arrays, *scalars])
        waiting += [x._replace(of=jnp.shape(step.leaf.g) if several else ()) for x in equations]
        results.append((function.structure, made))
    known = _computed(waiting, count, several)
    return [structure.unflatten([_value(x, known) for x in made]) for structure, made in results]


def on_one_device(steps: Sequence[Step], take: Take, total: Any) -> list[StepResult]:
    """The result of `take` for each leaf of a rule that calls `together`, in a program for one device."""
    return taken_in_stages(steps, take, total, several=False)


def call_together(steps: Sequence[Step], take: Take, total: Any) -> bool:
    """Whether a rule calls `together` for any leaf."""

    def asked(*_: Any) -> Any:
        raise _Asked

    try:
        for step in {kind(step): step for step in told(steps, False, asked)}.values():
            of_one_kind(step, take, total)
    except _Asked:
        return True
    return False


def told(steps: Sequence[Any], in_stages: bool, joined: Callable[..., Any]) -> list[Any]:
    """The steps, of which `StepContext` says this; `None` stays."""
    groups = {id(step.shared): step.shared for step in steps if step is not None}
    new = {
        i: SharedInputs(x.rule_as_given, x.count, x.grad_scale, ((), in_stages, joined), x.begun)
        for i, x in groups.items()
    }
    return [step and dataclasses.replace(step, shared=new[id(step.shared)]) for step in steps]


class _Asked(Exception):
    """A rule calls `together`."""


class _Place:
    """Stands for a value that is computed later."""


class _Equation(NamedTuple):
    """An equation of a traced function.

    Attributes:
        function: of this equation alone.
        given: what it reads.
        made: where its results go.
        is_sum: whether it adds up elements.
        call: for a call of `together` its implementations, and the equation.
        of: the shape of the leaf, like which others are cut.
    """

    function: Callable[..., list[Array]]
    given: list[Any]
    made: list[_Place]
    is_sum: bool
    call: Any = None
    of: tuple[int, ...] = ()


def _computed(waiting: Sequence[_Equation], count: Array, several: bool) -> dict[_Place, Any]:
    """The values of all places."""
    known: dict[_Place, Any] = {}
    sums: dict[_Place, Any] = {}
    while waiting or sums:
        later = []
        calls: dict[Hashable, list[tuple[_Equation, list[Any]]]] = {}
        for equation in waiting:
            if any(isinstance(x, _Place) and x not in known for x in equation.given):
                later.append(equation)
                continue
            given = [_value(x, known) for x in equation.given]
            if equation.call is not None:
                calls.setdefault((equation.of, alike(equation.call, given)), []).append((equation, given))
            else:
                values = equation.function(*given)
                (sums if equation.is_sum else known).update(zip(equation.made, values, strict=True))
        for some in calls.values():
            results = computed(some[0][0].call.params["branches"], [given for _, given in some], several)
            for (equation, _), values in zip(some, results, strict=True):
                known |= zip(equation.made, values, strict=True)
        if sums and not calls:  # nothing that needs one of them is before the barrier, and none of them is after it
            known |= zip(sums, behind_barrier(list(sums.values()), count), strict=True)
            sums = {}
        waiting = later
    return known


def _value(x: Any, known: dict[_Place, Any]) -> Any:
    return known[x] if isinstance(x, _Place) else x


def _equations(closed: Any, given: Sequence[Any]) -> tuple[list[_Equation], list[Any]]:
    """The equations of a traced function and of those that it calls, and its results."""
    from jax.extend.core import Literal  # `jax.extend` imports Pallas

    jaxpr, found = closed.jaxpr, []
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *given), strict=True))
    variables = lambda atoms: list(dict.fromkeys(v for v in atoms if not isinstance(v, Literal)))  # noqa: E731
    used = set(variables([*jaxpr.outvars, *(v for equation in jaxpr.eqns for v in equation.invars)]))
    value = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
    unnamed = jaxpr.debug_info.with_unknown_names()
    for equation in jaxpr.eqns:
        name, read, written = equation.primitive.name, variables(equation.invars), equation.outvars
        if name in ("jit", "pjit"):
            inner, made = _equations(equation.params["jaxpr"], [value(v) for v in equation.invars])
            found += inner
        else:
            written = [v for v in written if v in used or is_call(equation)]
            alone = jaxpr.replace(constvars=[], invars=read, outvars=written, eqns=[equation], debug_info=unnamed)
            made = [_Place() for _ in written]
            function = as_function(closed.replace(jaxpr=alone, consts=[]))
            call = equation if is_call(equation) else None
            given = [value(v) for v in (read if call is None else equation.invars)]
            found.append(_Equation(function, given, made, name == "reduce_sum", call))
        values.update(zip(written, made, strict=True))
    return found, [value(v) for v in jaxpr.outvars]
