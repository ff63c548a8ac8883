"""Where a state's arrays are: on the mesh of the parameters, in groups that devices hold whole."""

import math
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .. import _leaves
from .._annotations import Array
from .._layout import Layout, of_elements, wide_dtype
from ..moments import shared_groups


def beside(arrays: list[Array | None], state: Any) -> Any:
    """The state; what is on no mesh, such as a new count, on all devices of the mesh that the arrays are on.

    A step returns it so, and would be compiled a second time for a count that is elsewhere.
    """
    known = (x.sharding for x in arrays if isinstance(x, jax.Array) and not isinstance(x, Tracer))
    mesh = next((sharding.mesh for sharding in known if isinstance(sharding, NamedSharding)), None)
    if mesh is None:
        return state
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: x if isinstance(x.sharding, NamedSharding) else jax.device_put(x, whole), state)


def refuse_shared_groups(layout: Layout, leaves: _leaves.Leaves) -> None:
    """Raise if devices of an explicit mesh would share a group of a slot."""
    for path, p in zip(leaves.paths, leaves.arrays, strict=True):
        sharding = None if p is None else jax.typeof(p).sharding
        if p is None or sharding is None or not p.shape or AxisType.Explicit not in sharding.mesh.axis_types:
            continue
        names = sharding.spec[-1] or ()
        parts = math.prod(sharding.mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))
        forms = layout.formats_of(
            p.shape, [p.shape if of_elements(slot) else None for slot in layout.slots], wide_dtype(p)
        )
        for name, form in zip(layout.names, forms, strict=True):
            if (found := shared_groups(form.group, p.shape[-1], parts)) is not None:
                raise ValueError(f"{name} of {_leaves.show('params', path)} {found}")
