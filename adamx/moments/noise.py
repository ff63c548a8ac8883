"""Random bits as a function of seed, leaf path, element index and step number only.

The bits are the same on one device and on many, eager and jitted, before and after a restart. They are hashed counters
instead of a generator's stream: a few integer operations per element, which XLA fuses into the step.
"""

import math
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Array

GOLDEN = np.uint32(0x9E3779B9)
"""2^32 divided by the golden ratio: its multiples modulo 2^32 are spread as evenly as possible."""

TURNS = (0, 16, 8, 24, 4, 20, 12, 28)
"""Bit rotations of an element's hash, one for each purpose, as each uses the upper bits."""


class Part(NamedTuple):
    """Where a part of a leaf lies in it: the element (i, j, ...) of the part is number `first` + i `strides[0]` + ...

    Attributes:
        first: the number of its first element in the whole leaf, modulo 2^32; uint32, shape ().
        strides: by how much the number grows along each axis.
    """

    first: Array
    strides: tuple[int, ...]


class Noise(NamedTuple):
    """A source of random bits for one leaf and step.

    Attributes:
        key: the leaf's key; uint32, shape ().
        step: the step's number; an integer, shape ().
        turn: the rotation of each element's hash, in bits.
        elements: the number of each element in its leaf, uint32; `None` where the shape tells.
        part: where the array lies in its leaf; `None` if it is the whole leaf.
    """

    key: Array
    step: Array
    turn: int = TURNS[0]
    elements: Array | None = None
    part: Part | None = None

    def to(self, purpose: int) -> "Noise":
        """The bits for `purpose`: the index of a slot, or the number of slots for the weight.

        All purposes share one hash of an element. The upper sixteen bits of the first two are independent, and the
        upper eight of the first four: as many as low-bit codes distinguish.
        """
        return self._replace(turn=TURNS[purpose % len(TURNS)])

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Uniform uint32, independent from element to element and from step to step."""
        return _mix(self._start(shape) + _mix(self.step.astype(jnp.uint32) ^ GOLDEN))

    def weyl(self, shape: tuple[int, ...]) -> Array:
        """Uniform uint32, independent from element to element and spread evenly over the steps of each.

        Each element's sequence is a random start plus multiples of the golden ratio: the mean over n steps is off by
        about 1 / n instead of 1 / sqrt(n).
        """
        return self._start(shape) + self.step.astype(jnp.uint32) * GOLDEN

    def _start(self, shape: tuple[int, ...]) -> Array:
        hashed = _mix((_index(shape, self.part) if self.elements is None else self.elements) ^ self.key)
        if not self.turn:
            return hashed
        return (hashed << np.uint32(self.turn)) | (hashed >> np.uint32(32 - self.turn))


def noise(seed: Any, path: str, count: Array) -> Noise:
    """The noise of the leaf at `path` in step `count`; the key is computed in Python if `seed` is a Python integer."""
    with np.errstate(over="ignore"):
        start = (
            np.uint32(int(seed) % 2**32)
            if isinstance(seed, (int, np.integer))
            else jnp.asarray(seed).astype(jnp.uint32)
        )
        return Noise(_mix(start + np.uint32(zlib.crc32(path.encode()))), count)


def unit_interval(bits: Array) -> Array:
    """uint32 to float32 in [0, 1): the upper 24 bits, which float32 holds exactly."""
    return (bits >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)


def _index(shape: tuple[int, ...], part: Part | None) -> Array:
    """The number of each element in row-major order, from iotas that XLA can shard along any axis."""
    if not shape:
        return jnp.zeros([], jnp.uint32)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))] if part is None else part.strides
    index = jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)
    for axis in reversed(range(len(shape) - 1)):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(strides[axis] % 2**32)
    return index if part is None else index + part.first


def _mix(x: Any) -> Any:
    """A bijection of uint32 whose every output bit depends on every input bit (Wellons' lowbias32)."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
