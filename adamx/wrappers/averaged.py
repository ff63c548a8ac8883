"""A wrapper that keeps averages of the weights beside an optimizer's state."""

import dataclasses
import functools
from collections.abc import Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .. import _leaves, kernels
from .._annotations import Array, Params
from .._engine import Engine
from .._layout import Layout, wide_dtype
from .._leaf import SharedInputs, Step, StepResult
from .._math import one_minus_exp
from .._names import refuse_step_words
from .._rule import Rule, StepContext
from .._state import State
from .._transform import engine_of, owner_of, scale_by
from .._weights import ROUNDINGS
from ..moments import Int8, MomentFormat
from ..states.masters import master_params
from ..states.parts import states_in
from ..trajectories.averaging import ExponentialAverage, Trail, Trailed
from ..trajectories.posthoc import power_of
from ..wrapper import Wrapper, take_step


class AveragedState(NamedTuple):
    """The state of an optimizer with averages.

    Attributes:
        inner: the wrapped optimizer's state.
        moves: how often the weights have been moved; int32, shape ().
        averages: for each average `Iterates` or `Lags`, whose one field is a tree like the parameters.
    """

    inner: Any
    moves: Array
    averages: tuple[Any, ...]


class Given(Rule[tuple[()]]):
    """A rule whose direction is what it is given."""

    elementwise = True

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        return g, s


