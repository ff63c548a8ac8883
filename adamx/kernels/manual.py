"""Arrays under `shard_map`: whether a function sees one device's part only, and along which axes parts differ."""

from collections.abc import Sequence
from typing import Any

import jax

from .._annotations import Array


def is_manual() -> bool:
    """Whether what is being traced sees the arrays of one device only."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)


def varying(arrays: Sequence[Array]) -> frozenset[str]:
    """The axes of a `shard_map` along which one of them differs."""
    types: list[Any] = [jax.typeof(x) for x in arrays]
    manual = [getattr(x, "manual_axis_type", x) for x in types]  # before JAX 0.10 the type says it itself
    return frozenset().union(*(x.varying if hasattr(x, "varying") else x.vma for x in manual))


def varying_alike(arrays: Sequence[Array], axes: frozenset[str] = frozenset()) -> list[Array]:
    """The arrays, all said to differ along the same axes: those of each of them and `axes`."""
    axes = axes | varying(arrays)
    lacking = [tuple(sorted(axes - varying([x]))) for x in arrays]
    return [_cast(x, over) if over else x for x, over in zip(arrays, lacking, strict=True)]


def _cast(x: Array, axes: tuple[str, ...]) -> Array:
    lax: Any = jax.lax  # whose name for it changed in JAX 0.8.2
    return lax.pcast(x, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, axes)
