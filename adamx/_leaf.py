"""One leaf's step: check what came in, decode and widen it, take the rule's step, narrow and encode what goes out."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._random import Noise
from ._rule import At, Rule, Slot
from ._typing import Array
from ._weights import Rounding
from .moments import Format, Moments, check_groups, form_of, format_of, formats
from .moments.codes import CODES, FloatCode
from .moments.dense import Dense
from .moments.int8 import Ratio


class Layout(NamedTuple):
    """A rule's slots in order, their dotted names, the structure that holds them, and how each is stored."""

    names: list[str]
    paths: list[tuple[Any, ...]]
    slots: list[Slot]
    tree: Any
    formats: list[str]
    mu_dtype: Any

    @classmethod
    def of(cls, rule: Rule[Any], moments: Moments, mu_dtype: Any) -> "Layout":
        """The layout of `rule.slots`."""
        pairs, tree = jax.tree_util.tree_flatten_with_path(rule.slots)
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in pairs]
        return cls(
            names, [path for path, _ in pairs], [slot for _, slot in pairs], tree, formats(moments, names), mu_dtype
        )

    def formats_of(self, leaf: tuple[int, ...], shapes: list[tuple[int, ...] | None], wide: np.dtype) -> list[Format]:
        """Each slot's format for a leaf of shape `leaf` that is computed in `wide`, its slots having these shapes."""
        chosen = []
        for name, slot, kind, shape in zip(self.names, self.slots, self.formats, shapes, strict=True):
            dense = real_dtype(wide) if slot.nonnegative else wide
            if self._has_mu_dtype(name) and dense.kind != "c":
                chosen.append(Dense(self.mu_dtype))
            else:
                chosen.append(format_of(kind, slot, shape or (), leaf, dense))
        return chosen

    def formats_stored(self, stored: list[Any], wide: np.dtype) -> list[Format]:
        """The formats of what is stored, whatever part of its leaf one sees (in `vmap` and `shard_map`)."""
        return [
            form_of(x, "float32" if self._has_mu_dtype(name) else kind, real_dtype(wide) if slot.nonnegative else wide)
            for name, slot, kind, x in zip(self.names, self.slots, self.formats, stored, strict=True)
        ]

    def _has_mu_dtype(self, name: str) -> bool:
        return self.mu_dtype is not None and name.split(".")[-1] == "mu"

    def start(self, p: Array, noise: Noise) -> list[Any]:
        """Each slot's first stored value for a leaf of the parameters."""
        wide = wide_dtype(p)
        first = [slot.init(p, dtype=real_dtype(wide) if slot.nonnegative else wide) for slot in self.slots]
        chosen = self.formats_of(jnp.shape(p), [None if x is None else x.shape for x in first], wide)
        # Coding constants is done by XLA's compiler itself, at a minute for a large leaf, unless it is kept from it.
        first = jax.lax.optimization_barrier(first)
        return self.encode(first, chosen, noise)

    def encode(self, values: list[Array | None], chosen: list[Format], noise: Noise) -> list[Any]:
        """Slots to what they are stored as, measured in each other where a slot has a unit."""
        slots = self.tree.unflatten(values)
        return [
            None if x is None else form.encode(x, self._unit(i, slots, form), noise.to(i))
            for i, (x, form) in enumerate(zip(values, chosen, strict=True))
        ]

    def decode(self, stored: list[Any], chosen: list[Format], wide: np.dtype) -> Any:
        """What is stored to the slots themselves, those first that others are measured in."""
        values: list[Array | None] = [None] * len(stored)
        measured = [slot.unit is not None and isinstance(x, CODES) for slot, x in zip(self.slots, stored, strict=True)]
        for turn in (False, True):
            slots = self.tree.unflatten(values)
            for i, (slot, code, form) in enumerate(zip(self.slots, stored, chosen, strict=True)):
                if code is not None and measured[i] == turn:
                    dtype = real_dtype(wide) if slot.nonnegative else wide
                    values[i] = form.decode(code, self._unit(i, slots, form)).astype(dtype)
        return self.tree.unflatten(values)

    def _unit(self, i: int, slots: Any, form: Format) -> Array | None:
        """What slot `i` is measured in: its unit is a function of the NamedTuple that it stands in."""
        unit = self.slots[i].unit
        if unit is None or not isinstance(form, Ratio):
            return None
        for key in self.paths[i][:-1]:
            slots = getattr(slots, key.name)
        return unit(slots)


