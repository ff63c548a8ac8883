"""Names of axes in Flax's boxes: a state's arrays have those of the axes of their weights that are left in them."""

from typing import Any

import jax
import optax
from flax import nnx
from flax.core import spmd
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, get_abstract_mesh

from ._annotations import Params
from ._variables import is_variable, without_variables
from .cuts import said_by
from .sharding import Axis, Part, placement


def with_names(state: Any, tx: optax.GradientTransformation, params: Params) -> Any:
    """The state of `tx` with the names of each array's own axes in the box around it.

    `init` copies the parameters' boxes with their names, whatever the axes of what it puts into them.

    Raises:
        ValueError: devices would share a group of a coded slot, as far as the mesh and logical rules are known.
    """
    boxes, tree = jax.tree.flatten(params, is_leaf=is_variable)
    if not any(map(_names, boxes)):
        return state
    meshes = {(_metadata(box).get("mesh") or get_abstract_mesh()).abstract_mesh for box in boxes if _names(box)}
    mesh = meshes.pop() if len(meshes) == 1 else AbstractMesh((), ())
    mesh = AbstractMesh((1,), ("",)) if mesh.empty else mesh  # which axes are left does not depend on it
    shardings = tree.unflatten([NamedSharding(mesh, _spec(box, mesh)) for box in boxes])
    found, owners = placement(tx, params, shardings, None), [box for box in boxes for _ in jax.tree.leaves(box)]

    def boxed(x: Any, part: Part) -> Any:
        if part.shared is not None:
            raise ValueError(part.shared)
        box = next((owners[axis[0]] for axis in part.axes if axis is not None), None)
        if not is_variable(box):
            return x  # on all devices
        names = _names(box)

        def name(axis: Axis | None, cut: Any) -> Any:
            if axis is None or axis[1] >= len(names) or (found.weights[axis[0]].cuts[axis[1]] and not cut):
                return None
            return names[axis[1]]

        axes = [*part.axes]
        while axes[-1] is None and AxisType.Explicit not in mesh.axis_types:  # as results of `jax.jit` have it
            axes.pop()
        return _box(box, x, names and tuple(map(name, axes, part.cuts)))

    arrays = map(boxed, jax.tree.leaves(state), found.parts)
    return jax.tree.unflatten(jax.tree.structure(without_variables(state)), arrays)


def moved(tree: Params, variables: Params, key: str) -> Params:
    """`tree` with each array of an NNX variable with `optimizer_sharding` moved to where its metadata `key` says."""

    def move(variable: Any, x: Any) -> Any:
        said = _metadata(variable)
        if "optimizer_sharding" not in said:
            return x
        return spmd.shard_value(x, said.get(key) or (None,) * x.ndim, said.get("sharding_rules"), said.get("mesh"))

    return jax.tree.map(move, variables, tree, is_leaf=is_variable)


def _keys(box: Any) -> tuple[str, ...]:
    """Where a box keeps names: Linen's its own, an NNX variable those of its slots, and its own in Flax's two ways."""
    return ("optimizer_sharding", "out_sharding", "sharding_names") if isinstance(box, nnx.Variable) else ("names",)


def _metadata(box: Any) -> dict[str, Any]:
    return box.get_metadata() if isinstance(box, nnx.Variable) else vars(box) if is_variable(box) else {}


def _names(box: Any) -> Any:
    """The names of the axes of a weight's slots that are shaped like it; `None` if its box has none."""
    said = (_metadata(box).get(key) for key in _keys(box))
    return next((names for names in said if isinstance(names, (tuple, list, PartitionSpec))), None)


def _box(box: Any, x: Any, names: Any) -> Any:
    """A box like `box` around `x`, with these names for those that it has."""
    if names is None:
        return jax.tree.unflatten(jax.tree.structure(box), [x])
    return box.replace(value=x, **{key: names for key in _keys(box) if key in _metadata(box)})


def _spec(box: Any, mesh: Any) -> PartitionSpec:
    """What the names mean on the mesh; nothing where they are of no mesh axis."""
    names = _names(box)
    spec = () if names is None else said_by(_box(box, without_variables(box), names))
    return PartitionSpec(*(axes if {*jax.tree.leaves(axes)} <= {*mesh.axis_names} else None for axes in spec))
