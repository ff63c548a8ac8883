"""The Euclidean norm of arrays, accurate over the whole range of their dtype."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..._layout import wide_dtype
from ..._math import abs_sq
from .stages import in_stages


def norm(arrays: Sequence[Any], dtype: np.dtype, axis_names: tuple[str, ...] = ()) -> Array:
    """The Euclidean norm of all elements of all arrays; shape (), in a real `dtype` of at least 32 bits.

    Where squares may have over- or underflowed, the sum is taken over elements that were scaled down or up first. On
    one CPU that second sum is computed only when needed; elsewhere all three sums share one pass, as a branch would
    wait for the device, and one all-reduce.
    """
    if not arrays:
        return jnp.zeros([], dtype)
    with_alternatives = (_Norm(dtype, in_turn) for in_turn in (False, True))
    return in_stages(next(with_alternatives), arrays, [jnp.zeros([], dtype)], axis_names, next(with_alternatives))[0]


class _Norm(NamedTuple):
    """The norm as a function of arrays; the first is of the result's type.

    Attributes:
        dtype: of the result.
        in_turn: whether a CPU takes the other sums only when needed.
    """

    dtype: np.dtype
    in_turn: bool

    def __call__(self, _: Array, *arrays: Array) -> list[Array]:
        """The norm, as the only result."""
        dtype = self.dtype
        # Scaled down by 2^far, squares of 2^31 of the largest numbers do not overflow; scaled up, those of the least
        # are normal.
        far = jnp.finfo(dtype).maxexp * 25 // 32
        down, up = (opaque(jnp.asarray(2.0**e, dtype)) for e in (-far, far))

        def squares(factor: Array | None) -> Array:
            wide = [jnp.asarray(x, wide_dtype(x)) for x in arrays]
            scaled = wide if factor is None else [_times(x, factor) for x in wide]
            return sum((jnp.sum(abs_sq(x)).astype(dtype) for x in scaled), jnp.zeros([], dtype))

        def chosen(plain: Array, smaller: Array, larger: Array) -> Array:
            return jnp.where(
                plain > 1,
                jnp.where(jnp.isinf(plain), jnp.sqrt(smaller) * up, jnp.sqrt(plain)),
                jnp.where(_said(plain, dtype), jnp.sqrt(plain), jnp.sqrt(larger) * down),
            )

        def in_turn() -> Array:
            plain = squares(None)
            others = lambda: chosen(plain, squares(down), squares(up))  # noqa: E731
            return jax.lax.cond(_said(plain, dtype), lambda: jnp.sqrt(plain), others)

        def at_once() -> Array:
            return chosen(squares(None), squares(down), squares(up))

        return [jax.lax.platform_dependent(cpu=in_turn, default=at_once) if self.in_turn else at_once()]


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
