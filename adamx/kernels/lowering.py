"""A JAX primitive with an implementation for each platform, chosen when a program is lowered.

`jax.lax.platform_dependent` traces all of its branches, and XLA's branch is by far the longest. This primitive traces
only the one that is needed, when it is lowered.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.interpreters import ad, batching, mlir
from jax.sharding import AbstractMesh, AxisType, use_abstract_mesh

from .._annotations import Array
from .manual import varying, varying_alike

Flat: TypeAlias = Callable[..., Sequence[Array]]
"""A function from arrays to arrays. It is hashable, and equal to another that computes the same."""


class Branch(NamedTuple):
    """The implementation for some platforms; `None` for all.

    Attributes:
        platforms: where it runs.
        function: what it computes.
        alone: whether it can only be in programs for one platform.
        by_parts: takes its place in programs that XLA partitions over several devices; `None` if nothing does.
    """

    platforms: tuple[str, ...] | None
    function: Flat
    alone: bool
    by_parts: Flat | None

    @classmethod
    def of(cls, platforms: tuple[str, ...] | None, function: Flat) -> "Branch":
        """An implementation in operations that XLA knows."""
        return cls(platforms, function, False, function)


class Branches(NamedTuple):
    """All implementations; on each platform the first that runs there is used.

    Attributes:
        name: the name of the first in `kernel=`, for errors.
        branches: in order of preference.
        results: the number of results. Result i has the shape, dtype and sharding of operand i.
        batched: for each enclosing `jax.vmap`, the batch axis of each operand: 0, or `None`.
    """

    name: str
    branches: tuple[Branch, ...]
    results: int
    batched: tuple[tuple[int | None, ...], ...] = ()

    def on(self, platform: str, portable: bool, alone: bool = True, devices: int = 1, cut: bool = False) -> Branch:
        """The branch for a platform; with `portable`, preferably the one that runs on all platforms.

        Args:
            platform: what the program is lowered for.
            portable: whether the program may be run by another process.
            alone: whether the program is for this platform only.
            devices: how many devices XLA partitions the program over.
            cut: whether it asks functions how they are cut.

        Raises:
            NotImplementedError: there is none.
        """
        whole = [branch for branch in self.branches if branch.platforms is None]
        here = whole if portable and whole else self.branches
        here = [branch for branch in here if branch.platforms is None or platform in branch.platforms]
        for branch in here:
            if branch.alone and not alone:
                continue
            if devices == 1 or branch.by_parts == branch.function:
                return branch._replace(function=self._in_batches(branch.function))
            if branch.by_parts is not None and cut and not self.batched:
                return branch._replace(function=branch.by_parts, alone=False)
        if here and not alone:
            raise NotImplementedError(f"kernel={self.name!r} can be in programs for one platform only")
        if here:
            raise NotImplementedError(
                f"kernel={self.name!r} cannot be partitioned here, and the program's arrays are spread over {devices} "
                "devices: use `jax.shard_map`, where each sees its own, or kernel='auto'"
            )
        runs_on = ", ".join(dict.fromkeys(p for branch in self.branches for p in branch.platforms or ()))
        raise NotImplementedError(
            f"kernel={self.name!r} runs on {runs_on}, and the program is lowered for {platform}: "
            "kernel='auto' takes what runs there"
        )

    def are_cut(self) -> bool:
        """Whether some implementation may have to be told how XLA partitions the traced code."""
        alike = all(branch.by_parts in (None, branch.function) for branch in self.branches)
        types = jax.sharding.get_abstract_mesh().axis_types
        return not (alike or self.batched or set(types) - {AxisType.Auto})

    def everywhere(self) -> Flat:
        """The function that runs on all platforms and can be differentiated.

        Raises:
            NotImplementedError: there is none.
        """
        for branch in self.branches:
            if branch.platforms is None:
                return self._in_batches(branch.function)
        raise NotImplementedError(f"kernel={self.name!r} cannot be differentiated: take kernel='xla'")

    def _in_batches(self, function: Flat) -> Flat:
        return _InBatches(function, self.batched) if self.batched else function


class _InBatches(NamedTuple):
    """A function inside `jax.vmap`s, hashable and comparable."""

    function: Flat
    batched: tuple[tuple[int | None, ...], ...]

    def __call__(self, *operands: Array) -> Sequence[Array]:
        """The results for all batch elements."""
        function = self.function
        for axes in self.batched:
            function = jax.vmap(function, in_axes=axes)
        return function(*operands)


def by_platform(branches: Branches, operands: Sequence[Array]) -> list[Array]:
    """The results of the branch for the platform of the program; eager calls are lowered by themselves.

    An exported program gets the branch that runs on all platforms, as another process may not have the others.
    """
    return _primitive().bind(*operands, branches=branches, asks=_asks() if branches.are_cut() else None)


@functools.cache
def _primitive() -> Any:
    """The primitive, made when it is first used, as `jax.extend` imports Pallas."""
    from jax.extend.core import Primitive

    primitive = Primitive("adamx")
    primitive.multiple_results = True
    primitive.def_impl(_computed)
    primitive.def_abstract_eval(_types)
    mlir.register_lowering(primitive, _lower)
    batching.primitive_batchers[primitive] = _batch
    ad.primitive_jvps[primitive] = _differentiate
    return primitive


@functools.cache
def _asks() -> Any:
    """A traced function whose presence makes `jax.jit` tell, while it lowers, which devices the program is for."""
    from jax.experimental.custom_partitioning import custom_partitioning

    call = custom_partitioning(lambda x: x)
    call.def_partition(lambda *_: None, sharding_rule="->")
    return jax.make_jaxpr(call)(np.float32(0))


def _computed(*operands: Array, branches: Branches, asks: Any) -> list[Array]:
    del asks
    with jax.disable_jit(False):
        return _jitted(branches, *operands)


def _types(*operands: Any, branches: Branches, asks: Any) -> list[Any]:
    del asks
    return [x.update(weak_type=False) for x in operands[: branches.results]]


def _lower(ctx: mlir.LoweringRuleContext, *operands: Any, branches: Branches, asks: Any) -> Any:
    module: Any = ctx.module_context
    portable, devices = module.lowering_parameters.for_export, _partitions(module.axis_context)
    platforms = ctx.platforms or module.platforms
    mesh: Any = getattr(module.axis_context, "abstract_mesh", None)  # that of all shardings
    asked = len(platforms) == 1 and platforms[0] != "tpu"  # whose compiler does not ask
    cut = asks is not None and mesh is not None and asked and not portable
    chosen = {p: branches.on(p, portable, len(platforms) == 1, devices, cut) for p in platforms}
    lowered = mlir.lower_fun(_of_each({p: branch.function for p, branch in chosen.items()}))
    try:
        if not any(branch.alone for branch in chosen.values()):
            context = jax.sharding.get_abstract_mesh()
            with use_abstract_mesh(mesh if context.empty and mesh is not None else context):
                return lowered(ctx, *operands)
        with use_abstract_mesh(AbstractMesh((), ())), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
            return lowered(_without_mesh(ctx), *operands)
    except NotImplementedError as error:  # a rule of the user may contain what a kernel cannot do
        specific = [branch.platforms for branch in chosen.values() if branch.platforms is not None]
        others = tuple(branch for branch in branches.branches if branch.platforms not in specific)
        if not specific or not any(branch.platforms is None for branch in others):
            raise
        warnings.warn(f"a step is left to XLA: {error}", stacklevel=2)
        return _lower(ctx, *operands, branches=branches._replace(branches=others), asks=asks)


def _without_mesh(ctx: mlir.LoweringRuleContext) -> mlir.LoweringRuleContext:
    """The context of what one device does by itself: its kernels may be for other devices than those of the mesh."""
    given: Sequence[Any] = ctx.avals_in
    return dataclasses.replace(ctx, avals_in=[ShapedArray(x.shape, x.dtype) for x in given])


def _of_each(functions: dict[str, Flat]) -> Flat:
    """The function that does on each platform what that platform's function does."""
    first, *others = functions.values()

    def adamx(*operands: Array) -> Sequence[Array]:
        return first(*operands)

    def of_each_platform(*operands: Array) -> Sequence[Array]:
        typed = {p: lambda *xs, f=f: _varying_as(f(*xs), xs) for p, f in functions.items()}
        return jax.lax.platform_dependent(*operands, **typed)

    return of_each_platform if any(f != first for f in others) else adamx