@dataclasses.dataclass(frozen=True, eq=False)
class Averaged(Wrapper):
    """The object whose methods are those of an optimizer with averages; see `averaged`.

    Attributes:
        profiles: the weight of each step in each average.
        start: after how many moves averages begin.
        trail: keeps the averages as slots, of a rule whose direction is the change that it is given.
    """

    profiles: tuple["Profile", ...]
    start: int
    trail: Engine

    def init(self, params: Params) -> AveragedState:
        """The state before the first step."""
        inner = self.opt.init(params)
        start = self.trail.init(self._masters(inner, params))
        return AveragedState(inner, start.count, start.slots.averages)

    def update(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        """The updates of the optimizer; averages follow them."""
        if params is None:
            raise ValueError("an average is of the parameters: call `update(grads, state, params)`")
        _check(state)
        refuse_step_words("update", extra_args)
        updates, inner = optax.with_extra_args_support(self.opt).update(updates, state.inner, params, **extra_args)
        return updates, self._after(state, inner, params, optax.apply_updates(params, updates))

    def step(self, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
        """The step of the optimizer; averages follow it."""
        _check(state)
        engine = owner_of(self.opt)
        if not isinstance(engine, Engine):
            new, inner = take_step(self.opt, grads, state.inner, params, **options)
            return new, self._after(state, inner, params, new)
        # One pass over memory moves weights, slots and averages.
        trail = self._trail(moves := _increment(state.moves))
        leaves = _leaves.flatten(grads, "grads")
        rows, _ = trail.rows(leaves, _trailed(state))

        def take(kernel: str, steps: list[Step | None], total: Any) -> list[StepResult | None]:
            shared: dict[int, SharedInputs] = {}
            done = list(kernels.apply(kernel, [self._with(s, row, trail.rule, shared) for s, row in zip(steps, rows)], total))
            for i, result in enumerate(done):
                if result is not None:
                    new, stored, residual = result
                    own = len(stored) - len(self.profiles)
                    rows[i], done[i] = stored[own:], (new, stored[:own], residual)
            return done

        new, inner = engine.step(grads, state.inner, params, take=take, **options)
        return new, AveragedState(inner, moves, trail.slots(leaves, rows).averages)

    def _with(self, step: Step | None, row: list[Any], rule: Trail, shared: dict[int, SharedInputs]) -> Step | None:
        """A leaf's step that moves its averages, too."""
        if step is None:
            return None
        if (given := step.shared) is not None and id(given) not in shared:
            trailing = dataclasses.replace(rule, rule=given.rule_as_given)
            shared[id(given)] = SharedInputs(trailing, given.count, given.grad_scale, given.sums)
        leaf = step.leaf._replace(stored=[*step.leaf.stored, *row])
        return dataclasses.replace(step, leaf=leaf, layout=self._layouts[id(step.layout)], shared=shared[id(given)])

    @functools.cached_property
    def _layouts(self) -> dict[int, Layout]:
        """The layout with averages for each layout of the optimizer, by its identity."""
        rule = dataclasses.replace(self.trail.rule, rule=self.engine.rule, shares=self.profiles)
        mine = self.trail.layout.formats
        return {
            id(x): Layout.of(rule, [*x.formats, *mine], x.mu_dtype, x.apart)
            for x in (member.layout for member in self.engine.members)
        }

    def _after(self, state: AveragedState, inner: Any, old: Params, new: Params) -> AveragedState:
        """The next state, after a step in which averages take no part."""
        before, after = states_in(state.inner), states_in(inner)
        moved = [jnp.asarray(x.count) != y.count for x, y in zip(before, after, strict=True)]
        has_moved = functools.reduce(jnp.logical_or, moved) if moved else jnp.asarray(True)
        moves = jnp.where(has_moved, _increment(state.moves), state.moves)
        trail = self._trail(moves, has_moved)
        new = self._masters(inner, new)
        if trail.rule.lags:
            old = self._masters(state.inner, old)
            change = jax.tree.map(lambda n, o: None if o is None else n - o, new, old, is_leaf=_leaves.is_none)
        else:
            old, change = new, jax.tree.map(jnp.zeros_like, new)
        _, trailed = trail.update(change, _trailed(state), old)
        return AveragedState(inner, moves, trailed.slots.averages)

    def _trail(self, moves: Array, moved: Array | None = None) -> Engine:
        """The engine of averages, its shares those of a move; 0 without one."""
        t = jnp.maximum(moves - self.start, 1).astype(float)
        shares = [profile.share(t) for profile in self.profiles]
        shares = [share if moved is None else jnp.where(moved, share, 0) for share in shares]
        return dataclasses.replace(self.trail, rule=dataclasses.replace(self.trail.rule, shares=tuple(shares)))

    def _masters(self, inner: Any, params: Params) -> Params:
        """The weights that are averaged, at least float32, with what rounding took; `None` for frozen ones."""
        try:
            engine = engine_of(self.opt)
        except TypeError:
            engine = None
        if any(jax.tree.leaves(state.residuals) for state in states_in(inner)):
            params = master_params(self.opt, inner, params)
        leaves = _leaves.flatten(params, "params")
        frozen = [False] * len(leaves.arrays)
        if engine is not None:
            frozen = [member.frozen for member, _ in engine.settings(leaves)]
        return leaves.rebuild(
            [
                None if x is None or away else jnp.asarray(x, wide_dtype(x))
                for x, away in zip(leaves.arrays, frozen, strict=True)
            ]
        )


class Profile(NamedTuple):
    """How much each step's weights weigh in an average.

    Attributes:
        decay: that of an exponential average; `None` for others.
        debias: whether the first step of it weighs no more than its share.
        gamma: the exponent of a power function of the step; `None` for others. 0 is the plain mean.
    """

    decay: float | None = None
    debias: bool = True
    gamma: float | None = None

    def share(self, t: Array) -> Array:
        """The share of step t, from 1, in the average after it."""
        if self.gamma is not None:
            return one_minus_exp((self.gamma + 1) * jnp.log1p(-1 / t))
        if self.decay is None:
            return 1 / t
        return ExponentialAverage(self.decay, self.debias).share(t)


def averaged(
    opt: Any,
    decay: float | None | Sequence[float | None] | EllipsisType = ...,
    *,
    debias: bool = True,
    start: int = 0,
    sigma_rel: float | Sequence[float] = (),
    moments: MomentFormat | Int8 = "float32",
) -> Any:
    r"""Wrap an optimizer so that its state holds averages of the weights: read them with `averaged_params`."""
    decays = () if isinstance(decay, EllipsisType) and sigma_rel else (0.999,) if isinstance(decay, EllipsisType) else decay
    decays = decays if isinstance(decays, Sequence) else (decays,)
    widths = sigma_rel if isinstance(sigma_rel, Sequence) else (sigma_rel,)
    profiles = tuple(Profile(d, debias) for d in decays) + tuple(Profile(gamma=power_of(x)) for x in widths)
    name = moments.name if isinstance(moments, Int8) else moments
    rule = Trail(Given(), (1.0,) * len(profiles), name != "float32")
    return Averaged(opt, profiles, start, scale_by(rule, moments=moments).engine).optimizer()


def _trailed(state: AveragedState) -> State:
    return State(state.moves, Trailed((), state.averages), {})


def _increment(count: Array) -> Array:
    return jnp.asarray(optax.safe_increment(jnp.asarray(count)))


def _check(state: Any) -> None:
    if not isinstance(state, AveragedState):
        raise TypeError(f"{type(state).__name__} is not the state of `averaged`: make it with `init(params)`")
