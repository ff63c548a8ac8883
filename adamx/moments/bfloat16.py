"""Slots in two bytes: a mean rounded to nearest, a second moment with dither and the bit its sign does not need."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._random import Noise
from .._typing import Array
from .codes import FloatCode


class Dithered(NamedTuple):
    """A nonnegative slot in two bytes, rounded so that the mean over steps is right.

    With b2 = .999 a step moves a second moment by a tenth of a percent, less than half the spacing of such numbers:
    rounded to nearest, it stalls.
    """

    def encode(self, x: Array, unit: Array | None, noise: Noise) -> FloatCode:
        """`x`, float32, not negative; what is not finite stays so, and nothing finite becomes infinite."""
        del unit
        raw = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32) & np.uint32(0x7FFFFFFF)
        up = (raw + (noise.weyl(x.shape) >> np.uint32(17))) >> np.uint32(15)
        code = jnp.where(up >= _INFINITE, raw >> np.uint32(15), up)
        return FloatCode(jnp.where(jnp.isnan(x), _NAN, code).astype(jnp.uint16))

    def decode(self, code: FloatCode, unit: Array | None) -> Array:
        """The values, float32."""
        del unit
        return jax.lax.bitcast_convert_type(code.code.astype(jnp.uint32) << np.uint32(15), jnp.float32)


_INFINITE, _NAN = np.uint32(0xFF00), np.uint32(0xFFFF)
