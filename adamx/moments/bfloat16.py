"""Slots in two bytes: a mean rounded to nearest, a second moment with dither."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._random import Noise
from .._typing import Array


class Dithered(NamedTuple):
    """bfloat16, rounded up or down so that the mean over steps is right.

    With b2 = .999 a step moves a second moment by a tenth of a percent, less than half a bfloat16 spacing: rounded to
    nearest, it stalls.
    """

    def encode(self, x: Array, unit: Array | None, noise: Noise) -> Array:
        """`x`, float32, in bfloat16."""
        del unit
        return truncate(x, noise.weyl(x.shape))

    def decode(self, code: Array, unit: Array | None) -> Array:
        """The values in bfloat16; the engine widens them."""
        del unit
        return code


def truncate(x: Array, bits: Array) -> Array:
    """`x`, float32, to bfloat16: up with the probability of what is cut off, `bits` being uniform uint32.

    What is not finite stays what it is, and nothing finite becomes infinite.
    """
    raw = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    up = (raw + (bits >> np.uint32(16))) & np.uint32(0xFFFF0000)
    down = raw & np.uint32(0xFFFF0000)
    infinite = (up & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    rounded = jax.lax.bitcast_convert_type(jnp.where(infinite, down, up), jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)
