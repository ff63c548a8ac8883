"""Eigenbases of Shampoo's statistics (arXiv:1802.09568): of each axis of an array, and arrays seen in them.

A basis is orthogonal, (n, n) for an axis of n, its columns the eigenvectors of the axis's statistics from the largest
eigenvalue on. All products are of `Precision.HIGHEST`: eigenvalues span seven decades, of which TF32 leaves three.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._annotations import Array, Scalar
from .._math import div_no_nan

HIGHEST = jax.lax.Precision.HIGHEST
Bases = Sequence[Array | None]
"""The basis of each axis of an array; `None` for one that is not turned."""


def statistics(g: Array, axis: int) -> Array:
    """The products of `g`'s slices along an axis with each other, (n, n); G Gᴴ for the first of a matrix's two."""
    others = [i for i in range(g.ndim) if i != axis]
    return jnp.tensordot(g, g.conj(), (others, others), precision=HIGHEST)


def turned(x: Array, bases: Bases) -> Array:
    """`x` in the bases, Q₀ᴴ X Q₁ of a real matrix."""
    return _along_axes(x, [None if q is None else q.conj() for q in bases], 0)


def turned_back(x: Array, bases: Bases) -> Array:
    """The inverse of `turned`."""
    return _along_axes(x, bases, 1)


def _along_axes(x: Array, bases: Bases, of: int) -> Array:
    for axis, q in enumerate(bases):
        if q is not None and axis == 0:
            x = jnp.tensordot(q, x, (of, 0), precision=HIGHEST)
        elif q is not None:
            x = jnp.moveaxis(jnp.tensordot(x, q, (axis, of), precision=HIGHEST), -1, axis)
    return x


def eigenvalues(s: Array, q: Array) -> Array:
    """What the eigenvalues of `s` are if `q` is its basis: the diagonal of Qᴴ S Q."""
    return (q.conj() * jnp.matmul(s, q, precision=HIGHEST)).sum(0).real


def eigenbasis(s: Array) -> tuple[Array, Array]:
    """The basis of statistics, and that nothing changes places; the identity where it does not come out finite."""
    identity = jnp.eye(len(s), dtype=s.dtype)
    q = jnp.linalg.eigh(s + 1e-30 * identity)[1][:, ::-1]
    return jnp.where(jnp.isfinite(q).all(), q, identity), jnp.arange(len(s))


def refreshed(s: Array, q: Array) -> tuple[Array, Array]:
    """A basis after one step of the power iteration, and the old places of its vectors.

    The old ones are sorted by their eigenvalues, multiplied by the statistics and made orthogonal again. It stays as it
    is where that does not come out finite: where statistics overflow, or a gradient was not finite.
    """
    moved = jnp.matmul(s, q, precision=HIGHEST)
    order = jnp.argsort(-(q.conj() * moved).sum(0).real)
    new = jnp.linalg.qr(moved[:, order])[0]
    finite = jnp.isfinite(new).all()
    return jnp.where(finite, new, q), jnp.where(finite, order, jnp.arange(len(s)))


KEEP, REFRESH, START = 0, 1, 2
"""What `basis_after` does."""


def basis_after(s: Array, q: Array, what: Array) -> tuple[Array, Array]:
    """The next basis of statistics `s`, and the old places of its vectors; `what` is one of the three numbers."""
    keep = lambda s, q: (q, jnp.arange(len(s)))  # noqa: E731
    return jax.lax.switch(what, (keep, refreshed, lambda s, q: eigenbasis(s)), s, q)


def whitened(g: Array, s: Bases, bases: Bases, axis: int, eps: Scalar) -> Array:
    """`g` in the bases of all axes but one, divided by the roots of their eigenvalues, which are at least `eps`."""
    others = [None if i == axis else q for i, q in enumerate(bases)]
    x = turned(g, others)
    for i, q in enumerate(others):
        if q is not None:
            root = jnp.sqrt(jnp.maximum(eigenvalues(s[i], q), eps))
            x = div_no_nan(x, jnp.expand_dims(root, [a for a in range(x.ndim) if a != i]))
    return x
