"""Steps whose gradients or loss are not finite or stand out are skipped."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import _leaves, kernels
from .._annotations import Above, Array, Params, Scalar
from .._math import varying
from .._names import refuse_step_words
from .._rule import validate_value
from .._variables import without_variables
from ..wrapper import Wrapper, has_own_gradients, refuse_other
from .offloaded import step_if

REASONS = ("", "gradients not finite", "loss not finite", "norm stands out", "loss stands out")
"""Why a step is skipped, by the code in the state; if for several reasons, the first of these."""

FLOOR = 0.01
"""The least standard deviation, as a share of the mean, so that nothing stands out of a run that hardly varies."""


class GuardState(NamedTuple):
    """The state of a guarded optimizer.

    Attributes:
        inner: the wrapped optimizer's state.
        norm: the norm of the last step's gradients, skipped or not, times `grad_scale`; float32, shape ().
        recent: the last norms and losses that were finite, the latest last; float32, (2, window), infinite where there
            is none yet; () without a window.
        skipped: how many steps were skipped; int32, shape ().
        in_a_row: how many since the last one that was taken.
        too_many: whether `in_a_row` has ever reached `max_in_a_row`; a boolean.
        reason: why a step was last skipped, its place in `REASONS`; 0 if none was; int32.
    """

    inner: Any
    norm: Array
    recent: Any
    skipped: Array
    in_a_row: Array
    too_many: Array
    reason: Array


def guard(
    opt: Any,
    *,
    window: int | None = 128,
    sigmas: float | None = None,
    warm_up: int | None = None,
    max_in_a_row: int = 10,
) -> Any:
    r"""Skip steps whose gradients are not finite, or whose gradient norm or loss stands out of those before.

    A skipped step leaves weights and the state of `opt` as they are, bit for bit, and moves none of them. Give the loss
    as `step(..., loss=loss)` or `update(..., loss=loss)` to have it watched, too. The norm is that of all gradients
    together, times `grad_scale` and before `clip_norm`, which computes none of its own; or `grad_norm`, if given.
    Gradients of frozen leaves are not read. Nothing leaves the device: see `guard_report`.

    A number $x$ stands out if $x > \mu + k \max(\sigma, |\mu|/100)$, with the mean $\mu$ and (unbiased) standard
    deviation $\sigma$ of the finite ones among the last `window`. Finite numbers enter the window although their step
    is skipped. So a level that has changed for good is soon the usual one: however high, it is skipped for about
    $n/(k^2+1)$ steps of $n$ numbers in the window, 4 in a row by default, and a spike widens the limits for as long as
    it is in the window. Numbers that are not finite do not enter, and are always skipped.

    Args:
        opt: the optimizer, an adamx optimizer or any Optax transformation.
        window: how many steps $\mu$ and $\sigma$ are of; `None` to skip what is not finite only.
        sigmas: $k$, how many standard deviations above the mean a number may be; `None` for 6.
        warm_up: how many numbers have to be in the window before one can stand out; `None` for half of `window`.
        max_in_a_row: after so many skipped steps in a row `too_many` is set in the state, and stays so. Steps are
            skipped all the same: stop, or go back to a checkpoint.

    Returns:
        An `Optimizer` with a `step` if `opt` is one; else a transformation.

    Raises:
        TypeError: `opt` is no transformation; a number that is none.
        ValueError: `window` or `warm_up` below 2, a longer `warm_up` than `window`, `sigmas` not positive, one of these
            without a `window`, `max_in_a_row` below 1; a `loss` that is no scalar; under `jax.shard_map`, a loss that
            differs between devices, or gradients that are cut along axes that `axis_name` does not name.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.guard(adamx.adam(0.5))
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> state = opt.init(params)
        >>> for grads in (jnp.array([3.0, jnp.nan]), jnp.array([3.0, -4.0])):
        ...     params, state = opt.step({"w": grads}, state, params)
        ...     print(params["w"], adamx.guard_report(state).in_a_row)
        [1. 2.] 1
        [0.5 2.5] 0

    Reference: the rule is that of OLMo-core's `SkipStepOptimizer` and MaxText's `skip_step_on_spikes`, with their
    defaults. There a number that is not finite enters the window (MaxText) or may (OLMo-core, by version), where one
    makes all comparisons fail; $\sigma$ has no least value, and MaxText looks at norms only if a loss is given.
    `optax.apply_if_finite` lets what is not finite through after `max_consecutive_errors`.
    """
    if window is not None:
        _check("window", window, 2)
    elif given := [f"{name} = {x}" for name, x in {"sigmas": sigmas, "warm_up": warm_up}.items() if x is not None]:
        raise ValueError(f"{given[0]} is of a window, and window = None skips what is not finite only")
    warm_up = max(2, (window or 0) // 2) if warm_up is None else _check("warm_up", warm_up, 2)
    if window is not None and warm_up > window:
        raise ValueError(f"warm_up = {warm_up} numbers are never in a window of {window}")
    validate_value("sigmas", sigmas := 6.0 if sigmas is None else sigmas, Above(0.0, float("inf")))
    return Guard(opt, window, sigmas, warm_up, _check("max_in_a_row", max_in_a_row, 1)).optimizer()


@dataclasses.dataclass(frozen=True, eq=False)
class Guard(Wrapper):
    """The object whose methods are those of a guarded optimizer; see `guard`."""

    window: int | None
    sigmas: float
    warm_up: int
    max_in_a_row: int
    sizes = (("recent", "`window` of adamx.guard"),)

    def init(self, params: Params) -> GuardState:
        """The state before the first step."""
        recent = () if self.window is None else jnp.full((2, self.window), jnp.inf, jnp.float32)
        zeros = [jnp.zeros([], dtype) for dtype in (jnp.int32, jnp.int32, bool, jnp.int32)]
        start = GuardState(self.opt.init(params), jnp.zeros([], jnp.float32), recent, *zeros)
        return kernels.beside(_leaves.flatten(params, "params").arrays, start)

    def update(
        self, updates: Params, state: Any, params: Params = None, *, loss: Scalar | None = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        """The updates of the optimizer; 0 in a skipped step."""
        refuse_step_words("update", extra_args)
        _, after = self._judged(updates, state, params, loss, extra_args)
        inner = optax.with_extra_args_support(self.opt)

        def taken(now: tuple[Params, Any], grads: Params) -> tuple[Params, Any]:
            return inner.update(grads, now[1], params, **extra_args)

        like, _ = jax.eval_shape(taken, (updates, state.inner), updates)
        still = jax.tree.map(lambda g, x: jnp.zeros_like(g, x.dtype), updates, like)
        new, own = step_if(after.in_a_row == 0, taken, (still, state.inner), updates)
        return new, after._replace(inner=own)

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        *,
        loss: Scalar | None = None,
        grad_norm: Scalar | None = None,
        **options: Any,
    ) -> tuple[Params, Any]:
        """The step of the optimizer, or what is given."""
        norm, after = self._judged(grads, state, params, loss, options, grad_norm)
        if "clip_norm" in options and not has_own_gradients(self.opt):
            options["grad_norm"] = norm

        def taken(now: tuple[Params, Any], grads: Params, **ok: Array) -> tuple[Params, Any]:
            return self.opt.step(grads, now[1], now[0], **options, **ok)

        params, inner = step_if(after.in_a_row == 0, taken, (params, state.inner), grads, chooses=True)
        return params, after._replace(inner=inner)

    def _judged(
        self,
        grads: Params,
        state: Any,
        params: Params,
        loss: Scalar | None,
        options: dict[str, Any],
        norm: Scalar | None = None,
    ) -> tuple[Scalar, GuardState]:
        """The norm of the gradients as given, and the next state but for the optimizer's."""
        refuse_other(state, GuardState, "guard")
        if loss is not None and jnp.shape(loss) != ():
            raise ValueError(f"loss has shape {jnp.shape(loss)}: give one number, such as its mean")
        if norm is None:
            leaves = _leaves.flatten(grads, "grads")
            like = leaves if params is None else leaves._replace(arrays=_leaves.match(leaves, params, "params"))
            read = [None if frozen else g for g, frozen in zip(leaves.arrays, self.frozen(like), strict=True)]
            norm = kernels.global_norm(read, kernels.named_axes(options.get("axis_name")))
        watched = (norm, options.get("grad_scale", 1.0), 0.0 if loss is None else loss)
        size, scale, level = (jax.lax.stop_gradient(jnp.asarray(x, float)) for x in watched)
        if over := varying([size, scale, level]):
            raise ValueError(
                f"the gradients' norm or the loss differs along {', '.join(sorted(over))}, where devices would decide "
                "differently: name the axes that leaves are cut along in axis_name=, and give jax.lax.pmean of the loss"
            )
        finite = jnp.stack([jnp.isfinite(size) & jnp.isfinite(scale), jnp.isfinite(level)])
        now = jnp.stack([_narrowed(size * jnp.abs(scale)), _narrowed(level)])
        given, known = jnp.array([True, loss is not None]), jnp.zeros(2, bool)
        recent, limits = state.recent, now
        if self.window is not None:
            limits, known = self._limits(recent)
            entering = jnp.concatenate([recent, now[:, None]], 1)[:, 1:]
            recent = jnp.where((finite & given)[:, None], entering, recent)
        found = jnp.concatenate([~finite, known & given & (now > limits)])
        skip = jnp.any(found)
        row = jnp.where(skip, optax.safe_increment(state.in_a_row), 0)
        return norm, GuardState(
            state.inner,
            now[0],
            recent,
            jnp.where(skip, optax.safe_increment(state.skipped), state.skipped),
            row,
            state.too_many | (row >= self.max_in_a_row),
            jnp.where(skip, jnp.argmax(found).astype(jnp.int32) + 1, state.reason),
        )

    def _limits(self, recent: Array) -> tuple[Array, Array]:
        """The largest norm and loss that do not stand out, and whether there are numbers enough to say."""
        there = jnp.isfinite(recent)
        n = jnp.sum(there, 1).astype(jnp.float32)
        # Squares of the largest norms would overflow.
        unit = jnp.max(jnp.where(there, jnp.abs(recent), 0), 1)
        unit = jnp.where(unit > 0, unit, 1)
        x = jnp.where(there, recent / unit[:, None], 0)
        mean = jnp.sum(x, 1) / jnp.maximum(n, 1)
        square = jnp.sum(jnp.where(there, (x - mean[:, None]) ** 2, 0), 1) / jnp.maximum(n - 1, 1)
        spread = jnp.maximum(jnp.sqrt(square), FLOOR * jnp.abs(mean))
        return (mean + self.sigmas * spread) * unit, n >= self.warm_up