def _partitions(context: Any) -> int:
    """Over how many devices XLA partitions the program: 1 inside of a `jax.shard_map` over all mesh axes."""
    if not hasattr(context, "manual_axes"):
        return getattr(context, "num_devices", 1)
    return 1 if set(context.manual_axes) == set(context.mesh.axis_names) else context.mesh.size


def _varying_as(results: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
    """The results with the varying axes of the corresponding operands, whichever branch computed them."""
    return [varying_alike([x], varying([y]))[0] for x, y in zip(results, operands, strict=False)]


def _batch(
    operands: Sequence[Array], axes: Sequence[int | None], *, branches: Branches, asks: Any
) -> tuple[Any, list[int]]:
    del asks
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    rows: list[Array] = []
    for i, (x, axis) in enumerate(zip(operands, axes, strict=True)):
        if axis is not None:
            rows.append(jnp.moveaxis(x, axis, 0))
        else:
            rows.append(jnp.broadcast_to(x[None], (size, *x.shape)) if i < branches.results else x)
    told = tuple(None if axis is None and i >= branches.results else 0 for i, axis in enumerate(axes))
    return by_platform(branches._replace(batched=(*branches.batched, told)), rows), [0] * branches.results


def _differentiate(
    primals: Sequence[Array], tangents: Sequence[Any], *, branches: Branches, asks: Any
) -> tuple[Any, Any]:
    del asks
    from jax.extend.core import Literal, jaxpr_as_fun

    function = branches.everywhere()
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def along(operands: list[Array], changes: list[Array]) -> Any:
        def of_moving(*xs: Array) -> Sequence[Array]:
            for i, x in zip(moving, xs, strict=True):
                operands[i] = x
            return function(*operands)

        results, changes = jax.jvp(of_moving, [operands[i] for i in moving], changes)
        return results, [dx for dx in changes if dx.dtype != jax.dtypes.float0]

    given = [tangents[i] for i in moving]
    traced = jax.make_jaxpr(along)(list(primals), given)
    # A derivative that is 0 as nothing moves has to stay so in a loop: that of a root of 0 would be 0 times infinity.
    reached = set(traced.jaxpr.invars[len(primals) :])
    for equation in traced.jaxpr.eqns:
        if any(v in reached for v in equation.invars if not isinstance(v, Literal)):
            reached.update(equation.outvars)
    done = jaxpr_as_fun(traced)(*primals, *given)
    results, moved = done[: branches.results], iter([*zip(done, traced.jaxpr.outvars, strict=True)][branches.results :])
    changes = []
    for x in results:
        dx, v = next(moved) if jnp.issubdtype(x.dtype, jnp.inexact) else (x, None)
        moves = v is not None and not isinstance(v, Literal) and v in reached
        changes.append(dx if moves else ad.Zero(jax.typeof(x).to_tangent_aval()))
    return results, changes


_jitted = jax.jit(lambda branches, *operands: by_platform(branches, operands), static_argnums=0)
