"""Eigenbases of Shampoo's statistics (arXiv:1802.09568): of each axis of an array, and arrays seen in them.

A basis is orthogonal, (n, n) for an axis of n, its columns the eigenvectors of the axis's statistics from the largest
eigenvalue on. Arrays may have axes before, the same of all, along which each is an array of its own. All products are
of `Precision.HIGHEST`: eigenvalues span seven decades, of which TF32 leaves three.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes

from .._annotations import Array, Scalar
from .._math import div_no_nan

HIGHEST = jax.lax.Precision.HIGHEST
Bases = Sequence[Array | None]
"""For each axis of an array its basis, (..., n, n), or its statistics; `None` for one that is not turned."""


def statistics(g: Array, axis: int, like: Array) -> Array:
    """The products of `g`'s slices along an axis G Gᴴ for a matrix's first; cut as `like`, (..., n, n)."""
    batch = like.ndim - 2
    others, each = [i for i in range(batch, g.ndim) if i != axis], range(batch)
    product = lambda x: jax.lax.dot_general(x, x.conj(), ((others, others), (each, each)), precision=HIGHEST)  # noqa: E731
    return _by_xla(product, like, g)


def turned(x: Array, bases: Bases) -> Array:
    """`x` in the bases of its axes: Q₀ᴴ X Q₁ of a real matrix."""
    return _by_xla(lambda x, *qs: _along_axes(x, [None if q is None else q.conj() for q in qs], 0), x, x, *bases)


def turned_back(x: Array, bases: Bases) -> Array:
    """The inverse of `turned`."""
    return _by_xla(lambda x, *qs: _along_axes(x, qs, 1), x, x, *bases)


def _along_axes(x: Array, bases: Bases, of: int) -> Array:
    for axis, q in enumerate(bases):
        if q is not None:
            each = range(q.ndim - 2), range(q.ndim - 2)
            if axis == q.ndim - 2:  # the new axis comes first or last: the product needs no transposition
                x = jax.lax.dot_general(q, x, (((axis + of,), (axis,)), each), precision=HIGHEST)
            else:
                x = jax.lax.dot_general(x, q, (((axis,), (q.ndim - 2 + of,)), each), precision=HIGHEST)
                x = jnp.moveaxis(x, -1, axis)
    return x


def rearranged(x: Array, orders: Bases) -> Array:
    """`x` with its elements in a new order along each axis, (..., n) of old places."""

    def taken(x: Array, *orders: Array | None) -> Array:
        for axis, order in enumerate(orders):
            if order is not None:
                others = [i for i in range(x.ndim) if i >= order.ndim - 1 and i != axis]
                x = jnp.take_along_axis(x, jnp.expand_dims(order, others), axis)
        return x

    return _by_xla(taken, x, x, *orders)


def eigenvalues(s: Array, q: Array) -> Array:
    """What the eigenvalues of `s` would be if `q` were its basis, (..., n): the diagonal of Qᴴ S Q."""
    found = lambda s, q: (q.conj() * jnp.matmul(s, q, precision=HIGHEST)).sum(-2).real  # noqa: E731
    return _by_xla(found, None, s, q)


def eigenbasis(s: Array) -> Array:
    """The basis of statistics; the identity where it does not come out finite."""
    identity = jnp.broadcast_to(jnp.eye(s.shape[-1], dtype=s.dtype), s.shape)
    q = jnp.linalg.eigh(s + 1e-30 * identity)[1][..., ::-1]
    return jnp.where(_finite(q), q, identity)


def refreshed(s: Array, q: Array) -> tuple[Array, Array]:
    """A basis after one step of the power iteration, and the old places of its vectors.

    The old vectors are sorted by their eigenvalues, multiplied by the statistics and made orthogonal again. They stay
    as they are where that does not come out finite: where statistics overflow, or a gradient was not finite.
    """
    moved = jnp.matmul(s, q, precision=HIGHEST)
    order = jnp.argsort(-(q.conj() * moved).sum(-2).real, -1)
    new = jnp.linalg.qr(jnp.take_along_axis(moved, order[..., None, :], -1))[0]
    finite = _finite(new)
    return jnp.where(finite, new, q), jnp.where(finite[..., 0], order, _unchanged(q))


KEEP, REFRESH, START = 0, 1, 2
"""What `basis_after` does."""


def basis_after(s: Array, q: Array, what: Array) -> tuple[Array, Array]:
    """The next basis of statistics `s`, and the old places of its vectors; `what` is one of the three numbers."""
    keep = lambda s, q: (q, _unchanged(q))  # noqa: E731
    start = lambda s, q: (eigenbasis(s), _unchanged(q))  # noqa: E731
    chosen = lambda what, s, q: jax.lax.switch(what, (keep, refreshed, start), s, q)  # noqa: E731
    return _by_xla(chosen, (q, None), what, s, q)


def whitened(g: Array, s: Bases, bases: Bases, axis: int, eps: Scalar) -> Array:
    """`g` in the bases of all axes but one, divided by the roots of their eigenvalues, which are at least `eps`."""
    others = [None if i == axis else q for i, q in enumerate(bases)]
    x = turned(g, others)
    for i, (own, q) in enumerate(zip(s, others, strict=False)):
        if own is not None and q is not None:
            root = jnp.sqrt(jnp.maximum(eigenvalues(own, q), eps))
            x = div_no_nan(x, jnp.expand_dims(root, [a for a in range(q.ndim - 2, x.ndim) if a != i]))
    return x


def _by_xla(f: Callable[..., Any], like: Any, *arrays: Any) -> Any:
    """`f(*arrays)`; on a mesh of `AxisType.Explicit` cut as `like`, `None` for whole. XLA places what is in `f`."""
    mesh = jax.typeof(jax.tree.leaves(arrays)[-1]).sharding.mesh
    if AxisType.Explicit not in mesh.axis_types:
        return f(*arrays)
    whole, is_none = NamedSharding(mesh, PartitionSpec()), lambda x: x is None
    out = jax.tree.map(lambda x: whole if x is None else jax.typeof(x).sharding, like, is_leaf=is_none)
    return auto_axes(f, out_sharding=out)(*arrays)


def _finite(q: Array) -> Array:
    return jnp.isfinite(q).all((-2, -1), keepdims=True)


def _unchanged(q: Array) -> Array:
    return jnp.broadcast_to(jnp.arange(q.shape[-1]), q.shape[:-1])
