"""From a rule for one array to an optimizer of trees: flatten, count, resolve schedules, step each leaf, unflatten."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves, kernels
from ._annotations import Array, AxisName, DecayRate, Params, Scalar
from ._check import leaf_kind, validate_leaf, validate_state
from ._layout import Layout, wide_dtype
from ._leaf import Leaf, SharedInputs, Step
from ._math import Varying, compensated_add, log_beta
from ._names import refuse_step_words
from ._noise import Noise, Part, noise
from ._rule import Rule, hyperparameters, replace, validate_value
from ._variables import inside, outside
from ._weights import ROUNDINGS, Rounding, is_narrow


class LogProduct(NamedTuple):
    """The running sum of log(b) of a scheduled decay rate, and the rounding error of its last addition."""

    total: Array
    lost: Array

    def plus(self, x: Array) -> "LogProduct":
        """The sum after adding `x`."""
        return LogProduct(*compensated_add(self.total, self.lost, x))


class State(NamedTuple):
    """The state of an optimizer.

    Attributes:
        count: the number of finished steps; int32, shape ().
        slots: the rule's buffers, a NamedTuple of trees shaped like the parameters (`mu`, `nu` ...).
        residuals: the rounding errors kept beside 16-bit weights, a tree like the parameters; () if there are none.
        log_products: for each decay rate that follows a schedule, the log of the product of its values so far.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    slots: Any
    log_products: dict[str, LogProduct]
    residuals: Any = ()


listeners: ContextVar[tuple[list[tuple["Engine", State]], ...]] = ContextVar("listeners", default=())
"""Each is told by every `init` whose state it made, for who calls the `init` of what wraps an optimizer."""


class PreparedStep(NamedTuple):
    """One step of all leaves: inputs validated and matched leaf by leaf.

    Attributes:
        steps: the step of each leaf; `None` for a leaf without a gradient.
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
        part: where the array at a path, of a shape, lies in its leaf, inside `jax.shard_map`; `None` if unknown.
    """

    rule: Rule[Any]
    layout: Layout
    weights: str
    seed: Any
    decay_mask: Any
    kernel: str
    part: Callable[[_leaves.Path, tuple[int, ...]], Part] | None = None

    @property
    def rounding(self) -> Rounding | None:
        """How 16-bit parameters are rounded; `None` if the caller rounds them when applying updates."""
        return ROUNDINGS[self.weights]

    @functools.cached_property
    def varying(self) -> set[str]:
        """The decay rates that follow a schedule."""
        return {h.path for h in hyperparameters(self.rule) if h.is_beta and callable(h.value)}

    def init(self, params: Params) -> State:
        """The state before the first step."""
        leaves, layout = _leaves.flatten(params, "params"), self.layout
        if self.decay_mask is not None:
            _leaves.covered(self.decay_mask, params)
        kernels.refuse_shared_groups(layout, leaves)
        count = jnp.zeros([], jnp.int32)
        pairs, absent = zip(leaves.paths, leaves.arrays, strict=True), [None] * len(layout.slots)
        rows = [absent if p is None else layout.start(p, self.noise(path, count, p)) for path, p in pairs]
        products = {path: LogProduct(jnp.zeros([], float), jnp.zeros([], float)) for path in sorted(self.varying)}
        start = None if self.rounding is None else self.rounding.start
        kept = [None if start is None or p is None or not is_narrow(p) else start(p) for p in leaves.arrays]
        residuals = leaves.rebuild(kept) if any(r is not None for r in kept) else ()
        state = kernels.beside(leaves.arrays, State(count, self.slots(leaves, rows), products, residuals))
        for heard in listeners.get():
            heard.append((self, state))
        return state

    def update(
        self, updates: Params, state: Any, params: Params = None, *, axis_name: AxisName = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        """The updates to add to the parameters, and the next state."""
        refuse_step_words("update", extra_args)
        leaves = _leaves.flatten(updates, "grads")
        work = self.prepare(leaves, state, params, None, kernels.named_axes(axis_name))
        return self._finish(leaves, work, kernels.update(work.steps, work.total), None)

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        clip_norm: Scalar | None,
        grad_scale: Scalar | None,
        axis_name: AxisName = None,
    ) -> tuple[Params, Any]:
        """The next parameters and the next state."""
        if params is None:
            raise ValueError("`step` moves the parameters: call `step(grads, state, params)`")
        leaves = _leaves.flatten(grads, "grads")
        names = kernels.named_axes(axis_name)
        scale = kernels.gradient_factor(leaves.arrays, clip_norm, grad_scale, names)
        work = self.prepare(leaves, state, params, scale, names)
        done = kernels.apply(self.kernel, work.steps, work.total)
        return self._finish(leaves, work, done, work.parameters)

    def prepare(
        self, leaves: _leaves.Leaves, state: Any, params: Params, scale: Array | None = None, names: Sequence[str] = ()
    ) -> PreparedStep:
        """Validate all inputs and match them leaf by leaf."""
        rows, kept = self.rows(leaves, state)
        parameters, decays = [None] * len(rows), [True] * len(rows)
        if params is not None:
            parameters = _leaves.match(leaves, params, "params")
        elif self.rounding is not None:
            raise ValueError(f"weights={self.weights!r} rounds the parameters: call `update(grads, state, params)`")
        if self.rounding is not None:
            self.validate_residuals(state.residuals, leaves._replace(arrays=parameters))
        if self.decay_mask is not None:
            decays = _leaves.covered(self.decay_mask, leaves.rebuild(leaves.arrays) if params is None else params)
        count = _increment(state.count)
        current, products = resolved(self.rule, state, count)
        now = SharedInputs(current, count, scale, (names, False))
        steps: list[Step | None] = []
        checked: set[Hashable] = set()
        for path, g, p, row, decay, residual in zip(
            leaves.paths, leaves.arrays, parameters, rows, decays, kept, strict=True
        ):
            if g is None:
                steps.append(None)
                continue
            if p is None and params is not None:
                where = _leaves.show("grads", path)
                raise ValueError(f"{where} is an array, but its parameter is None: give None for the gradient, too")
            narrow = self.rounding if p is not None and is_narrow(p) else None
            leaf = Leaf(path, g, p, row, decay, narrow, residual)
            if (kind := leaf_kind(leaf)) not in checked:
                validate_leaf(leaf, self.layout)
                checked.add(kind)
            steps.append(Step(leaf, self.layout, now, self.noise(path, count, g)))
        total = _total(kernels.measures(steps)) if self.rule.measures else None
        return PreparedStep(steps, total, parameters, rows, kept, State(count, state.slots, products, state.residuals))

    def _finish(
        self, leaves: _leaves.Leaves, work: PreparedStep, done: list[Any], absent: list[Any] | None
    ) -> tuple[Params, State]:
        """The trees of the steps' results; leaves without a step keep their old values."""
        rows = [was if d is None else d[1] for d, was in zip(done, work.rows, strict=True)]
        first = [None if d is None else d[0] for d in done]
        if absent is not None:
            first = [was if d is None else d[0] for d, was in zip(done, absent, strict=True)]
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
        if self.rounding is None or jax.tree.leaves(residuals):
            return
        for path, p in zip(params.paths, params.arrays, strict=True):
            if p is not None and is_narrow(p) and jax.eval_shape(self.rounding.start, p) is not None:
                raise ValueError(
                    f"the state keeps nothing beside {_leaves.show('params', path)}, as weights={self.weights!r} does: "
                    "make it with `init(params)` of these parameters, or with `adamx.from_master`"
                )

    def noise(self, path: _leaves.Path, count: Array, x: Array | None = None) -> Noise:
        """The random bits in step `count` of the array `x` at `path`, which may be a part of a leaf."""
        part = None if self.part is None or x is None else self.part(path, jnp.shape(x))
        return noise(self.seed, _leaves.show("", path), count)._replace(part=part)


