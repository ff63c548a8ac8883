"""How a rule's slots are stored for one leaf: the format of each, encoding and decoding."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._annotations import Array
from ._math import dtype_of, parts, whole
from ._rule import Rule, Slot
from .moments import Format, MomentFormats, format_of, format_stored, formats, group_largest, is_code
from .moments.dense import Dense
from .moments.noise import Noise


class Layout(NamedTuple):
    """A rule's slots in order, their dotted names, the tree that holds them, and how each is stored.

    `real` tells which slots of a complex leaf are real. With `apart`, the rule sees real and imaginary parts as real
    numbers, and a slot with a number for each part is stored as a complex array.
    """

    names: tuple[str, ...]
    paths: tuple[tuple[Any, ...], ...]
    slots: tuple[Slot, ...]
    tree: Any
    formats: tuple[str, ...]
    mu_dtype: Any
    real: tuple[bool, ...]
    apart: bool

    @classmethod
    def of(cls, rule: Rule[Any], moments: MomentFormats, mu_dtype: Any, apart: bool = False) -> "Layout":
        """The layout of `rule.slots`."""
        pairs, tree = jax.tree_util.tree_flatten_with_path(rule.slots)
        names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in pairs)
        paths, slots = tuple(path for path, _ in pairs), tuple(slot for _, slot in pairs)
        real = tuple(not of_elements(slot) if apart else slot.nonnegative for slot in slots)
        chosen = formats(moments, names, [name for name, slot in zip(names, slots, strict=True) if slot.exact])
        return cls(names, paths, slots, tree, tuple(chosen), mu_dtype, real, apart)

    def formats_of(self, leaf: tuple[int, ...], shapes: list[tuple[int, ...] | None], wide: np.dtype) -> list[Format]:
        """Each slot's format for a leaf of shape `leaf` that is computed in `wide`, its slots having these shapes."""
        chosen = []
        for i, (slot, kind, shape) in enumerate(zip(self.slots, self.formats, shapes, strict=True)):
            dense, own = self.dtype(i, wide), self.own_dtype(i)
            is_given = own is not None and dense.kind != "c"
            chosen.append(Dense(own) if is_given else format_of(kind, slot, shape or (), leaf, dense))
        return chosen

    def formats_stored(self, stored: list[Any], wide: np.dtype) -> list[Format]:
        """The formats of stored slots, also of a part of a leaf (in `vmap` and `shard_map`)."""
        return [
            format_stored(x, kind if self.own_dtype(i) is None else "float32", self.dtype(i, wide))
            for i, (kind, x) in enumerate(zip(self.formats, stored, strict=True))
        ]

    def dtype(self, i: int, wide: np.dtype) -> np.dtype:
        """The dtype that slot `i` is decoded to, for a leaf that is computed in `wide`."""
        return real_dtype(wide) if self.real[i] else wide

    def own_dtype(self, i: int) -> Any:
        """The storage dtype given for slot `i` of a real leaf; `None` if none was given."""
        is_mu = self.mu_dtype is not None and self.names[i].split(".")[-1] == "mu"
        given = self.mu_dtype if is_mu else self.slots[i].dtype
        return None if given is None else jax.dtypes.canonicalize_dtype(given)

    @property
    def trails(self) -> int:
        """How many of the slots follow the weights: the last ones."""
        return sum(slot.trails for slot in self.slots)

    def start(self, p: Array, noise: Noise) -> list[Any]:
        """The initial stored slots for a leaf of the parameters."""
        wide = wide_dtype(p)
        if self.apart and wide.kind == "c":
            first = self.wholes([slot.init(parts(p), dtype=real_dtype(wide)) for slot in self.slots])
        else:
            first = [slot.init(p, dtype=self.dtype(i, wide)) for i, slot in enumerate(self.slots)]
        chosen = self.formats_of(jnp.shape(p), [None if x is None else x.shape for x in first], wide)
        if all(isinstance(form, Dense) for form in chosen):
            return self.encode(first, chosen, noise)
        # Without the barrier XLA's compiler evaluates the encoding of constants itself: a minute for a large leaf.
        return encoded(self, tuple(chosen), jax.lax.optimization_barrier(first), noise.key, noise.step)

    def parts(self, values: list[Array | None]) -> list[Array | None]:
        """The decoded slots of a complex leaf as real arrays, for a rule that sees the parts apart."""
        return [x if real or x is None else parts(x) for x, real in zip(values, self.real, strict=True)]

    def wholes(self, values: list[Array | None]) -> list[Array | None]:
        """The inverse of `parts`."""
        return [x if real or x is None else whole(x) for x, real in zip(values, self.real, strict=True)]

    def encode(self, values: list[Array | None], chosen: list[Format], noise: Noise, largest: Any = None) -> list[Any]:
        """The stored form of the slots; a slot with a unit is stored as a ratio to it. `largest` if it is known."""
        units = self.units(values, chosen)
        largest = group_largest(chosen, values, units) if largest is None else largest
        return [
            None if x is None else form.encode(x, unit, noise.to(i + self.slots[i].trails), groups)
            for i, (form, x, unit, groups) in enumerate(zip(chosen, values, units, largest, strict=True))
        ]

    def decode(self, stored: list[Any], chosen: list[Format], wide: np.dtype) -> Any:
        """The decoded slots; units are decoded before the slots that are measured in them."""
        values: list[Array | None] = [None] * len(stored)
        measured = [slot.unit is not None and is_code(x) for slot, x in zip(self.slots, stored, strict=True)]
        for turn in (False, True):
            units = self.units(values, chosen) if turn else [None] * len(stored)
            for i, (code, form) in enumerate(zip(stored, chosen, strict=True)):
                if code is not None and measured[i] == turn:
                    values[i] = form.decode(code, units[i]).astype(self.dtype(i, wide))
        return self.tree.unflatten(values)

    def units(self, values: list[Array | None], chosen: list[Format]) -> list[Array | None]:
        """The unit of each slot, a function of the NamedTuple that contains it; `None` where the format has none."""
        found: list[Array | None] = [None] * len(values)
        for i, (slot, form) in enumerate(zip(self.slots, chosen, strict=True)):
            if slot.unit is not None and form.has_unit:
                slots = self.tree.unflatten(values)
                found[i] = slot.unit(functools.reduce(lambda x, key: getattr(x, key.name), self.paths[i][:-1], slots))
        return found


@functools.cache
def of_elements(slot: Slot) -> bool:
    """Whether the slot has a number for each element of a leaf."""
    leaf = jax.ShapeDtypeStruct((2, 3), np.float32)
    first = jax.eval_shape(lambda p: slot.init(p, dtype=np.float32), leaf)
    return first is not None and first.shape == leaf.shape


@functools.partial(jax.jit, static_argnums=(0, 1))
def encoded(layout: Layout, chosen: tuple[Format, ...], values: list[Array | None], key: Any, step: Any) -> list[Any]:
    """The encoded slots, jitted: one compiled program instead of dozens of eager operations."""
    return layout.encode(values, list(chosen), Noise(key, step))


def wide_dtype(*arrays: Any) -> np.dtype:
    """The dtype that a leaf is computed in: the widest of its arrays, and at least float32."""
    dtypes = (dtype_of(x) for x in arrays if x is not None)
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of its real part."""
    return np.finfo(dtype).dtype
