"""From a rule for one array to an optimizer of trees: flatten, count, resolve schedules, step each leaf, unflatten."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import _leaves, kernels
from ._annotations import Array, AxisName, Params, Scalar
from ._check import leaf_kind, validate_leaf, validate_state
from ._layout import Layout
from ._leaf import Leaf, Step, StepResult
from ._names import STEP_WORDS, refuse_step_words, refuse_unknown
from ._rule import Rule, hyperparameters, innermost
from ._state import LogProduct, State, scheduled
from ._variables import inside, outside
from ._weights import is_narrow
from .groups import Groups, Member, assigned, refuse_masked
from .moments.noise import Noise, Part, noise
from .schedules import first_values
from .shared import Numbers, added_up, increment, shared_inputs

listeners: ContextVar[tuple[list[tuple[Any, Any, Params]], ...]] = ContextVar("listeners", default=())
"""Each is told by every `init`, of an engine or a wrapper, whose state it made, and of what: for who calls an outer."""


class PreparedStep(NamedTuple):
    """One step of all leaves: inputs validated and matched leaf by leaf.

    Attributes:
        steps: the step of each leaf; `None` for a leaf without a gradient, and for a frozen one.
        total: the rule's `measure`, summed over leaves.
        parameters: the parameter of each leaf, if given.
        rows: the stored slots of each leaf.
        kept: the residual of each leaf.
        after: the next state, with the old slots and residuals.
    """

    steps: list[Step | None]
    total: Any
    parameters: list[Any]
    rows: list[list[Any]]
    kept: list[Any]
    after: State


@dataclasses.dataclass(frozen=True, eq=False)
class Engine:
    """A rule applied to trees: the object whose methods are `init` and `update` of an optimizer.

    Attributes:
        rule: how one array is updated.
        layout: the rule's slots, and how each is stored.
        weights: the rounding mode of 16-bit parameters.
        seed: the seed of the random bits.
        decay_mask: for which leaves `StepContext.decays` is set.
        kernel: the backend of `Optimizer.step`.
        groups: settings of some leaves.
        members: what the leaves of each group are stepped with, and last those of no group.
        part: where an array lies in its leaf inside `jax.shard_map`, by path and stored slots; `None` if unknown.
    """

    rule: Rule[Any]
    layout: Layout = dataclasses.field(repr=False)
    weights: str
    seed: Any
    decay_mask: Any
    kernel: str
    groups: Groups
    members: tuple[Member, ...] = dataclasses.field(repr=False)
    part: Callable[[_leaves.Path, Array, Sequence[Any]], Part] | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def varying(self) -> set[str]:
        """The decay rates that follow a schedule."""
        return {h.path for h in hyperparameters(self.rule) if h.is_beta and callable(h.value)}

    @functools.cached_property
    def schedules(self) -> list[Any]:
        """The hyperparameters that follow a schedule, those of groups too."""
        own = [x for member in self.members for x in (*member.values.values(), *member.scales.values())]
        return [x for x in (*(h.value for h in hyperparameters(self.rule)), *own) if callable(x)]

    def init(self, params: Params) -> State:
        """The state before the first step."""
        leaves, count = _leaves.flatten(params, "params"), jnp.zeros([], jnp.int32)
        rows, kept, absent = [], [], [None] * len(self.layout.slots)
        assigned(self.groups, leaves, absent=False)
        for path, p, (member, _) in zip(leaves.paths, leaves.arrays, self.settings(leaves), strict=True):
            narrow, p = member.rounding, None if member.frozen else p
            if p is not None:
                kernels.refuse_shared_groups(member.layout, path, p)
            rows.append(absent if p is None else member.layout.start(p, self.noise(path, count, p)))
            kept.append(None if p is None or narrow is None or not is_narrow(p) else narrow.start(p))
        products = {path: LogProduct(jnp.zeros([], float), jnp.zeros([], float)) for path in sorted(self.varying)}
        residuals = leaves.rebuild(kept) if any(r is not None for r in kept) else ()
        start = State(count, self.slots(leaves, rows), products, residuals, first_values(self.schedules))
        state = kernels.beside(leaves.arrays, start)
        for heard in listeners.get():
            heard.append((self, state, params))
        return state

    def update(
        self,
        updates: Params,
        state: Any,
        params: Params = None,
        *,
        learning_rate: Scalar | None = None,
        axis_name: AxisName = None,
        **extra_args: Any,
    ) -> tuple[Params, Any]:
        """The updates to add to the parameters, and the next state."""
        refuse_step_words("update", extra_args)
        if innermost(self.rule, "learning_rate") is None:
            learning_rate = None  # it is of another transformation of a chain
        leaves, names = _leaves.flatten(updates, "grads"), kernels.named_axes(axis_name)
        work = self.prepare(leaves, state, params, learning_rate=learning_rate, names=names)
        done = kernels.update(work.steps, work.total)
        still = [None if g is None else jnp.zeros_like(g) for g in leaves.arrays]
        return self._finish(leaves, work, done, still)

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        *,
        learning_rate: Scalar | None = None,
        clip_norm: Scalar | None = None,
        grad_scale: Scalar | None = None,
        grad_norm: Scalar | None = None,
        axis_name: AxisName = None,
        ok: Array | None = None,
        take: Callable[..., list[StepResult | None]] = kernels.apply,
        **unread: Any,
    ) -> tuple[Params, Any]:
        """The next parameters and state; `take` takes all steps; if `ok` is false, what is in host memory stays."""
        refuse_unknown("step", unread, (*STEP_WORDS, "learning_rate", "axis_name", "loss", "weight"))
        if params is None:
            raise ValueError("`step` moves the parameters: call `step(grads, state, params)`")
        leaves, names = _leaves.flatten(grads, "grads"), kernels.named_axes(axis_name)
        given = leaves.arrays
        if any(member.frozen for member in self.members):
            settings = self.settings(leaves._replace(arrays=_leaves.match(leaves, params, "params")))
            given = [None if member.frozen else g for g, (member, _) in zip(given, settings, strict=True)]
        scale = kernels.gradient_factor(given, clip_norm, grad_scale, names, grad_norm)
        work = self.prepare(leaves, state, params, scale, learning_rate, names)
        done = take(self.kernel, work.steps, work.total, ok=ok)
        return self._finish(leaves, work, done, work.parameters)

    def prepare(
        self,
        leaves: _leaves.Leaves,
        state: Any,
        params: Params,
        scale: Array | None = None,
        learning_rate: Scalar | None = None,
        names: Sequence[str] = (),
    ) -> PreparedStep:
        """Validate all inputs and match them leaf by leaf."""
        rows, kept = self.rows(leaves, state)
        parameters = [None] * len(rows) if params is None else _leaves.match(leaves, params, "params")
        like = leaves if params is None else leaves._replace(arrays=parameters)
        settings = self.settings(like)
        if params is not None:
            self.validate_residuals(state.residuals, like)
        elif (rounds := next((m.weights for m in self.members if m.rounding is not None), None)) is not None:
            raise ValueError(f"weights={rounds!r} rounds the parameters: call `update(grads, state, params)`")
        count, mine = increment(state.count), [*zip(leaves.paths, (m for m, _ in settings), strict=True)]
        now = Numbers(*scheduled(self.rule, state, learning_rate), count)
        shared = shared_inputs(self.rule, self.members, mine, state, now, scale, names)
        steps: list[Step | None] = []
        checked: set[Hashable] = set()
        for path, g, p, row, (member, decays), residual, of_group in zip(
            leaves.paths, leaves.arrays, parameters, rows, settings, kept, shared, strict=True
        ):
            if g is None or member.frozen:
                if member.frozen and any(x is not None for x in row):
                    raise ValueError(
                        f"{_leaves.show('params', path)} is frozen, but its state has slots: `adamx.regroup`"
                    )
                steps.append(None)
                continue
            if p is None and params is not None:
                where = _leaves.show("grads", path)
                raise ValueError(f"{where} is an array, but its parameter is None: give None for the gradient, too")
            narrow = member.rounding if p is not None and is_narrow(p) else None
            leaf = Leaf(path, g, p, row, decays, narrow, residual)
            if (kind := (id(member), leaf_kind(leaf))) not in checked:
                validate_leaf(leaf, member.layout)
                checked.add(kind)
            steps.append(Step(leaf, member.layout, of_group, self.noise(path, count, g, row)))
        total = added_up(kernels.measures(steps)) if self.rule.measures else None
        after = state._replace(count=count, log_products=now.products)
        return PreparedStep(steps, total, parameters, rows, kept, after)

    def members_of(self, leaves: _leaves.Leaves) -> list[Member]:
        """What each leaf is stepped with; `leaves` are the parameters or like them."""
        return [self.members[i] for i in assigned(self.groups, leaves)]

    def settings(self, leaves: _leaves.Leaves) -> list[tuple[Member, bool]]:
        """What each leaf is stepped with, and whether its weight decays; `leaves` are the parameters or like them."""
        members = self.members_of(leaves)
        decays = [True] * len(members)
        if self.decay_mask is not None:
            decays = _leaves.covered(self.decay_mask, leaves.rebuild(leaves.arrays))
            refuse_masked(leaves, members, decays)
        return list(zip(members, decays, strict=True))

    def _finish(
        self, leaves: _leaves.Leaves, work: PreparedStep, done: list[Any], still: list[Any]
    ) -> tuple[Params, State]:
        """The trees of the steps' results; leaves without a step keep their slots, and have `still` as a result."""
        rows = [was if d is None else d[1] for d, was in zip(done, work.rows, strict=True)]
        first = [was if d is None else d[0] for d, was in zip(done, still, strict=True)]
        residuals = work.after.residuals
        if jax.tree.leaves(residuals):
            residuals = leaves.rebuild([was if d is None else d[2] for d, was in zip(done, work.kept, strict=True)])
        return leaves.rebuild(first), work.after._replace(slots=self.slots(leaves, rows), residuals=residuals)

    def rows(self, leaves: _leaves.Leaves, state: Any) -> tuple[list[list[Any]], list[Any]]:
        """The stored slots of each leaf, and the residual of each leaf."""
        validate_state(state, self.layout, self.varying, self.rule)
        slots = self.layout.tree.flatten_up_to(state.slots)
        columns = [_leaves.match(leaves, outside(column), "state") for column in slots]
        rows = [[column[i] for column in columns] for i in range(len(leaves.arrays))]
        if jax.tree.leaves(state.residuals):
            return rows, _leaves.match(leaves, state.residuals, "residuals")
        return rows, [None] * len(rows)

    def slots(self, leaves: _leaves.Leaves, rows: list[list[Any]]) -> Any:
        """The trees of slots from the slots of each leaf; the inverse of `rows`."""
        columns = [leaves.rebuild([row[i] for row in rows]) for i in range(len(self.layout.slots))]
        return self.layout.tree.unflatten([inside(column) for column in columns])

    def validate_residuals(self, residuals: Any, params: _leaves.Leaves) -> None:
        """Raise unless the state has residuals for 16-bit parameters whose rounding mode needs them."""
        if jax.tree.leaves(residuals) or all(member.rounding is None for member in self.members):
            return
        for path, p, (member, _) in zip(params.paths, params.arrays, self.settings(params), strict=True):
            rounding = member.rounding if p is not None and is_narrow(p) and not member.frozen else None
            if rounding is not None and jax.eval_shape(rounding.start, p) is not None:
                raise ValueError(
                    f"the state keeps nothing beside {_leaves.show('params', path)}, as weights={member.weights!r} "
                    "does: make it with `init(params)` of these parameters, or with `adamx.from_master`"
                )

    def noise(self, path: _leaves.Path, count: Array, x: Array | None = None, stored: Sequence[Any] = ()) -> Noise:
        """The random bits in step `count` of the array `x` at `path`, which may be a part of a leaf."""
        part = None if self.part is None or x is None else self.part(path, x, stored)
        return noise(self.seed, _leaves.show("", path), count)._replace(part=part)
