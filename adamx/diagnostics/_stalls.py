"""Moments and weights that rounding keeps from moving."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _leaves
from .._annotations import Array, Params
from .._leaf import Step
from .._math import largest
from .._transform import Optimizer
from .._variables import without_variables
from ..states.parts import find_states, select_part, steppers
from ..wrapper import parts_of


class Stalled(NamedTuple):
    """How closely the stored values followed the computed ones in one step.

    Attributes:
        share: of the elements that should have changed, those whose stored value did not; float32, shape ().
        progress: the part of the exact change that was stored: the scalar product of stored and exact change, divided
            by the square of the exact one. 0 if nothing moves; 1 for unbiased rounding, whatever its `share`.
    """

    share: Array
    progress: Array


class Stalls(NamedTuple):
    """What `stalls` found.

    Attributes:
        slots: the moments, by the name of their slot.
        weights: the weights.
    """

    slots: dict[str, Stalled]
    weights: Stalled


def stalls(opt: Optimizer, state: Any, grads: Params, params: Params) -> Stalls:
    """Which moments and weights the step with `grads` would not move although it should.

    A large `share` alone is harmless: a dithered code waits for several steps and then moves by their sum, and
    `progress` is near 1. A `progress` near 0 means that the slot or weights do not move at all.

    Args:
        opt: the optimizer with its learning rate, from `adamx.optimizer` or a named factory; of a chain or partition,
            its adamx part.
        state: its state before the step, or one that holds it, such as a chain's; of `optax.partition` one label's,
            `state.inner_states[label]`. It and the trees may be in NNX's variables, as `optimizer.opt_state`.
        grads: the gradients that reach it.
        params: the parameters before the step; only those that the state belongs to are counted.

    Returns:
        `Stalls`: for each slot and the weights a `Stalled` of all leaves together; NaN where nothing should have moved.
        Works under `jit`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = jnp.ones((64, 64), jnp.bfloat16)
        >>> for weights in ("nearest", "stochastic"):
        ...     opt = adamx.adam(1e-3, weights=weights)
        ...     found = adamx.diagnostics.stalls(opt, opt.init(params), params, params).weights
        ...     print(weights, found.share.round(1), found.progress.round(1))
        nearest 1.0 0.0
        stochastic 0.7 1.0
    """
    parts = steppers(parts_of(opt, *map(without_variables, (params, grads))))
    found: dict[str, list[_Change]] = {}
    moved: list[_Change] = []
    for own, (engine, weights, gradients) in zip(find_states(without_variables(state), parts), parts, strict=True):
        leaves = _leaves.flatten(select_part(gradients, engine, own), "grads")
        work = engine.prepare(leaves, own, select_part(weights, engine, own))
        for step in filter(None, work.steps):
            for name, change in zip(engine.layout.names, _slot_changes(step, work.total), strict=True):
                if change is not None:
                    found.setdefault(name, []).append(change)
            moved.append(_weight_change(step, work.total))
    if not moved:
        raise ValueError("there is no gradient: every leaf is None")
    return Stalls({name: _stalled(changes) for name, changes in found.items()}, _stalled(moved))


class _Change(NamedTuple):
    """Counts and products of the exact and the stored change of one leaf."""

    wanted: Array
    missed: Array
    product: Array
    square: Array

    @classmethod
    def of(cls, old: Array, exact: Array, kept: Array) -> "_Change":
        exact, kept = exact - old, kept - old
        size = largest(exact)
        scale = jnp.where(size > 0, size, 1).astype(exact.dtype)
        exact, kept = exact / scale, kept / scale
        missed = jnp.sum((exact != 0) & (kept == 0), dtype=float)
        wide = jnp.real(jnp.conj(exact) * kept)
        return cls(jnp.sum(exact != 0, dtype=float), missed, jnp.sum(wide), jnp.sum(jnp.abs(exact) ** 2))


def _slot_changes(step: Step, total: Any) -> list[_Change | None]:
    layout = step.layout
    _, slots = step.compute(total)
    exact, old = layout.tree.flatten_up_to(slots), layout.tree.flatten_up_to(step.slots)
    stored = layout.encode(exact, step.formats, step.noise)
    kept = layout.tree.flatten_up_to(layout.decode(stored, step.formats, step.wide))
    return [None if a is None else _Change.of(a, b, c) for a, b, c in zip(old, exact, kept, strict=True)]


def _weight_change(step: Step, total: Any) -> _Change:
    direction, _ = step.compute(total)
    landed, _, residual = step.apply(total)
    rounding = step.leaf.rounding
    kept = landed.astype(step.at.p.dtype) if rounding is None else rounding.master(landed, residual)
    return _Change.of(step.at.p, step.at.p + direction, kept)


def _stalled(changes: list[_Change]) -> Stalled:
    wanted, missed, product, square = jax.tree.map(lambda *xs: sum(x.astype(float) for x in xs), *changes)
    return Stalled(missed / wanted, product / square)
