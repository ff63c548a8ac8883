"""Sums over the elements of arrays that are cut over devices: each adds up its part, one all-reduce adds up the parts.

XLA's partitioner makes all-reduces of sums, one for each set of mesh axes that arrays are cut along, and gathers whole
arrays for a reduction that is not a plain sum. On automatic meshes XLA asks how a sum is made from parts
(`custom_partitioning`), on explicit ones the types tell how arrays are cut, and under `jax.shard_map` they tell along
which axes of the mesh.
"""

import collections
import functools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._annotations import Array
from .._math import largest, varying
from .lowering import Branch, Branches, Flat, by_platform
from .manual import names_of
from .partitioned import cut_of
from .xla.shared_functions import in_a_program


class Reduction(NamedTuple):
    """A function of flat arrays that reduces leaves, from their parts on each device.

    Attributes:
        table: computes from the operands, as its only result, a table with a row for each leaf: of sums, and of largest
            values after them, which are not negative.
        leaves: for each operand the number of its leaf, whose arrays have one shape; `None` for one that is not cut.
        sums: the number of sums.
        finish: computes the result from the table.
    """

    table: Flat
    leaves: tuple[int | None, ...]
    sums: int
    finish: Callable[[Array], Array]

    def __call__(self, *operands: Array) -> list[Array]:
        """The result, where XLA cuts the operands; as the only one."""
        from jax.experimental.custom_partitioning import custom_partitioning

        def partition(mesh: Any, given: Sequence[Any], results: Sequence[Any]) -> Any:
            del results
            specs = self._specs([(x.shape, x.sharding) for x in given[:-1]])
            of_part = lambda *xs: self._reduced(xs[:-1], self._cut(specs), mesh.shape)  # noqa: E731
            cut = tuple(NamedSharding(mesh, spec) for spec in (*specs, PartitionSpec()))
            return mesh, of_part, NamedSharding(mesh, PartitionSpec()), cut

        (table,) = jax.eval_shape(lambda *xs: self.table(*xs), *operands)
        call = custom_partitioning(lambda *xs: jnp.zeros(table.shape, table.dtype))  # read for types only
        call.def_partition(partition, sharding_rule=self._sharding_rule)
        # JAX's persistent cache tells two calls apart by their operands only, not by what their parts do.
        salt = jnp.uint32(zlib.crc32(re.sub(" at 0x\\w+", "", repr(self)).encode(), _fingerprint()))
        return [self.finish(call(*operands, salt))]

    def on_mesh(self, mesh: Any, operands: Sequence[Array]) -> Array:
        """The result, where the types of the operands say how they are cut over the mesh."""
        specs = self._specs([(x.shape, jax.typeof(x).sharding) for x in operands])
        of_part = lambda *xs: self._reduced(xs, self._cut(specs), mesh.shape)  # noqa: E731
        alike = [jax.sharding.reshard(x, NamedSharding(mesh, spec)) for x, spec in zip(operands, specs, strict=True)]
        explicit = {
            name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit
        }
        call = jax.shard_map(of_part, mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec(), axis_names=explicit)
        return self.finish(call(*alike))

    def over(self, axis_names: Sequence[str], operands: Sequence[Array]) -> Array:
        """The result of parts under `jax.shard_map`, over these axes of its mesh; along some a leaf may be whole."""
        cut = self._cut([varying([x]).intersection(axis_names) for x in operands])
        return self.finish(self._reduced(operands, cut, jax.sharding.get_abstract_mesh().shape))

    def _specs(self, operands: Sequence[tuple[tuple[int, ...], Any]]) -> list[PartitionSpec]:
        """How to cut each operand, of a shape and with a sharding: as that of its leaf in the most parts is cut."""
        of_leaf = collections.defaultdict(list)
        for leaf, (_, sharding) in zip(self.leaves, operands, strict=True):
            of_leaf[leaf].append(sharding)
        return [
            PartitionSpec() if leaf is None else PartitionSpec(*cut_of(of_leaf[leaf], shape, 0))
            for leaf, (shape, _) in zip(self.leaves, operands, strict=True)
        ]

    def _cut(self, specs: Sequence[Iterable[Any]]) -> dict[int | None, set[str]]:
        """For each leaf the mesh axes that it is cut along."""
        cut: dict[int | None, set[str]] = {leaf: set() for leaf in self.leaves}
        for leaf, spec in zip(self.leaves, specs, strict=True):
            cut[leaf].update(name for axis in spec for name in names_of(axis))
        return cut

    def _sharding_rule(self, mesh: Any, operands: Sequence[Any], results: Sequence[Any]) -> str:
        """How XLA carries shardings from array to array: the axes of a leaf are cut alike in all of its arrays."""
        del mesh, results
        given = [
            " ".join(f"{'whole' if leaf is None else 'leaf'}{i if leaf is None else leaf}_{j}" for j in range(x.rank))
            for i, (leaf, x) in enumerate(zip((*self.leaves, None), operands, strict=True))
        ]
        return f"{', '.join(given)} -> row column"

    def _reduced(
        self, operands: Sequence[Array], cut: Mapping[int | None, set[str]], sizes: Mapping[str, int]
    ) -> Array:
        """The table of whole leaves on each device, from its parts; leaves are cut along these mesh axes."""
        (table,) = self.table(*operands)
        over = tuple(name for name in sizes if any(name in names for names in cut.values()))
        if not over:
            return table
        whole = [tuple(name for name in over if name not in cut[leaf]) for leaf in range(len(table))]
        kinds = list(dict.fromkeys(whole))
        # Counted once of those that have copies; a product with 0 would keep NaN.
        counted = jnp.stack([jnp.equal(_number(names, sizes), 0) for names in kinds])[
            np.array([*map(kinds.index, whole)])
        ]
        added = jnp.where(counted[:, None], table[:, : self.sums], 0)
        # Each device fills a row of its own: a sum that leaves every number as it is.
        own = jnp.arange(math.prod(sizes[name] for name in over)) == _number(over, sizes)
        rows = jnp.where(own[:, None, None], table[None, :, self.sums :], 0)
        added, rows = jax.lax.psum((added, rows), over)
        return jnp.concatenate([added, largest(rows, 0)], 1)


def reduced(
    whole: Flat, by_parts: Reduction, by_xla: Flat, operands: Sequence[Array], axis_names: Sequence[str]
) -> Array:
    """The only result of `whole`, which is of the type of the first operand; by parts where operands are cut.

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
            on_mesh = lambda *xs, mesh=mesh: by_parts.on_mesh(mesh, xs)  # noqa: E731
            return (on_mesh if in_a_program() else jax.jit(on_mesh))(*operands)
    if jax.sharding.get_abstract_mesh().manual_axes:
        return whole(*operands)[0]
    branches = (Branch(None, whole, False, by_parts), Branch.of(None, by_xla))
    return by_platform(Branches("xla", branches, 1), operands)[0]


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
