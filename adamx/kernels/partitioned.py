"""Steps of leaves that are cut over devices, by backends that XLA cannot look into: each device steps its parts.

XLA would gather the arrays of such a call. Where it chooses the shardings itself (mesh axes of `AxisType.Auto`) it asks
each call how it is cut, by `jax.experimental.custom_partitioning`. Where shardings are part of the arrays' types
(`AxisType.Explicit`) the calls are made under `jax.shard_map`.
"""

import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard

from .._annotations import Array
from .._leaf import Step, StepResult
from ..moments.noise import Part
from .backend import Backend
from .manual import names_of, size
from .operands import Moved, Packed, group_of, pack, unpack

MIN_SIZE = 8192
"""Smaller leaves are left to XLA if it may have them: each call takes 10 to 20 milliseconds to compile."""


def apply_by_parts(backend: Backend, steps: list[Step], total: Any) -> list[StepResult]:
    """The results of the steps in a program that XLA partitions."""
    return [_by_parts(backend, step, total) for step in steps] if backend.opaque else backend.apply(steps, total)


def _by_parts(backend: Backend, step: Step, total: Any) -> StepResult:
    from jax.experimental.custom_partitioning import custom_partitioning  # which takes a tenth of a second

    shape, group = jnp.shape(step.leaf.g), group_of(step)
    key = jnp.asarray(step.noise.key)
    step = dataclasses.replace(step, leaf=step.leaf._replace(path=()), noise=step.noise._replace(key=key))
    packed, operands, structure = pack([step], total)
    changed = structure.num_leaves
    shapes = [x.shape for x in operands[: changed + 1]]  # of what a step changes and of the gradient; others are whole
    others = len(operands) - len(shapes)
    # The indices of a part's elements along each axis: they are cut with it, which tells where it lies.
    indices = [jax.lax.iota(jnp.uint32, length) for length in shape] if step.is_random else []
    of_part = _step_of_part(backend, packed, shape, len(indices))
    salt = _salt(of_part, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (*operands, *indices)))

    def partition(mesh: Any, given: Sequence[Any], results: Sequence[Any]) -> Any:
        del results
        spec = cut_of([x.sharding for x in given if x.shape == shape], shape, group)
        cut = [_spec(each, shape, spec) for each in shapes]
        specs = [*cut, *[PartitionSpec()] * others, *[PartitionSpec(axis) for axis in spec][: len(indices)]]
        shardings = tuple(NamedSharding(mesh, each) for each in (*specs, PartitionSpec()))
        return mesh, lambda *xs: of_part(*xs[:-1]), list(shardings[:changed]), shardings

    call = custom_partitioning(lambda *operands: list(operands[:changed]))  # read for the types of its results only
    call.def_partition(partition, sharding_rule=_sharding_rule(shapes, shape, others, len(indices)))
    return unpack(structure, call(*operands, *indices, salt))[0]


@functools.lru_cache(256)
def _step_of_part(backend: Backend, packed: Packed, whole: tuple[int, ...], axes: int) -> Callable[..., list[Array]]:
    """The step of one part, a function of its arrays and its elements' indices; traced once for leaves of one kind."""

    @jax.jit
    def step_of_part(*operands: Array) -> list[Array]:
        (step,), total = packed.steps(operands[: len(operands) - axes])
        if axes:
            step = _placed(step, part_at([index[0] for index in operands[len(operands) - axes :]], whole))
        return jax.tree.leaves(Moved(*backend.apply([step], total)[0]))

    return step_of_part


@functools.lru_cache(256)
def _salt(of_part: Callable[..., list[Array]], types: tuple[Any, ...]) -> np.ndarray:
    """A number that no other step of parts has: JAX's persistent cache tells their calls apart by operands only."""
    text = re.sub(r" at 0x\w+", "", str(jax.make_jaxpr(of_part)(*types)))
    return np.asarray(zlib.crc32(text.encode()), np.uint32)


def explicit_mesh(steps: Sequence[Step]) -> Any:
    """The mesh of arrays whose shardings are in their types; `None` if XLA chooses them or sees one device's parts."""
    for step in steps:
        mesh: Any = jax.typeof(step.leaf.p).sharding.mesh
        if mesh.axis_types and all(kind == AxisType.Explicit for kind in mesh.axis_types):
            return mesh
    return None


