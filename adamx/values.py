"""What a hyperparameter's value may be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._annotations import Interval, Scalar


def validate_value(name: str, value: Scalar, interval: Interval) -> None:
    """Raise unless `value` is a scalar of sufficient precision in `interval`; a traced value may lie anywhere."""
    dtype = getattr(value, "dtype", None)
    is_array = dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
    if isinstance(value, bool) or not (is_array or isinstance(value, (int, float))):
        others = ": it follows no schedule here" if callable(value) else ", an array of shape () or a schedule"
        raise TypeError(f"{name} = {value!r} should be a number{others}")
    if not isinstance(value, (int, float)):
        if value.shape != ():
            raise ValueError(f"{name} should be one number, but has shape {value.shape}; vmap over several")
        if jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4:
            raise TypeError(
                f"{name} arrives as {value.dtype}, which has too few digits for a hyperparameter (.999 rounds to 1 in "
                "bfloat16): give a Python number or a float32 array; in place of optax.inject_hyperparams take "
                f"adamx.live({name!r}, ...), or pass it hyperparam_dtype=jnp.float32"
            )
        if isinstance(value, Tracer):
            return
        value = np.asarray(value).item()  # on the host: a comparison of arrays would be traced under jit
    if value not in interval:
        raise ValueError(f"{name} = {value} is outside {interval}")


def validate_dtype(name: str, dtype: Any) -> None:
    """Raise unless `dtype` is a real floating one, or `None`."""
    try:
        real = dtype is None or jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        real = False
    if not real:
        raise ValueError(f"{name} = {dtype!r} is not a real floating dtype, such as jnp.bfloat16")


def refuse_traced(name: str, value: Any) -> None:
    """Raise if `value`, which selects code, is an array."""
    if isinstance(value, jax.Array):
        call = f"optax.inject_hyperparams(..., static_args=({name!r},))"
        raise TypeError(f"{name} selects code and cannot be an array: take {call}")
