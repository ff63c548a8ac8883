"""One leaf's step: decode and widen what came in, take the rule's step, narrow and encode what goes out."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._annotations import Array
from ._layout import Layout, real_dtype, wide_dtype
from ._math import dtype_of, parts, whole
from ._noise import Noise
from ._rule import Rule, StepContext
from ._weights import Rounding
from .moments import Format, is_code
from .moments.dense import Dense

StepResult = tuple[Array, list[Any], Array | None]
"""What a step gives: the new parameter (or the direction), the slots as they are stored, and the weight's residual."""


class Leaf(NamedTuple):
    """What one leaf brings to a step.

    Attributes:
        path: where it stands in the tree.
        g: its gradient.
        p: its parameter, if given.
        stored: its slots as they are stored.
        decays: whether the weight-decay mask covers it.
        rounding: how its weight takes the step, if that is not to be left to the caller.
        residual: what is kept beside the weight for it.
    """

    path: _leaves.Path
    g: Array
    p: Array | None
    stored: list[Any]
    decays: bool
    rounding: Rounding | None
    residual: Array | None


class SharedInputs:
    """What all leaves share in one step: the rule with its schedules at their values, the step's number, a factor.

    Attributes:
        rule_as_given: the rule, its numbers in the dtypes in which they came.
        count: the number of the step, from 1.
        grad_scale: what gradients are multiplied with; `None` for nothing.
    """

    def __init__(self, rule: Rule[Any], count: Array, grad_scale: Array | None = None) -> None:
        self.count, self.grad_scale = count, grad_scale
        self.rule_as_given = rule
        self._made: dict[Any, Any] = {}

    def rule(self, real: np.dtype) -> Any:
        """The rule, its numbers in a real dtype; those of Python stay what they are."""

        def numbers(x: Any) -> Any:
            return float(x) if isinstance(x, (int, float)) else jnp.asarray(x, real)

        return self.once(("rule", real), lambda: jax.tree.map(numbers, self.rule_as_given))

    def t(self, real: np.dtype) -> Array:
        """The number of the step in a real dtype."""
        return self.once(("t", real), lambda: self.count.astype(real))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made for the first leaf that asks and kept for the others."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of one leaf, ready to be taken. What is stored is decoded and widened when it is asked for."""

    leaf: Leaf
    layout: Layout
    shared: SharedInputs
    noise: Noise

    @functools.cached_property
    def wide(self) -> np.dtype:
        """The dtype that this leaf is computed in."""
        return wide_dtype(self.leaf.g, self.leaf.p, *(x for x in self.leaf.stored if not is_code(x)))

    @functools.cached_property
    def formats(self) -> list[Format]:
        """How each slot is stored."""
        return self.layout.formats_stored(self.leaf.stored, self.wide)

    @property
    def is_random(self) -> bool:
        """Whether it draws random bits."""
        return self.leaf.rounding is not None or not all(isinstance(form, Dense) for form in self.formats)

    @functools.cached_property
    def rule(self) -> Any:
        """The rule, its numbers in this leaf's precision."""
        return self.shared.rule(real_dtype(self.wide))

    @functools.cached_property
    def at(self) -> StepContext:
        """Where the step is taken: from the master of a weight that has one."""
        leaf, p = self.leaf, self.leaf.p
        if leaf.rounding is not None:
            p = leaf.rounding.master(jnp.asarray(p), leaf.residual)
        p = None if p is None else jnp.asarray(p, self.wide)
        dtype = None if leaf.p is None else dtype_of(leaf.p)
        return StepContext(self.shared.t(real_dtype(self.wide)), p, leaf.decays, dtype=dtype)

    @functools.cached_property
    def g(self) -> Array:
        """The gradient."""
        g = jnp.asarray(self.leaf.g, self.wide)
        return g if self.shared.grad_scale is None else g * self.shared.grad_scale.astype(real_dtype(self.wide))

    @functools.cached_property
    def slots(self) -> Any:
        """The rule's slots."""
        return self.layout.decode(self.leaf.stored, self.formats, self.wide)

    def measure(self) -> Any:
        """The rule's measure of this leaf."""
        with self._promotion():
            return self.rule.measure(self.g, self.slots, self.at)

    def compute(self, total: Any) -> tuple[Array, Any]:
        """The rule's direction and new slots, `total` being its measure of all leaves, before anything is rounded."""
        at = dataclasses.replace(self.at, total=jax.tree.map(lambda x: x.astype(self.at.t.dtype), total))
        tree, g = self.layout.tree, self.g
        old = tree.flatten_up_to(self.slots)
        apart = self.layout.apart and jnp.iscomplexobj(g)
        if apart:  # to the rule each of the two parts is a real number of its own
            g, old = parts(g), self.layout.parts(old)
            given = None if at.params is None else parts(at.params)
            at = dataclasses.replace(at, params=given, dtype=None if at.dtype is None else real_dtype(at.dtype))
        with self._promotion():
            direction, slots = self.rule.step(g, tree.unflatten(old), at)
        new = tree.flatten_up_to(slots)
        self._check_shape("direction", direction, g)
        for name, x, x_old in zip(self.layout.names, new, old, strict=True):
            self._check_shape(name, x, x_old)
        return (whole(direction), tree.unflatten(self.layout.wholes(new))) if apart else (direction, slots)

    def update(self, total: Any) -> StepResult:
        """The direction in the gradient's dtype, the slots as they are stored, and the weight's residual.

        With a rounding the direction is the float32 difference of two weights in their own dtype.
        """
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return direction.astype(dtype_of(self.leaf.g)), self._stored(slots), None
        new, residual = self._rounded(direction)
        return _change(jnp.asarray(self.leaf.p), new), self._stored(slots), residual

    def apply(self, total: Any) -> StepResult:
        """The new weight, the slots as they are stored, and the weight's residual."""
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return (self.at.p + direction).astype(dtype_of(self.leaf.p)), self._stored(slots), None
        new, residual = self._rounded(direction)
        return new, self._stored(slots), residual

    def _stored(self, slots: Any) -> list[Any]:
        codes = self.layout.encode(self.layout.tree.flatten_up_to(slots), self.formats, self.noise)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), codes, self.leaf.stored)

    def _rounded(self, direction: Array) -> tuple[Array, Array | None]:
        """The new weight as its rounding makes it, and what it keeps beside it."""
        rounding, noise = cast(Rounding, self.leaf.rounding), self.noise.to(len(self.layout.slots))
        old = jnp.asarray(self.leaf.p)
        master = (self.at.p + direction).astype(jnp.float32)
        new = rounding.weight(master, old.dtype, noise)
        # As `optax.apply_updates` makes it of what `update` gives, whichever of the two is called.
        landed = (old.astype(jnp.float32) + _change(old, new)).astype(old.dtype)
        return landed, rounding.residual(master, landed, noise)

    def _check_shape(self, name: str, new: Any, old: Any) -> None:
        if (new is None) != (old is None) or (old is not None and jnp.shape(new) != jnp.shape(old)):
            shapes = tuple("None" if x is None else jnp.shape(x) for x in (new, old))
            rule, where = type(self.rule).__name__, _leaves.show("grads", self.leaf.path)
            raise ValueError(f"{rule}.step gave a {name} of shape {shapes[0]} for {where}: it should be {shapes[1]}")

    def _promotion(self) -> Any:
        """Within a complex leaf real and complex numbers mix on purpose; everything else is of one dtype."""
        return jax.numpy_dtype_promotion("standard") if jnp.iscomplexobj(self.g) else contextlib.nullcontext()


def _change(old: Array, new: Array) -> Array:
    """From one narrow weight to the next, float32; 0 where both are the same infinity."""
    return jnp.where(new == old, 0, new.astype(jnp.float32) - old.astype(jnp.float32))
