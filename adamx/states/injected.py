"""The numbers that `optax.inject_hyperparams` keeps, and those that live in an adamx state."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.core import Tracer

from .. import _leaves
from .._rule import hyperparameters, innermost
from .._state import State
from ..schedules import Live, first_values
from .filling import Found
from .parts import Place


class Told(NamedTuple):
    """A number that Optax has injected.

    Attributes:
        at: its path.
        x: its value.
        ours: what the optimizer has there for the leaves that it is of: numbers and schedules.
    """

    at: str
    x: Any
    ours: list[Any]


def told_in(
    place: Place, leaves: _leaves.Leaves, parts: list[tuple[Any, str]], found: Sequence[Sequence[Found | None]]
) -> list[Told]:
    """The numbers that Optax has injected. One within a mask is of the leaves whose slots are there, too.

    Raises:
        ValueError: in place of one stands what reads live numbers, but is none.
    """
    rule, told = place.engine.rule, []
    masks = [where for x, where in parts if type(x).__name__ == "MaskedState"]
    values = {h.path: h.value for h in hyperparameters(rule)}
    members = [(j, x) for j, x in enumerate(place.engine.members_of(leaves)) if leaves.arrays[j] is not None]
    slots = [column for column in found if any(column)]
    for node, where in ((x, where) for x, where in parts if hasattr(x, "hyperparams")):
        mask = max((x for x in masks if where.startswith(x)), key=len, default="")
        within = lambda j, mask=mask: any((x := column[j]) and x.at.startswith(mask) for column in slots)  # noqa: E731
        mine = {member.name: member for j, member in members if not slots or within(j)}.values()
        for name, x in node.hyperparams.items():
            if (path := innermost(rule, name)) is not None:
                at = f"{where}.hyperparams[{name!r}]"
                pairs = [(m.values.get(path, values[path]), m.scales.get(path)) for m in mine]
                ours = [own for own, scale in pairs if scale is None]
                # What stands there only with a scale is not that number: hidden, so that it is refused if it lives.
                scaled = [pair for pair in pairs if not any(pair[0] is own for own in ours)]
                ours += [functools.partial(x) for pair in scaled for x in pair if callable(x)]
                for own in ours:
                    if callable(own) and not isinstance(own, Live) and (live := first_values([own])):
                        raise ValueError(
                            f"{at} has no place in the state of the adamx optimizer, whose {name} is computed from "
                            f"live numbers, {', '.join(live)}: have `adamx.live` itself there, or leave "
                            "`inject_hyperparams` out (of a state, take its `inner_state`)"
                        )
                told.append(Told(at, x, ours))
    return told


def taken_over(told: list[Told]) -> dict[str, Any]:
    """The live numbers that Optax has injected, by their names in our state."""
    live: dict[str, Told] = {}
    for new in told:
        for own in new.ours:
            if isinstance(own, Live):
                old = live.setdefault(own.name, new)
                if _differ(new.x, old.x, traced=True):
                    raise ValueError(
                        f"{old.at} is {old.x}, {new.at} is {new.x}, but both are the one live number {own.name!r}: "
                        "give each part of the leaves, in a group, a live number of its own; if they are alike, move "
                        "outside `jax.jit`, under which that is not known"
                    )
            elif not callable(own) and _differ(new.x, own, traced=False):
                raise ValueError(
                    f"{new.at} is {new.x}, but the adamx optimizer has {own} there: give it the same, or an "
                    "`adamx.live` number"
                )
    return {name: jnp.array(x.x) for name, x in live.items()}  # buffers of their own: one can't be donated twice


def given_back(told: Told, ours: State) -> Any:
    """The live number that Optax has injected; `None` if it does not live in our state.

    Raises:
        ValueError: leaves have different numbers there.
    """
    numbers = [own for own in told.ours if isinstance(own, Live) or not callable(own)]
    now = [dict(ours.live).get(own.name, own.value) if isinstance(own, Live) else own for own in numbers]
    if not any(isinstance(own, Live) for own in numbers):
        return None
    if other := [x for x in now if _differ(now[0], x, traced=True)]:
        raise ValueError(
            f"{told.at} is one number, but in the adamx optimizer's groups, it is {now[0]} and {other[0]}: give `tx` a "
            "`partition` with these"
        )
    return now[0]


def _differ(x: Any, y: Any, traced: bool) -> bool:
    """Whether two numbers differ in the digits of `x`; `traced` if JAX traces one."""
    if x is y or isinstance(x, Tracer) or isinstance(y, Tracer):
        return x is not y and traced
    x = jnp.asarray(x)
    return bool(x != jnp.asarray(y, x.dtype))
