"""Slots stored as they are, in a floating dtype, rounded to nearest."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array
from .noise import Noise


class Dense(NamedTuple):
    """An array of one dtype.

    Attributes:
        dtype: what is stored.
    """

    dtype: Any

    name, code, group, has_unit = "float32", None, 0, False

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """The one dtype."""
        return (self.dtype,)

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """Nothing: there are no groups."""
        del x, unit
        return ()

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...] = ()) -> Array:
        """The stored form of `x`."""
        del unit, noise, largest
        return jnp.asarray(x, self.dtype)

    def decode(self, code: Array, unit: Array | None) -> Array:
        """The values, of at least float32."""
        del unit
        return code
