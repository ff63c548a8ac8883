r"""Newton–Schulz iterations: the nearest orthogonal matrix $UV^H$ of $X = U\Sigma V^H$, by products of matrices alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from .._annotations import Array, Scalar
from .._math import abs_sq
from .coefficients import Coefficients, Triple

DTYPES = ("leaf", "float32", "bfloat16")
"""What products are taken in; see `NewtonSchulz`."""


@dataclasses.dataclass(frozen=True)
class NewtonSchulz:
    r"""Bring the singular values of matrices near to 1: $A = XX^H$, $X \leftarrow aX + (bA + cA^2)X$ in each step.

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
        for triple in self.coefficients.triples:
            y = plain(y, triple, precision)
        return y.astype(x.dtype)


def plain(x: Array, triple: Triple, precision: jax.lax.Precision | None = None) -> Array:
    """One step on the matrices themselves."""
    product, (a, b, c) = functools.partial(jnp.matmul, precision=precision), triple
    gram = product(x, x.conj().mT)
    return a * x + product(b * gram + c * product(gram, gram), x)


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
