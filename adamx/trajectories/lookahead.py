"""Lookahead (arXiv:1907.08610)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .. import _leaves
from .._annotations import Array, NonNegative, Params, ScalarOrSchedule
from .._names import refuse_step_words
from .._rule import Rule, Slot, StepContext, refuse_traced, static
from .._state import State
from .._transform import Optimizer, scale_by
from .._weights import keeps_residuals
from ..wrapper import Wrapper, has_moved, may_skip, parts_of, refuse_other


class SlowWeights(NamedTuple):
    """The slot of the slow weights."""

    slow: Any


class Lookahead(Rule[SlowWeights]):
    r"""Fast weights take the updates; every $k$ steps slow weights move towards them, and the fast ones restart there.

    $$\phi \leftarrow \phi + \alpha(\theta - \phi), \quad \theta \leftarrow \phi \qquad \text{if } k \mid t$$

    A rule to chain after an optimizer: it passes updates through, except in synchronising steps.

    Attributes:
        sync_period: $k$, the steps between synchronisations; 5 in the paper.
        slow_step_size: $\alpha$, how far the slow weights follow, 0 to 1.

    Reference: Zhang et al., arXiv:1907.08610, Algorithm 1.
    """

    slow_step_size: NonNegative = 0.5
    sync_period: int = static(default=5)
    elementwise = True
    slots = SlowWeights(slow=Slot(init=jnp.array))

    def step(self, g: Array, s: SlowWeights, at: StepContext) -> tuple[Array, SlowWeights]:
        sync = at.t % self.sync_period == 0
        ahead = at.params_after(g) - s.slow
        slow = jnp.where(sync, s.slow + self.slow_step_size * ahead, s.slow)
        return jnp.where(sync, slow - at.p, g), SlowWeights(slow)


class LookaheadState(NamedTuple):
    """The state of an optimizer that `lookahead` wraps.

    Attributes:
        fast_state: the optimizer's own.
        steps: how many steps the optimizer has taken; int32, shape ().
        slow_weights: a tree like the parameters, of at least float32.
    """

    fast_state: Any
    steps: Array
    slow_weights: SlowWeights


@dataclasses.dataclass(frozen=True, eq=False)
class Ahead(Wrapper):
    """The object whose methods are those of an optimizer with slow weights, around that of the fast ones.

    Attributes:
        sync: `Lookahead` as a transformation.
        sync_period: its period.
        reset_state: whether the fast optimizer begins anew after each synchronisation.
    """

    sync: Optimizer
    sync_period: int
    reset_state: bool
    skips = False

    def init(self, params: Params) -> LookaheadState:
        """The state before the first step."""
        _check_params(params)
        return self._state(self.opt.init(params), self.sync.init(params))

    def update(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        """The fast optimizer's updates, except in synchronising steps."""
        refuse_step_words("update", extra_args)
        _check_params(params)
        refuse_other(state, LookaheadState, "lookahead")
        fast = optax.with_extra_args_support(self.opt)
        given, fast_state = fast.update(updates, state.fast_state, params, **extra_args)
        moved, taken = self._moved(state, fast_state), self._moving(given, params)
        ahead, sync = _if(moved, self.sync.update(taken, _sync_state(state), params), (taken, _sync_state(state)))
        new = jax.tree.map(lambda u, g: g if u is None else u, ahead, given, is_leaf=_leaves.is_none)
        return new, self._after(fast_state, sync, moved, lambda: optax.apply_updates(params, new))

    def step(self, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
        """The fast optimizer's weights, except in synchronising steps."""
        _check_params(params)
        refuse_other(state, LookaheadState, "lookahead")
        fast, fast_state = self.opt.step(grads, state.fast_state, params, **options)
        moved, taken = self._moved(state, fast_state), self._moving(grads, fast)
        still = jax.tree.map(
            lambda g, p: None if g is None else jnp.zeros_like(p), taken, fast, is_leaf=_leaves.is_none
        )
        new, sync = _if(moved, self.sync.step(still, _sync_state(state), fast), (fast, _sync_state(state)))
        return new, self._after(fast_state, sync, moved, lambda: new)

    def _moved(self, state: LookaheadState, fast_state: Any) -> Any:
        """Whether the fast optimizer has taken a step."""
        return not may_skip(self.opt) or has_moved(state.fast_state, fast_state)

    def _moving(self, grads: Params, params: Params) -> Params:
        """`grads`, or updates, with `None` for leaves that are frozen, whose weights are left alone."""
        leaves = _leaves.flatten(params, "params")
        given = zip(_leaves.match(leaves, grads, "gradients"), self.frozen(leaves), strict=True)
        return leaves.rebuild([None if frozen else g for g, frozen in given])

    def _after(self, fast_state: Any, sync: State, moved: Any, params: Callable[[], Params]) -> LookaheadState:
        """The next state; in synchronising steps the fast optimizer's state is reset at the new parameters."""
        if self.reset_state:
            now = moved & (sync.count % self.sync_period == 0)
            anew = self.opt.init(params())
            fast_state = jax.tree.map(lambda new, old: jnp.where(now, new, old).astype(old.dtype), anew, fast_state)
        return self._state(fast_state, sync)

    def _state(self, fast_state: Any, sync: State) -> LookaheadState:
        """Both states in one; the fast optimizer's is the only `State` in it, which tools for states look for."""
        return LookaheadState(fast_state, sync.count, sync.slots)


def _if(moved: Any, new: Any, old: Any) -> Any:
    """`new` where `moved`, else `old`."""
    return new if moved is True else jax.tree.map(lambda x, was: jnp.where(moved, x, was), new, old)


def _sync_state(state: LookaheadState) -> State:
    return State(state.steps, state.slow_weights, {})


def _check_params(params: Any) -> None:
    if isinstance(params, optax.LookaheadParams):
        raise TypeError(
            "the parameters are optax.LookaheadParams, but adamx.lookahead keeps the slow weights in its state: give "
            "the fast ones alone, params.fast, and read the slow ones with optax.tree.get(state, 'slow')"
        )


def lookahead(
    fast_optimizer: optax.GradientTransformation | None = None,
    sync_period: int = Lookahead.sync_period,
    slow_step_size: ScalarOrSchedule = Lookahead.slow_step_size,
    reset_state: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Lookahead (arXiv:1907.08610): slow weights that follow fast ones, around an optimizer or chained after it.

    The arguments are Optax's. The parameters stay one tree, that of the fast weights, where Optax wants
    `LookaheadParams`: the slow ones are in the state, `optax.tree.get(state, "slow")`. Leaves that are frozen or have
    `None` for a gradient are left alone.

    Args:
        fast_optimizer: the optimizer of the fast weights, any of Optax's or adamx's; `None` for a transformation to be
            chained after one.
        sync_period: steps between synchronisations; of a fast optimizer that may take none, by `adamx.guard` or
            `adamx.accumulate`, those that it takes.
        slow_step_size: how far the slow weights follow, 0 to 1.
        reset_state: whether the fast optimizer begins anew after each synchronisation, at the weights it is given
            then (in Optax at those before it: the same for moments, but not for a state that holds weights).

    Returns:
        An `Optimizer` with a `step` if `fast_optimizer` is one or `None`, else a transformation; around or of the rule
        `adamx.Lookahead`.

    Raises:
        ValueError: `sync_period` not a positive whole number, a negative `slow_step_size`, `reset_state` without a
            `fast_optimizer`, one that keeps residuals beside weights, which a synchronisation would make wrong.
        TypeError: `fast_optimizer` is no transformation; parameters that are `optax.LookaheadParams`.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> params = jnp.array([2.0])
        >>> opt = adamx.lookahead(adamx.adam(0.5), sync_period=1, slow_step_size=0.5)
        >>> opt.update(params, opt.init(params), params)[0]
        Array([-0.25], dtype=float32)
        >>> opt = optax.chain(adamx.adam(0.5), adamx.lookahead(sync_period=1, slow_step_size=0.5))
        >>> opt.update(params, opt.init(params), params)[0]
        Array([-0.25], dtype=float32)
    """
    functions = [getattr(fast_optimizer, name, None) for name in ("init", "update")]
    if fast_optimizer is not None and not all(map(callable, functions)):
        raise TypeError(
            f"fast_optimizer = {fast_optimizer!r} is no gradient transformation: give an optimizer, or name the other "
            "arguments, lookahead(sync_period=5, slow_step_size=0.5), for a transformation to chain after one"
        )
    refuse_traced("sync_period", sync_period)
    if isinstance(sync_period, bool) or sync_period != int(sync_period) or sync_period < 1:
        raise ValueError(f"sync_period = {sync_period} should be a positive whole number of steps")
    sync = scale_by(Lookahead(slow_step_size, int(sync_period)))
    if fast_optimizer is None:
        if reset_state:
            raise ValueError("reset_state begins the fast optimizer anew: give it, lookahead(optimizer, ...)")
        return sync
    if isinstance(fast_optimizer, Optimizer) and (
        kept := [
            m.weights
            for engine, *_ in parts_of(fast_optimizer)
            for m in getattr(engine, "members", ())
            if keeps_residuals(m.rounding)
        ]
    ):
        raise ValueError(
            f"weights={kept[0]!r} keeps what rounding took beside the weights, which are others "
            "after a synchronisation: take weights='stochastic' or 'nearest' in the fast optimizer"
        )
    return Ahead(fast_optimizer, sync, int(sync_period), bool(reset_state)).optimizer()