class GuardReport(NamedTuple):
    """What a guard has done.

    Attributes:
        skipped: how many steps were skipped.
        in_a_row: how many since the last one that was taken.
        too_many: whether that has ever reached `max_in_a_row`.
        reason: why a step was last skipped, one of "gradients not finite", "loss not finite", "norm stands out" and
            "loss stands out"; "" if none was.
        norm: the norm of the last step's gradients, times `grad_scale`.
    """

    skipped: int
    in_a_row: int
    too_many: bool
    reason: str
    norm: float


def guard_report(state: Any) -> GuardReport:
    """What the guard in an optimizer's state has done, in Python's numbers; this call waits for the device.

    Args:
        state: the guard's state, or one that contains it, such as the `opt_state` of an `nnx.Optimizer`.

    Returns:
        A `GuardReport`: how many steps were skipped, in all and in a row, whether these are too many, the reason of the
        last step that was, and the norm of the last gradients.

    Raises:
        ValueError: there is no guard in `state`, or there are several.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.guard(adamx.adam(0.5))
        >>> params = jnp.array([1.0, 2.0])
        >>> params, state = opt.step(jnp.array([3.0, 4.0]), opt.init(params), params, loss=jnp.inf)
        >>> adamx.guard_report(state)
        GuardReport(skipped=1, in_a_row=1, too_many=False, reason='loss not finite', norm=5.0)
    """
    found = guards_in(state)
    if len(found) != 1:
        cure = "give the part of it that is meant" if found else "wrap the optimizer, `adamx.guard(opt)`"
        raise ValueError(f"the state holds {len(found)} guards: {cure}")
    x = jax.device_get(without_variables(found[0]._replace(inner=(), recent=())))
    return GuardReport(int(x.skipped), int(x.in_a_row), bool(x.too_many), REASONS[int(x.reason)], float(x.norm))


def guards_in(state: Any) -> list[GuardState]:
    """The states of the outermost guards in a state."""
    is_guard = lambda x: isinstance(x, GuardState)  # noqa: E731
    return [x for x in jax.tree.leaves(state, is_leaf=is_guard) if is_guard(x)]


def _narrowed(x: Array) -> Array:
    """In float32, finite if `x` is."""
    most = float(np.finfo(np.float32).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -most, most), x).astype(jnp.float32)


def _check(what: str, x: Any, least: int) -> int:
    if isinstance(x, bool) or not isinstance(x, (int, np.integer)):
        raise TypeError(f"{what} = {x!r} should be a whole number, at least {least}")
    if x < least:
        raise ValueError(f"{what} = {x} should be at least {least}")
    return int(x)
