"""The sums of leaves of several groups, in the units of the leaves of no group."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array
from .._engine import Engine
from .._leaf import SharedInputs
from .._state import State
from ..shared import last_numbers, last_step, shared_inputs
from ._hats import Numbers, numbers_in, step_size_of
from ._sums import LeafRecord, Sums, table


def rows(
    records: Sequence[LeafRecord | None],
    shared: Sequence[SharedInputs],
    engine: Engine,
    state: State,
    numbers: Numbers | None,
    *options: Any,
) -> Array:
    """`table` of the leaves, each with the numbers of its group, as if all had the step size and corrections of none.

    Args:
        records: of each leaf.
        shared: what each shares with its group, in the step that led to `state`.
        engine: of the optimizer.
        state: after the step.
        numbers: of the leaves of no group.
        *options: the rest of `table`.
    """
    found = jnp.zeros((len(records), len(Sums._fields)), jnp.float32)
    for group in {id(x): x for x in shared}.values():
        places = np.asarray([i for i, x in enumerate(shared) if x is group], int)
        mine = None if numbers is None else numbers_in(engine, group)
        rates = (step_size_of(x.rule_as_given) for x in (last_step(engine.rule, state), group))
        units = _units(numbers, mine, *(1.0 if x is None else x for x in rates))
        found = found.at[places].set(table([records[i] for i in places], mine, *options) * units)
    return found


def of_leaves(engine: Engine | None, leaves: _leaves.Leaves, state: Any) -> list[SharedInputs] | None:
    """What each leaf shares with its group; `None` if all leaves share everything."""
    if engine is None or (len(engine.members) == 1 and not state.begun):
        return None
    of_leaves = [*zip(leaves.paths, engine.members_of(leaves), strict=True)]
    return shared_inputs(engine.rule, engine.members, of_leaves, state, last_numbers(engine.rule, state))


def _units(numbers: Numbers | None, mine: Numbers | None, rate: Any, own: Any) -> Array:
    """What the sums of a group's leaves are multiplied with, (1, sums)."""
    step = jnp.where(jnp.asarray(own) == 0, 0, rate / jnp.where(jnp.asarray(own) == 0, 1, own))
    ratio = most = 1.0
    if numbers is not None and mine is not None:
        ratio = most = mine.ratio / numbers.ratio
        if numbers.bound is not None and mine.bound is not None:
            most = ratio * numbers.bound / mine.bound
    told = {"moved": step, "step_max": step, "ratio": ratio, "ratio_max": most}
    return jnp.stack([jnp.asarray(told.get(name, 1.0), jnp.float32) for name in Sums._fields])[None]
