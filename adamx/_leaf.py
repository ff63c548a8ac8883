"""The step of one leaf: decode and widen the inputs, apply the rule, narrow and encode the results."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._annotations import Array
from ._layout import Layout, real_dtype, wide_dtype
from ._math import added_up, dtype_of, parts, whole
from ._rule import StepContext
from ._weights import Rounding
from .moments import Format, is_code
from .moments.dense import Dense
from .moments.noise import Noise

StepResult = tuple[Array, list[Any], Array | None]
"""The result of a leaf's step: the new parameter (or the update), the stored slots, and the weight's residual."""


class Leaf(NamedTuple):
    """The inputs of one leaf's step.

    Attributes:
        path: the leaf's path in the tree.
        g: the gradient.
        p: the parameter, if given.
        stored: the slots as they are stored.
        decays: whether the weight-decay mask covers it.
        rounding: how a 16-bit weight is rounded; `None` for float32, or if the caller rounds.
        residual: the rounding error kept beside the weight.
    """

    path: _leaves.Path
    g: Array
    p: Array | None
    stored: list[Any]
    decays: bool
    rounding: Rounding | None
    residual: Array | None


class SharedInputs:
    """The inputs of a step that all leaves share: the rule with schedules resolved, the step number, the scale.

    Attributes:
        rule_as_given: the rule, its numbers in the dtypes that the caller gave.
        count: the number of the step, from 1.
        grad_scale: the factor of all gradients; `None` for 1.
        sums: `axis_names` and `in_stages` of `StepContext`.
        begun: the number of steps that were finished when these leaves began; `None` for 0.
    """

    def __init__(
        self, rule: Any, count: Array, grad_scale: Any = None, sums: Any = ((), False), begun: Any = None
    ) -> None:
        self.count, self.grad_scale, self.sums, self.begun = count, grad_scale, sums, begun
        self.rule_as_given = rule
        self._made: dict[Any, Any] = {}

    def rule(self, real: np.dtype) -> Any:
        """The rule with its arrays cast to a real dtype; Python numbers stay."""

        def numbers(x: Any) -> Any:
            return float(x) if isinstance(x, (int, float)) else jnp.asarray(x, real)

        return self.once(("rule", real), lambda: jax.tree.map(numbers, self.rule_as_given))

    def t(self, real: np.dtype) -> Array:
        """The number of these leaves' step in a real dtype."""
        t = self.count if self.begun is None else self.count - self.begun
        return self.once(("t", real), lambda: t.astype(real))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, computed for the first leaf that asks and cached for the others."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of one leaf. Stored slots are decoded and widened on first use. `largest` is of `Layout.encode`."""

    leaf: Leaf
    layout: Layout
    shared: SharedInputs
    noise: Noise
    largest: list[Any] | None = None

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
        """The context of the step; its parameter is the master weight if there is one."""
        leaf, p = self.leaf, self.leaf.p
        if leaf.rounding is not None:
            p = leaf.rounding.master(jnp.asarray(p), leaf.residual)
        p = None if p is None else jnp.asarray(p, self.wide)
        dtype = None if leaf.p is None else self.wide if leaf.rounding is not None else dtype_of(leaf.p)
        return StepContext(self.shared.t(real_dtype(self.wide)), p, leaf.decays, None, dtype, *self.shared.sums)

    @functools.cached_property
    def g(self) -> Array:
        """The gradient."""
        g = jnp.asarray(self.leaf.g, self.wide)
        return g if self.shared.grad_scale is None else g * self.shared.grad_scale.astype(self.wide)

    @functools.cached_property
    def slots(self) -> Any:
        """The rule's slots."""
        return self.layout.decode(self.leaf.stored, self.formats, self.wide)

    def measure(self) -> Any:
        """The rule's measure of this leaf."""
        with self._named():
            measure = self.rule.measure(self.g, self.slots, self.at)
        return jax.tree.map(lambda x: added_up(x, self.at.axis_names), measure)

    def compute(self, total: Any) -> tuple[Array, Any]:
        """The rule's direction and new slots before rounding; `total` is the rule's `measure` over all leaves."""
        at = dataclasses.replace(self.at, total=jax.tree.map(lambda x: x.astype(self.at.t.dtype), total))
        tree, g = self.layout.tree, self.g
        old = tree.flatten_up_to(self.slots)
        apart = self.layout.apart and jnp.iscomplexobj(g)
        if apart:  # the rule sees real and imaginary part as two real numbers
            g, old = parts(g), self.layout.parts(old)
            given = None if at.params is None else parts(at.params)
            at = dataclasses.replace(at, params=given, dtype=None if at.dtype is None else real_dtype(at.dtype))
        with self._named():
            direction, slots = self.rule.step(g, tree.unflatten(old), at)
        new = tree.flatten_up_to(slots)
        self._check_shape("direction", direction, g)
        for name, x, x_old in zip(self.layout.names, new, old, strict=True):
            self._check_shape(name, x, x_old)
        return (whole(direction), tree.unflatten(self.layout.wholes(new))) if apart else (direction, slots)

    def update(self, total: Any) -> StepResult:
        """The update in the gradient's dtype, the stored slots, and the weight's residual.

        With a rounding mode, the update is the float32 difference of the new and the old weight.
        """
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return direction.astype(dtype_of(self.leaf.g)), self._stored(slots), None
        new, residual = self._rounded(direction)
        return _change(jnp.asarray(self.leaf.p), new), self._stored(slots), residual

    def apply(self, total: Any) -> StepResult:
        """The new weight, the stored slots, and the weight's residual."""
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return (self.at.p + direction).astype(dtype_of(self.leaf.p)), self._stored(slots), None
        new, residual = self._rounded(direction)
        return new, self._stored(slots), residual

    def _stored(self, slots: Any) -> list[Any]:
        codes = self.layout.encode(self.layout.tree.flatten_up_to(slots), self.formats, self.noise, self.largest)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), codes, self.leaf.stored)

    def _rounded(self, direction: Array) -> tuple[Array, Array | None]:
        """The rounded new weight, and its residual."""
        rounding, noise = cast(Rounding, self.leaf.rounding), self.noise.to(len(self.layout.slots) - self.layout.trails)
        old = jnp.asarray(self.leaf.p)
        master = (self.at.p + direction).astype(jnp.float32)
        new = rounding.weight(master, old.dtype, noise)
        # Rounded as `optax.apply_updates` rounds the result of `update`, so that `step` and `update` agree.
        landed = (old.astype(jnp.float32) + _change(old, new)).astype(old.dtype)
        return landed, rounding.residual(master, landed, noise)

    def _check_shape(self, name: str, new: Any, old: Any) -> None:
        if (new is None) != (old is None) or (old is not None and jnp.shape(new) != jnp.shape(old)):
            shapes = tuple("None" if x is None else jnp.shape(x) for x in (new, old))
            rule, where = type(self.rule).__name__, _leaves.show("grads", self.leaf.path)
            raise ValueError(f"{rule}.step gave a {name} of shape {shapes[0]} for {where}: it should be {shapes[1]}")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the leaf. Complex leaves mix real and complex numbers on purpose; all else is of one dtype."""
        try:
            with jax.numpy_dtype_promotion("standard") if jnp.iscomplexobj(self.g) else contextlib.nullcontext():
                yield
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            raise ValueError(f"{_leaves.show('grads', self.leaf.path)}: {error}") from error


def _change(old: Array, new: Array) -> Array:
    """The float32 difference of two 16-bit weights; 0 where both are the same infinity."""
    return jnp.where(new == old, 0, new.astype(jnp.float32) - old.astype(jnp.float32))
