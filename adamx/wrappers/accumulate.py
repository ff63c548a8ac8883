"""Gradients added up over several calls, and one step taken with their mean."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from .. import _leaves, kernels
from .._annotations import Array, Interval, Params, Scalar
from .._engine import Engine
from .._layout import wide_dtype
from .._names import refuse_step_words
from .._rule import Slot, validate_value
from ..moments import Format, format_of, format_stored
from ..moments.noise import noise
from ..wrapper import Wrapper, refuse_other, states_in
from .when import when


class AccumulateState(NamedTuple):
    """The state of an optimizer that `accumulate` wraps.

    Attributes:
        inner: the optimizer's own.
        sums: of the gradients since the last move, each times its weight; a tree like the parameters, `None` for frozen
            leaves.
        position: how many gradients these are; int32, shape (). At 0, after the call that moved, `sums` and `weight`
            are old and count no more.
        weight: the sum of their weights; float32, or float64 where that is JAX's default; shape ().
    """

    inner: Any
    sums: Params
    position: Array
    weight: Array


def accumulate(
    opt: optax.GradientTransformation, every: int | Callable[[Any], Any], dtype: Any = jnp.float32, *, seed: int = 0
) -> Any:
    r"""Add up the gradients of `every` calls, and take one step of `opt` with their mean in the last of them.

    The mean is $\sum w_i g_i / \sum w_i$, with the weight $w_i$ that `step(..., weight=)` or `update(..., weight=)` is
    given, such as the number of tokens that $g_i$ is a mean over, else 1. Schedules, counts and random bits of `opt`
    see moves and not calls. The other calls leave parameters and the state of `opt` alone, bit for bit and without
    reading them; their updates are 0.

    What else `step` is given is for the mean, and read in the last call, so give the same in every one: `clip_norm` is
    of its norm, `grad_scale` multiplies it. `grad_norm` is refused: it is the norm of one call's gradients.

    The buffer, too, may be in host memory, see `adamx.state_shardings`: each call fetches it and sends it back.

    Without a buffer, where all parts of a batch are at hand in one program: `jax.lax.scan` over them, see
    `docs/training.md`.

    Args:
        opt: the optimizer, an adamx optimizer or any Optax transformation.
        every: how many calls make a move; or a schedule of the finished moves (int32, from 0) that says so for the
            next.
        dtype: of the buffer. float32: at least that. bfloat16: half of it, for real leaves of 4096 elements and more
            whose sums, computed in float32, are rounded with dither, so that the mean over moves is right.
        seed: of the random bits of the dither.

    Returns:
        An `Optimizer` with a `step` if `opt` is one; else a transformation.

    Raises:
        TypeError: `opt` is no transformation; `every` is not a whole number; an `every` that follows a schedule or a
            bfloat16 buffer around what keeps no adamx state, which counts the moves; a step given `grad_norm`.
        ValueError: `every` below 1, another `dtype`; a `weight` that is no scalar, or negative.

    A window whose weights are all 0 makes no move: nothing was learned in it, and the next one begins. A gradient that
    is not finite stays so in the sum, whatever its weight: see `adamx.guard`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.accumulate(adamx.adam(0.5), every=2)
        >>> params = jnp.array([1.0, 2.0])
        >>> state = opt.init(params)
        >>> for grads in (jnp.array([3.0, 1.0]), jnp.array([1.0, -5.0])):
        ...     params, state = opt.step(grads, state, params)
        ...     print(params, state.inner.count)
        [1. 2.] 0
        [0.5 2.5] 1
    """
    if not callable(every) and (isinstance(every, bool) or every != int(every)):
        raise TypeError(f"every = {every!r} should be a whole number of calls, or a schedule of the finished moves")
    first = every(np.int32(0)) if callable(every) else every
    if not isinstance(first, Tracer) and not first >= 1:
        raise ValueError(f"every = {first} should be at least 1: 1 moves in every call")
    name = np.dtype(dtype).name
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype = {dtype!r} should be jnp.float32, or jnp.bfloat16 for half the buffer")
    return Accumulate(opt, every, name, seed).optimizer()


@dataclasses.dataclass(frozen=True, eq=False)
class Accumulate(Wrapper):
    """The object whose methods are those of the optimizer; see `accumulate`."""

    every: int | Callable[[Any], Any]
    dtype: str
    seed: Any
    own_gradients = True

    def init(self, params: Params) -> AccumulateState:
        """The state before the first call."""
        leaves, inner = _leaves.flatten(params, "params"), self.opt.init(params)
        if callable(self.every) or self.dtype == "bfloat16":
            _moves(inner)
        sums = [
            None if p is None or frozen else jnp.zeros_like(p, self._format(p).dtypes[0])
            for p, frozen in zip(leaves.arrays, self.frozen(leaves), strict=True)
        ]
        start = AccumulateState(inner, leaves.rebuild(sums), jnp.zeros([], jnp.int32), jnp.zeros([], float))
        return kernels.beside(leaves.arrays, start)

    def update(
        self, updates: Params, state: Any, params: Params = None, *, weight: Scalar | None = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        """The updates of the optimizer in the last of `every` calls, else 0."""
        refuse_step_words("update", extra_args)
        moves, sums, after = self._added(updates, state, params, weight)
        inner = optax.with_extra_args_support(self.opt)

        def move(carry: tuple[Params, Any], sums: Params) -> tuple[Params, Any]:
            mean = jax.tree.map(lambda x: jnp.asarray(x, wide_dtype(x)) / after.weight.astype(wide_dtype(x)), sums)
            new, state = inner.update(mean, carry[1], params, **extra_args)
            as_still = lambda x, still: still if x is None else x.astype(still.dtype)  # noqa: E731
            return jax.tree.map(as_still, new, carry[0], is_leaf=_leaves.is_none), state

        like, _ = jax.eval_shape(lambda: inner.update(updates, state.inner, params, **extra_args))
        still = jax.tree.map(lambda g, x: jnp.zeros_like(g, x.dtype), updates, like)
        new, own = when(moves, move, (still, state.inner), sums)
        return new, after._replace(inner=own)

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        *,
        weight: Scalar | None = None,
        grad_scale: Scalar | None = None,
        grad_norm: Scalar | None = None,
        **options: Any,
    ) -> tuple[Params, Any]:
        """The step of the optimizer in the last of `every` calls, else what is given."""
        if grad_norm is not None:
            raise TypeError(
                "grad_norm is the norm of this call's gradients, and steps are taken by the mean of several: leave it "
                "out, and clip_norm computes the mean's"
            )
        moves, sums, after = self._added(grads, state, params, weight)
        scale = jnp.asarray(1.0 if grad_scale is None else grad_scale, float) / after.weight

        def move(carry: tuple[Params, Any], sums: Params) -> tuple[Params, Any]:
            return self.opt.step(sums, carry[1], carry[0], grad_scale=scale, **options)

        params, inner = when(moves, move, (params, state.inner), sums)
        return params, after._replace(inner=inner)

    def _added(
        self, grads: Params, state: Any, params: Params, weight: Scalar | None
    ) -> tuple[Array, Params, AccumulateState]:
        """Whether this call moves, the sums that it moves by, and the state after it but for the optimizer's."""
        refuse_other(state, AccumulateState, "accumulate")
        if weight is not None:
            validate_value("weight", weight, Interval(0.0, float("inf")))
        leaves = _leaves.flatten(grads, "grads")
        like = leaves if params is None else leaves._replace(arrays=_leaves.match(leaves, params, "params"))
        first, stored = state.position == 0, _leaves.match(leaves, state.sums, "sums")
        sums = kernels.on_device(stored)
        total = jnp.where(first, 0, state.weight) + jnp.asarray(1 if weight is None else weight, float)
        read: list[Array | None] = []
        for i, (path, g, frozen) in enumerate(zip(leaves.paths, leaves.arrays, self.frozen(like), strict=True)):
            if g is None or frozen:
                if (old := sums[i]) is not None and not frozen:
                    sums[i] = jnp.where(first, jnp.zeros_like(old), old)
                read.append(None)
                continue
            if (old := sums[i]) is None:
                raise ValueError(
                    f"{_leaves.show('grads', path)} has no sum in the state, as it was frozen when that was made: take "
                    "`adamx.regroup(opt, state, params)`"
                )
            sums[i] = self._sum(path, old, g, first, weight, state)
            read.append(sums[i])
        every = self.every(_moves(state.inner)) if callable(self.every) else self.every
        full = (state.position + 1).astype(jnp.float32) >= jnp.asarray(every, jnp.float32)
        position = jnp.where(full, 0, state.position + 1)
        sent = lambda x, was: jax.device_put(x, kernels.HOST) if kernels.is_in_host_memory(was) else x  # noqa: E731
        sums = [x if was is None else sent(x, was) for x, was in zip(sums, stored, strict=True)]
        after = AccumulateState(state.inner, leaves.rebuild(sums), position, total)
        return full & (total != 0), leaves.rebuild(read), after

    def _sum(
        self, path: _leaves.Path, old: Array, g: Array, first: Array, weight: Scalar | None, state: AccumulateState
    ) -> Array:
        """The sum of a leaf with one more gradient."""
        form, wide = format_stored(old, "bfloat16", old.dtype), wide_dtype(old, g)
        g = kernels.cut_as(jnp.asarray(g, wide), old)
        g = g if weight is None else g * jnp.asarray(weight, wide)
        new = jnp.where(first, 0, jnp.asarray(old, wide)) + g
        if old.dtype != jnp.bfloat16:
            return new.astype(old.dtype)
        # Each position draws from a sequence of its own: the next number of one would tell how the sum was rounded.
        bits = noise(self.seed + state.position, _leaves.show("sums", path), _moves(state.inner))
        part = getattr(self._engine, "part", None)
        return form.encode(new, None, bits if part is None else bits._replace(part=part(path, g.shape)), ())

    def _format(self, p: Array) -> Format:
        """How the sum of a leaf is stored."""
        return format_of(self.dtype, Slot(), jnp.shape(p), jnp.shape(p), wide_dtype(p))

    @functools.cached_property
    def _engine(self) -> Engine | None:
        """The engine of an adamx optimizer; `None` of others."""
        try:
            return self.engine
        except TypeError:
            return None


def _moves(inner: Any) -> Array:
    """How many moves are finished."""
    if not (states := states_in(inner)):
        raise TypeError(
            "a schedule in `every`, and a bfloat16 buffer's dither, count moves by the state of an adamx optimizer; "
            f"{type(inner).__name__} has none: give a number and dtype=jnp.float32"
        )
    return jnp.asarray(states[0].count)
