"""Slots in one byte an element, by groups of 128 along the last axis.

A second moment is stored by its logarithm: a float32's bit pattern is already a piecewise linear one. A mean is stored
as its ratio to its unit (for Adam the root of the second moment, which makes the ratio the direction of the step).
Both keep what Adam keeps: multiplying the gradients by a power of two changes no code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._math import div_no_nan
from .._random import Noise, unit_interval
from .._typing import Array
from .codes import LogCode, RatioCode

GROUP = 128
"""Elements that share a scale. Groups run along the last axis, so that sharding other axes never cuts one."""

OCTAVE = 1 << 23
"""From one power of two to the next, in float32's bit patterns."""


class Log(NamedTuple):
    """A nonnegative slot in a byte: 255 steps between a group's least and largest power of two, and one for zero.

    The ends are whole octaves, so that the grid stands still while the values move: one that followed the largest value
    would round everything anew at every step. Rounding is dithered, without which an average that moves by less than
    half a step would not move at all.
    """

    def encode(self, x: Array, unit: Array | None, noise: Noise) -> LogCode:
        """`x`, float32, not negative; subnormal numbers count as zero."""
        del unit
        raw = jax.lax.bitcast_convert_type(_grouped(x), jnp.int32) & np.int32(0x7FFFFFFF)  # -0.0 is zero
        exponent = raw >> 23
        zero = exponent == 0
        low = jnp.min(jnp.where(zero, 255, exponent), axis=-1, keepdims=True)
        high = jnp.max(jnp.where(zero, 0, exponent), axis=-1, keepdims=True) + 1
        low, high = jnp.where(low == 255, 1, low), jnp.where(high > 255, 256, high)
        broken = high == 256
        place = (raw - low * OCTAVE).astype(jnp.float32) * (np.float32(254 / OCTAVE) / (high - low).astype(jnp.float32))
        dither = unit_interval(_grouped_bits(noise.weyl(x.shape)))
        code = 1 + jnp.clip(jnp.floor(place + dither), 0, 254).astype(jnp.int32)
        code = jnp.where(zero & ~broken, 0, code)
        low = jnp.where(broken, 255, low)
        return LogCode(_ungrouped(code, x.shape).astype(jnp.uint8), *(e[..., 0].astype(jnp.uint8) for e in (low, high)))

    def decode(self, code: LogCode, unit: Array | None) -> Array:
        """The values, float32; NaN in a group that held something that was not finite."""
        del unit
        step = _grouped(code.code).astype(jnp.int32)
        low, high = (e[..., None].astype(jnp.int32) for e in (code.low, code.high))
        place = ((step - 1) * (high - low)).astype(jnp.float32) * np.float32(OCTAVE / 254)
        raw = low * OCTAVE + place.astype(jnp.int32)
        x = jax.lax.bitcast_convert_type(raw, jnp.float32)
        x = jnp.where(low == 255, jnp.nan, jnp.where(step == 0, 0, x))
        return _ungrouped(x, code.code.shape)


class Ratio(NamedTuple):
    """A slot in a byte: its ratio to its unit, fine near zero and coarse near the group's largest (softsign)."""

    def encode(self, x: Array, unit: Array | None, noise: Noise) -> RatioCode:
        """`x`, float32, measured in `unit`, which is not negative; `None` for 1."""
        ratio = _grouped(x if unit is None else div_no_nan(x, unit))
        scale = jnp.max(jnp.abs(ratio), axis=-1, keepdims=True).astype(jnp.bfloat16)
        place = 254 * div_no_nan(ratio, scale.astype(jnp.float32) + jnp.abs(ratio))
        del noise
        code = jnp.clip(jnp.round(place), -127, 127)
        code = jnp.where(jnp.isnan(code), 127, code)
        return RatioCode(_ungrouped(code, x.shape).astype(jnp.int8), scale[..., 0])

    def decode(self, code: RatioCode, unit: Array | None) -> Array:
        """The values, float32."""
        place = _grouped(code.code).astype(jnp.float32)
        ratio = place / (254 - jnp.abs(place)) * code.scale[..., None].astype(jnp.float32)
        x = _ungrouped(ratio, code.code.shape)
        return x if unit is None else x * unit


def _grouped(x: Array) -> Array:
    """(..., n) to (..., groups, 128), the last group filled up with zeros."""
    missing = -x.shape[-1] % GROUP
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x
    return padded.reshape(*x.shape[:-1], -1, GROUP)


def _grouped_bits(bits: Array) -> Array:
    return _grouped(bits)


def _ungrouped(x: Array, shape: tuple[int, ...]) -> Array:
    flat = x.reshape(*shape[:-1], -1)
    return flat[..., : shape[-1]] if flat.shape[-1] != shape[-1] else flat
