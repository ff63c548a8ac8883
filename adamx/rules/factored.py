"""A second moment kept as the means of its rows and columns, for Adafactor and CAME (arXiv:1804.04235, section 3)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Scalar
from .._math import div_no_nan, ema
from .._rule import Slot, StepContext

Axes = tuple[int, int] | None


class Factors(NamedTuple):
    """A second moment as the means of its rows and columns, or in full where a leaf is not factored."""

    row: Any
    col: Any
    full: Any

    def towards(self, square: Array, b: Scalar, axes: Axes, at: StepContext) -> "Factors":
        """One step of the averages."""
        if axes is None:
            return Factors(None, None, ema(self.full, square, b))
        row, col = (
            ema(old, at.mean(square, axis), b) for old, axis in zip((self.row, self.col), axes[::-1], strict=True)
        )
        return Factors(row, col, None)

    def whole(self, axes: Axes, floor: Scalar = 0.0) -> Array:
        """The moment itself: row times column, divided by the mean of the rows (at least `floor`)."""
        if axes is None:
            return self.full
        row, col = jnp.expand_dims(self.row, axes[1]), jnp.expand_dims(self.col, axes[0])
        mean = jnp.maximum(row.mean(axes[0], keepdims=True), floor)
        return div_no_nan(row, mean) * col


def factored_axes(shape: tuple[int, ...], least: int, last: bool) -> Axes:
    """The two axes that rows and columns run along: the largest, or the last; `None` if either is under `least`."""
    if len(shape) < 2:
        return None
    order = range(len(shape)) if last else sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
    axes = (order[-2], order[-1])
    return axes if min(shape[axis] for axis in axes) >= max(least, 1) else None


def factor_slots(axes_of: Any) -> Factors:
    """Slots for the two factors of the leaves that `axes_of(shape)` factors, and for the whole of the others."""

    def without(p: Array, dtype: Any, side: int) -> Array | None:
        axes = axes_of(p.shape)
        # Summed up like the squares to come, so that it is sharded as they will be.
        return None if axes is None else jnp.zeros_like(p, dtype=dtype).sum(axes[side])

    def whole(p: Array, dtype: Any) -> Array | None:
        return jnp.zeros_like(p, dtype=dtype) if axes_of(p.shape) is None else None

    return Factors(
        row=Slot(init=lambda p, dtype: without(p, dtype, 1), nonnegative=True),
        col=Slot(init=lambda p, dtype: without(p, dtype, 0), nonnegative=True),
        full=Slot(init=whole, nonnegative=True),
    )
