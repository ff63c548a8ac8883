"""Which leaf's gradient jumped, and when: each leaf's norm against its own recent past."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._typing import Array

DECAY = 0.98
"""Of the running mean and variance of a norm's logarithm: half of their weight is on the last 34 looks."""

WARM_UP = 20
"""How many looks at a leaf there are before one can be a spike."""

FLOOR = 0.1
"""The least standard deviation of the logarithm: 10 % more gradient is no news, however calm it was before."""

WINSOR = 4.0
"""By how many standard deviations a look may move the running mean."""


class SpikeState(NamedTuple):
    """What the detector remembers.

    Attributes:
        leaves: the names of the leaves, as keys, in the order of the columns.
        table: a `Row` of each, float32, (5, leaves): one array, so that one loop writes it.
    """

    leaves: dict[str, tuple[()]]
    table: Array


class Row(NamedTuple):
    """The rows of the table.

    Attributes:
        looks: how many gradients of the leaf were neither zero nor infinite.
        mean: running mean of the logarithm of its gradient norm.
        var: running variance of it.
        z: the largest jump, in standard deviations above the mean; 0 where there was none.
        step: the number of its step, from 1; exact up to 2^24.
    """

    looks: Array
    mean: Array
    var: Array
    z: Array
    step: Array


def start(leaves: list[str]) -> SpikeState:
    """Before the first look; names in alphabetical order."""
    return SpikeState(dict.fromkeys(leaves, ()), jnp.zeros((len(Row._fields), len(leaves)), jnp.float32))


def watch(state: SpikeState, squares: Array, step: Array) -> SpikeState:
    """Look at the square of each leaf's gradient norm, (leaves,), in step number `step`."""
    old = Row(*state.table)
    usable = (squares > 0) & jnp.isfinite(squares)
    spread, known = jnp.sqrt(old.var + FLOOR**2), old.looks >= WARM_UP
    away = 0.5 * jnp.log(jnp.where(usable, squares, 1)) - old.mean
    z = jnp.where(usable & known, away / spread, jnp.where(jnp.isfinite(squares), 0, np.inf))

    looks = old.looks + usable.astype(jnp.float32)
    away = jnp.where(known, jnp.clip(away, -WINSOR * spread, WINSOR * spread), away)
    rate = jnp.maximum(1 - DECAY, 1 / jnp.maximum(looks, 1))
    new = Row(
        looks,
        jnp.where(usable, old.mean + rate * away, old.mean),
        jnp.where(usable, (1 - rate) * (old.var + rate * away**2), old.var),
        jnp.maximum(z, old.z),
        jnp.where(z > old.z, step.astype(jnp.float32), old.step),
    )
    return state._replace(table=jnp.stack(new))
