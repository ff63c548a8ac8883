"""Slots in two bytes, dithered; a second moment also with the bit that its sign does not need."""

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Array
from .codes import FloatCode
from .noise import Noise


class Dithered:
    """A nonnegative slot in two bytes, rounded so that the mean over steps is right.

    With b2 = .999 a step moves a second moment by a tenth of a percent, less than half the spacing of such numbers:
    rounded to nearest, it stalls.
    """

    name, code, dtypes, group, has_unit = "bfloat16", FloatCode, (jnp.uint16,), 0, False

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """Nothing: there are no groups."""
        del x, unit
        return ()

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...] = ()) -> FloatCode:
        """`x`, float32, not negative; what is not finite stays so, and nothing finite becomes infinite."""
        del unit, largest
        raw = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32) & np.uint32(0x7FFFFFFF)
        up = (raw + (noise.weyl(x.shape) >> np.uint32(17))) >> np.uint32(15)
        code = jnp.where(up >= _INFINITE, raw >> np.uint32(15), up)
        return FloatCode(jnp.where(jnp.isnan(x), _NAN, code).astype(jnp.uint16))

    def decode(self, code: FloatCode, unit: Array | None) -> Array:
        """The values, float32."""
        del unit
        return jax.lax.bitcast_convert_type(code.code.astype(jnp.uint32) << np.uint32(15), jnp.float32)


class DitheredMean:
    """A slot of either sign in bfloat16, rounded so that the mean over steps is right, as a slow average needs."""

    name, code, dtypes, group, has_unit = "bfloat16", None, (jnp.bfloat16,), 0, False

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """Nothing: there are no groups."""
        del x, unit
        return ()

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...] = ()) -> Array:
        """`x`, float32; what is not finite stays so, and nothing finite becomes infinite."""
        del unit, largest
        raw = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
        up = (raw + (noise.weyl(x.shape) >> np.uint32(16))) & np.uint32(0xFFFF0000)
        infinite = (up & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
        kept = jnp.where(infinite, raw & np.uint32(0xFFFF0000), up)
        rounded = jax.lax.bitcast_convert_type(kept, jnp.float32)
        return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)

    def decode(self, code: Array, unit: Array | None) -> Array:
        """The values in bfloat16, which the engine widens."""
        del unit
        return code


_INFINITE, _NAN = np.uint32(0xFF00), np.uint32(0xFFFF)
