"""How a weight narrower than float32 takes its update.

A rounding mode defines what is stored beside the weight (its residual), the float32 value that both represent (the
master weight), and how a new one becomes both. Finite values never become infinite; NaN and infinities are kept.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._annotations import Array
from ._math import dtype_of
from .moments.noise import Noise, unit_interval


class Rounding(Protocol):
    """One rounding mode."""

    def start(self, p: Array) -> Array | None:
        """The initial residual of a weight; `None` if the mode keeps none."""
        ...

    def master(self, p: Array, residual: Array | None) -> Array:
        """The float32 master weight."""
        ...

    def weight(self, master: Array, dtype: Any, noise: Noise) -> Array:
        """The weight, in `dtype`."""
        ...

    def residual(self, master: Array, p: Array, noise: Noise | None = None) -> Array | None:
        """`master` minus the weight `p`, as stored: dithered with `noise`, so that small steps add up, else nearest."""
        ...


class Stochastic:
    """Stochastic rounding: up or down with the probabilities that make the mean exact. No residual."""

    def start(self, p: Array) -> None:
        """`None`."""
        del p

    def master(self, p: Array, residual: Array | None) -> Array:
        """The weight itself."""
        del residual
        return p.astype(jnp.float32)

    def weight(self, master: Array, dtype: Any, noise: Noise) -> Array:
        """The nearest, or the neighbour on the other side of `master`."""
        near = nearest(master, dtype)
        error = master - near.astype(jnp.float32)
        other = _neighbour(near, error)
        gap = jnp.abs(other.astype(jnp.float32) - near.astype(jnp.float32))
        cross = unit_interval(noise.uniform(master.shape)) * gap < jnp.abs(error)
        return jnp.where(cross & jnp.isfinite(other.astype(jnp.float32)), other, near)

    def residual(self, master: Array, p: Array, noise: Noise | None = None) -> None:
        """`None`."""
        del master, p, noise


class Kahan:
    """Round to nearest, and keep the rounding error in the weight's own dtype, itself rounded stochastically."""

    def start(self, p: Array) -> Array:
        """Zero."""
        return jnp.zeros_like(p)

    def master(self, p: Array, residual: Array | None) -> Array:
        """The sum."""
        return p.astype(jnp.float32) + jnp.asarray(residual, jnp.float32)

    def weight(self, master: Array, dtype: Any, noise: Noise) -> Array:
        """The nearest."""
        del noise
        return nearest(master, dtype)

    def residual(self, master: Array, p: Array, noise: Noise | None = None) -> Array:
        """The difference."""
        rest = jnp.where(jnp.isfinite(master), master - p.astype(jnp.float32), 0)
        return rest.astype(p.dtype) if noise is None else Stochastic().weight(rest, p.dtype, noise)


