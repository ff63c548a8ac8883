"""How parameters are cut over a mesh: what their arrays, the boxes around them and given specs say."""

import contextlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, Sharding, get_abstract_mesh

from . import _leaves
from ._annotations import Params
from ._variables import is_variable, without_variables
from .kernels.manual import names_of, size

Cuts: TypeAlias = tuple[tuple[str, ...], ...]
"""For each axis of an array, the mesh axes that cut it."""


class Weight(NamedTuple):
    """A leaf of the parameters: where it stands, such as `params['w']`, its shape, and how it is cut."""

    name: str
    shape: tuple[int, ...]
    cuts: Cuts


def weights_of(params: Params, shardings: Any) -> tuple[Any, list[Weight]]:
    """The mesh, and the leaves of the parameters."""
    pairs = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_variable)[0]
    given: list[Any] = []
    try:
        jax.tree.map(
            lambda one, part: given.extend([one] * len(jax.tree.leaves(part, is_leaf=is_variable))),
            without_variables(shardings),
            params,
            is_leaf=lambda x: x is None or isinstance(x, (Sharding, PartitionSpec)),
        )
    except ValueError as error:
        raise ValueError(f"shardings should be a tree like the parameters, or the top of one: {error}") from None
    said = [
        (_leaves.show("params", path), x, _sharding(box, x) if one is None else one)
        for (path, box), one in zip(pairs, given, strict=True)
        for x in jax.tree.leaves(box)
    ]
    if any(is_variable(box) for _, box in pairs):  # what has no metadata is on all devices then, as Flax has it
        said = [(name, x, PartitionSpec() if one is None else one) for name, x, one in said]
    known = [(name, one) for name, _, one in said if isinstance(one, NamedSharding)]
    own = [(name, x.sharding) for name, x, _ in said if isinstance(getattr(x, "sharding", None), NamedSharding)]
    mesh = _mesh(known or own)
    return mesh, [_weight(mesh, *each) for each in said]


def _weight(mesh: Any, name: str, x: Any, said: Any) -> Weight:
    """The leaf `x` with the sharding that is said of it; raise if it cannot have it."""
    spec, shape = getattr(said, "spec", said), tuple(getattr(x, "shape", ()))
    if not isinstance(spec, PartitionSpec):
        raise ValueError(
            f"{name} has {'no sharding' if said is None else said}: give `shardings`, a NamedSharding or a "
            "PartitionSpec for each leaf or for a subtree; PartitionSpec() is of what every device has"
        )
    if len(spec) > len(shape):
        raise ValueError(f"{name} has {len(shape)} axes, but {spec} is of {len(spec)}")
    cuts = tuple(map(names_of, spec))
    for n, names in zip(shape, cuts, strict=False):
        if unknown := [str(axis) for axis in names if axis not in mesh.shape]:
            raise ValueError(
                f"{spec} of {name} names {unknown[0]!r}, but the mesh has {axis_names(mesh)}: name one of these, or "
                "set Flax's rules if it is a logical axis"
            )
        if n % size(mesh, names):
            raise ValueError(
                f"{spec} cuts {name}, of shape {shape}, into {size(mesh, names)} parts along an axis of {n}: name "
                "mesh axes whose sizes divide it"
            )
    return Weight(name, shape, cuts + ((),) * (len(shape) - len(cuts)))


def _mesh(said: Iterable[tuple[str, Any]]) -> Any:
    """The one mesh of all shardings; that of `jax.set_mesh` if only specs are given."""
    meshes = {one.mesh: name for name, one in said}
    if len(meshes) > 1:
        (one, here), (other, there), *_ = meshes.items()
        raise ValueError(f"{here} is on {one}, but {there} on {other}: put all parameters on one mesh")
    mesh = next(iter(meshes), None)
    if mesh is None or isinstance(mesh, AbstractMesh):
        context = get_abstract_mesh()
        with contextlib.suppress(AttributeError, ValueError):  # before JAX 0.9 and inside `jax.jit`
            context = jax.sharding.get_mesh()
        mesh = context if mesh is None or mesh == getattr(context, "abstract_mesh", None) else mesh
    if mesh.empty:
        raise ValueError(
            "no sharding tells the mesh: give NamedShardings, or PartitionSpecs under `jax.set_mesh(mesh)`"
        )
    return mesh


def has_sharding(params: Params) -> bool:
    """Whether any leaf is on a mesh, or would be on that of `jax.set_mesh` by what its box says."""
    boxes = jax.tree.leaves(params, is_leaf=is_variable)
    said = [_sharding(box, x) for box in boxes for x in jax.tree.leaves(box)]
    named = any(isinstance(one, PartitionSpec) and any(one) for one in said)
    return any(isinstance(one, NamedSharding) for one in said) or (named and not get_abstract_mesh().empty)


def _sharding(box: Any, x: Any) -> Any:
    """That of the array `x`, or what the box around it says."""
    sharding = getattr(x, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) or not is_variable(box) else said_by(box)


def said_by(box: Any) -> PartitionSpec:
    """What the metadata of a box say, translated by the logical rules that it has or that are set."""
    if not hasattr(box, "get_partition_spec"):
        return without_variables(sys.modules["flax.nnx"].get_partition_spec(box))
    linen: Any = sys.modules.get("flax.linen")
    rules = getattr(box, "rules", None)
    if isinstance(box, getattr(linen, "LogicallyPartitioned", ())) and (rules or linen.get_logical_axis_rules()):
        return linen.logical_to_mesh_axes(box.names, rules)
    return box.get_partition_spec()


def axis_names(mesh: Any) -> str:
    """The names of the mesh's axes, for errors."""
    return ", ".join(map(repr, mesh.axis_names))
