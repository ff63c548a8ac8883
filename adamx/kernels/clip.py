"""The factor of all gradients of a step: the scale that is given, and clipping of a norm accurate over all numbers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Above, Array, Interval, Scalar
from .._layout import real_dtype, wide_dtype
from .._math import abs_sq
from .._rule import validate_value
from .partial_sums import Reduction, reduced
from .xla.shared_functions import in_a_program


def gradient_factor(
    grads: list[Any],
    clip_norm: Scalar | None,
    grad_scale: Scalar | None,
    names: Sequence[str] = (),
    grad_norm: Scalar | None = None,
) -> Array | None:
    """`grad_scale` times the factor that clips the global norm of the scaled gradients to `clip_norm`; `None` for 1.

    Of shape (), in the real dtype of the widest gradient and at least float32. The norm is of the parts on all
    devices along the axes `names` of the mesh of a `jax.shard_map`, or `grad_norm`, that before scaling.
    """
    given = [g for g in grads if g is not None]
    dtype = real_dtype(wide_dtype(*given))
    if grad_scale is not None:
        validate_value("grad_scale", grad_scale, Above(-float("inf"), float("inf")))
    if grad_norm is not None:
        validate_value("grad_norm", grad_norm, Interval(0.0, float("inf")))
        if clip_norm is None:
            raise TypeError("grad_norm is the norm that clip_norm shortens: give both, or leave it out")
    if clip_norm is None:
        return None if grad_scale is None else _opaque(jnp.asarray(grad_scale, dtype))
    validate_value("clip_norm", clip_norm, Above(0.0, float("inf")))
    scale = jnp.asarray(1.0 if grad_scale is None else grad_scale, dtype)
    size = global_norm(given, names) if grad_norm is None else jnp.asarray(grad_norm, dtype)
    most = jnp.asarray(clip_norm, dtype) / size
    return _opaque(jnp.where(jnp.abs(scale) <= most, scale, jnp.sign(scale) * most))


def global_norm(grads: Sequence[Any], names: Sequence[str] = ()) -> Array:
    """The norm of all gradients that are not `None`, in the real dtype of the widest and at least float32.

    It is finite if they are: one beyond the largest number is that number. `names` as in `gradient_factor`.
    """
    given = [g for g in grads if g is not None]
    return norm(given, real_dtype(wide_dtype(*given)), names)


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
    by_parts = Reduction(_Squares(dtype), (None, *range(n)), 3, _summed_root)
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
    """The three sums of squares of each array, (arrays, 3), as the only result."""

    dtype: np.dtype

    def __call__(self, _: Array, *arrays: Array) -> list[Array]:
        """The sums."""
        factors = (None, *_factors(self.dtype))
        return [jnp.stack([jnp.stack([_square(x, self.dtype, factor) for factor in factors]) for x in arrays])]


def _summed_root(squares: Array) -> Array:
    """The norm, from the sums of squares of each array."""
    return _root(*jnp.sum(squares, 0))


def _factors(dtype: np.dtype) -> tuple[Array, Array]:
    """Scaled down by the first, squares of 2^31 of the largest numbers are finite; by the second, all are normal."""
    far = jnp.finfo(dtype).maxexp * 25 // 32
    return _opaque(jnp.asarray(2.0**-far, dtype)), _opaque(jnp.asarray(2.0**far, dtype))


def _square(x: Array, dtype: np.dtype, factor: Array | None) -> Array:
    """The sum of the squares of an array times the factor."""
    x = jnp.asarray(x, wide_dtype(x))
    return jnp.sum(abs_sq(x if factor is None else _times(x, factor))).astype(dtype)


def _root(plain: Array, smaller: Array, larger: Array) -> Array:
    """The norm from the sum of the squares as they are, of elements scaled down, and of elements scaled up."""
    down, up = _factors(plain.dtype)
    too_large, too_small = jnp.isinf(plain), ~_said(plain, plain.dtype)
    square = jnp.where(too_large, smaller, jnp.where(too_small, larger, plain))  # one root: derivatives of 0 are none
    root = jnp.sqrt(square)
    scaled = root * jnp.where(too_large, up, jnp.where(too_small, down, 1))
    return jnp.where(jnp.isinf(root), root, jnp.minimum(scaled, jnp.finfo(plain.dtype).max))


def _times(x: Array, factor: Array) -> Array:
    """`x` times a real number, in at least that number's precision."""
    if jnp.iscomplexobj(x):
        return jax.lax.complex(_times(x.real, factor), _times(x.imag, factor))
    return x.astype(np.promote_types(x.dtype, factor.dtype)) * factor


def _said(square: Array, dtype: np.dtype) -> Array:
    """Whether a sum of squares is accurate: finite, and so large that terms that underflowed do not matter."""
    return ~(jnp.isinf(square) | (square < np.asarray(2.0 ** (-jnp.finfo(dtype).maxexp // 2), dtype)))


def _opaque(factor: Array) -> Array:
    """A constant one would make XLA compute $(g s)^2$ as $g^2 s^2$ for leaves of one element, which may overflow."""
    return jax.lax.optimization_barrier(factor)
