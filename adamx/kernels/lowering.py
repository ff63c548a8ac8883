"""One function for each platform: which of them a program gets is decided when it is lowered.

`jax.lax.platform_dependent` traces all of its branches, of which XLA's path is by far the longest. Here a primitive
stands for them, and the one that is needed is traced when it is needed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._annotations import Array
from .manual import varying, varying_alike

Flat: TypeAlias = Callable[..., Sequence[Array]]
"""From flat operands to flat results. It is hashable, and equal to one that computes the same."""


class Branch(NamedTuple):
    """What computes the results on some platforms; `None` for all."""

    platforms: tuple[str, ...] | None
    function: Flat


class Branches(NamedTuple):
    """All that may compute the results, of which the first that runs on a platform is taken there.

    Attributes:
        name: what `kernel=` calls the first of them, for an error.
        branches: in order.
        results: how many there are. Each has the shape, dtype and sharding of the operand at its place.
        batched: for each `jax.vmap` around, the axis of each operand: 0, or `None`.
    """

    name: str
    branches: tuple[Branch, ...]
    results: int
    batched: tuple[tuple[int | None, ...], ...] = ()

    def on(self, platform: str, portable: bool) -> Flat:
        """The function for a platform; if `portable`, the one that runs everywhere if there is one.

        Raises:
            NotImplementedError: there is none.
        """
        whole = [branch for branch in self.branches if branch.platforms is None]
        for branch in whole if portable and whole else self.branches:
            if branch.platforms is None or platform in branch.platforms:
                return self._in_batches(branch.function)
        runs_on = ", ".join(dict.fromkeys(p for branch in self.branches for p in branch.platforms or ()))
        raise NotImplementedError(
            f"kernel={self.name!r} runs on {runs_on}, and the program is lowered for {platform}: "
            "kernel='auto' takes what runs there"
        )

    def everywhere(self) -> Flat:
        """The function that runs on every platform and can be differentiated.

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
    """A function within `jax.vmap`s, comparable."""

    function: Flat
    batched: tuple[tuple[int | None, ...], ...]

    def __call__(self, *operands: Array) -> Sequence[Array]:
        """The results of all elements of the batches."""
        function = self.function
        for axes in self.batched:
            function = jax.vmap(function, in_axes=axes)
        return function(*operands)


def by_platform(branches: Branches, operands: Sequence[Array]) -> list[Array]:
    """What the branch of the platform that this is lowered for gives; called eagerly, it is lowered by itself.

    A program that is exported gets the branch that runs everywhere: another process need not have the others.
    """
    return _by_platform.bind(*operands, branches=branches)


_by_platform = Primitive("adamx")
_by_platform.multiple_results = True


@_by_platform.def_impl
def _computed(*operands: Array, branches: Branches) -> list[Array]:
    with jax.disable_jit(False):
        return _jitted(branches, *operands)


@_by_platform.def_abstract_eval
def _types(*operands: Any, branches: Branches) -> list[Any]:
    return [x.update(weak_type=False) for x in operands[: branches.results]]


def _lower(ctx: mlir.LoweringRuleContext, *operands: Any, branches: Branches) -> Any:
    module: Any = ctx.module_context
    functions = {p: branches.on(p, module.lowering_parameters.for_export) for p in ctx.platforms or module.platforms}
    first, *others = functions.values()

    def adamx(*operands: Array) -> Sequence[Array]:
        return first(*operands)

    def of_each_platform(*operands: Array) -> Sequence[Array]:
        typed = {p: lambda *xs, f=f: _varying_as(f(*xs), xs) for p, f in functions.items()}
        return jax.lax.platform_dependent(*operands, **typed)

    return mlir.lower_fun(of_each_platform if any(f != first for f in others) else adamx)(ctx, *operands)


def _varying_as(results: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
    """The results, said to vary as the operands at their places, whoever computed them."""
    return [varying_alike([x], varying([y]))[0] for x, y in zip(results, operands, strict=False)]


def _batch(operands: Sequence[Array], axes: Sequence[int | None], *, branches: Branches) -> tuple[Any, list[int]]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    rows: list[Array] = []
    for i, (x, axis) in enumerate(zip(operands, axes, strict=True)):
        if axis is not None:
            rows.append(jnp.moveaxis(x, axis, 0))
        else:
            rows.append(jnp.broadcast_to(x[None], (size, *x.shape)) if i < branches.results else x)
    told = tuple(None if axis is None and i >= branches.results else 0 for i, axis in enumerate(axes))
    return by_platform(branches._replace(batched=(*branches.batched, told)), rows), [0] * branches.results


def _differentiate(primals: Sequence[Array], tangents: Sequence[Any], *, branches: Branches) -> tuple[Any, Any]:
    function = branches.everywhere()
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def along(*xs: Array) -> Sequence[Array]:
        operands = list(primals)
        for i, x in zip(moving, xs, strict=True):
            operands[i] = x
        return function(*operands)

    results, changes = jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])
    zero = lambda x: ad.Zero(jax.typeof(x).to_tangent_aval())  # noqa: E731
    changes = [zero(x) if dx.dtype == jax.dtypes.float0 else dx for x, dx in zip(results, changes, strict=True)]
    return results, changes


_jitted = jax.jit(lambda branches, *operands: _by_platform.bind(*operands, branches=branches), static_argnums=0)
mlir.register_lowering(_by_platform, _lower)
batching.primitive_batchers[_by_platform] = _batch
ad.primitive_jvps[_by_platform] = _differentiate
