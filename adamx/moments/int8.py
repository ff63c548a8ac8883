"""Slots in one byte an element, by groups along the last axis.

A second moment is stored by its logarithm: a float32's bit pattern is already a piecewise linear one. A mean is stored
as its ratio to its unit (for Adam the root of the second moment, which makes the ratio the direction of the step).
Both keep what Adam keeps: multiplying the gradients by a power of two changes no code.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Array
from .._math import div_no_nan, select
from .codes import GROUPS, LOG_CODES, RATIO_CODES, LogCode, RatioCode
from .groups import largest_of
from .noise import Noise, unit_interval

OCTAVE = 1 << 23
"""From one power of two to the next, in float32's bit patterns."""

QUARTER = 1 << 21
"""A quarter of an octave, in float32's bit patterns."""

INFINITE = 0x7F800000
"""Infinity's bit pattern; those of NaN are larger."""

SPAN = 40
"""At most so many octaves lie between a group's ends: what is dead, or a millionth of the largest gradient, is stored
as the least and takes a smaller step, instead of making the codes of all others coarse."""


@dataclasses.dataclass(frozen=True)
class Int8:
    """`moments=adamx.Int8(group)`: one byte an element, and two bytes of scale for each group of a slot.

    Groups run along the last axis, so that sharding other axes never cuts one. Smaller ones let the last axis be cut
    finer: each device's part should be a multiple of the group, or hold the whole axis. They are also a little finer:
    Adam's direction is off by 4.3, 4.1 and 3.8 % in groups of 128, 64 and 32, where its elements' scales are lognormal
    with sigma .5, and by 9.4, 8.9 and 8.1 % with sigma 2 (`python -m benchmarks.moments_accuracy`).

    Attributes:
        group: elements that share a scale, 128, 64 or 32; `moments="int8"` is that of 128.

    Raises:
        ValueError: a group of another size.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> params = jax.ShapeDtypeStruct((4096, 4096), jnp.float32)
        >>> sizes = [adamx.state_bytes(adamx.adam(1e-3, moments=adamx.Int8(n)), params) for n in (128, 64, 32)]
        >>> [round(size.per_parameter, 4) for size in sizes]
        [2.0313, 2.0625, 2.125]
    """

    group: int = GROUPS[0]

    def __post_init__(self) -> None:
        if type(self.group) is not int or self.group not in GROUPS:
            raise ValueError(f"group = {self.group!r} should be {', '.join(map(str, GROUPS[:-1]))} or {GROUPS[-1]}")

    @property
    def name(self) -> str:
        """The format's name: "int8", with the size of its groups unless that is the default."""
        return "int8" if self.group == GROUPS[0] else f"int8/{self.group}"


@dataclasses.dataclass(frozen=True)
class Log(Int8):
    """A nonnegative slot in a byte: 255 steps between a group's least and largest power of two, and one for zero.

    The ends are whole octaves, so that the grid stands still while the values move: one that followed the largest value
    would round everything anew at every step. Rounding is dithered, without which an average that moves by less than
    half a step would not move at all.
    """

    has_unit, dtypes = False, (jnp.uint8, jnp.uint8, jnp.uint8)

    @property
    def code(self) -> type[LogCode]:
        """By groups of this size."""
        return LOG_CODES[self.group]

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """By how much each exponent lies below 255, and the exponents; zero is left out of both."""
        del unit
        exponent = _exponent(_magnitude(_grouped(x, self.group)))
        return select(exponent == 0, 0, 255 - exponent), exponent

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...] | None = None) -> LogCode:
        """`x`, float32, not negative; subnormal numbers count as zero."""
        below, high = largest_of(self.sizes(x, unit)) if largest is None else largest
        raw = _magnitude(_grouped(x, self.group))
        zero = _exponent(raw) == 0
        low, high = 255 - below, jnp.maximum(high, 1) + 1
        broken = high >= 256
        high = jnp.minimum(high, 256)
        low = jnp.maximum(jnp.minimum(low, high - 1), high - SPAN)
        place = (raw - low * OCTAVE).astype(jnp.float32) * (np.float32(254 / OCTAVE) / (high - low).astype(jnp.float32))
        code = 1 + jnp.clip(jax.lax.floor(place + _dither(x, noise, self.group)), 0, 254).astype(jnp.int32)
        code = select(zero & ~broken, 0, code)
        low = select(broken, 255, low)
        code = _ungrouped(code, x.shape, self.group).astype(jnp.uint8)
        return self.code(code, *(_of_groups(e, x.shape, self.group).astype(jnp.uint8) for e in (low, high)))

    def decode(self, code: LogCode, unit: Array | None) -> Array:
        """The values, float32; NaN in a group that held something that was not finite."""
        del unit
        step = _grouped(code.code, self.group).astype(jnp.int32)
        low, high = (_for_elements(e, code.code.shape, self.group).astype(jnp.int32) for e in (code.low, code.high))
        place = ((step - 1) * (high - low)).astype(jnp.float32) * np.float32(OCTAVE / 254)
        # Just below the end, which is a power of two: on it, the group would reach one octave further.
        raw = jnp.minimum(low * OCTAVE + place.astype(jnp.int32), high * OCTAVE - 1)
        x = jax.lax.bitcast_convert_type(raw, jnp.float32)
        x = jnp.where(low == 255, jnp.nan, select(step == 0, 0, x))
        return _ungrouped(x, code.code.shape, self.group)


