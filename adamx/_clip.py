"""The factor of all gradients of a step: the caller's scale, and global-norm clipping."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._annotations import Above, Array, Scalar
from ._layout import real_dtype, wide_dtype
from ._math import abs_sq
from ._rule import validate_value


def gradient_factor(grads: list[Any], clip_norm: Scalar | None, grad_scale: Scalar | None) -> Array | None:
    """`grad_scale` times the factor that clips the global norm of the scaled gradients to `clip_norm`; `None` for 1.

    Of shape (), in the real dtype of the widest gradient and at least float32.
    """
    given = [g for g in grads if g is not None]
    dtype = real_dtype(wide_dtype(*given))
    if grad_scale is not None:
        validate_value("grad_scale", grad_scale, Above(-float("inf"), float("inf")))
    if clip_norm is None:
        return None if grad_scale is None else _opaque(jnp.asarray(grad_scale, dtype))
    validate_value("clip_norm", clip_norm, Above(0.0, float("inf")))
    scale = jnp.asarray(1.0 if grad_scale is None else grad_scale, dtype)
    most = jnp.asarray(clip_norm, dtype) / norm(given, dtype)
    return _opaque(jnp.where(jnp.abs(scale) <= most, scale, jnp.sign(scale) * most))


def norm(arrays: list[Any], dtype: np.dtype) -> Array:
    """The Euclidean norm of all elements of all arrays; shape (), in a real `dtype` of at least 32 bits.

    Accurate over the whole range of `dtype`: where squares may have over- or underflowed, the sum is taken over
    elements that were scaled down or up first. On a CPU that second sum is computed only when needed; elsewhere all
    three sums share one pass, as a branch would wait for the device.
    """
    if not arrays:
        return jnp.zeros([], dtype)
    # Scaled down by 2^far, squares of 2^31 of the largest numbers do not overflow; scaled up, those of the least are
    # normal.
    far = jnp.finfo(dtype).maxexp * 25 // 32
    down, up = (_opaque(jnp.asarray(2.0**e, dtype)) for e in (-far, far))

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

    return jax.lax.platform_dependent(cpu=in_turn, default=at_once)


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
