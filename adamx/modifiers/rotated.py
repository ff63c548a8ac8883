"""SOAP (arXiv:2409.11321): any elementwise rule in the eigenbasis of Shampoo's statistics."""

import dataclasses
import math
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative
from .._math import bias_correction, ema
from .._names import validate_whole
from .._rule import Modifier, Slot, StepContext, static, validate_dtype
from ..matrices.bases import KEEP, REFRESH, START, basis_after, rearranged, statistics, turned, turned_back, whitened


class OfAxes(NamedTuple):
    """A matrix for each axis of a leaf, (n, n) of an axis of n; `None` for one that is not turned."""

    axis0: Any
    axis1: Any
    axis2: Any
    axis3: Any


class RotatedSlots(NamedTuple):
    """The wrapped rule's slots, of elements in the bases; the statistics of each axis, and its basis."""

    inner: Any
    statistics: Any
    bases: Any


class Rotated(Modifier):
    r"""Any elementwise rule in the eigenbasis of Shampoo's statistics; SOAP, where the rule is Adam.

    For a matrix, with the bases $Q_L, Q_R$ and statistics $L, R$ of the step before,
    $$g'_t = Q_L^\top g_t Q_R \qquad u_t = Q_L\,\mathrm{rule}(g'_t)\,Q_R^\top \qquad
      L_t = \beta L_{t-1} + (1-\beta)\,g_t g_t^\top \qquad R_t = \beta R_{t-1} + (1-\beta)\,g_t^\top g_t$$

    The first call takes no step: it makes the statistics, and of them the bases, $L = Q_L \Lambda Q_L^\top$, by
    descending eigenvalues. It is not counted in the rule's bias corrections, nor does decay act in it. Then every
    `frequency` steps, after the rule's, $Q_L \leftarrow \mathrm{qr}(L\,Q_L)$, with the columns sorted by the diagonal
    of $Q_L^\top L\,Q_L$ before: one step of the power iteration. Slots that can be negative are turned from the old
    bases into the new; those that cannot (second moments) are sorted like the columns, as in the official code.

    Leaves of more axes have a basis for each; those of one axis, and scalars, are stepped by the rule itself.

    Attributes:
        rule: the rule; one that keeps elements apart.
        shampoo_beta: decay rate of the statistics, $\beta$.
        frequency: steps between two refreshes of the bases, 1 or more.
        max_precondition_dim: the longest axis that is turned; others are left as they are, without a basis.
        one_sided: turn the shortest axis only (the paper's section 7.1).
        refresh_first: update statistics and bases with a gradient before it is turned, as NVIDIA's Emerging-Optimizers
            do, instead of after the step, as the paper does. Then there is a step in the first call, too, in bases
            where its gradient is diagonal: other elements are of rounding.
        staggered: refresh the axes of a leaf, and leaves of different shapes, at different steps, so that no step takes
            much longer than the others.
        kl: statistics that minimise a Kullback–Leibler divergence (arXiv:2509.03378),
            $L_t = \beta L_{t-1} + (1-\beta)\,g_t R_{t-1}^{-1} g_t^\top / n$ and alike $R_t$, with $R^{-1}$ from its
            basis and the diagonal of $Q_R^\top R\,Q_R$.
        kl_eps: the least eigenvalue that `kl` divides by, in units of the squared gradient.
        debias: correct statistics for their bias to 0, as NVIDIA's do. Bases do not depend on it, but those of `kl`.
        basis_dtype: the storage dtype of bases of real leaves, such as bfloat16; `None` for at least float32. They are
            made orthogonal again at each refresh, so what rounding takes from that does not add up: in bfloat16
            $\|Q^\top Q - 1\|$ stays at .004, and after 40 steps directions are 11 % off those of float32, for gradients
            whose spectra span three decades (`moments="int8"`: 3 %). Gradients of low rank need float32.
        batch_axes: how many of a leaf's first axes count matrices, such as scanned layers: each has bases of its own.

    Reference: Vyas et al., arXiv:2409.11321, Algorithm 3, and the official code of December 2024 on, which keeps the
    first moment in the bases and skips the first step.
    """

    shampoo_beta: Beta = 0.95
    frequency: int = static(default=10)
    max_precondition_dim: int = static(default=10_000)
    one_sided: bool = static(default=False)
    refresh_first: bool = static(default=False)
    staggered: bool = static(default=False)
    kl: bool = static(default=False)
    kl_eps: NonNegative = 1e-8
    debias: bool = static(default=False)
    basis_dtype: Any = static(default=None)
    batch_axes: int = static(default=0)
    elementwise = False
    preparing = property(lambda self: 0 if self.refresh_first else 1)

    def _slots(self) -> RotatedSlots:
        validate_dtype("basis_dtype", self.basis_dtype)
        for name, least in (("frequency", 1), ("max_precondition_dim", 0), ("batch_axes", 0)):
            validate_whole(name, getattr(self, name), least)
        rule = type(self.rule).__name__
        if not self.rule.elementwise or self.rule.measures:
            raise ValueError(f"Rotated({rule}) would mix elements that are mixed already: give it an elementwise rule")
        if any(slot.like_weights or slot.trails for slot in jax.tree.leaves(self.rule.slots)):
            raise ValueError(f"{rule} keeps weights, which are not turned: put it around, as {rule}(Rotated(...))")

        def of_axes(identity: bool, dtype: Any = None) -> OfAxes:
            init = lambda axis: lambda p, dtype: self._square(p, dtype, axis, identity)  # noqa: E731
            return OfAxes(*(Slot(init(axis), dtype=dtype, exact=True) for axis in range(len(OfAxes._fields))))

        return RotatedSlots(self.rule.slots, of_axes(identity=False), of_axes(identity=True, dtype=self.basis_dtype))

    slots = property(_slots)

    def step(self, g: Array, s: RotatedSlots, at: StepContext) -> tuple[Array, RotatedSlots]:
        if self.refresh_first:
            s = self._refreshed(g, s, at)
            u, inner = self._taken(g, s, at)
            return u, s._replace(inner=inner)
        first = at.t == 1
        u, inner = self._taken(g, s, dataclasses.replace(at, t=jnp.maximum(at.t - 1, 1)))
        inner = jax.tree.map(lambda new, old: jnp.where(first, old, new), inner, s.inner)
        return jnp.where(first, 0 * g, u), self._refreshed(g, s._replace(inner=inner), at)

    def _taken(self, g: Array, s: RotatedSlots, at: StepContext) -> tuple[Array, Any]:
        """The rule's step in the bases, seen from outside."""
        bases = s.bases[: g.ndim]
        at = dataclasses.replace(at, params=None if at.params is None else turned(at.params, bases))
        u, inner = self.rule.step(turned(g, bases), s.inner, at)
        return turned_back(u, bases), inner

    def _refreshed(self, g: Array, s: RotatedSlots, at: StepContext) -> RotatedSlots:
        """The slots after a gradient has entered the statistics, and those of the rule in the bases that follow."""
        old = s.bases[: g.ndim]
        axes = [axis for axis, q in enumerate(old) if q is not None]
        if not axes:
            return s
        b, finished = self.shampoo_beta, at.t - 1
        if self.debias:
            b = 1 - (1 - b) / bias_correction(b, at.t)
        stats, bases, orders = list(s.statistics), list(s.bases), [None] * g.ndim
        due = jnp.zeros([], bool)
        for axis in axes:
            offset = zlib.crc32(repr((g.shape, axis)).encode()) % self.frequency if self.staggered else 0
            now = (finished % self.frequency == offset) & (finished > 0)
            stats[axis] = ema(s.statistics[axis], self._statistics(g, s, axis, finished), b)
            what = jnp.where(finished == 0, START, jnp.where(now, REFRESH, KEEP))
            new, orders[axis] = at.together(basis_after, stats[axis], old[axis], shared=(what,))
            bases[axis] = jnp.where(what == KEEP, old[axis], new)  # tells XLA to cut the new one as the old
            due |= now
        tree = jax.tree.structure(self.rule.slots)

        def moved(values: list[Any]) -> list[Any]:
            """In the new bases: what can be negative is turned into them, the rest sorted like their vectors."""
            pairs = zip(jax.tree.leaves(self.rule.slots), values, strict=True)
            return [
                x
                if x is None or not x.ndim
                else rearranged(x, orders)
                if slot.nonnegative
                else turned(turned_back(x, old), bases[: g.ndim])
                for slot, x in pairs
            ]

        inner = jax.lax.cond(due, moved, lambda values: values, tree.flatten_up_to(s.inner))
        return RotatedSlots(tree.unflatten(inner), OfAxes(*stats), OfAxes(*bases))

    def _statistics(self, g: Array, s: RotatedSlots, axis: int, finished: Array) -> Array:
        if self.kl:
            size = math.prod(g.shape[self.batch_axes :]) / g.shape[axis]
            white = whitened(g, s.statistics, s.bases[: g.ndim], axis, self.kl_eps)
            g = jnp.where(finished == 0, g, white) / math.sqrt(size)
        return statistics(g, axis, s.statistics[axis])

    def _square(self, p: Array, dtype: Any, axis: int, identity: bool) -> Array | None:
        """What statistics and bases begin as: (..., n, n) for an axis of n that is turned; cut as the leaf is there."""
        if not self._turns(p.shape, axis):
            return None
        side = jnp.zeros_like(p, dtype=dtype).sum([i for i in range(self.batch_axes, p.ndim) if i != axis])
        n = p.shape[axis]
        first = jnp.eye(n, dtype=dtype) if identity else jnp.zeros((n, n), dtype)
        return side[..., None] + jnp.expand_dims(first, range(self.batch_axes))

    def _turns(self, shape: tuple[int, ...], axis: int) -> bool:
        """Whether an axis of a leaf of this shape is turned."""
        if len(shape) > len(OfAxes._fields):
            raise ValueError(
                f"a leaf of shape {shape} has more than {len(OfAxes._fields)} axes: give it to another rule"
            )
        own = shape[self.batch_axes :]
        if len(own) < 2 or not self.batch_axes <= axis < len(shape) or not 1 < shape[axis] <= self.max_precondition_dim:
            return False
        return not self.one_sided or axis - self.batch_axes == own.index(min(own))
