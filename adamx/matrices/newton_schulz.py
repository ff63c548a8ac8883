r"""Newton–Schulz iterations: the nearest orthogonal matrix $UV^H$ of $X = U\Sigma V^H$, by products alone."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._annotations import Array, Scalar
from .._math import abs_sq
from .coefficients import Coefficients, Triple, coefficients

DTYPES = ("leaf", "float32", "bfloat16")
"""What products are taken in; see `NewtonSchulz`."""


@dataclasses.dataclass(frozen=True)
class NewtonSchulz:
    r"""Bring the singular values of matrices near to 1: $A = XX^H$, $X \leftarrow aX + (bA + cA^2)X$ in each step.

    Of matrices twice as long as wide, where products are exact to float32, by their Gram matrices: see `gram`.

    A value, equal to others of the same numbers, so that equal calls can be computed together.

    Attributes:
        coefficients: a, b, c of each step.
        dtype: what products are taken in: "leaf", the dtype that a leaf is computed in, at JAX's default precision
            (float32 is TF32 on NVIDIA's GPUs and bfloat16 on TPUs); "float32", at least, at `Precision.HIGHEST`; or
            "bfloat16", of real matrices.
    """

    coefficients: Coefficients
    dtype: str = "leaf"

    def __call__(self, x: Array, eps: Scalar = 0.0) -> Array:
        """The matrices in the last two axes of `x`, of whatever scale, made orthogonal.

        Args:
            x: of shape (..., rows, columns), fewer rows than columns for the least work. A zero matrix stays zero; what
                is not finite makes all of its matrix NaN.
            eps: added to the norm that a matrix is divided by.
        """
        y = normalised(x, eps, self.coefficients.margin)
        if self.dtype == "bfloat16" and not jnp.iscomplexobj(y):
            y = y.astype(jnp.bfloat16)
        precision = jax.lax.Precision.HIGHEST if self.dtype == "float32" else None
        steps = self.coefficients.triples
        by_steps, by_gram = (functools.partial(f, steps=steps, precision=precision) for f in (plain, gram))
        is_long = 2 * y.shape[-2] <= y.shape[-1] and len(steps) > 1
        if not is_long or y.dtype == jnp.bfloat16:
            return by_steps(y).astype(x.dtype)
        return by_gram(y) if precision else jax.lax.platform_dependent(y, cpu=by_gram, default=by_steps)


def iteration(ns_coeffs: Any, ns_steps: int | None, ns_dtype: str) -> NewtonSchulz:
    """The iteration of these arguments of `adamx.Muon`.

    Raises:
        ValueError: see `coefficients`; polynomials that rounding makes grow without bound.
    """
    found = coefficients(ns_coeffs, ns_steps)
    if found.is_delicate and ns_dtype != "float32":
        raise ValueError(
            f"ns_coeffs = {ns_coeffs!r} need ns_dtype='float32': where products are rounded to bfloat16, by default on "
            "TPUs, singular values grow without bound; those of 'polar_express' do not"
        )
    return NewtonSchulz(found, ns_dtype)


def plain(x: Array, steps: Sequence[Triple], precision: jax.lax.Precision | None) -> Array:
    """The steps on the matrices themselves."""
    product = functools.partial(jnp.matmul, precision=precision)
    for a, b, c in steps:
        square = product(x, x.conj().mT)
        x = a * x + product(b * square + c * product(square, square), x)
    return x


def gram(x: Array, steps: Sequence[Triple], precision: jax.lax.Precision | None) -> Array:
    r"""The steps on $A = XX^H$: $P = aI + bA + cA^2$, $Q \leftarrow PQ$, $A \leftarrow PAP$; at last $X \leftarrow QX$.

    Most products are of rows by rows. A step multiplies the rounding errors of $A$ by $a^2$, where those of $X$ are
    multiplied by $a$: after every third $A$ is taken from $X$ anew. Without, five steps would be off by .01.
    """
    product = functools.partial(jnp.matmul, precision=precision)
    rows = x.shape[-2]
    identity = jnp.broadcast_to(jnp.eye(rows, dtype=x.dtype), (*x.shape[:-1], rows))
    for first in range(0, len(steps), 3):
        few, square, q = steps[first : first + 3], product(x, x.conj().mT), identity
        for i, (a, b, c) in enumerate(few):
            p = a * identity + b * square + c * product(square, square)
            q = product(p, q) if i else p
            square = square if i == len(few) - 1 else product(product(p, square), p)
        x = product(q, x)
    return x


def normalised(x: Array, eps: Scalar = 0.0, margin: float = 1.0) -> Array:
    """Matrices divided by their norms, which are at least their largest singular values.

    First by their largest elements: squares of gradients below 1e-19 are 0 in float32.
    """
    axes = (-2, -1)
    most = jnp.max(jnp.abs(x), axes, keepdims=True, initial=0)
    most = jnp.where(most == 0, 1, most)  # NaN, which maxima on CPUs may pass by, remains in x
    x = x / most
    norm = jnp.sqrt(jnp.sum(abs_sq(x), axes, keepdims=True)) + eps / most
    return x / (jnp.where(norm == 0, 1, norm) * margin)