Landed = tuple[Array, list[Any], Array | None]
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

    def check(self, layout: Layout) -> None:
        """Raise, naming the leaf, unless gradient, parameter and slots belong together."""
        shape, where = jnp.shape(self.g), _leaves.show("grads", self.path)
        if self.p is not None and jnp.shape(self.p) != shape:
            raise ValueError(f"{where} has shape {shape}, its parameter {jnp.shape(self.p)}")
        kept = None
        if self.rounding is not None and self.p is not None:
            kept = jax.eval_shape(self.rounding.start, self.p)
        if _form(kept) != _form(self.residual):
            raise ValueError(
                f"beside the parameter of {where} the state keeps {_form(self.residual)}, the optimizer {_form(kept)}: "
                "the state was made with another `weights` or for parameters of another dtype. To go on from it, take "
                "`master_params` and make a new one with `from_master`"
            )
        if self.p is not None and jnp.iscomplexobj(self.p) != jnp.iscomplexobj(self.g):
            kinds = ("complex", "real") if jnp.iscomplexobj(self.g) else ("real", "complex")
            raise TypeError(f"{where} is {kinds[0]}, its parameter {kinds[1]}: make both the same")
        for name, slot, kind, x in zip(layout.names, layout.slots, layout.formats, self.stored, strict=True):
            if isinstance(x, CODES) and (kind == "float32" or isinstance(x, FloatCode) != (kind == "bfloat16")):
                raise ValueError(
                    f"{name} of {where} is stored as {type(x).__name__} in the state, but the optimizer keeps it in "
                    f"{kind}: convert the state with `unpack_state` and `pack_state`"
                )
            if isinstance(x, CODES):
                check_groups(x, f"{name} of {where}")
            if x is not None and stored_shape(x) == shape:
                continue
            like = self.g if self.p is None else self.p
            wanted = jax.eval_shape(lambda p, slot=slot: slot.init(p, dtype=np.float32), like)
            if x is None and wanted is not None:
                raise ValueError(f"{where} is an array where `init` was given None")
            if x is not None and (wanted is None or stored_shape(x) != wanted.shape):
                raise ValueError(
                    f"{where} has shape {shape}, but {name} of its state has {stored_shape(x)}: the state was made "
                    "from other parameters"
                )


class Now:
    """What all leaves share in one step: the rule with its schedules at their values, the step's number, a factor.

    Attributes:
        count: the number of the step, from 1.
        grad_scale: what gradients are multiplied with; `None` for nothing.
    """

    def __init__(self, rule: Rule[Any], count: Array, grad_scale: Array | None = None) -> None:
        self.count, self.grad_scale = count, grad_scale
        self._rule = rule
        self._made: dict[Any, Any] = {}

    def rule(self, real: np.dtype) -> Any:
        """The rule, its numbers in a real dtype; those of Python stay what they are."""

        def numbers(x: Any) -> Any:
            return float(x) if isinstance(x, (int, float)) else jnp.asarray(x, real)

        return self.once(("rule", real), lambda: jax.tree.map(numbers, self._rule))

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
    now: Now
    noise: Noise

    @functools.cached_property
    def wide(self) -> np.dtype:
        """The dtype that this leaf is computed in."""
        return wide_dtype(self.leaf.g, self.leaf.p, *(x for x in self.leaf.stored if not isinstance(x, CODES)))

    @functools.cached_property
    def formats(self) -> list[Format]:
        """How each slot is stored."""
        return self.layout.formats_stored(self.leaf.stored, self.wide)

    @functools.cached_property
    def rule(self) -> Any:
        """The rule, its numbers in this leaf's precision."""
        return self.now.rule(real_dtype(self.wide))

    @functools.cached_property
    def at(self) -> At:
        """Where the step is taken: from the master of a weight that has one."""
        leaf, p = self.leaf, self.leaf.p
        if leaf.rounding is not None:
            p = leaf.rounding.master(jnp.asarray(p), leaf.residual)
        p = None if p is None else jnp.asarray(p, self.wide)
        dtype = None if leaf.p is None else jnp.result_type(leaf.p)
        return At(self.now.t(real_dtype(self.wide)), p, leaf.decays, dtype=dtype)

    @functools.cached_property
    def g(self) -> Array:
        """The gradient."""
        g = jnp.asarray(self.leaf.g, self.wide)
        return g if self.now.grad_scale is None else g * self.now.grad_scale.astype(real_dtype(self.wide))

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
        with self._promotion():
            direction, slots = self.rule.step(self.g, self.slots, at)
        self._check_shape("direction", direction, self.g)
        old = self.layout.tree.flatten_up_to(self.slots)
        for name, x, x_old in zip(self.layout.names, self.layout.tree.flatten_up_to(slots), old, strict=True):
            self._check_shape(name, x, x_old)
        return direction, slots

    def update(self, total: Any) -> Landed:
        """The direction in the gradient's dtype, the slots as they are stored, and the weight's residual.

        With a rounding the direction is the float32 difference of two weights in their own dtype.
        """
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return direction.astype(jnp.result_type(self.leaf.g)), self._stored(slots), None
        new, residual = self._rounded(direction)
        return _change(jnp.asarray(self.leaf.p), new), self._stored(slots), residual

    def land(self, total: Any) -> Landed:
        """The new weight, the slots as they are stored, and the weight's residual."""
        direction, slots = self.compute(total)
        if self.leaf.rounding is None:
            return (self.at.p + direction).astype(jnp.result_type(self.leaf.p)), self._stored(slots), None
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


def _form(x: Any) -> str:
    return "nothing" if x is None else f"{x.dtype}{list(x.shape)}"


def stored_shape(x: Any) -> tuple[int, ...]:
    """The shape of the slot that is stored as `x`."""
    return x.code.shape if isinstance(x, CODES) else x.shape


def wide_dtype(*arrays: Any) -> np.dtype:
    """The dtype that a leaf is computed in: the widest of its arrays, and at least float32."""
    dtypes = (jnp.result_type(x) for x in arrays if x is not None)
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of its real part."""
    return np.finfo(dtype).dtype
