"""`StepContext.together`: equal functions of whole arrays, of several leaves, are one function of a stack of them.

While a leaf's step is traced for `stages.py` a call is one equation, and equal ones of all leaves are computed by one
`jax.vmap`. On several devices the stack is cut along its first axis: an all-to-all for each axis of the mesh brings
whole arrays to each device, and one takes the results back, whatever the function does in between. XLA by itself would
cut the products in it, and exchange parts of each. Of one array alone all devices compute the same.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, use_abstract_mesh

from ..._annotations import Array
from ..lowering import Branch, Branches, by_platform
from ..manual import names_of, size
from ..placement import cut_as, is_explicit
from ..traced import as_function, is_array, settings

MOST = 2**25
"""How many elements a stack on one device has: it is copied, and what the function makes of it is as large."""


class Call(NamedTuple):
    """A leaf's call as a function of flat arrays, the first of which only have the types of the results.

    Attributes:
        function: what is called, traced, of arrays that are not cut.
        own: how many of its operands are the leaf's; the others are shared.
    """

    function: Any
    own: int

    def __call__(self, *operands: Array) -> list[Array]:
        """The results."""
        like, given = operands[: len(self.function.out_avals)], operands[len(self.function.out_avals) :]
        return [cut_as(x, y) for x, y in zip(as_function(self.function)(*map(_whole, given)), like, strict=True)]

    def of_stacks(self, *operands: Array) -> list[Array]:
        """The results of stacks of the leaf's operands, of at most `MOST` elements at a time."""
        stacks, shared = operands[: self.own], operands[self.own :]
        one = lambda xs: as_function(self.function)(*xs, *shared)  # noqa: E731
        n, turns = len(stacks[0]), math.ceil(sum(x.size for x in stacks) / MOST)
        if turns < 2 or n < 2:
            return jax.vmap(one)(stacks)
        return jax.lax.map(one, stacks, batch_size=math.ceil(n / turns))


def marked(f: Callable[..., Any], arrays: Sequence[Array], shared: Sequence[Any]) -> Any:
    """`f(*arrays, *shared)` as one equation."""
    values, tree = jax.tree.flatten((tuple(arrays), tuple(shared)))
    constants = [None if is_array(x) else x for x in values]
    given = [jnp.asarray(x) for x in values if is_array(x)]

    def flat(*given: Array) -> Any:
        rest = iter(given)
        arrays, shared = tree.unflatten([next(rest) if x is None else x for x in constants])
        return f(*arrays, *shared)

    types: list[Any] = [jax.typeof(x) for x in given]
    with use_abstract_mesh(AbstractMesh((), ())):
        unplaced = [jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type) for x in types]
        closed, out = jax.make_jaxpr(flat, return_shape=True)(*unplaced)
    jaxpr, own = closed.jaxpr, len(jax.tree.leaves(tuple(arrays)))
    invars, unnamed = [*jaxpr.invars, *jaxpr.constvars], jaxpr.debug_info.with_unknown_names()
    function = closed.replace(jaxpr=jaxpr.replace(invars=invars, constvars=[], debug_info=unnamed), consts=[])
    alike = lambda x, y: x.shape == y.shape and x.dtype == y.dtype  # noqa: E731
    like = [next((x for x in given[:own] if alike(x, made)), None) for made in closed.out_avals]
    like = [jnp.zeros(y.shape, y.dtype) if x is None else x for x, y in zip(like, closed.out_avals, strict=True)]
    call = Branches("together", (Branch.of(None, Call(function, own)),), len(like))
    return jax.tree.unflatten(jax.tree.structure(out), by_platform(call, [*like, *given, *closed.consts]))


def is_call(equation: Any) -> bool:
    """Whether an equation is what `marked` made of a call, in any `jax.vmap`."""
    branches = equation.params.get("branches")
    return isinstance(branches, Branches) and isinstance(branches.branches[0].function, Call)


def alike(equation: Any, operands: Sequence[Any]) -> Hashable:
    """A key that is equal for calls that can be computed as one."""
    branches = equation.params["branches"]
    own = branches.results + branches.branches[0].function.own
    same = lambda x: id(x) if isinstance(x, Tracer) else (np.asarray(x).dtype, np.asarray(x).tobytes())  # noqa: E731
    return settings(equation), *(jax.typeof(x) for x in operands[:own]), *map(same, operands[own:])


