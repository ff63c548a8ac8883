"""Which leaf's gradient jumped, and when: each leaf's norm against its own recent past."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._typing import Array

DECAY = 0.98
"""Of the running mean and variance of a norm's logarithm: half of their weight is on the last 34 looks."""

WARM_UP = 20
"""How many looks at a leaf there are before one can be a spike."""

LEAST = 5.0
"""From how many standard deviations on a jump counts, and is not one with the look before."""

FLOOR = 0.1
"""The least standard deviation of the logarithm: 10 % more gradient is no news, however calm it was before."""

WINSOR = 4.0
"""By how many standard deviations a look may move the running mean."""


class SpikeState(NamedTuple):
    """What the detector remembers.

    Attributes:
        leaves: the names of the leaves, as keys, in the order of the columns.
        table: a `Row` of each, float32, (rows, leaves): one array, so that one loop writes it.
    """

    leaves: dict[str, tuple[()]]
    table: Array


class Row(NamedTuple):
    """The rows of the table.

    Attributes:
        looks: how many gradients of the leaf were finite and not all zero.
        mean: running mean of the logarithm of its gradient norm.
        var: running variance of it.
        now: how far the last look was above the mean, in standard deviations.
        z: the largest of these; 0 where there was none.
        step: the number of its step, from 1; exact up to 2^24.
        latest_z: that of the latest jump, which is a look above `LEAST` after one below.
        latest: the number of its step.
        infinite: the number of the latest step in which the gradient was not finite; 0 where all were.
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
    """Before the first look; names in alphabetical order."""
    return SpikeState(dict.fromkeys(leaves, ()), jnp.zeros((len(Row._fields), len(leaves)), jnp.float32))


def watch(state: SpikeState, squares: Array, nonfinite: Array, step: Array) -> SpikeState:
    """Look at each leaf, (leaves,), in step number `step`: the square of its gradient's norm, what is not finite."""
    old, step = Row(*state.table), step.astype(jnp.float32)
    # A finite gradient's square may be too large for float32: it is a jump, and not an infinity.
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
