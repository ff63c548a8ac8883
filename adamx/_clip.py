"""The factor of all gradients of a step: the caller's scale, and global-norm clipping."""

from typing import Any

import jax.numpy as jnp

from . import kernels
from ._annotations import Above, Array, Scalar
from ._layout import real_dtype, wide_dtype
from ._rule import validate_value


def gradient_factor(
    grads: list[Any], clip_norm: Scalar | None, grad_scale: Scalar | None, axis_names: tuple[str, ...]
) -> Array | None:
    """`grad_scale` times the factor that clips the global norm of the scaled gradients to `clip_norm`; `None` for 1.

    Of shape (), in the real dtype of the widest gradient and at least float32. The norm is of the parts of the
    gradients on all devices along the axes of a `jax.shard_map`.
    """
    given = [g for g in grads if g is not None]
    dtype = real_dtype(wide_dtype(*given))
    if grad_scale is not None:
        validate_value("grad_scale", grad_scale, Above(-float("inf"), float("inf")))
    if clip_norm is None:
        return None if grad_scale is None else kernels.opaque(jnp.asarray(grad_scale, dtype))
    validate_value("clip_norm", clip_norm, Above(0.0, float("inf")))
    scale = jnp.asarray(1.0 if grad_scale is None else grad_scale, dtype)
    most = jnp.asarray(clip_norm, dtype) / kernels.norm(given, dtype, axis_names)
    return kernels.opaque(jnp.where(jnp.abs(scale) <= most, scale, jnp.sign(scale) * most))