def computed(branches: Branches, calls: Sequence[Sequence[Array]], several: bool) -> list[Sequence[Array]]:
    """The results of calls that differ in the leaf's operands only, in a program for one device or several."""
    call: Any = branches.branches[0].function
    first = branches.results
    axes: Any = [*zip(*branches.batched, strict=True)] or [()] * len(calls[0])
    mesh = _mesh(calls[0], several)
    alone = len(calls) == 1 and not branches.batched and mesh is None
    if alone or any(0 in each for each in axes[first + call.own :]):
        return [branches.everywhere()(*operands) for operands in calls]
    own, shared = slice(first, first + call.own), calls[0][first + call.own :]
    lead = jnp.shape(calls[0][0])[: len(branches.batched)]
    rows = [[_stack(x, each, lead) for x, each in zip(xs[own], axes[own], strict=True)] for xs in calls]
    if mesh is not None:
        found = _on_devices(call, rows, shared, mesh, calls[0][:first], len(lead))
    else:
        most, found = max(1, MOST // max(1, sum(x.size for x in rows[0]))), []
        for part in (rows[i : i + most] for i in range(0, len(rows), most)):
            made = call.of_stacks(*(jnp.concatenate(xs) for xs in zip(*part, strict=True)), *shared)
            found += _apart(made, len(rows[0][0]))
    return [
        [cut_as(x.reshape(y.shape) if lead else x.squeeze(0), y) for x, y in zip(row, xs[:first], strict=True)]
        for row, xs in zip(found, calls, strict=True)
    ]


def _stack(x: Array, axes: Sequence[int | None], lead: tuple[int, ...]) -> Array:
    """An operand, its batch axes as its first; an axis of length 1 if there are none.

    For each `jax.vmap` from the innermost on, `axes` is 0, or `None` where the operand is the same for all.
    """
    lacking = [i for i, axis in enumerate(reversed(axes)) if axis is None]
    inner = x.shape[len(axes) - len(lacking) :]
    if lacking:
        x = jnp.broadcast_to(jnp.expand_dims(x, lacking), (*lead, *inner))
    return x[None] if not lead else x if len(lead) == 1 else x.reshape(-1, *inner)


def _apart(stacks: Sequence[Array], length: int) -> list[list[Array]]:
    """Stacks cut into such of this length."""
    return [[x[i : i + length] for x in stacks] for i in range(0, len(stacks[0]), length)]


def _mesh(operands: Sequence[Array], several: bool) -> Any:
    """The mesh that a stack is cut over; `None` on one device, and where nothing tells it."""
    meshes = [*(jax.typeof(x).sharding.mesh for x in operands), jax.sharding.get_abstract_mesh()]
    told = (mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types or (several and not mesh.empty))
    return next(told, None)


def _on_devices(
    call: Call, rows: Sequence[Sequence[Array]], shared: Sequence[Array], mesh: Any, like: Sequence[Array], levels: int
) -> list[list[Array]]:
    """The results of rows of stacks, each array whole on a device; types tell how such results are to be cut.

    Stacks that devices share evenly lie side by side, others end to end, and copies of the last array are added. Of
    several axes of the mesh the minor is moved first, one at a time: so XLA moves no more than it has to.
    """
    explicit, length = AxisType.Explicit in mesh.axis_types, len(rows[0][0])
    kind = AxisType.Explicit if explicit else AxisType.Auto
    names = [name for name, each in zip(mesh.axis_names, mesh.axis_types, strict=True) if each == kind][::-1]
    evenly = length > 1 and length % size(mesh, names) == 0
    stacks = [jnp.stack(xs, 1) if evenly else jnp.concatenate(xs)[:, None] for xs in zip(*rows, strict=True)]
    count, across = stacks[0].shape[:2]
    kept = names_of(_spec(stacks[0])[0]) if explicit and evenly else ()
    axes = (*kept, *(name for name in names if name not in kept)) if count > 1 else ()
    begin = len(kept) if explicit else int(evenly)  # without types it may be cut along the first axis, and stay so

    def moves(inner: Sequence[Any]) -> list[NamedSharding]:
        """How a stack is cut, from along these inner axes to the first only; inner ones as XLA likes without types."""
        specs = [
            (axes[:i], *(_less(inner, axes[:i]) if explicit else [PartitionSpec.UNCONSTRAINED] * len(inner)))
            for i in range(begin, len(axes) + 1)
        ]
        return [NamedSharding(mesh, PartitionSpec(done or None, None, *rest)) for done, *rest in (*specs, (axes,))]

    def moved(x: Array, through: Sequence[NamedSharding]) -> Array:
        for sharding in through:
            x = jax.sharding.reshard(x, sharding) if explicit else jax.lax.with_sharding_constraint(x, sharding)
        return x

    def on_each(*operands: Array) -> list[Array]:
        flat = (x.reshape(-1, *x.shape[2:]) if i < call.own else x for i, x in enumerate(operands))
        return [x.reshape(-1, across, *x.shape[1:]) for x in call.of_stacks(*flat)]

    cut, whole = PartitionSpec(axes or None), PartitionSpec()
    added = -count % size(mesh, axes)
    given = [moved(jnp.concatenate([x, *[x[-1:]] * added]) if added else x, moves(_spec(x)[2:])) for x in stacks]
    specs = *[cut] * len(given), *[whole] * len(shared)
    spread = jax.shard_map(on_each, mesh=mesh, in_specs=specs, out_specs=cut, axis_names=set(names), check_vma=False)
    made = [moved(x, moves(_spec(y)[levels:])[::-1]) for x, y in zip(spread(*given, *shared), like, strict=True)]
    if evenly:
        return [[x[:, i] for x in made] for i in range(across)]
    return _apart([x[:, 0] for x in made], length)[: len(rows)]


def _spec(x: Array) -> list[Any]:
    """How an array is cut along each of its axes, as far as its type tells."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *[None] * (x.ndim - len(spec))]


def _less(inner: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """How axes are cut without these axes of the mesh."""
    return [tuple(name for name in names_of(axis) if name not in names) or None for axis in inner]


def _whole(x: Array) -> Array:
    """An array on all devices of its mesh, if its type says how it is cut."""
    mesh: Any = jax.typeof(x).sharding.mesh
    return jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec())) if is_explicit(x) else x
