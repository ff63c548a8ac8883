"""Mesh axes: those that a spec names; under `shard_map` those that arrays vary over, and whether all are manual."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from .._annotations import Array
from .._math import varying as varying


def is_manual() -> bool:
    """Whether the traced code runs per device, inside a `shard_map` over all axes."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)


def named_axes(axis_name: str | Sequence[str] | None) -> tuple[str, ...]:
    """The mesh axes that `axis_name=` of a step names.

    Raises:
        ValueError: one of them is no axis of an enclosing `jax.shard_map`, or that does not tell what is cut.
    """
    if axis_name is None:
        return ()
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    for name in names:
        if name not in manual:
            raise ValueError(
                f"axis_name = {name!r} is no axis of an enclosing jax.shard_map, whose axes are "
                f"{', '.join(manual) or 'none'}: under plain jax.jit leave it out, sums are of whole arrays there"
            )
        if not varying([jax.lax.axis_index(name)]):
            raise ValueError(
                f"axis_name = {name!r} needs to know which leaves are cut along it: leave check_vma of jax.shard_map on"
            )
    return names


def varying_alike(arrays: Sequence[Array], axes: frozenset[str] = frozenset()) -> list[Array]:
    """The arrays, cast to vary over the same mesh axes: the union of theirs and `axes`."""
    axes = axes | varying(arrays)
    lacking = [tuple(sorted(axes - varying([x]))) for x in arrays]
    return [_cast(x, over) if over else x for x, over in zip(arrays, lacking, strict=True)]


def _cast(x: Array, axes: tuple[str, ...]) -> Array:
    lax: Any = jax.lax  # the function was renamed in JAX 0.8.2
    return lax.pcast(x, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, axes)


def names_of(entry: Any) -> tuple[str, ...]:
    """The mesh axes that an entry of a `PartitionSpec` names."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def size(mesh: Any, names: Iterable[str | None]) -> int:
    """Into how many parts these mesh axes cut."""
    return math.prod(mesh.shape[name] for name in names)
