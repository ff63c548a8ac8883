"""What a state's arrays are to XLA's partitioner: their shardings, which follow from those of the parameters.

Nothing of a rule or a transformation is known here. `init` is traced on a mesh of one device that has as many axes as
the leaves, each cut along them in order: JAX carries that through `init` in the arrays' types, and so tells of every
array of the state which axes of its leaf are left in it. Which leaf that is, its path tells.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, use_abstract_mesh

from . import _leaves, kernels
from ._annotations import Params
from ._math import dtype_of
from ._transform import Optimizer, engine_of, owner_of
from ._variables import is_variable
from .cuts import Cuts, Weight, axis_names, weights_of
from .kernels.manual import names_of, size, varying
from .moments import group_of, is_code, shared_groups
from .wrapper import Wrapper

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
        zero: a mesh axis that weights are replicated over, along which their slots are cut, too (ZeRO-1): by the first
            axis that it divides, one that is not cut yet if there is any, groups of coded slots kept whole. Slots of a
            weight that has no such axis are not cut; nor are, on axes of `AxisType.Explicit`, smaller ones, such as
            factored moments. Give the training step `out_shardings`, or XLA cuts the new weights, too.
        memory_kind: the memory of arrays that have axes of a weight, such as "pinned_host"; or a function that maps the
            path of such an array, as in "slots/mu/dense/kernel", to its memory, or to `None` for the devices' own. A
            step by adamx fetches what is in "pinned_host" leaf by leaf and sends it back, few leaves at a time; what
            other transformations keep they can only use on the device.

    Returns:
        `NamedSharding`s, in a tree like `jax.eval_shape(opt.init, params)`.

    Raises:
        ValueError: a leaf without a sharding, or on another mesh than the others; a spec that names an axis that the
            mesh does not have, has more axes than the leaf, or does not divide it; groups of a coded slot that several
            devices would share; a `zero` that cuts nothing.

    Examples:
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
        kind = None if part.owner is None else memory_kind
        if callable(kind):
            kind = kind(jax.tree_util.keystr(part.path, simple=True, separator="/"))
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

    @property
    def owner(self) -> int | None:
        """The weight whose axes it has; `None` if it has none."""
        return next((axis[0] for axis in self.axes if axis is not None), None)


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

    # Explicit meshes cannot add numbers for each row to sums over rows that are cut otherwise.
    explicit = AxisType.Explicit in mesh.axis_types

    def follows(part: Part) -> bool:
        return not explicit or (part.owner is not None and len({*part.axes} - {None}) == len(weights[part.owner].shape))

    def allows(i: int, axis: int) -> bool:
        n, own = weights[i].shape[axis], weights[i].cuts[axis]
        by = size(mesh, (*own, zero))
        whole = not any(shared_groups(group, n, by) for group in groups.get((i, axis), ()))
        return n > 0 and n % by == 0 and whole and not (own and i in left_whole)

    added, left_whole = set[Axis](), {part.owner for part in parts if not follows(part)}
    for i, weight in enumerate(weights) if zero is not None else ():
        if not any(zero in names for names in weight.cuts):
            uncut_first = sorted(range(len(weight.shape)), key=lambda axis: bool(weight.cuts[axis]))
            added.update([(i, axis) for axis in uncut_first if allows(i, axis)][:1])

    def placed(part: Part) -> Part:
        cuts, finer = list[tuple[str, ...]](), added.intersection(part.axes) if follows(part) else ()
        for n, axis in zip(part.array.shape, part.axes, strict=True):
            own = () if axis is None else weights[axis[0]].cuts[axis[1]]
            ways = [(*own, zero), own, ()] if axis in finer else [own, ()]
            taken = set(itertools.chain(*cuts))
            cuts.append(next(names for names in ways if n % size(mesh, names) == 0 and taken.isdisjoint(names)))
        found = None
        if part.group and (last := part.axes[-1]) is not None:
            weight, axis = weights[last[0]], last[1]
            found = shared_groups(part.group, weight.shape[axis], size(mesh, weight.cuts[axis]))
            found = found and f"{_leaves.show('state', part.path)}, of {weight.name}, {found}"
        return part._replace(cuts=tuple(cuts), is_zero=bool(finer), shared=found)

    return Placement(mesh, weights, [placed(part) for part in parts], tree)


def _parts(opt: Any, params: Params, weights: list[Weight]) -> tuple[list[Part], Any]:
    """The arrays of the state, the axes of weights that they have, and the state's tree."""
    pairs, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [str(axis) for axis in range(max((len(weight.shape) for weight in weights), default=0) + 1)]
    mesh = AbstractMesh((1,) * len(names), tuple(names), axis_types=(AxisType.Explicit,) * len(names))

    def init(marked: bool) -> Any:
        given = []
        for (_, x), weight in zip(pairs, weights, strict=True):
            sharding = NamedSharding(mesh, PartitionSpec(*names[: len(weight.shape)])) if marked else None
            given.append(jax.ShapeDtypeStruct(weight.shape, dtype_of(x), sharding=sharding))
        nowhere = AbstractMesh((), ())  # from which JAX lets a mesh of any size be entered
        with use_abstract_mesh(nowhere), use_abstract_mesh(mesh if marked else nowhere):
            return jax.eval_shape(opt.init, tree.unflatten(given))

    try:
        state = init(marked=True)
    except Exception:  # What types cannot follow, path and shape tell; what `init` refuses, it refuses again.
        state = init(marked=False)
    boxes = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_variable)[0]
    places = {path: i for i, path in enumerate(path for path, box in boxes for _ in jax.tree.leaves(box))}

    def axes_of(path: _leaves.Path, x: Any) -> tuple[Axis | None, ...]:
        entries = (e if isinstance(e, tuple) else (e,) for e in getattr(x.sharding, "spec", ()))
        left = [int(e[0]) if e and e[0] is not None else None for e in entries]
        known = any(axis is not None for axis in left)
        here = (i for start in range(len(path) + 1) if (i := places.get(path[start:])) is not None)
        owner = next((i for i in here if known or weights[i].shape == x.shape), None)
        left = left if known else range(x.ndim)
        return tuple(None if owner is None or axis is None else (owner, axis) for axis in left)

    parts: list[Part] = []
    inside = iter(jax.tree_util.tree_flatten_with_path(state)[0])
    stored = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: is_code(x) or is_variable(x))[0]
    for where, slot in stored:
        arrays = list(itertools.islice(inside, len(jax.tree.leaves(slot))))
        axes = axes_of(where, arrays[0][1]) if arrays else ()  # all arrays of a code have those of its first
        parts += [Part(path, x, axes, group_of(slot)) for path, x in arrays]
    return parts, jax.tree.structure(state)