def apply_on_mesh(
    apply: Callable[[Sequence[Step], Any], list[StepResult]], mesh: Any, steps: Sequence[Step], total: Any
) -> list[StepResult]:
    """The results of `apply(steps, total)`, from and for each device's parts of the leaves."""
    packed, operands, structure = pack(steps, total)
    changed = structure.num_leaves
    shapes = [jnp.shape(step.leaf.g) for step in steps]
    arrays = [jax.tree.leaves((step.leaf.p, step.leaf.stored, step.leaf.residual)) for step in steps]
    specs = [
        cut_of([jax.typeof(x).sharding for x in (*row, g) if x.shape == shape], shape, group_of(step))
        for step, row, g, shape in zip(steps, arrays, operands[changed:], shapes, strict=False)
    ]
    cut = [_spec(x.shape, shape, spec) for row, shape, spec in zip(arrays, shapes, specs, strict=True) for x in row] + [
        PartitionSpec(*spec) for spec in specs
    ]
    cut += [PartitionSpec()] * (len(operands) - len(cut))

    def of_parts(*operands: Array) -> list[Array]:
        given, total = packed.steps(operands)
        parts = [part_here(spec, step.leaf.g.shape) for step, spec in zip(given, specs, strict=True)]
        return jax.tree.leaves([Moved(*result) for result in apply(list(map(_placed, given, parts)), total)])

    call = jax.shard_map(of_parts, mesh=mesh, in_specs=tuple(cut), out_specs=cut[:changed], check_vma=False)
    placed = [
        x if jax.typeof(x).sharding == (wanted := NamedSharding(mesh, spec)) else reshard(x, wanted)
        for x, spec in zip(operands, cut, strict=True)
    ]
    return unpack(structure, call(*placed))


def part_here(spec: Sequence[Any], shape: tuple[int, ...]) -> Part:
    """Where an array of this shape, inside `jax.shard_map` with `spec`, lies in the whole one."""
    spec = (*spec, *[None] * len(shape))[: len(shape)]
    starts = [jax.lax.axis_index(axis) * n if axis else 0 for axis, n in zip(spec, shape, strict=True)]
    whole = [n * (jax.lax.axis_size(axis) if axis else 1) for axis, n in zip(spec, shape, strict=True)]
    return part_at(starts, tuple(whole))


def part_at(starts: Sequence[Any], whole: tuple[int, ...]) -> Part:
    """The part of an array of shape `whole` that begins at the indices `starts`, integers of any kind."""
    strides = tuple(math.prod(whole[axis + 1 :]) for axis in range(len(whole)))
    first = jnp.zeros([], jnp.uint32)
    for start, stride in zip(starts, strides, strict=True):
        first = first + jnp.asarray(start).astype(jnp.uint32) * np.uint32(stride % 2**32)
    return Part(first, strides)


def _placed(step: Step, part: Part) -> Step:
    """The step of a part of a leaf, with the random bits of its elements there."""
    return dataclasses.replace(step, noise=step.noise._replace(part=part)) if step.is_random else step


def cut_of(shardings: Sequence[Any], shape: tuple[int, ...], group: int) -> tuple[Any, ...]:
    """The mesh axes that a leaf is cut along, given the shardings of its arrays: those of the one in the most parts.

    An axis whose parts would not be of one length, or not of whole groups, is left whole.
    """
    named = [sharding for sharding in shardings if isinstance(sharding, NamedSharding)]
    if not named:
        return (None,) * len(shape)
    most = max(named, key=lambda sharding: math.prod(size(sharding.mesh, names_of(axis)) for axis in sharding.spec))
    spec = [*most.spec, *[None] * len(shape)][: len(shape)]
    for i, (axis, n) in enumerate(zip(spec, shape, strict=True)):
        length, rest = divmod(n, size(most.mesh, names_of(axis)))
        straddle = group and i == len(shape) - 1 and length != n and length % group
        if rest or straddle:
            spec[i] = None
    return tuple(spec)


def _spec(shape: tuple[int, ...], leaf: tuple[int, ...], spec: tuple[Any, ...]) -> PartitionSpec:
    """How an array is cut that has a number for each element of a leaf, for each group of them, or for the leaf."""
    return PartitionSpec(*spec) if shape[:-1] == leaf[:-1] and len(shape) == len(leaf) else PartitionSpec()


def _sharding_rule(shapes: Sequence[tuple[int, ...]], leaf: tuple[int, ...], others: int, indices: int) -> str:
    """How XLA carries shardings from array to array: each axis is cut alike in all that the step changes.

    The gradient, the last, is left out: cut along others, it would have XLA cut nothing.
    """
    axes = [f"a{axis}" for axis in range(len(leaf))]

    def of(shape: tuple[int, ...]) -> str:
        if shape == leaf:
            return " ".join(axes)
        return " ".join([*axes[:-1], f"g{shape[-1]}"]) if len(shape) == len(leaf) else ""

    told = [*map(of, shapes[:-1]), " ".join(f"d{axis}" for axis in range(len(leaf)))]
    return f"{', '.join([*told, *[''] * others, *axes[:indices], ''])} -> {', '.join(told[:-1])}"
