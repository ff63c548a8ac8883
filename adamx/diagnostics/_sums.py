"""What one step did to its leaves, as sums over their elements that leaves of a group add up."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import kernels
from .._annotations import Array, Scalar
from .._math import abs_sq
from ._hats import Numbers

ROW = 2**15
"""Longer leaves are summed in rows of so many elements first: float32 stops at 2^24 times what is added."""


class LeafRecord(NamedTuple):
    r"""One leaf in one step, all in at least float32.

    Attributes:
        g: its gradient, as it came.
        old: the weight before the step.
        new: the weight after it.
        update: what was to be added to the weight; `None` where the optimizer rounds or steps by itself.
        mu: $m$, if the rule keeps one.
        nu: $v$, the one that the step divided by, if the rule keeps one.
        plain: whether the kernel takes them as they are: all float32, none of them decoded, of one shape.
    """

    g: Array
    old: Array
    new: Array
    update: Array | None
    mu: Array | None
    nu: Array | None
    plain: bool


class Sums(NamedTuple):
    """Over the elements of a leaf or a group, in the order of the C++; `size` counts those that had a gradient at all.

    While XLA takes them, `COUNTS` are int32, and `LARGEST` the bits of what they are: float32 that are not negative are
    in the order of their bits, NaN above all, and a CPU is done with one in a cycle. Elsewhere all are float32.
    """

    size: Array
    gradient: Array
    update: Array
    weight: Array
    moved: Array
    ratio: Array
    pulled: Array
    against: Array
    stalled: Array
    nonfinite: Array
    dominated: Array
    idle: Array
    step_max: Array
    ratio_max: Array


ADDED = ("gradient", "update", "weight", "moved", "ratio")
LARGEST = ("step_max", "ratio_max")
COUNTS = tuple(name for name in Sums._fields if name not in (*ADDED, *LARGEST))


def table(
    records: Sequence[LeafRecord | None],
    numbers: Numbers | None,
    scale: Scalar | None,
    kernel: str,
    axis_names: Sequence[str] = (),
) -> Array:
    """A row of `Sums` for each leaf, (leaves, sums); zeros for one without a gradient.

    A backend that `kernel` allows adds up what is plain. What is not would have to be written to memory only for that.
    """
    leaves = {i: _operands(one, numbers) for i, one in enumerate(records) if one is not None}
    reference = _ByXLA(scale is not None, numbers is not None and numbers.eps is not None)
    sums = len(Sums._fields) - len(LARGEST)
    rows = kernels.sums(kernel, list(leaves.values()), _vector(numbers, scale), sums, reference, axis_names)
    if len(leaves) == len(records):
        return rows
    return jnp.zeros((len(records), reference.width), jnp.float32).at[np.array([*leaves], int)].set(rows)


class _ByXLA(NamedTuple):
    """The sums of leaves that no backend adds up.

    Attributes:
        scaled: whether gradients are.
        compared: whether there is an eps to compare with.
        apart: whether each sum is a reduction of its own.
    """

    scaled: bool
    compared: bool
    apart: bool = False

    @property
    def separate(self) -> "_ByXLA":
        """The same by reductions that XLA can partition."""
        return self._replace(apart=True)

    @property
    def width(self) -> int:
        """The number of numbers of a leaf."""
        return len(Sums._fields)

    def __call__(self, leaves: Sequence[kernels.Summed], numbers: Array, sums: int) -> Array:
        """Rows of sums, (leaves, sums)."""
        del sums
        scale, root, eps = numbers
        rows = []
        for given, arrays, plain in leaves:
            rest = iter(arrays)
            g, old, new = next(rest), next(rest), next(rest)
            update = next(rest) if given & kernels.UPDATE else None
            mu, nu = rest if given & kernels.MOMENTS else (None, None)
            told = Numbers(root, root, eps if self.compared else None, None, bool(given & kernels.SQUARE))
            one = LeafRecord(g, old, new, update, mu, nu, plain)
            rows.append(_sums(one, told if mu is not None else None, scale if self.scaled else None, self.apart))
        return _stacked(rows)


def _operands(one: LeafRecord, numbers: Numbers | None) -> kernels.Summed:
    arrays = [x for x in (one.g, one.old, one.new, one.update) if x is not None]
    given = kernels.UPDATE if one.update is not None else 0
    if numbers is not None and one.mu is not None and one.nu is not None:
        given |= kernels.MOMENTS | (kernels.SQUARE if numbers.squared else 0)
        arrays += [one.mu, jnp.broadcast_to(one.nu, one.mu.shape)]
    return kernels.Summed(given, arrays, one.plain)


def _vector(numbers: Numbers | None, scale: Scalar | None) -> Array:
    """The numbers that the kernel reads."""
    root, eps = (1.0, None) if numbers is None else (numbers.root, numbers.eps)
    told = (1.0 if scale is None else scale, root, 0.0 if eps is None else eps)
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in told])


def _sums(one: LeafRecord, numbers: Numbers | None, scale: Scalar | None, apart: bool) -> Sums:
    """Those of one leaf by XLA, in one pass over it."""
    none = Sums(*(jnp.zeros([], jnp.float32 if name in ADDED else jnp.int32) for name in Sums._fields))
    g = one.g if scale is None else one.g * jnp.asarray(scale, jnp.float32).astype(one.g.dtype)
    change = one.new - one.old if one.update is None else one.update
    wanted = one.update if one.update is not None else g if one.mu is None else one.mu
    size = jnp.abs(change)
    down = jnp.real(g) * jnp.sign(jnp.real(change)) < 0
    if jnp.iscomplexobj(g) or jnp.iscomplexobj(change):
        down = _phase(g, change) < 0
    added = {
        "gradient": abs_sq(g),
        "update": abs_sq(change),
        "weight": abs_sq(one.old),
        "moved": size,
        "pulled": g != 0,
        "against": down,
        "stalled": (wanted != 0) & (one.new == one.old),
        "nonfinite": ~jnp.isfinite(g),
    }
    largest = {"step_max": size}
    if numbers is not None and one.mu is not None and one.nu is not None:
        root = jnp.sqrt(one.nu) if numbers.squared else one.nu
        still = root == 0
        ratio = jnp.where(still, 0, jnp.abs(jnp.abs(one.mu) / jnp.where(still, 1, root)))
        added |= {"ratio": ratio, "idle": still}
        largest |= {"ratio_max": ratio}
        if numbers.eps is not None:
            added["dominated"] = ~still & (root * numbers.root.astype(root.dtype) < numbers.eps.astype(root.dtype))
    return none._replace(size=jnp.asarray(g.size, jnp.int32), **(_reduced_apart if apart else _reduced)(added, largest))


def _stacked(leaves: Sequence[Sums]) -> Array:
    """Those of all leaves, (leaves, sums), in float32."""
    told: dict[str, Array] = {}
    for names in (ADDED, (*COUNTS, *LARGEST)):
        table = jnp.stack([getattr(leaf, name) for name in names for leaf in leaves]).reshape(len(names), len(leaves))
        told |= dict(zip(names, table, strict=True))
    told |= {name: told[name].astype(jnp.float32) for name in COUNTS}
    told |= {name: jax.lax.bitcast_convert_type(told[name], jnp.float32) for name in LARGEST}
    return jnp.stack([told[name] for name in Sums._fields], 1)


def _phase(g: Array, change: Array) -> Array:
    """The cosine of the angle between two complex numbers, from their phases, which cannot underflow."""
    return jnp.real(jnp.conj(jnp.sign(g)) * jnp.sign(change))


def _reduced_apart(added: dict[str, Array], largest: dict[str, Array]) -> dict[str, Array]:
    """The same by a reduction for each, which compilers for accelerators fuse."""
    terms = {name: jnp.sum(x.astype(jnp.float32)) for name, x in added.items()}
    bits = {name: jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) for name, x in largest.items()}
    terms |= {name: jnp.max(x, initial=0) for name, x in bits.items()}
    return {name: x.astype(jnp.int32) if name in COUNTS else x for name, x in terms.items()}


def _reduced(added: dict[str, Array], largest: dict[str, Array]) -> dict[str, Array]:
    """All sums, counts and largest values in one loop over the elements."""
    bits = [jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) for x in largest.values()]
    terms = [x.astype(jnp.int32 if x.dtype == bool else jnp.float32) for x in added.values()] + bits
    terms, some = [x.reshape(-1) for x in terms], len(added)

    def combine(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
        pairs = list(zip(a, b, strict=True))
        return (*(x + y for x, y in pairs[:some]), *(jnp.maximum(x, y) for x, y in pairs[some:]))

    def reduce(xs: Sequence[Array], axis: int) -> Sequence[Array]:
        return jax.lax.reduce(tuple(xs), tuple(jnp.zeros([], x.dtype) for x in xs), combine, (axis,))

    if (size := terms[0].size) > ROW:
        terms = reduce([jnp.pad(x, (0, -size % ROW)).reshape(-1, ROW) for x in terms], 1)
    return dict(zip((*added, *largest), reduce(terms, 0), strict=True))
