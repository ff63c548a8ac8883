"""The gradient, weights and moments of each leaf in one step, decoded."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Params, Scalar
from .._engine import Engine
from .._layout import wide_dtype
from .._state import State
from .._weights import is_narrow
from ..groups import Member
from ..states.parts import find_state, find_states
from ..wrapper import Parts
from ._hats import Numbers
from ._sums import LeafRecord


class StepRecord(NamedTuple):
    """One step of all leaves: the trees that came in and went out.

    Attributes:
        grads: the gradients.
        old: the weights before.
        new: the weights after.
        updates: what is added to the weights; `None` if the optimizer's `step` changed them itself.
        scale: the factor that the optimizer multiplied gradients by.
        before: the optimizer's state before the step.
        after: its state after the step.
    """

    grads: Params
    old: Params
    new: Params
    updates: Params
    scale: Scalar | None
    before: Any
    after: Any


def leaf_records(
    leaves: _leaves.Leaves, record: StepRecord, engine: Engine | None, numbers: Numbers | None, parts: Parts
) -> list[LeafRecord | None]:
    """The record of each leaf; `None` for one that is absent or has no gradient. `parts` are of the leaves' tree."""
    grads, new = (_leaves.match(leaves, tree, name) for tree, name in ((record.grads, "grads"), (record.new, "params")))
    given: list[Any] = [None] * len(new)
    if record.updates is not None:
        given = _leaves.match(leaves, record.updates, "updates")
    members: list[Any] = [None] * len(new)
    residuals: list[Any] = [(None, None)] * len(new)
    states = (find_states(state, parts) if parts else [] for state in (record.before, record.after))
    for (part, share), *pair in zip(parts, *states, strict=True):
        arrays = _leaves.match(leaves, share, "params")
        own = part.members_of(leaves._replace(arrays=arrays))
        kept = zip(*(_residuals(leaves, state) for state in pair), strict=True)
        for i, (x, member, both) in enumerate(zip(arrays, own, kept, strict=True)):
            if x is not None:
                members[i], residuals[i] = member, both
    masters, rows = _masters(leaves, new, members, residuals), _rows(leaves, record, engine, numbers)
    records: list[LeafRecord | None] = []
    for g, p, update, (old, after), row, member in zip(
        grads, leaves.arrays, given, masters, rows, members, strict=True
    ):
        if g is None or p is None or (member is not None and member.frozen):
            records.append(None)
            continue
        wide = wide_dtype(g, p)
        # Where the optimizer rounds weights, the update has been rounded, too; elsewhere it is the exact change.
        exact = update is not None and not (member is not None and member.rounding is not None and is_narrow(p))
        mu, nu = _moments(row, wide_dtype(p), member, numbers)
        stored = [g, p, *jax.tree.leaves(row)]
        plain = not exact and all(x.dtype == jnp.float32 and x.shape == p.shape for x in map(jnp.asarray, stored))
        g, old, after = (jnp.asarray(x, wide) for x in (g, old, after))
        records.append(LeafRecord(g, old, after, jnp.asarray(update, wide) if exact else None, mu, nu, plain))
    return records


def _masters(
    leaves: _leaves.Leaves, new: list[Any], members: list[Member | None], residuals: list[tuple[Any, Any]]
) -> list[tuple[Any, Any]]:
    """Each weight before and after the step, with its residual added."""
    pairs, masters = list[tuple[Any, Any]](zip(leaves.arrays, new, strict=True)), list[tuple[Any, Any]]()
    for (old, p), (first, second), member in zip(pairs, residuals, members, strict=True):
        if member is not None and member.rounding is not None and first is not None:
            old, p = member.rounding.master(old, first), member.rounding.master(p, second)
        masters.append((old, p))
    return masters


def _residuals(leaves: _leaves.Leaves, state: State) -> list[Any]:
    """What is kept beside each weight."""
    some = jax.tree.leaves(state.residuals)
    return _leaves.match(leaves, state.residuals, "residuals") if some else [None] * len(leaves.arrays)


def _rows(leaves: _leaves.Leaves, record: StepRecord, engine: Engine | None, numbers: Numbers | None) -> list[Any]:
    """Each leaf's slots after the step, as stored; `None` where it is not known which are moments."""
    if numbers is None or engine is None:
        return [None] * len(leaves.arrays)
    return engine.rows(leaves, find_state(record.after))[0]


def _moments(row: Any, wide: np.dtype, member: Member | None, numbers: Numbers | None) -> tuple[Any, Any]:
    """$m$ and $v$, decoded."""
    if row is None or member is None or numbers is None:
        return None, None
    slots = member.layout.decode(row, member.layout.formats_stored(row, wide), wide)
    mu, nu = getattr(slots, numbers.mean), getattr(slots, numbers.square)
    return mu, nu.real + nu.imag if jnp.iscomplexobj(nu) else nu  # of both parts, if they have one each