def last_step(rule: Rule[Any], state: State) -> SharedInputs:
    """The shared inputs of the step that led to `state`; of the first step if none is finished."""
    count = jnp.asarray(state.count)
    number = jnp.maximum(count, 1)
    return SharedInputs(_with_values(rule, _scheduled(rule, number - 1), state.log_products, count), number)


def resolved(rule: Rule[Any], state: State, count: Array) -> tuple[Any, dict[str, LogProduct]]:
    """The rule with schedules replaced by their values at this step, and the products of its decay rates up to it."""
    values = _scheduled(rule, state.count)
    products = {
        path: state.log_products[path].plus(jnp.asarray(log_beta(value)))
        for path, value in values.items()
        if path in state.log_products
    }
    return _with_values(rule, values, products, count), products


def _scheduled(rule: Rule[Any], finished: Array) -> dict[str, Any]:
    """The values of hyperparameters that follow a schedule, after `finished` steps."""
    values = {}
    for path, schedule, interval in hyperparameters(rule):
        if callable(schedule):
            value = schedule(finished)
            validate_value(path.rpartition(".")[2], value, interval)
            values[path] = jnp.asarray(value, float) if isinstance(interval, DecayRate) else value
    return values


def _with_values(rule: Rule[Any], values: dict[str, Any], products: dict[str, LogProduct], count: Array) -> Any:
    """The rule with these values; each scheduled decay rate carries the product of its values up to step `count`."""
    varying = {
        path: Varying(value, products[path].total, count.astype(float))
        for path, value in values.items()
        if path in products
    }
    return replace(rule, values | varying)


def _increment(count: Any) -> Array:
    """The number of the next step, saturating at the largest integer."""
    count = jnp.asarray(count)
    one, last = np.asarray(1, count.dtype), np.asarray(jnp.iinfo(count.dtype).max - 1, count.dtype)
    return jax.lax.add(jax.lax.min(count, last), one)


def _total(measures: list[Any]) -> Any:
    if not jax.tree.leaves(measures):
        return None
    dtype = wide_dtype(*jax.tree.leaves(measures))
    return jax.tree.map(lambda *xs: sum(x.astype(dtype) for x in xs), *measures)
