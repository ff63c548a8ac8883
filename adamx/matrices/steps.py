"""What steps are made of orthogonal matrices: their length, and their second moments."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Scalar
from .._math import abs_sq, div_no_nan, ema

LENGTHS: Mapping[str, Callable[[int, int, Any], Any]] = MappingProxyType(
    {
        "original": lambda ins, outs, rms: math.sqrt(max(1, outs / max(ins, 1))),
        "rms": lambda ins, outs, rms: rms * math.sqrt(max(ins, outs)),
        "spectral": lambda ins, outs, rms: math.sqrt(outs / max(ins, 1)),
        "none": lambda ins, outs, rms: 1.0,
    }
)
"""Factors of an orthogonal matrix, by the numbers of inputs and outputs and what `adamx.Muon` has for `rms`."""


def levelled(o: Array, nu: Array, b2: Scalar, of_outputs: bool) -> tuple[Array, Array]:
    """Matrices (number, in, out) divided by the roots of their second moments, at the norms that they had.

    Args:
        o: the matrices.
        nu: the averages of squares so far, for each output or each element.
        b2: their decay rate, without a correction of the bias, which the norm undoes.
        of_outputs: whether `nu` has one number for each output.

    Returns:
        The matrices, and the averages.
    """
    square = abs_sq(o)
    nu = ema(nu, square.mean(1, keepdims=True) if of_outputs else square, b2)
    level = o / (jnp.sqrt(nu) + 1e-8)
    norms = [jnp.sqrt(abs_sq(x).sum((1, 2), keepdims=True)) for x in (o, level)]
    return level * div_no_nan(*norms), nu
