"""What a step did to each leaf: gradient, weights and moments side by side, each as what it stands for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _leaves
from .._engine import Engine
from .._leaf import wide_dtype
from .._memory import only_state
from .._typing import Params, Scalar
from .._weights import is_narrow
from ._hats import Hats
from ._measures import Seen


class Taken(NamedTuple):
    """One step of all leaves: the trees that came in and went out.

    Attributes:
        grads: the gradients.
        old: the weights before.
        new: the weights after.
        updates: what was to be added to them; `None` if the optimizer stepped them itself.
        scale: what the optimizer multiplied gradients with.
        before: its state before.
        after: its state after.
    """

    grads: Params
    old: Params
    new: Params
    updates: Params
    scale: Scalar | None
    before: Any
    after: Any


def look(leaves: _leaves.Leaves, taken: Taken, engine: Engine | None, hats: Hats | None) -> list[Seen | None]:
    """What happened to each leaf; `None` to one that is absent or had no gradient."""
    grads, new = (_leaves.match(leaves, tree, name) for tree, name in ((taken.grads, "grads"), (taken.new, "params")))
    given: list[Any] = [None] * len(new)
    if taken.updates is not None:
        given = _leaves.match(leaves, taken.updates, "updates")
    masters, moments = _masters(leaves, new, taken, engine), _moments(leaves, taken, engine, hats)
    seen: list[Seen | None] = []
    for g, p, update, (old, after), (mu, root) in zip(grads, leaves.arrays, given, masters, moments, strict=True):
        if g is None or p is None:
            seen.append(None)
            continue
        wide = wide_dtype(g, p)
        g = jnp.asarray(g, wide)
        g = g if taken.scale is None else g * jnp.asarray(taken.scale, jnp.float32).astype(wide)
        # A weight that the optimizer rounds has had its update rounded already; that of others says what was wanted.
        exact = update is not None and not (engine is not None and engine.rounding is not None and is_narrow(p))
        change = jnp.asarray(update, wide) if exact else after.astype(wide) - old.astype(wide)
        wanted = change != 0 if exact else (g != 0 if mu is None else mu != 0)
        seen.append(Seen(g, old.astype(wide), after.astype(wide), change, wanted, mu, root))
    return seen


def _masters(leaves: _leaves.Leaves, new: list[Any], taken: Taken, engine: Engine | None) -> list[tuple[Any, Any]]:
    """Each weight before and after the step, together with what is kept beside it."""
    pairs: list[tuple[Any, Any]] = list(zip(leaves.arrays, new, strict=True))
    if engine is None or (rounding := engine.rounding) is None:
        return pairs
    before, after = only_state(taken.before).residuals, only_state(taken.after).residuals
    if not jax.tree.leaves(after):
        return pairs
    kept = zip(*(_leaves.match(leaves, tree, "residuals") for tree in (before, after)), strict=True)
    return [
        (old, p) if first is None else (rounding.master(old, first), rounding.master(p, second))
        for (old, p), (first, second) in zip(pairs, kept, strict=True)
    ]


def _moments(leaves: _leaves.Leaves, taken: Taken, engine: Engine | None, hats: Hats | None) -> list[tuple[Any, Any]]:
    r"""Each leaf's $m$ and $\sqrt v$ after the step, decoded."""
    if hats is None or engine is None:
        return [(None, None)] * len(leaves.arrays)
    moments: list[tuple[Any, Any]] = []
    for p, row in zip(leaves.arrays, engine.rows(leaves, only_state(taken.after))[0], strict=True):
        if p is None:
            moments.append((None, None))
            continue
        wide = wide_dtype(p)
        slots = engine.layout.decode(row, engine.layout.formats_stored(row, wide), wide)
        moments.append((slots.mu, hats.root(slots)))
    return moments
