"""Sums over the elements of arrays that are cut over devices: each adds up its part, one all-reduce adds up the parts.

XLA's partitioner makes an all-reduce of every sum, and gathers whole arrays for a reduction that is not a plain sum.
On automatic meshes the shardings are known when XLA partitions the program, and a function of JAX makes the program of
one device (`custom_partitioning`); on explicit ones they are in the types, and under `jax.shard_map` the types tell
over which axes of the mesh an array varies.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .._annotations import Array
from .._math import largest
from .manual import varying

Names: TypeAlias = tuple[str, ...]
"""Axes of a mesh."""


class Reduced(NamedTuple):
    """One result of a reduction. Its axes are those that are left, and then axes that no array is cut along.

    Attributes:
        of: an operand of the leaf whose elements are added up.
        axes: the axes of that operand that are added up.
        largest: whether the largest is taken instead; of all axes, and of numbers that are not negative.
    """

    of: int
    axes: tuple[int, ...]
    largest: bool = False


class Cut(NamedTuple):
    """How an array that is reduced is cut: the mesh axes along what is reduced, and along each axis that is left."""

    reduced: Names
    left: tuple[Names, ...]


class Reduction(NamedTuple):
    """A reduction as a function of flat arrays: `function` of whole arrays, from those of the parts of each device.

    Attributes:
        function: computes the results from the operands; of parts of the operands, the parts' results.
        leaves: for each operand its leaf: operands of one leaf have one shape, and are cut alike.
        results: what each result is.
    """

    function: Callable[..., Sequence[Array]]
    leaves: tuple[Hashable, ...]
    results: tuple[Reduced, ...]

    def __call__(self, *operands: Array) -> list[Array]:
        """The results, of operands that XLA cuts over a mesh, or whose types say how they are cut."""
        mesh: Any = next((m for x in operands if (m := jax.typeof(x).sharding.mesh)._any_axis_explicit), None)
        if mesh is None:
            return self._partitioned()(*operands)
        explicit = {name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit}
        specs = [jax.typeof(x).sharding.spec for x in operands]
        left = [self._spec(result, self._cut(result, specs)) for result in self.results]
        each = lambda *xs: self._added(xs, [self._cut(r, specs) for r in self.results], mesh.shape)  # noqa: E731
        return jax.shard_map(each, mesh=mesh, in_specs=tuple(specs), out_specs=left, axis_names=explicit)(*operands)

    def over(self, axis_names: Names, operands: Sequence[Array]) -> list[Array]:
        """The results of operands that are parts, under a `jax.shard_map` over these axes of its mesh."""
        cuts = []
        for result in self.results:
            x = operands[result.of]
            axes = tuple(name for name in axis_names if name in varying([x]))
            if axes and len(result.axes) < x.ndim:
                raise ValueError(
                    f"a sum over some axes of a leaf of shape {x.shape} was asked for, of which `jax.shard_map` shows "
                    "a part: step this rule under `jax.jit` on sharded arrays, where XLA knows what is cut"
                )
            cuts.append(Cut(axes, ((),) * (x.ndim - len(result.axes))))
        mesh = jax.sharding.get_abstract_mesh()
        return self._added(operands, cuts, mesh.shape)

    def _partitioned(self) -> Callable[..., list[Array]]:
        from jax.experimental.custom_partitioning import custom_partitioning

        def partition(mesh: Any, operands: Any, results: Any) -> Any:
            del results
            first = [operands[self.leaves.index(leaf)].sharding.spec for leaf in self.leaves]
            cuts = [self._cut(result, first) for result in self.results]
            placed = lambda spec: NamedSharding(mesh, spec)  # noqa: E731
            left = [placed(self._spec(result, cut)) for result, cut in zip(self.results, cuts, strict=True)]
            return mesh, lambda *xs: self._added(xs, cuts, mesh.shape), left, tuple(map(placed, first))

        whole = custom_partitioning(lambda *xs: list(self.function(*xs)))
        whole.def_partition(partition, sharding_rule=self._factors)
        return whole

    def _factors(self, mesh: Any, operands: Sequence[Any], results: Sequence[Any]) -> str:
        """Which axes of operands and results are cut alike, as `custom_partitioning` wants it."""
        del mesh
        names = {leaf: f"x{i}" for i, leaf in enumerate(dict.fromkeys(self.leaves))}
        axes = [[f"{names[leaf]}_{j}" for j in range(x.rank)] for leaf, x in zip(self.leaves, operands, strict=True)]
        left = []
        for i, (result, x) in enumerate(zip(self.results, results, strict=True)):
            kept = [axis for j, axis in enumerate(axes[result.of]) if j not in result.axes]
            left.append([*kept, *(f"y{i}_{j}" for j in range(x.rank - len(kept)))])
        told = [", ".join(" ".join(names) for names in side) for side in (axes, left)]
        return " -> ".join(told)

    def _cut(self, result: Reduced, specs: Sequence[PartitionSpec]) -> Cut:
        spec = [_names(entry) for entry in specs[result.of]]
        reduced = tuple(name for j in result.axes if j < len(spec) for name in spec[j])
        return Cut(reduced, tuple(names for j, names in enumerate(spec) if j not in result.axes))

    def _spec(self, result: Reduced, cut: Cut) -> PartitionSpec:
        del result
        return PartitionSpec(*(names or None for names in cut.left))

    def _added(self, operands: Sequence[Array], cuts: Sequence[Cut], sizes: Mapping[str, int]) -> list[Array]:
        """The results of this device, from its parts of the operands."""
        parts = list(self.function(*operands))
        shared = [i for i, cut in enumerate(cuts) if cut.reduced]
        used = {name for i in shared for name in (*cuts[i].reduced, *(n for names in cuts[i].left for n in names))}
        over = tuple(name for name in sizes if name in used)
        if not shared:
            return parts
        dtype = np.result_type(*(parts[i].dtype for i in shared))
        pieces = []
        for i in shared:
            place = _in_table if self.results[i].largest else _in_whole
            pieces.append(place(parts[i].astype(dtype), cuts[i], over, sizes))
        flat = jax.lax.psum(jnp.concatenate([piece.reshape(-1) for piece in pieces]), over)
        ends = np.cumsum([piece.size for piece in pieces])
        for i, piece, whole in zip(shared, pieces, jnp.split(flat, ends[:-1]), strict=True):
            whole = whole.reshape(piece.shape)
            if self.results[i].largest:
                whole = largest(whole, 0)
            elif whole.shape != parts[i].shape:
                whole = jax.lax.dynamic_slice(whole, _starts(parts[i], cuts[i], sizes), parts[i].shape)
            parts[i] = whole.astype(parts[i].dtype)
        return parts


def _in_whole(part: Array, cut: Cut, over: Names, sizes: Mapping[str, int]) -> Array:
    """A device's part where it is in the whole result, zeros elsewhere; zeros on devices that hold but a copy."""
    cuts = {*cut.reduced, *(name for names in cut.left for name in names)}
    copies = [name for name in over if name not in cuts]
    if copies:
        part = jnp.where(_position(copies, sizes) == 0, part, 0)  # a product with 0 would keep NaN
    if not any(cut.left):
        return part
    counts = [math.prod(sizes[name] for name in names) for names in cut.left]
    shape = [n * count for n, count in zip(part.shape, [*counts, *[1] * part.ndim], strict=False)]
    return jax.lax.dynamic_update_slice(jnp.zeros(shape, part.dtype), part, _starts(part, cut, sizes))


def _in_table(part: Array, cut: Cut, over: Names, sizes: Mapping[str, int]) -> Array:
    """A device's part in its own row of a table of zeros: an all-reduce that adds leaves every row as it is."""
    del cut
    row = jnp.arange(math.prod(sizes[name] for name in over)) == _position(over, sizes)
    return jnp.where(row.reshape(-1, *[1] * part.ndim), part[None], 0)


def _starts(part: Array, cut: Cut, sizes: Mapping[str, int]) -> list[Any]:
    starts = [_position(names, sizes) * n for names, n in zip(cut.left, part.shape, strict=False)]
    return [*starts, *[0] * (part.ndim - len(starts))]


def _position(names: Sequence[str], sizes: Mapping[str, int]) -> Any:
    """The number of this device along these axes of the mesh, the last running fastest."""
    index: Any = jnp.int32(0)
    for name in names:
        index = index * sizes[name] + jax.lax.axis_index(name)
    return index


def _names(entry: Any) -> Names:
    """The mesh axes of an entry of a `PartitionSpec`."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
