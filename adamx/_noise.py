"""The random bits of the library: a function of seed, leaf, element and step, and of nothing else.

The same bits come on one device and on many, eager and jitted, before and after a restart. They are hashed counters,
not a generator's stream: a few integer operations per element, which fuse into the step that uses them.
"""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._annotations import Array

GOLDEN = np.uint32(0x9E3779B9)
"""2^32 divided by the golden ratio: its multiples, modulo 2^32, are spread as evenly as can be."""


TURNS = (0, 16, 8, 24, 4, 20, 12, 28)
"""By how many bits each purpose turns an element's hash: what it uses, the upper bits, are then others' lower ones."""


class Noise(NamedTuple):
    """Where random bits are drawn.

    Attributes:
        key: of the leaf; uint32, shape ().
        step: its number; an integer, shape ().
        turn: by how many bits each element's hash is turned.
    """

    key: Array
    step: Array
    turn: int = TURNS[0]

    def to(self, purpose: int) -> "Noise":
        """The bits of the leaf's `purpose`: the number of a slot, or how many there are for its weight.

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
        hashed = _mix(_index(shape) ^ self.key)
        if not self.turn:
            return hashed
        return (hashed << np.uint32(self.turn)) | (hashed >> np.uint32(32 - self.turn))


def noise(seed: Any, path: str, count: Array) -> Noise:
    """The noise of the leaf at `path` in step `count`; the key of a seed that is a number costs nothing when traced."""
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


def _index(shape: tuple[int, ...]) -> Array:
    """The number of each element in row-major order, from iotas that XLA can shard along any axis."""
    if not shape:
        return jnp.zeros([], jnp.uint32)
    *rows, last = range(len(shape))
    index, stride = jax.lax.broadcasted_iota(jnp.uint32, shape, last), shape[last]
    for axis in reversed(rows):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return index


def _mix(x: Any) -> Any:
    """A bijection of uint32 whose every output bit depends on every input bit (Wellons' lowbias32)."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
