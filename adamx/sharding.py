"""What a state's arrays are to XLA's partitioner: their shardings, which follow from those of the parameters.

Nothing of a rule or a transformation is known here. `init` is traced on a mesh that has one axis, of one device, for
each axis of each leaf: JAX carries these through `init` in the arrays' types, and so tells of every array of the state
which axes of which leaf are left in it.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, use_abstract_mesh

from . import _leaves
from ._annotations import Params
from ._math import dtype_of
from .cuts import Cuts, Weight, axis_names, size, weights_of
from .moments import group_of, is_code, shared_groups

MemoryKind: TypeAlias = str | Callable[[str], str | None] | None
"""A memory of the devices, such as "pinned_host"; or a function of an array's path in the state that names one."""

Axis: TypeAlias = tuple[int, int]
"""An axis of a leaf: the leaf's place among all, and which of its axes it is."""


def state_shardings(
    opt: Any, params: Params, shardings: Any = None, *, zero: str | None = None, memory_kind: MemoryKind = None
) -> Any:
    """The shardings of the state that `opt.init(params)` makes, as a tree like it.

    For `jax.jit(opt.init, out_shardings=...)`, the `out_shardings` of a training step, `jax.device_put` and restoring
    checkpoints. An array that has axes of a weight is cut along them as the weight is, the scales of a coded slot as
    its codes; one without, such as a count, is on every device of the mesh.

    Args:
        opt: an optimizer, or any Optax transformation, such as one that contains an adamx optimizer.
        params: arrays or `jax.ShapeDtypeStruct`s, with shardings unless `shardings` are given; Flax NNX variables and
            Linen's boxes may have them as metadata, which is translated by the logical rules that are set in Flax.
        shardings: those of the parameters: a tree like these, or the top of one, of `NamedSharding`s, or of
            `PartitionSpec`s on the mesh of `jax.set_mesh`.
        zero: a mesh axis that weights are replicated over, along which their slots are cut, too (ZeRO-1): each by the
            first of the weight's axes that it divides, groups of coded slots kept whole. Slots of a weight that has no
            such axis are not cut.
        memory_kind: the memory of arrays that have axes of a weight, such as "pinned_host"; or a function that maps the
            path of any array, such as "slots/mu/dense/kernel", to its memory, or `None` for the devices' own.

    Returns:
        `NamedSharding`s, in a tree like `jax.eval_shape(opt.init, params)`.

    Raises:
        ValueError: a leaf without a sharding, or on another mesh than the others; a spec that names an axis that the
            mesh does not have, has more axes than the leaf, or does not divide it; groups of a coded slot that several
            devices would share; a `zero` that cuts nothing.

    >>> import adamx, jax, jax.numpy as jnp
    >>> from jax.sharding import AxisType, PartitionSpec as P
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    >>> opt, params = adamx.adam(1e-3, moments="int8"), {"w": jax.ShapeDtypeStruct((64, 256), jnp.float32)}
    >>> with jax.set_mesh(mesh):
    ...     shardings = adamx.state_shardings(opt, params, P("data"))
    >>> jax.tree.map(lambda x: x.spec, shardings.slots.nu["w"])
    LogCode(code=P('data',), low=P('data',), high=P('data',))
    """
    mesh, _, parts, tree = placement(opt, params, shardings, zero)
    for part in parts:
        if part.shared is not None:
            raise ValueError(part.shared)
    if zero is not None and not any(part.is_zero for part in parts):
        raise ValueError(
            f"zero = {zero!r} cuts nothing: every weight is cut along it already, or has no axis that its "
            f"{mesh.shape[zero]} devices divide. The mesh has {axis_names(mesh)}: name another axis, or leave it out"
        )

    def sharding(part: Part) -> NamedSharding:
        kind = memory_kind if isinstance(memory_kind, str) and any(part.axes) else None
        if callable(memory_kind):
            kind = memory_kind(jax.tree_util.keystr(part.path, simple=True, separator="/"))
        return NamedSharding(mesh, _spec(mesh, part.cuts), memory_kind=kind)

    return tree.unflatten(map(sharding, parts))


class Part(NamedTuple):
    """One array of a state.

    Attributes:
        path: where it stands.
        array: its shape and dtype.
        axes: for each of its axes, the axis of a weight that it is; `None` for none.
        group: how many elements along the last axis share a number in the coded slot that it is of; 0 if none do.
        cuts: how it is cut.
        is_zero: whether it is cut along the mesh axis `zero`, as its weight is not.
        shared: what is wrong if devices would share groups, and the cure.
    """

    path: _leaves.Path
    array: jax.ShapeDtypeStruct
    axes: tuple[Axis | None, ...]
    group: int
    cuts: Cuts = ()
    is_zero: bool = False
    shared: str | None = None


class Placement(NamedTuple):
    """How a state stands on a mesh: the weights, the state's arrays in order, and the tree that these form."""

    mesh: Any
    weights: list[Weight]
    parts: list[Part]
    tree: Any


