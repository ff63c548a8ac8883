"""Where a state's arrays are: on the mesh of the parameters, in groups that devices hold whole, and there they stay."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard

from .. import _leaves
from .._annotations import Array
from .._layout import Layout, of_elements, wide_dtype
from .._leaf import Step, StepResult
from ..moments import shared_groups
from .manual import names_of, size


def beside(arrays: list[Array | None], state: Any) -> Any:
    """The state; what is on no mesh, such as a new count, on all devices of the mesh that the arrays are on.

    A step returns it so, and would be compiled a second time for a count that is elsewhere.
    """
    given = (x.sharding for x in arrays if isinstance(x, jax.Array) and not isinstance(x, Tracer))
    mesh = next((sharding.mesh for sharding in given if isinstance(sharding, NamedSharding)), None)
    if mesh is None:
        return state
    whole = NamedSharding(mesh, PartitionSpec())
    known = lambda x: isinstance(x, Tracer) or isinstance(x.sharding, NamedSharding)  # noqa: E731
    return jax.tree.map(lambda x: x if known(x) else jax.device_put(x, whole), state)


def refuse_shared_groups(layout: Layout, path: _leaves.Path, p: Array) -> None:
    """Raise if devices of an explicit mesh would share a group of a slot of a leaf."""
    if not p.shape or not is_explicit(p):
        return
    sharding = jax.typeof(p).sharding
    parts = size(sharding.mesh, names_of(sharding.spec[-1]))
    shapes = [p.shape if of_elements(slot) else None for slot in layout.slots]
    for name, form in zip(layout.names, layout.formats_of(p.shape, shapes, wide_dtype(p)), strict=True):
        if (found := shared_groups(form.group, p.shape[-1], parts)) is not None:
            raise ValueError(f"{name} of {_leaves.show('params', path)} {found}")


def keeping_types(take: Callable[..., list[StepResult | None]]) -> Callable[..., list[StepResult | None]]:
    """`take(..., steps, total)`, whose results are cut on an explicit mesh as what they replace."""

    @functools.wraps(take)
    def taken(*args: Any) -> list[StepResult | None]:
        *options, steps, total = args
        done = take(*options, [step and aligned(step) for step in steps], total)
        for i, step in enumerate(steps):
            if step is not None and is_explicit(step.leaf.g):
                first = step.leaf.g if step.leaf.p is None else step.leaf.p
                done[i] = jax.tree.map(cut_as, done[i], (first, step.leaf.stored, step.leaf.residual))
        return done

    return taken


def aligned(step: Step) -> Step:
    """The step, its gradient and weight cut as slots of their shape, which on explicit meshes may be finer (ZeRO-1)."""
    leaf = step.leaf
    kept = (x for x in jax.tree.leaves((leaf.stored, leaf.residual)) if x.shape == leaf.g.shape)
    if not is_explicit(leaf.g) or (like := next(kept, None)) is None:
        return step
    g, p = jax.tree.map(lambda x: cut_as(x, like), (leaf.g, leaf.p))
    return dataclasses.replace(step, leaf=leaf._replace(g=g, p=p))


def cut_as(new: Any, old: Any) -> Any:
    """`new`, cut as `old`."""
    wanted = jax.typeof(old).sharding
    return new if jax.typeof(new).sharding == wanted or not is_explicit(old) else reshard(new, wanted)


def is_explicit(x: Any) -> bool:
    """Whether the type of an array says how it is cut."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types
