"""One leaf's step: check what came in, widen it to one dtype, take the rule's step, narrow what goes out."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._rule import At, Rule, Slot
from ._typing import Array


class Layout(NamedTuple):
    """A rule's slots in order, their dotted names, and the structure that holds them."""

    names: list[str]
    slots: list[Slot]
    tree: Any

    @classmethod
    def of(cls, rule: Rule[Any]) -> "Layout":
        """The layout of `rule.slots`."""
        pairs, tree = jax.tree_util.tree_flatten_with_path(rule.slots)
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in pairs]
        return cls(names, [slot for _, slot in pairs], tree)


class Leaf(NamedTuple):
    """What one leaf brings to a step: its gradient, its parameter if given, its slots as stored, whether it decays."""

    path: _leaves.Path
    g: Array
    p: Array | None
    stored: list[Array | None]
    decays: bool

    def check(self, layout: Layout) -> None:
        """Raise, naming the leaf, unless gradient, parameter and slots belong together."""
        shape, where = jnp.shape(self.g), _leaves.show("grads", self.path)
        if self.p is not None and jnp.shape(self.p) != shape:
            raise ValueError(f"{where} has shape {shape}, its parameter {jnp.shape(self.p)}")
        if self.p is not None and jnp.iscomplexobj(self.p) != jnp.iscomplexobj(self.g):
            kinds = ("complex", "real") if jnp.iscomplexobj(self.g) else ("real", "complex")
            raise TypeError(f"{where} is {kinds[0]}, its parameter {kinds[1]}: make both the same")
        for name, slot, x in zip(layout.names, layout.slots, self.stored, strict=True):
            if x is not None and x.shape == shape:
                continue
            like = self.g if self.p is None else self.p
            wanted = jax.eval_shape(lambda p, slot=slot: slot.init(p, dtype=np.float32), like)
            if x is None and wanted is not None:
                raise ValueError(f"{where} is an array where `init` was given None")
            if x is not None and (wanted is None or x.shape != wanted.shape):
                raise ValueError(
                    f"{where} has shape {shape}, but {name} of its state has {x.shape}: the state was made from other "
                    "parameters"
                )


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of one leaf, everything widened to one dtype and ready to be taken."""

    leaf: Leaf
    layout: Layout
    rule: Rule[Any]
    g: Array
    slots: Any
    at: At

    @classmethod
    def of(cls, leaf: Leaf, layout: Layout, resolved: Callable[[np.dtype], tuple[Rule[Any], Array]]) -> "Step":
        """Widen a leaf; `resolved` gives the rule and the step's number in a real dtype."""
        wide = wide_dtype(leaf.g, leaf.p, *leaf.stored)
        real = real_dtype(wide)
        arrays = [
            x if x is None else x.astype(real if slot.nonnegative else wide)
            for slot, x in zip(layout.slots, leaf.stored, strict=True)
        ]
        rule, t = resolved(real)
        p, dtype = (None, None) if leaf.p is None else (jnp.asarray(leaf.p, wide), jnp.result_type(leaf.p))
        at = At(t, p, leaf.decays, dtype=dtype)
        return cls(leaf, layout, rule, jnp.asarray(leaf.g, wide), layout.tree.unflatten(arrays), at)

    def measure(self) -> Any:
        """The rule's measure of this leaf."""
        with self._promotion():
            return self.rule.measure(self.g, self.slots, self.at)

    def take(self, total: Any) -> tuple[Array, list[Array | None]]:
        """The direction in the gradient's dtype, and the slots in the dtypes that they are stored in."""
        at = dataclasses.replace(self.at, total=jax.tree.map(lambda x: x.astype(self.at.t.dtype), total))
        with self._promotion():
            direction, slots = self.rule.step(self.g, self.slots, at)
        new = self.layout.tree.flatten_up_to(slots)
        self._check_shape("direction", direction, self.g)
        for name, x, old in zip(self.layout.names, new, self.leaf.stored, strict=True):
            self._check_shape(name, x, old)
        narrowed = [x if x is None else y.astype(x.dtype) for y, x in zip(new, self.leaf.stored, strict=True)]
        return direction.astype(jnp.result_type(self.leaf.g)), narrowed

    def _check_shape(self, name: str, new: Any, old: Any) -> None:
        if (new is None) != (old is None) or (old is not None and jnp.shape(new) != jnp.shape(old)):
            shapes = tuple("None" if x is None else jnp.shape(x) for x in (new, old))
            rule, where = type(self.rule).__name__, _leaves.show("grads", self.leaf.path)
            raise ValueError(f"{rule}.step gave a {name} of shape {shapes[0]} for {where}: it should be {shapes[1]}")

    def _promotion(self) -> Any:
        """Within a complex leaf real and complex numbers mix on purpose; everything else is of one dtype."""
        return jax.numpy_dtype_promotion("standard") if jnp.iscomplexobj(self.g) else contextlib.nullcontext()


def start(slot: Slot, p: Array, dtype: Any) -> Array | None:
    """A slot's first value, in `dtype` if the leaf is real and a dtype is asked for, else in at least float32."""
    wide = wide_dtype(p)
    if slot.nonnegative:
        wide = real_dtype(wide)
    return slot.init(p, dtype=wide if dtype is None or wide.kind == "c" else dtype)


def wide_dtype(*arrays: Any) -> np.dtype:
    """The dtype that a leaf is computed in: the widest of its arrays, and at least float32."""
    dtypes = (jnp.result_type(x) for x in arrays if x is not None)
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of its real part."""
    return np.finfo(dtype).dtype