def _spec(mesh: Any, cuts: Cuts) -> PartitionSpec:
    """The spec in the form in which results of `jax.jit` have it, so that these are of the same type."""
    entries = [None if not names else names[0] if len(names) == 1 else names for names in cuts]
    while entries and entries[-1] is None and AxisType.Explicit not in mesh.axis_types:
        entries.pop()
    return PartitionSpec(*entries)


def in_shard_map(opt: Optimizer, specs: Any) -> Optimizer:
    """The optimizer for use inside `jax.shard_map`, where it sees parts of leaves, with the random bits of whole ones.

    These are those of one device, and of the optimizer under plain `jax.jit`, however leaves are cut. Without
    random bits, in float32 with weights="nearest", it changes nothing.

    Args:
        opt: an adamx optimizer; a monitor goes around what is returned.
        specs: how the parameters are cut, as in the `in_specs` of `jax.shard_map`: a tree of `PartitionSpec`s, or the
            top of one.

    Returns:
        An `Optimizer` whose `update` and `step` are called inside `jax.shard_map`; its state is the one of `opt`.

    Raises:
        TypeError: `opt` is not an adamx optimizer, or is one that wraps another.
        ValueError: a leaf without a spec; a spec of more axes than the leaf, or by which devices would share groups of
            a coded slot, or other than the leaf is cut, as far as `jax.shard_map` knows (`check_vma`); outside of
            `jax.shard_map`; its `init`: make the state outside.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> from jax.sharding import AxisType, PartitionSpec as P
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
        >>> opt = adamx.in_shard_map(adamx.adam(1e-3, moments="int8"), P("data"))
        >>> params = {"w": jnp.ones((64, 256))}
        >>> state = adamx.adam(1e-3, moments="int8").init(params)
        >>> specs = jax.tree.map(lambda x: P("data") if x.ndim else P(), state)
        >>> specs = {"in_specs": (P("data"), specs, P("data")), "out_specs": (P("data"), specs)}
        >>> params, state = jax.shard_map(opt.step, mesh=mesh, **specs)(params, state, params)
    """
    pairs = jax.tree_util.tree_flatten_with_path(specs, is_leaf=lambda x: isinstance(x, PartitionSpec))[0]

    def part(path: _leaves.Path, x: Any, stored: Sequence[Any]) -> Any:
        spec, where = next((spec for top, spec in pairs if path[: len(top)] == top), None), _leaves.show("params", path)
        if spec is None:
            raise ValueError(f"specs has none for {where}: give the `in_specs` of the parameters")
        try:
            found = kernels.part_here(spec, x.shape)
            parts = [math.prod(map(jax.lax.axis_size, names_of(entry))) for entry in spec]
        except NameError:
            raise ValueError(
                f"{spec} names an axis of no enclosing jax.shard_map: adamx.in_shard_map is for there"
            ) from None
        named, cut = {name for entry in spec for name in names_of(entry)}, varying([x])
        known = cut or any(varying([jax.lax.axis_index(name)]) for name in named)
        if len(spec) > x.ndim or (known and cut != named):
            along = f"cut along {', '.join(sorted(cut)) or 'nothing'}" if known else f"of {x.ndim} axes"
            raise ValueError(f"{spec} is the spec of {where}, which is {along}: give the `in_specs` of the parameters")
        if len(spec) == x.ndim > 0:
            shared = (shared_groups(group_of(code), x.shape[-1] * parts[-1], parts[-1]) for code in stored)
            if (wrong := next(filter(None, shared), None)) is not None:
                raise ValueError(f"a slot of {where} {wrong}")
        return found

    def init(params: Params) -> Any:
        del params
        raise ValueError(
            "make the state of whole leaves, outside of jax.shard_map, as how one is stored depends on its size: "
            "jax.jit(opt.init, out_shardings=adamx.state_shardings(opt, params))(params)"
        )

    if isinstance(owner := owner_of(opt), Wrapper):
        raise TypeError(
            f"{type(owner).__name__} wraps an optimizer: put it around adamx.in_shard_map(optimizer, specs)"
        )
    return Optimizer(init, dataclasses.replace(engine_of(opt), part=part).update)
