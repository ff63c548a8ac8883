"""What leaves share in a step: the numbers of their group, and of the step in which they began."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._annotations import Array
from ._layout import wide_dtype
from ._leaf import SharedInputs
from ._math import Varying
from ._rule import Rule, replace
from ._state import LogProduct, State, scheduled_values
from .groups import Member, own_numbers
from .schedules import reading


class Begun(NamedTuple):
    """Leaves that begin after others.

    Attributes:
        count: of the state then.
        log_products: of the state then.
        leaves: their paths, as keys: so they are part of the tree and travel with it.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    log_products: dict[str, LogProduct]
    leaves: dict[str, tuple[()]]

    def since(self, products: dict[str, LogProduct]) -> dict[str, LogProduct]:
        """The products of decay rates since then."""
        pairs = {path: (now, self.log_products[path]) for path, now in products.items()}
        return {
            path: now._replace(total=(now.total - then.total) - (now.lost - then.lost))
            for path, (now, then) in pairs.items()
        }


class Numbers(NamedTuple):
    """The values of hyperparameters that follow a schedule in a step, the products of decay rates, the step number."""

    values: dict[str, Any]
    products: dict[str, LogProduct]
    number: Array


def last_numbers(rule: Rule[Any], state: State) -> Numbers:
    """Those of the step that led to `state`; of the first step if none is finished."""
    number = jnp.maximum(jnp.asarray(state.count), 1)
    with reading(state.live):
        return Numbers(scheduled_values(rule, number - 1), state.log_products, number)


def last_step(rule: Rule[Any], state: State) -> SharedInputs:
    """The shared inputs of the step that led to `state`, of leaves of no group; of the first if none is finished."""
    values, products, number = last_numbers(rule, state)
    return SharedInputs(with_values(rule, values, products, jnp.asarray(state.count)), number)


def shared_inputs(
    rule: Rule[Any],
    members: Sequence[Member],
    of_leaves: Sequence[tuple[_leaves.Path, Member]],
    state: State,
    numbers: Numbers,
    scale: Array | None = None,
    names: Sequence[str] = (),
) -> list[SharedInputs]:
    """Those of each leaf: one object for the leaves of one group that began together.

    Args:
        rule: of the optimizer.
        members: of each group, and of none.
        of_leaves: each leaf's path and member.
        state: tells when leaves began.
        numbers: of the step.
        scale: of the gradients.
        names: the mesh axes that leaves are cut along.
    """
    values, products, count = numbers
    with reading(state.live):
        own = dict(zip(map(id, members), own_numbers(members, rule, values, count - 1), strict=True))
    made: dict[Hashable, SharedInputs] = {}
    found = []
    for path, member in of_leaves:
        begun = _begun(state, path)
        if (key := (id(member), id(begun))) not in made:
            since, t = (products, count) if begun is None else (begun.since(products), count - begun.count)
            now = with_values(rule, values, since, t, own[id(member)])
            made[key] = SharedInputs(now, count, scale, (names, False), begun and begun.count)
        found.append(made[key])
    return found


def with_values(rule: Any, values: dict[str, Any], products: Any, count: Array, own: Any = None) -> Any:
    """The rule with these values; each scheduled decay rate carries the product of its values up to step `count`.

    The values of a group's `own` take the place of others.
    """
    varying = {
        path: Varying(value, products[path].total, count.astype(float))
        for path, value in values.items()
        if path in products
    }
    return replace(rule, values | varying | (own or {}))


def _begun(state: State, path: _leaves.Path) -> Begun | None:
    """When the leaf at a path began; `None` if with the others."""
    name = jax.tree_util.keystr(path, simple=True, separator="/") if state.begun else ""
    return next((x for x in state.begun if name in x.leaves), None)


def increment(count: Any) -> Array:
    """The number of the next step, saturating at the largest integer."""
    count = jnp.asarray(count)
    one, last = np.asarray(1, count.dtype), np.asarray(jnp.iinfo(count.dtype).max - 1, count.dtype)
    return jax.lax.add(jax.lax.min(count, last), one)


def added_up(measures: list[Any]) -> Any:
    """The rule's measure over all leaves; `None` if no leaf has one."""
    if not jax.tree.leaves(measures):
        return None
    dtype = wide_dtype(*jax.tree.leaves(measures))
    return jax.tree.map(lambda *xs: sum(x.astype(dtype) for x in xs), *measures)
