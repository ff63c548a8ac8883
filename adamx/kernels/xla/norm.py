"""The Euclidean norm of arrays, accurate over the whole range of their dtype."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..._layout import wide_dtype
from ..._math import abs_sq
from ..partial_sums import Part, Reduction, reduced
from .shared_functions import in_a_program


def norm(arrays: Sequence[Any], dtype: np.dtype, axis_names: Sequence[str] = ()) -> Array:
    """The Euclidean norm of all elements of all arrays; shape (), in a real `dtype` of at least 32 bits.

    Where squares may have over- or underflowed, the sum is taken over elements that were scaled down or up first. On
    one CPU that second sum is computed only when needed; elsewhere all three sums share one pass, as a branch would
    wait for the device, and one all-reduce.

    Args:
        arrays: the arrays.
        dtype: of the result.
        axis_names: axes of the mesh of a `jax.shard_map` along which the arrays are cut.
    """
    if not arrays:
        return jnp.zeros([], dtype)
    operands, n = [jnp.zeros([], dtype), *map(jnp.asarray, arrays)], len(arrays)
    if not axis_names and not in_a_program():
        return _norm(*operands)[0]
    by_parts = Reduction(_Squares(dtype), (None, *range(n)), tuple(map(Part, range(n))), _Root(dtype))
    return reduced(_norm, by_parts, _norm, operands, axis_names)


def _norm(like: Array, *arrays: Array) -> list[Array]:
    """The norm of whole arrays, of the type of the first."""
    dtype, (down, up) = like.dtype, _factors(like.dtype)

    def squares(factor: Array | None) -> Array:
        return sum((_square(x, dtype, factor) for x in arrays), jnp.zeros([], dtype))

    def in_turn() -> Array:
        plain = squares(None)
        others = lambda: _root(plain, squares(down), squares(up))  # noqa: E731
        return jax.lax.cond(_said(plain, dtype), lambda: jnp.sqrt(plain), others)

    def at_once() -> Array:
        return _root(squares(None), squares(down), squares(up))

    return [jax.lax.platform_dependent(cpu=in_turn, default=at_once)]


class _Squares(NamedTuple):
    """The three sums of squares of each part."""

    dtype: np.dtype

    def __call__(self, _: Array, *arrays: Array) -> list[Array]:
        """For each array (3,)."""
        factors = (None, *_factors(self.dtype))
        return [jnp.stack([_square(x, self.dtype, factor) for factor in factors]) for x in arrays]


class _Root(NamedTuple):
    """The norm, from the sums of squares of each array."""

    dtype: np.dtype

    def __call__(self, squares: Sequence[Array]) -> Array:
        """The norm."""
        return _root(*sum(squares, jnp.zeros(3, self.dtype)))


def _factors(dtype: np.dtype) -> tuple[Array, Array]:
    """Scaled down by 2^far, squares of 2^31 of the largest numbers do not overflow; scaled up, those of the least are
    normal.
    """
    far = jnp.finfo(dtype).maxexp * 25 // 32
    return opaque(jnp.asarray(2.0**-far, dtype)), opaque(jnp.asarray(2.0**far, dtype))


def _square(x: Array, dtype: np.dtype, factor: Array | None) -> Array:
    """The sum of the squares of an array times the factor."""
    x = jnp.asarray(x, wide_dtype(x))
    return jnp.sum(abs_sq(x if factor is None else _times(x, factor))).astype(dtype)


def _root(plain: Array, smaller: Array, larger: Array) -> Array:
    """The norm from the sum of the squares as they are, of elements scaled down, and of elements scaled up."""
    down, up = _factors(plain.dtype)
    return jnp.where(
        plain > 1,
        jnp.where(jnp.isinf(plain), jnp.sqrt(smaller) * up, jnp.sqrt(plain)),
        jnp.where(_said(plain, plain.dtype), jnp.sqrt(plain), jnp.sqrt(larger) * down),
    )


def _times(x: Array, factor: Array) -> Array:
    """`x` times a real number, in at least that number's precision."""
    if jnp.iscomplexobj(x):
        return jax.lax.complex(_times(x.real, factor), _times(x.imag, factor))
    return x.astype(np.promote_types(x.dtype, factor.dtype)) * factor


def _said(square: Array, dtype: np.dtype) -> Array:
    """Whether a sum of squares is accurate: finite, and so large that terms that underflowed do not matter."""
    return ~(jnp.isinf(square) | (square < np.asarray(2.0 ** (-jnp.finfo(dtype).maxexp // 2), dtype)))


def opaque(factor: Array) -> Array:
    """A constant one would make XLA compute $(g s)^2$ as $g^2 s^2$ for leaves of one element, which may overflow."""
    return jax.lax.optimization_barrier(factor)
