"""Sums over the elements of arrays that are cut over devices: each adds up its part, one all-reduce adds up the parts.

XLA's partitioner makes all-reduces of sums, one for each set of mesh axes that arrays are cut along, and gathers whole
arrays for a reduction that is not a plain sum. On automatic meshes XLA asks how a sum is made from parts
(`custom_partitioning`), on explicit ones the types tell how arrays are cut, and under `jax.shard_map` they tell along
which axes of the mesh.
"""

import functools
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._annotations import Array
from .._math import largest, varying
from .lowering import Branch, Branches, Flat, by_platform


class Part(NamedTuple):
    """One array that is computed from the elements of one leaf.

    Attributes:
        leaf: the number of the leaf.
        largest: whether the largest is taken over the parts of a leaf, of what is not negative, and not the sum.
    """

    leaf: int
    largest: bool = False


class Reduction(NamedTuple):
    """A function of flat arrays that reduces leaves, from their parts on each device.

    Attributes:
        reduce: computes from the operands one array for each of `parts`, which has no axes of leaves.
        leaves: for each operand the number of its leaf, whose arrays have one shape; `None` for one that is not cut.
        parts: what the reduced arrays are.
        finish: computes the result from the reduced arrays.
    """

    reduce: Flat
    leaves: tuple[int | None, ...]
    parts: tuple[Part, ...]
    finish: Callable[[Sequence[Array]], Array]

    def __call__(self, *operands: Array) -> list[Array]:
        """The result, where XLA cuts the operands; as the only one."""
        from jax.experimental.custom_partitioning import custom_partitioning

        def partition(mesh: Any, given: Sequence[Any], results: Sequence[Any]) -> Any:
            specs = [_even(mesh, given[i].shape, given[i].sharding.spec) for i in self._first(given)]
            of_part = lambda *xs: self._reduced(xs[:-1], [_names(spec) for spec in specs], mesh.shape)  # noqa: E731
            whole = NamedSharding(mesh, PartitionSpec())
            cut = [whole if leaf is None else NamedSharding(mesh, specs[leaf]) for leaf in (*self.leaves, None)]
            return mesh, of_part, [whole] * len(results), tuple(cut)

        types = jax.eval_shape(lambda *xs: self.reduce(*xs), *operands)
        call = custom_partitioning(lambda *xs: [jnp.zeros(x.shape, x.dtype) for x in types])  # read for types only
        call.def_partition(partition, sharding_rule=self._sharding_rule)
        # JAX's persistent cache tells two calls apart by their operands only, not by what their parts do.
        salt = jnp.uint32(zlib.crc32(re.sub(" at 0x\\w+", "", repr(self)).encode(), _fingerprint()))
        return [self.finish(call(*operands, salt))]

    def on_mesh(self, mesh: Any, operands: Sequence[Array]) -> Array:
        """The result, where the types of the operands say how they are cut over the mesh."""
        specs = [jax.typeof(operands[i]).sharding.spec for i in self._first(operands)]
        cut = [PartitionSpec() if leaf is None else specs[leaf] for leaf in self.leaves]
        of_part = lambda *xs: self._reduced(xs, [_names(spec) for spec in specs], mesh.shape)  # noqa: E731
        alike = [jax.sharding.reshard(x, NamedSharding(mesh, spec)) for x, spec in zip(operands, cut, strict=True)]
        explicit = {
            name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit
        }
        call = jax.shard_map(of_part, mesh=mesh, in_specs=tuple(cut), out_specs=PartitionSpec(), axis_names=explicit)
        return self.finish(call(*alike))

    def over(self, axis_names: Sequence[str], operands: Sequence[Array]) -> Array:
        """The result of parts under `jax.shard_map`, over these axes of its mesh, along which leaves are cut or whole."""
        cut: list[set[str]] = [set() for _ in self._first(operands)]
        for leaf, x in zip(self.leaves, operands, strict=True):
            if leaf is not None:
                cut[leaf] |= varying([x]).intersection(axis_names)
        return self.finish(self._reduced(operands, cut, jax.sharding.get_abstract_mesh().shape))

    def _first(self, operands: Sequence[Any]) -> list[int]:
        """For each leaf the operand in the most parts, or the first of these."""
        del operands
        return [
            self.leaves.index(leaf) for leaf in range(max((x for x in self.leaves if x is not None), default=-1) + 1)
        ]

    def _sharding_rule(self, mesh: Any, operands: Sequence[Any], results: Sequence[Any]) -> str:
        """How XLA carries shardings from array to array: the axes of a leaf are cut alike in all of its arrays."""
        del mesh
        given = [
            " ".join(f"{'whole' if leaf is None else 'leaf'}{i if leaf is None else leaf}_{j}" for j in range(x.rank))
            for i, (leaf, x) in enumerate(zip((*self.leaves, None), operands, strict=True))
        ]
        made = [" ".join(f"made{i}_{j}" for j in range(x.rank)) for i, x in enumerate(results)]
        return f"{', '.join(given)} -> {', '.join(made)}"

    def _reduced(self, operands: Sequence[Array], cut: Sequence[set[str]], sizes: Mapping[str, int]) -> list[Array]:
        """The reduced arrays of whole leaves on each device, from its parts; leaves are cut along these mesh axes."""
        parts = list(self.reduce(*operands))
        over = tuple(name for name in sizes if any(name in names for names in cut))
        if not over:
            return parts
        device = _number(over, sizes)
        rows = jnp.arange(math.prod(sizes[name] for name in over)) == device
        pieces = []
        for part, (leaf, is_largest) in zip(parts, self.parts, strict=True):
            if is_largest:  # each device fills a row of its own: a sum that leaves every number as it is
                pieces.append(jnp.where(rows.reshape(-1, *[1] * part.ndim), part[None], 0))
            else:  # counted once of those that have copies; a product with 0 would keep NaN
                copies = _number([name for name in over if name not in cut[leaf]], sizes)
                pieces.append(jnp.where(copies == 0, part, 0))
        dtype = np.result_type(*(piece.dtype for piece in pieces))
        flat = jax.lax.psum(jnp.concatenate([piece.astype(dtype).reshape(-1) for piece in pieces]), over)
        ends = np.cumsum([piece.size for piece in pieces])[:-1]
        summed = [x.reshape(piece.shape) for x, piece in zip(jnp.split(flat, ends), pieces, strict=True)]
        return [
            (largest(x, 0) if is_largest else x).astype(part.dtype)
            for x, part, (_, is_largest) in zip(summed, parts, self.parts, strict=True)
        ]


