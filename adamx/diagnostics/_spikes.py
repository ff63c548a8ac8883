"""Spike detection: the gradient norm of each leaf compared with its own recent values."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._annotations import Array

DECAY = 0.98
"""Decay rate of the running mean and variance of log-norms; half of their weight is on the last 34 values."""

WARM_UP = 20
"""The number of values of a leaf before one can count as a spike."""

LEAST = 5.0
"""A spike is at least so many standard deviations above the mean, with the value before below that."""

FLOOR = 0.1
"""The least standard deviation of log-norms, so that a 10 % change is never a spike however steady the norm was."""

WINSOR = 4.0
"""Deviations are clipped to so many standard deviations before they enter the running mean and variance."""


class SpikeState(NamedTuple):
    """The state of the spike detector.

    Attributes:
        leaves: the names of the leaves, as keys, in the order of the columns.
        table: a column for each leaf with the fields of `Row`, float32, (rows, leaves); one array, written by one loop.
    """

    leaves: dict[str, tuple[()]]
    table: Array


class Row(NamedTuple):
    """The rows of the table.

    Attributes:
        looks: the number of gradients that were finite and not all zero.
        mean: running mean of the log of the gradient norm.
        var: running variance of it.
        now: the last value's distance above the mean, in standard deviations.
        z: the largest of these distances so far; 0 if there was none.
        step: the step of that value, from 1; exact up to 2^24.
        latest_z: `z` of the latest spike, a value above `LEAST` after one below.
        latest: the step of the latest spike.
        infinite: the latest step whose gradient was not finite; 0 if there was none.
    """

    looks: Array
    mean: Array
    var: Array
    now: Array
    z: Array
    step: Array
    latest_z: Array
    latest: Array
    infinite: Array


def start(leaves: list[str]) -> SpikeState:
    """The state before the first step, for leaves with these names, in alphabetical order."""
    return SpikeState(dict.fromkeys(leaves, ()), jnp.zeros((len(Row._fields), len(leaves)), jnp.float32))


def watch(state: SpikeState, squares: Array, nonfinite: Array, step: Array) -> SpikeState:
    """The state after `step`, from each leaf's squared gradient norm and count of non-finite elements, (leaves,)."""
    old, step = Row(*state.table), step.astype(jnp.float32)
    # The square of a finite gradient may overflow float32: that is a spike, not a non-finite gradient.
    squares = jnp.minimum(squares, np.finfo(np.float32).max)
    usable = (squares > 0) & (nonfinite == 0)
    spread, known = jnp.sqrt(old.var + FLOOR**2), old.looks >= WARM_UP
    away = 0.5 * jnp.log(jnp.where(usable, squares, 1)) - old.mean
    z = jnp.where(usable & known, away / spread, 0)
    begins = (z >= LEAST) & (old.now < LEAST)

    looks = old.looks + usable.astype(jnp.float32)
    away = jnp.where(known, jnp.clip(away, -WINSOR * spread, WINSOR * spread), away)
    rate = jnp.maximum(1 - DECAY, 1 / jnp.maximum(looks, 1))
    new = Row(
        looks,
        jnp.where(usable, old.mean + rate * away, old.mean),
        jnp.where(usable, (1 - rate) * (old.var + rate * away**2), old.var),
        z,
        jnp.maximum(z, old.z),
        jnp.where(z > old.z, step, old.step),
        jnp.where(begins, z, old.latest_z),
        jnp.where(begins, step, old.latest),
        jnp.where(nonfinite > 0, step, old.infinite),
    )
    return state._replace(table=jnp.stack(new))
