"""How a rule's slots are stored for one leaf: which format each has, and the way there and back."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._random import Noise
from ._rule import Rule, Slot
from ._typing import Array
from .moments import Format, Moments, form_of, format_of, formats
from .moments.codes import CODES
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
        for i, (slot, kind, shape) in enumerate(zip(self.slots, self.formats, shapes, strict=True)):
            dense = real_dtype(wide) if slot.nonnegative else wide
            if self.has_mu_dtype(i) and dense.kind != "c":
                chosen.append(Dense(self.mu_dtype))
            else:
                chosen.append(format_of(kind, slot, shape or (), leaf, dense))
        return chosen

    def formats_stored(self, stored: list[Any], wide: np.dtype) -> list[Format]:
        """The formats of what is stored, whatever part of its leaf one sees (in `vmap` and `shard_map`)."""
        return [
            form_of(x, "float32" if self.has_mu_dtype(i) else kind, real_dtype(wide) if slot.nonnegative else wide)
            for i, (slot, kind, x) in enumerate(zip(self.slots, self.formats, stored, strict=True))
        ]

    def has_mu_dtype(self, i: int) -> bool:
        """Whether slot `i` of a real leaf is stored in a dtype of its own."""
        return self.mu_dtype is not None and self.names[i].split(".")[-1] == "mu"

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