def reduced(
    whole: Flat, by_parts: Reduction, by_xla: Flat, operands: Sequence[Array], axis_names: Sequence[str]
) -> Array:
    """What `whole` computes from the operands as its only result, of the type of the first; by parts where they are cut.

    Args:
        whole: computes it where they are not.
        by_parts: computes it from the parts of each device.
        by_xla: computes it where XLA partitions operations only, as on TPUs.
        operands: the arrays.
        axis_names: axes of the mesh of a `jax.shard_map` that they are parts along.
    """
    if axis_names:
        return by_parts.over(axis_names, operands)
    meshes: list[Any] = [jax.typeof(x).sharding.mesh for x in operands]
    for mesh in meshes:
        if AxisType.Explicit in mesh.axis_types:
            return by_parts.on_mesh(mesh, operands)
    if jax.sharding.get_abstract_mesh().manual_axes:
        return whole(*operands)[0]
    branches = (Branch(None, whole, False, by_parts), Branch.of(None, by_xla))
    return by_platform(Branches("xla", branches, 1), operands)[0]


def _even(mesh: Any, shape: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
    """The spec without axes of the array whose parts would not be of one length."""
    return PartitionSpec(
        *(
            axis if n % math.prod(mesh.shape[name] for name in _names([axis])) == 0 else None
            for n, axis in zip(shape, spec, strict=False)
        )
    )


def _names(spec: Sequence[Any]) -> set[str]:
    """The mesh axes that an array is cut along."""
    return {name for axis in spec if axis is not None for name in (axis if isinstance(axis, tuple) else (axis,))}


def _number(names: Sequence[str], sizes: Mapping[str, int]) -> Any:
    """The number of this device along these axes of the mesh, the last running fastest."""
    number: Any = 0
    for name in names:
        number = number * sizes[name] + jax.lax.axis_index(name)
    return number


@functools.cache
def _fingerprint() -> int:
    """A number that another version of this package's code would not have; of every process the same."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    return zlib.crc32(code)