@dataclasses.dataclass(frozen=True)
class Ratio(Int8):
    """A slot in a byte: its ratio to its unit, fine near zero and coarse near the group's largest (softsign).

    It is dithered, too, and the group's largest rounded up to one of four numbers an octave, so that an average of ten
    thousand steps moves as it should.
    """

    has_unit, dtypes = True, (jnp.int8, jnp.bfloat16)

    @property
    def code(self) -> type[RatioCode]:
        """By groups of this size."""
        return RATIO_CODES[self.group]

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """The ratios rounded up, in quarters of an octave."""
        raw = _magnitude(_ratio(x, unit, self.group))
        quarters = (jnp.minimum(raw, INFINITE + 1) + (QUARTER - 1)) >> 21
        return (select(raw < INFINITE, jnp.minimum(quarters, INFINITE // QUARTER - 1), quarters),)

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...] | None = None) -> RatioCode:
        """`x`, float32, measured in `unit`, which is not negative; `None` for 1."""
        (quarters,) = largest_of(self.sizes(x, unit)) if largest is None else largest
        ratio = _ratio(x, unit, self.group)
        scale = jax.lax.bitcast_convert_type(quarters * QUARTER, jnp.float32)
        scale = select(quarters > INFINITE // QUARTER, jnp.nan, scale)
        place = 254 * div_no_nan(ratio, scale + jax.lax.abs(ratio))
        code = jnp.clip(jax.lax.floor(place + _dither(x, noise, self.group)), -127, 127)
        code = select(jnp.isnan(code), 127, code)
        code = _ungrouped(code, x.shape, self.group).astype(jnp.int8)
        return self.code(code, _of_groups(scale, x.shape, self.group).astype(jnp.bfloat16))

    def decode(self, code: RatioCode, unit: Array | None) -> Array:
        """The values, float32."""
        place = _grouped(code.code, self.group).astype(jnp.float32)
        scale = _for_elements(code.scale, code.code.shape, self.group).astype(jnp.float32)
        x = _ungrouped(place / (254 - jax.lax.abs(place)) * scale, code.code.shape, self.group)
        return x if unit is None else x * unit


def _magnitude(x: Array) -> Array:
    """The bits of a float32 without its sign, int32."""
    return jax.lax.bitcast_convert_type(x, jnp.int32) & np.int32(0x7FFFFFFF)


def _exponent(magnitude: Array) -> Array:
    """The biased exponent: 0 for zero and subnormal numbers, 255 for what is not finite."""
    return magnitude >> 23


def _ratio(x: Array, unit: Array | None, group: int) -> Array:
    return _grouped(x if unit is None else div_no_nan(x, unit), group)


def _dither(x: Array, noise: Noise, group: int) -> Array:
    """Uniform numbers in [0, 1) for each element, in its group's place."""
    return unit_interval(_grouped(noise.weyl(x.shape), group))


def _grouped(x: Array, group: int) -> Array:
    """(..., n) to (..., groups, group), the last group filled up with zeros; an axis of one group stays as it is."""
    if x.shape[-1] <= group:
        return x
    missing = -x.shape[-1] % group
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x
    return padded.reshape(*x.shape[:-1], -1, group)


def _ungrouped(x: Array, shape: tuple[int, ...], group: int) -> Array:
    """The inverse of `_grouped`, for an array of `shape`."""
    if shape[-1] <= group:
        return x
    flat = x.reshape(*shape[:-1], -1)
    return flat[..., : shape[-1]] if flat.shape[-1] != shape[-1] else flat


def _of_groups(x: Array, shape: tuple[int, ...], group: int) -> Array:
    """The numbers of the groups, (..., groups), as they are computed: with an axis of length 1 for the elements."""
    return x if shape[-1] <= group else x[..., 0]


def _for_elements(x: Array, shape: tuple[int, ...], group: int) -> Array:
    """The inverse of `_of_groups`."""
    return x if shape[-1] <= group else x[..., None]
