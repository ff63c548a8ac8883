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


def taken_in_stages(steps: Sequence[Step], take: Take, total: Any) -> list[StepResult]:
    """The result of `take` for each leaf."""
    functions: dict[Hashable, tuple[Traced, list[Array]]] = {}
    computed: dict[Hashable, Any] = {}
    waiting: list[_Equation] = []
    results, count = [], steps[0].shared.count
    groups = {id(step.shared): step.shared for step in steps}
    in_stages = {
        i: SharedInputs(x.rule_as_given, x.count, x.grad_scale, ((), True), x.begun) for i, x in groups.items()
    }
    for step in steps:
        step = dataclasses.replace(step, shared=in_stages[id(step.shared)])
        if (mine := (kind(step), id(step.shared))) not in functions:
            function = of_one_kind(step, take, total)
            functions[mine] = function, function.scalars(known=computed)
        function, scalars = functions[mine]
        arrays = [jnp.asarray(x) for x in jax.tree.leaves(brought(step))]
        equations, made = _equations(function.inside, [*arrays, *scalars])
        waiting += equations
        results.append((function.structure, made))
    known = _computed(waiting, count)
    return [structure.unflatten([_value(x, known) for x in made]) for structure, made in results]


class _Place:
    """Stands for a value that is computed later."""


class _Equation(NamedTuple):
    """An equation of a traced function: the function of it alone, what it reads, and where its results go."""

    function: Callable[..., list[Array]]
    given: list[Any]
    made: list[_Place]
    is_sum: bool


def _computed(waiting: Sequence[_Equation], count: Array) -> dict[_Place, Any]:
    """The values of all places."""
    known: dict[_Place, Any] = {}
    while waiting:
        later, sums = [], {}
        for equation in waiting:
            if any(isinstance(x, _Place) and x not in known for x in equation.given):
                later.append(equation)
            else:
                values = equation.function(*(_value(x, known) for x in equation.given))
                (sums if equation.is_sum else known).update(zip(equation.made, values, strict=True))
        if sums:  # nothing that needs one of them is before the barrier, and none of them is after it
            known |= zip(sums, behind_barrier(list(sums.values()), count), strict=True)
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
            written = [v for v in written if v in used]
            alone = jaxpr.replace(constvars=[], invars=read, outvars=written, eqns=[equation], debug_info=unnamed)
            made = [_Place() for _ in written]
            function = as_function(closed.replace(jaxpr=alone, consts=[]))
            found.append(_Equation(function, [value(v) for v in read], made, name == "reduce_sum"))
        values.update(zip(written, made, strict=True))
    return found, [value(v) for v in jaxpr.outvars]
