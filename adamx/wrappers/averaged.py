"""Averages of the weights beside an optimizer's state."""

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, cast, overload

import jax
import jax.numpy as jnp
import optax

from .. import _leaves, kernels
from .._annotations import Array, DecayRate, Params
from .._check import leaf_kind, validate_leaf
from .._engine import Engine
from .._layout import Layout, wide_dtype
from .._leaf import SharedInputs, Step, StepResult
from .._names import refuse_step_words
from .._rule import validate_value
from .._state import State
from .._transform import Optimizer, engine_of, owner_of
from ..moments import Int8, MomentFormat
from ..shared import increment
from ..trajectories.averaging import DECAY, Iterates, Profile, Trailed, trail
from ..trajectories.posthoc import exponent_of
from ..wrapper import Wrapper, added, has_moved, refuse_other, states_in, take_step

Decays = float | None | Sequence[float | None]


class AveragedState(NamedTuple):
    """The state of an optimizer with averages of the weights.

    Attributes:
        inner: the wrapped optimizer's state.
        moves: how often the weights have been moved; int32, shape ().
        averages: each in `Iterates`, whose `average` is a tree like the parameters.
    """

    inner: Any
    moves: Array
    averages: tuple[Iterates, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Averaged(Wrapper):
    """The object whose methods are those of an optimizer with averages; see `averaged`.

    An `Engine` moves weights, slots and averages in one pass. Averages of what any other optimizer moves follow it.

    Attributes:
        profiles: how much each step's weights weigh in each average.
        start: after how many moves averages begin.
        trail: keeps the averages as slots.
    """

    profiles: tuple[Profile, ...]
    start: int
    trail: Engine
    skips = False
    sizes = (("averages", "number of `decay` and `sigma_rel` of adamx.averaged"),)

    def init(self, params: Params) -> AveragedState:
        """The state before the first step."""
        inner = self.opt.init(params)
        begun = self.trail.init(self._masters(inner, params))
        return AveragedState(inner, begun.count, begun.slots.averages)

    def update(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        """The updates of the optimizer, which averages follow."""
        if params is None:
            raise ValueError("averages are of the parameters: call `update(grads, state, params)`")
        refuse_other(state, AveragedState, "averaged")
        refuse_step_words("update", extra_args)
        updates, inner = optax.with_extra_args_support(self.opt).update(updates, state.inner, params, **extra_args)
        return updates, self._after(state, inner, added(params, updates), updates)

    def step(self, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
        """The step of the optimizer, which averages follow."""
        refuse_other(state, AveragedState, "averaged")
        if not isinstance(engine := owner_of(self.opt), Engine):
            new, inner = take_step(self.opt, grads, state.inner, params, **options)
            return new, self._after(state, inner, new, grads)
        moves = increment(state.moves)
        trail, leaves = self._trail(moves), _leaves.flatten(grads, "grads")
        rows, _ = trail.rows(leaves, _trailed(state))

        def take(kernel: str, steps: list[Step | None], total: Any, ok: Any) -> list[StepResult | None]:
            seen: dict[Hashable, Any] = {}
            both = [step and self._with(step, row, trail, seen) for step, row in zip(steps, rows, strict=True)]
            done = list(kernels.apply(kernel, both, total, ok=ok))
            for i, result in enumerate(done):
                if result is not None:
                    (new, stored, residual), own = result, len(result[1]) - len(self.profiles)
                    rows[i], done[i] = stored[own:], (new, stored[:own], residual)
            return done

        new, inner = engine.step(grads, state.inner, params, take=take, **options)
        return new, AveragedState(inner, moves, trail.slots(leaves, rows).averages)

    def _with(self, step: Step, row: list[Any], trail: Engine, seen: dict[Hashable, Any]) -> Step:
        """A leaf's step that moves its averages, too; `seen` has what leaves share, and their kinds."""
        mine = step.leaf._replace(stored=row, rounding=None, residual=None)
        if (kind := leaf_kind(mine)) not in seen:
            seen[kind] = validate_leaf(mine, trail.layout)
        if (key := id(was := step.shared)) not in seen:
            rule: Any = trail.rule
            rule = dataclasses.replace(rule, rule=was.rule_as_given)
            seen[key] = SharedInputs(rule, was.count, was.grad_scale, was.sums, was.begun)
        leaf = step.leaf._replace(stored=[*step.leaf.stored, *row])
        return dataclasses.replace(step, leaf=leaf, layout=self._layouts[step.layout], shared=seen[key])

    @functools.cached_property
    def _layouts(self) -> dict[Layout, Layout]:
        """The layouts of the optimizer, each with averages."""
        mine: Any = self.trail.rule
        rule, kept = dataclasses.replace(mine, rule=self.engine.rule), self.trail.layout.formats
        layouts = {member.layout: cast(Any, (*member.layout.formats, *kept)) for member in self.engine.members}
        return {x: Layout.of(rule, formats, x.mu_dtype, x.apart) for x, formats in layouts.items()}

    def _after(self, state: AveragedState, inner: Any, params: Params, given: Params) -> AveragedState:
        """The next state, after the optimizer's step to these parameters; averages of leaves given `None` stay."""
        moved = jnp.asarray(has_moved(state.inner, inner))
        moves = jnp.where(moved, increment(state.moves), state.moves)
        masters = self._masters(inner, params)
        still = jax.tree.map(
            lambda p, g: None if p is None or g is None else jnp.zeros_like(p), masters, given, is_leaf=_leaves.is_none
        )
        _, after = self._trail(moves, moved).update(still, _trailed(state), masters)
        return AveragedState(inner, moves, after.slots.averages)

    def _trail(self, moves: Array, moved: Array | None = None) -> Engine:
        """The engine of the averages in a step, after which the weights have been moved so often."""
        t = jnp.maximum(moves - self.start, 1).astype(float)
        shares = [jnp.where(t == 1, 1, profile.share(t)) for profile in self.profiles]  # exactly: nothing is left
        if moved is not None:
            shares = [jnp.where(moved, share, 0) for share in shares]
        rule: Any = self.trail.rule
        return dataclasses.replace(self.trail, rule=dataclasses.replace(rule, shares=tuple(shares)))

    def _masters(self, inner: Any, params: Params) -> Params:
        """The weights that are averaged, in at least float32, with what rounding took; `None` for frozen ones."""
        leaves = _leaves.flatten(params, "params")
        kept: list[Any] = [None] * len(leaves.arrays)
        members: list[Any] = kept
        if residuals := [state.residuals for state in states_in(inner) if jax.tree.leaves(state.residuals)]:
            try:
                members = engine_of(self.opt).members_of(leaves)
            except TypeError:
                raise ValueError(
                    "what rounding took of narrow weights is kept by several optimizers: average within each of them"
                ) from None
            kept = _leaves.match(leaves, residuals[0], "residuals")

        def master(frozen: bool, p: Any, member: Any, residual: Any) -> Any:
            if p is None or frozen:
                return None
            return jnp.asarray(p, wide_dtype(p)) if residual is None else member.rounding.master(p, residual)

        return leaves.rebuild(list(map(master, self.frozen(leaves), leaves.arrays, members, kept)))


@overload
def averaged(
    opt: Optimizer,
    decay: Decays | EllipsisType = ...,
    *,
    sigma_rel: float | Sequence[float] = (),
    debias: bool = True,
    start: int = 0,
    moments: MomentFormat | Int8 = "float32",
) -> Optimizer: ...


@overload
def averaged(
    opt: Any,
    decay: Decays | EllipsisType = ...,
    *,
    sigma_rel: float | Sequence[float] = (),
    debias: bool = True,
    start: int = 0,
    moments: MomentFormat | Int8 = "float32",
) -> optax.GradientTransformationExtraArgs: ...


def averaged(
    opt: Any,
    decay: Decays | EllipsisType = ...,
    *,
    sigma_rel: float | Sequence[float] = (),
    debias: bool = True,
    start: int = 0,
    moments: MomentFormat | Int8 = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Wrap an optimizer so that its state holds averages of the weights: read them with `averaged_params`.

    With $\theta_t$ the weights after move $t$ counted from `start`, and $s_t$ the share of the newest,

    $$\bar\theta_t = \bar\theta_{t-1} + s_t (\theta_t - \bar\theta_{t-1})$$

    - a `decay` of $\beta$: $s_t = (1-\beta)/(1-\beta^t)$, the bias-corrected exponential average; with `debias=False`
      $s_1 = 1$ and then $s_t = 1-\beta$, in which the first weights weigh $\beta^{t-1}$
    - a `decay` of `None`: $s_t = 1/t$, the mean
    - `sigma_rel`: $s_t = 1 - (1 - 1/t)^{\gamma+1}$, an average that gets wider as the run gets longer: the weights of
      move $k$ weigh like $k^\gamma$, the standard deviation of $k$ is `sigma_rel` times $t$. Of two such averages, kept
      in some checkpoints, `posthoc_params` makes one of any other width after the run

    Weights and the optimizer's state are, bit for bit, those without averages. An adamx optimizer moves all of them in
    one pass over memory; around another wrapper averages follow in a second one: put `averaged` inside of `guard`,
    `accumulate` and `monitor`. Averages move when weights do: not where no adamx optimizer in `opt` has counted a step.
    Where a leaf's gradient is `None` its average stays as its weight does. They are of narrow weights with what
    rounding took of these; frozen leaves have none, and that of one that `adamx.regroup` thaws begins with its weight
    then, as if it had always been that. On CPUs the C++ step moves up to two; with more, XLA takes it, which rounds
    weights otherwise.

    Args:
        opt: an adamx optimizer, or any Optax transformation whose updates are added to the weights.
        decay: $\beta$, `None` for the mean, or several of these; .999 if it is left out and no `sigma_rel` given.
        sigma_rel: the relative width of an average by a power function, up to .288, or several.
        debias: whether the first weights weigh no more than their share in exponential averages.
        start: the moves after which averages begin; before, they are the weights.
        moments: how averages are kept, see `adamx.scale_by`: in "float32"; in "bfloat16" they are .3 to .8 % off, in
            "int8" 1 to 5 %, more for longer ones, as they are dithered anew at every step.

    Returns:
        An `Optimizer` with a `step` if `opt` is one; else a transformation. Its `update` needs the parameters.

    Raises:
        ValueError: a number out of range, no average; an update without parameters.
        TypeError: `opt` is not a gradient transformation; a `decay` that is not a number.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.averaged(adamx.optimizer(adamx.SGD(), 0.5), decay=None)
        >>> params = jnp.array([0.0])
        >>> state = opt.init(params)
        >>> for _ in range(3):
        ...     params, state = opt.step(jnp.array([-2.0]), state, params)
        >>> params, adamx.averaged_params(state)
        (Array([3.], dtype=float32), Array([2.], dtype=float32))

    References: Kingma & Ba, arXiv:1412.6980, section 7.2; Karras et al., arXiv:2312.02696, section 3 (post-hoc EMA),
    eqs. 121, 126 and 127.
    """
    widths = sigma_rel if isinstance(sigma_rel, Sequence) else (sigma_rel,)
    default = () if widths else DECAY
    chosen: Any = default if isinstance(decay, EllipsisType) else decay
    decays = chosen if isinstance(chosen, Sequence) else (chosen,)
    exponential = [x for x in decays if x is not None]
    for x in exponential:
        validate_value("decay", x, DecayRate(0.0, 1.0))
    if not debias and not exponential:
        raise ValueError("debias=False is of an exponential average: give its decay")
    profiles = (*(Profile(x, debias) for x in decays), *(Profile(gamma=exponent_of(x)) for x in widths))
    if not profiles:
        raise ValueError("decay = () without sigma_rel keeps no average: give one of them")
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"start = {start!r} should be a number of moves, 0 or more")
    return Averaged(opt, profiles, start, trail(len(profiles), moments).engine).optimizer()


def _trailed(state: AveragedState) -> State:
    return State(state.moves, Trailed((), state.averages), {})
