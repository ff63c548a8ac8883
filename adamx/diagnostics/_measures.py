"""What one step did to one leaf, as sums that leaves of a group add up; and what is read off such sums."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._math import abs_sq
from .._typing import Array
from ._hats import Numbers

METRICS = (
    *("gradient_norm", "update_norm", "parameter_norm", "update_ratio", "sign_agreement", "stalled", "nonfinite"),
    *("step_mean", "step_max", "snr", "bound_share", "eps_share", "idle"),
)

ROW = 2**15
"""Longer leaves are summed in rows of so many elements first: float32 stops at 2^24 times what is added."""


class Seen(NamedTuple):
    r"""One leaf in one step.

    Attributes:
        g: its gradient.
        old: the weight before the step.
        new: the weight after it, in the same dtype.
        change: what the step added, in at least float32.
        wanted: where the step should have changed the weight.
        mu: $m$, if the rule keeps one.
        root: $\sqrt v$, if the rule keeps $v$.
    """

    g: Array
    old: Array
    new: Array
    change: Array
    wanted: Array
    mu: Array | None
    root: Array | None


class Sums(NamedTuple):
    """Over the elements of a leaf, of shape (), or of groups; `size` counts those that had a gradient at all.

    Of a leaf `COUNTS` are int32, and `LARGEST` the bits of what they are: float32 that are not negative are in the
    order of their bits, NaN above all, and a CPU is done with one in a cycle. Of groups all are float32.
    """

    size: Array
    gradient: Array
    update: Array
    weight: Array
    moved: Array
    pulled: Array
    against: Array
    stalled: Array
    nonfinite: Array
    ratio: Array
    dominated: Array
    idle: Array
    step_max: Array
    ratio_max: Array


COUNTS = ("size", "pulled", "against", "stalled", "nonfinite", "dominated", "idle")
LARGEST = ("step_max", "ratio_max")


def sums(seen: Seen, numbers: Numbers | None) -> Sums:
    """Those of one leaf, in one pass over it."""
    size = jnp.abs(seen.change)
    down = jnp.real(seen.g) * jnp.sign(jnp.real(seen.change)) < 0
    if jnp.iscomplexobj(seen.g) or jnp.iscomplexobj(seen.change):
        down = _phase(seen.g, seen.change) < 0
    added = {
        "gradient": abs_sq(seen.g),
        "update": abs_sq(seen.change),
        "weight": abs_sq(seen.old),
        "moved": size,
        "pulled": seen.g != 0,
        "against": down,
        "stalled": seen.wanted & (seen.new == seen.old),
        "nonfinite": ~jnp.isfinite(seen.g),
    }
    largest = {"step_max": size}
    if numbers is not None and seen.mu is not None and seen.root is not None:
        root = jnp.broadcast_to(seen.root, seen.mu.shape)
        still = root == 0
        ratio = jnp.where(still, 0, jnp.abs(seen.mu) / jnp.where(still, 1, root))
        added |= {"ratio": ratio, "idle": still}
        if numbers.eps is not None:
            added["dominated"] = ~still & (root * numbers.root.astype(root.dtype) < numbers.eps.astype(root.dtype))
        if numbers.bound is not None:
            largest["ratio_max"] = ratio
    return nothing()._replace(size=jnp.asarray(seen.g.size, jnp.int32), **_reduced(added, largest))


def nothing() -> Sums:
    """Those of a leaf without a gradient."""
    return Sums(*(jnp.zeros([], jnp.float32 if _added(name) else jnp.int32) for name in Sums._fields))


def stacked(leaves: Sequence[Sums]) -> Sums:
    """Those of all leaves, (leaves,), in float32."""
    told: dict[str, Array] = {}
    for kind in (True, False):
        names = [name for name in Sums._fields if _added(name) == kind]
        table = jnp.stack([getattr(leaf, name) for name in names for leaf in leaves]).reshape(len(names), len(leaves))
        told |= dict(zip(names, table, strict=True))
    counts = {name: told[name].astype(jnp.float32) for name in COUNTS}
    return Sums(**told | counts | {name: jax.lax.bitcast_convert_type(told[name], jnp.float32) for name in LARGEST})


def gathered(leaves: Sums, member: np.ndarray) -> Sums:
    """Of each group, (groups,), from those of each leaf."""
    # A product with 0 would carry one leaf's NaN into all groups.
    mine = jnp.where(member[:, None, :], jnp.stack(leaves)[None], 0)
    added, largest = jnp.sum(mine, 2), jnp.max(mine, 2)
    return Sums(*((largest if name in LARGEST else added)[:, i] for i, name in enumerate(Sums._fields)))


def _added(name: str) -> bool:
    return name not in (*COUNTS, *LARGEST)


def metrics(group: Sums, step_size: Array | None, numbers: Numbers | None) -> dict[str, Array]:
    """Of each group, by name; those that the optimizer has."""
    norm = jnp.sqrt(group.update)
    told = {
        "gradient_norm": jnp.sqrt(group.gradient),
        "update_norm": norm,
        "parameter_norm": jnp.sqrt(group.weight),
        "update_ratio": _share(norm, jnp.sqrt(group.weight)),
        "sign_agreement": _share(group.against, group.pulled),
        "stalled": _share(group.stalled, group.size),
        "nonfinite": group.nonfinite,
    }
    if step_size is not None:
        told["step_mean"] = _share(group.moved, group.size * step_size)
        told["step_max"] = _share(group.step_max, step_size)
    if numbers is not None:
        moving = group.size - group.idle
        told["idle"] = _share(group.idle, group.size)
        told["snr"] = numbers.ratio * _share(group.ratio, moving)
        if numbers.bound is not None:
            told["bound_share"] = numbers.ratio * group.ratio_max / numbers.bound
        if numbers.eps is not None:
            told["eps_share"] = _share(group.dominated, moving)
    return told


def _share(part: Array, whole: Array) -> Array:
    return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))


def _phase(g: Array, change: Array) -> Array:
    """The cosine of the angle between two complex numbers, from their phases, which cannot underflow."""
    return jnp.real(jnp.conj(jnp.sign(g)) * jnp.sign(change))


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