class Split:
    """Round to nearest, and keep the rounding error in 8 or 16 bits, in units of the numbers' spacing there.

    8 bits are dithered: otherwise steps smaller than their resolution would all be lost. For bfloat16, whose bits are
    the upper half of float32's, the residual counts in float32's own bit patterns: 16 bits restore float32, subnormal
    numbers too, exactly but for a tie rounded down, which is off by the last bit; 8 bits keep 16 bits of mantissa. The
    step itself is float32 arithmetic, in which XLA's CPU backend flushes subnormal numbers to 0.
    """

    def __init__(self, bits: int) -> None:
        self.dtype = jnp.int8 if bits == 8 else jnp.int16
        self.limit = 2 ** (bits - 1)

    def start(self, p: Array) -> Array:
        """Zero."""
        return jnp.zeros_like(p, dtype=self.dtype)

    def master(self, p: Array, residual: Array | None) -> Array:
        """The weight moved by its residual."""
        code = jnp.asarray(residual, jnp.int32)
        if p.dtype == jnp.bfloat16:
            sign, size = _magnitude(p.astype(jnp.float32))
            moved = size + code * (2**15 // self.limit)
            return _float(sign, jnp.where(size >= _INFINITE, size, jnp.clip(moved, 0, _INFINITE - 1)))
        step, wide = _spacing(p) / (2 * self.limit), p.astype(jnp.float32)
        return jnp.where(code == 0, wide, wide + code.astype(jnp.float32) * step)  # -0 + 0 is 0

    def weight(self, master: Array, dtype: Any, noise: Noise) -> Array:
        """The nearest."""
        del noise
        return nearest(master, dtype)

    def residual(self, master: Array, p: Array, noise: Noise | None = None) -> Array:
        """The difference in half spacings of `p`, times 128 or 32768."""
        if p.dtype == jnp.bfloat16:
            _, size = _magnitude(master)
            _, kept = _magnitude(p.astype(jnp.float32))
            code = (size - kept).astype(jnp.float32) / (2**15 // self.limit)
        else:
            code = (master - p.astype(jnp.float32)) / (_spacing(p) / (2 * self.limit))
        code = jnp.where(jnp.isfinite(master) & jnp.isfinite(p.astype(jnp.float32)), code, 0)
        if noise is None or self.limit > 128:
            code = jnp.round(code)
        else:
            code = jnp.floor(code + (noise.weyl(p.shape) >> np.uint32(24)).astype(jnp.float32) / 256)
        return jnp.clip(code, -self.limit, self.limit - 1).astype(self.dtype)


Weights: TypeAlias = Literal["nearest", "stochastic", "kahan", "split8", "split16"]
"""The names of the modes."""

ROUNDINGS: Mapping[str, Rounding | None] = MappingProxyType(
    {"nearest": None, "stochastic": Stochastic(), "kahan": Kahan(), "split8": Split(8), "split16": Split(16)}
)

_INFINITE, _LARGEST = 0x7F800000, 0x7F7F0000  # float32's and, among its bit patterns, bfloat16's


def keeps_residuals(rounding: Rounding | None) -> bool:
    """Whether a residual is kept beside a narrow weight."""
    return rounding is not None and jax.eval_shape(rounding.start, jnp.zeros([], jnp.bfloat16)) is not None


def is_narrow(p: Any) -> bool:
    """Whether `p` is of a real floating dtype of 16 bits."""
    dtype = dtype_of(p)
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits == 16


def nearest(x: Array, dtype: Any) -> Array:
    """`x` rounded to `dtype`; the largest finite number where rounding would overflow.

    bfloat16 is rounded by its bits: XLA's CPU backend flushes subnormal numbers to 0 in comparisons and arithmetic.
    """
    if dtype == jnp.bfloat16:
        sign, size = _magnitude(x)
        return _float(sign, jnp.where(size < _INFINITE, jnp.minimum(size, _LARGEST), size)).astype(dtype)
    top = jnp.finfo(dtype).max.astype(np.float32)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -top, top), x).astype(dtype)


def _neighbour(x: Array, direction: Array) -> Array:
    """The next number of `x`'s 16-bit dtype towards `direction`."""
    raw = jax.lax.bitcast_convert_type(x, jnp.int16).astype(jnp.int32)
    ordered = jnp.where(raw < 0, -(raw & 0x7FFF), raw)
    moved = ordered + jnp.sign(direction).astype(jnp.int32)
    back = jnp.where(moved < 0, (-moved) | 0x8000, moved).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(back, x.dtype)


def _spacing(p: Array) -> Array:
    """The distance of float16 numbers around `p`, float32."""
    raw = jax.lax.bitcast_convert_type(p, jnp.uint16).astype(jnp.int32)
    exponent = jnp.clip((raw >> 10) & 0x1F, 1, 30)
    return jax.lax.bitcast_convert_type((exponent - 25 + 127) << 23, jnp.float32)


def _magnitude(x: Array) -> tuple[Array, Array]:
    """The sign bit and the other bits of a float32."""
    raw = jax.lax.bitcast_convert_type(x, jnp.int32)
    return raw & np.int32(-(2**31)), raw & np.int32(2**31 - 1)


def _float(sign: Array, magnitude: Array) -> Array:
    return jax.lax.bitcast_convert_type(sign | magnitude, jnp.float32)