def placement(opt: Any, params: Params, shardings: Any, zero: str | None) -> Placement:
    """How the state of `opt` would stand on the mesh; arguments are those of `state_shardings`."""
    mesh, weights = weights_of(params, shardings)
    if zero is not None and zero not in mesh.shape:
        raise ValueError(f"zero = {zero!r} is no axis of the mesh, which has {axis_names(mesh)}")
    parts, tree = _parts(opt, params, weights)
    groups: dict[Axis | None, set[int]] = {}
    for part in parts:
        groups.setdefault(part.axes[-1] if part.group else None, set()).add(part.group)

    def divides(i: int, axis: int) -> bool:
        n, by = weights[i].shape[axis], size(mesh, (*weights[i].cuts[axis], zero))
        return n > 0 and n % by == 0 and not any(shared_groups(group, n, by) for group in groups.get((i, axis), ()))

    added: set[Axis] = set()
    for i, weight in enumerate(weights) if zero is not None else ():
        if not any(zero in names for names in weight.cuts):
            added.update([(i, axis) for axis in range(len(weight.shape)) if divides(i, axis)][:1])

    def placed(part: Part) -> Part:
        cuts: list[tuple[str, ...]] = []
        for n, axis in zip(part.array.shape, part.axes, strict=True):
            own = () if axis is None else weights[axis[0]].cuts[axis[1]]
            ways = [(*own, zero), own, ()] if axis in added else [own, ()]
            taken = set(itertools.chain(*cuts))
            cuts.append(next(names for names in ways if n % size(mesh, names) == 0 and taken.isdisjoint(names)))
        is_zero, found = any(axis in added for axis in part.axes) and zero in itertools.chain(*cuts), None
        if part.group and (last := part.axes[-1]) is not None:
            weight, axis = weights[last[0]], last[1]
            found = shared_groups(part.group, weight.shape[axis], size(mesh, weight.cuts[axis]))
            found = found and f"{_leaves.show('state', part.path)}, of {weight.name}, {found}"
        return part._replace(cuts=tuple(cuts), is_zero=is_zero, shared=found)

    return Placement(mesh, weights, [placed(part) for part in parts], tree)


def _parts(opt: Any, params: Params, weights: list[Weight]) -> tuple[list[Part], Any]:
    """The arrays of the state, the axes of weights that they have, and the state's tree."""
    pairs, tree = jax.tree_util.tree_flatten_with_path(params)
    axes = {f"{i}.{axis}": (i, axis) for i, weight in enumerate(weights) for axis in range(len(weight.shape))}
    mesh = AbstractMesh((1,) * (len(axes) + 1), ("", *axes), axis_types=(AxisType.Explicit,) * (len(axes) + 1))

    def init(marked: bool) -> Any:
        given = []
        for i, ((_, x), weight) in enumerate(zip(pairs, weights, strict=True)):
            spec = PartitionSpec(*(f"{i}.{axis}" for axis in range(len(weight.shape))))
            sharding = NamedSharding(mesh, spec) if marked else None
            given.append(jax.ShapeDtypeStruct(weight.shape, dtype_of(x), sharding=sharding))
        nowhere = AbstractMesh((), ())  # from which JAX lets a mesh of any size be entered
        with use_abstract_mesh(nowhere), use_abstract_mesh(mesh if marked else nowhere):
            return jax.eval_shape(opt.init, tree.unflatten(given))

    try:
        state = init(marked=True)
    except Exception:  # What types cannot follow, path and shape tell; what `init` refuses, it refuses again.
        state = init(marked=False)
    places = {path: i for i, (path, _) in enumerate(pairs)}

    def axes_of(path: _leaves.Path, x: Any) -> tuple[Axis | None, ...]:
        entries = [e if isinstance(e, tuple) else (e,) for e in getattr(x.sharding, "spec", ())]
        found = tuple(axes.get(names[0]) if names else None for names in entries)
        if any(found):
            return found
        here = (places.get(path[start:]) for start in range(len(path) + 1))
        owner = next((i for i in here if i is not None and weights[i].shape == x.shape), None)
        return tuple(None if owner is None else (owner, axis) for axis in range(x.ndim))

    parts: list[Part] = []
    found = iter(jax.tree_util.tree_flatten_with_path(state)[0])
    for stored in jax.tree.leaves(state, is_leaf=is_code):
        first = None  # all arrays of a code have the axes of its first
        for path, x in itertools.islice(found, len(jax.tree.leaves(stored))):
            first = axes_of(path[:-1] if is_code(stored) else path, x) if first is None else first
            parts.append(Part(path, x, first, group_of(stored)))
    return parts, jax.tree.structure(state)


def _spec(mesh: Any, cuts: Cuts) -> PartitionSpec:
    """The spec in the form in which results of `jax.jit` have it, so that these are of the same type."""
    entries = [None if not names else names[0] if len(names) == 1 else names for names in cuts]
    while entries and entries[-1] is None and AxisType.Explicit not in mesh.axis_types:
        entries.pop()
    return PartitionSpec(*entries)
