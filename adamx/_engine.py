"""Rule -> Optimizer: flatten, widen, step, narrow, unflatten; once, for every rule."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import _leaves
from ._math import Varying, log_beta
from ._rule import At, Rule, Slot, check, check_value, hyperparameters, replace
from ._typing import Array, Params


class LogProduct(NamedTuple):
    """The running sum of log(b) of a scheduled decay rate, and what its last addition rounded away."""

    total: Array
    lost: Array

    def plus(self, x: Array) -> "LogProduct":
        """Kahan's summation: the error does not grow with the number of steps."""
        y = x - self.lost
        total = self.total + y
        return LogProduct(total, (total - self.total) - y)


class State(NamedTuple):
    """What an optimizer remembers.

    Attributes:
        count: the number of finished steps; int32, shape ().
        slots: the rule's buffers, a NamedTuple of trees shaped like the parameters (`mu`, `nu` ...).
        log_products: for every decay rate that follows a schedule, the logarithm of the product of its values so far.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    slots: Any
    log_products: dict[str, LogProduct]


class Init(Protocol):
    """Make the state for a tree of parameters."""

    def __call__(self, params: Params) -> Any: ...


class Update(Protocol):
    """Turn gradients into what is added to the parameters, and the state into the next."""

    def __call__(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]: ...


class Optimizer(optax.GradientTransformationExtraArgs):
    """An Optax gradient transformation that can also take the whole step.

    It is the pair `(init, update)` of every Optax transformation, and chains, masks, partitions and injects like one.
    """

    __slots__ = ()
    init: Init  # pyright: ignore[reportIncompatibleVariableOverride]
    update: Update  # pyright: ignore[reportIncompatibleVariableOverride]

    def step(self, grads: Params, state: Any, params: Params, **extra_args: Any) -> tuple[Params, Any]:
        """Update and apply in one; a weight's change is added in at least float32 and rounded once.

        Args:
            grads: the gradients; the tree and shapes of `params`, any floating or complex dtype.
            state: from `init(params)` or the step before.
            params: the parameters; `None` leaves stay `None`.
            **extra_args: passed on to `update`.

        Returns:
            The new parameters, in their own dtypes, and the new state.

        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam(learning_rate=0.5)
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> params, state = opt.step({"w": jnp.array([3.0, -4.0])}, opt.init(params), params)
        >>> params["w"]
        Array([0.5, 2.5], dtype=float32)
        """
        wide = jax.tree.map(lambda g: jnp.asarray(g, wide_dtype(g)), grads)
        deltas, state = self.update(wide, state, params, **extra_args)
        return jax.tree.map(_land, params, deltas, is_leaf=_leaves.is_none), state


def scale_by(rule: Rule[Any], *, mu_dtype: Any = None, decay_mask: Any = None) -> Optimizer:
    """The rule as a gradient transformation: gradients in, directions of the step out, without a step size.

    Args:
        rule: how one array is updated.
        mu_dtype: dtype that `mu` of a real leaf is stored in; `None` for at least float32, as every other slot.
        decay_mask: for which leaves `At.decays` is set: a tree of booleans, the top of one, or a function of the
            parameters that returns one; `None` for all.

    Raises:
        ValueError: a hyperparameter is out of range; `mu_dtype` without a `mu`.
        TypeError: a hyperparameter is not a number, or has too few digits.

    >>> import adamx, jax.numpy as jnp
    >>> tx = adamx.scale_by(adamx.Adam(b1=0.8))
    >>> grads = {"w": jnp.array([2.0, -0.5, 0.0])}
    >>> direction, state = tx.update(grads, tx.init(grads))
    >>> direction["w"].round(6)
    Array([ 1., -1.,  0.], dtype=float32)
    """
    check(rule)
    named_slots, slot_tree = jax.tree_util.tree_flatten_with_path(rule.slots)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named_slots]
    slots = [slot for _, slot in named_slots]
    is_mu = [name.split(".")[-1] == "mu" for name in names]
    if mu_dtype is not None and not any(is_mu):
        raise ValueError(f"mu_dtype = {mu_dtype}, but {type(rule).__name__} keeps no `mu`: leave it out")

    def init(params: Params) -> State:
        leaves = _leaves.flatten(params, "params")
        if decay_mask is not None:
            _leaves.covered(decay_mask, params)
        dtypes = [mu_dtype if mu else None for mu in is_mu]
        columns = [
            leaves.rebuild([p if p is None else _start(slot, p, dtype) for p in leaves.arrays])
            for slot, dtype in zip(slots, dtypes, strict=True)
        ]
        varying = [h.path for h in hyperparameters(rule) if h.is_beta and callable(h.value)]
        products = {path: LogProduct(jnp.zeros([], float), jnp.zeros([], float)) for path in varying}
        return State(jnp.zeros([], jnp.int32), slot_tree.unflatten(columns), products)

    def update(updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        del extra_args
        leaves = _leaves.flatten(updates, "grads")
        columns = [_leaves.match(leaves, column, "state") for column in slot_tree.flatten_up_to(state.slots)]
        rows = [list(row) for row in zip(*columns, strict=True)] or [[] for _ in leaves.arrays]
        weights, decays = [None] * len(rows), [True] * len(rows)
        if params is not None:
            weights = _leaves.match(leaves, params, "params")
        if decay_mask is not None:
            decays = _leaves.covered(decay_mask, updates if params is None else params)
        for g, p, row, path in zip(leaves.arrays, weights, rows, leaves.paths, strict=True):
            _check_shapes(g, p, list(zip(names, slots, row, strict=True)), path)

        count = jnp.asarray(optax.safe_increment(state.count))
        current, products = _now(rule, state, count)
        steps = [
            None if g is None else _LeafStep.widen(current, slots, slot_tree, g, p, row, count, decay)
            for g, p, row, decay in zip(leaves.arrays, weights, rows, decays, strict=True)
        ]
        total = _total([step.measure() for step in steps if step is not None])
        done = [(None, row) if step is None else step.take(total) for step, row in zip(steps, rows, strict=True)]
        directions = leaves.rebuild([direction for direction, _ in done])
        columns = [leaves.rebuild([row[i] for _, row in done]) for i in range(len(slots))]
        return directions, State(count, slot_tree.unflatten(columns), products)

    return Optimizer(init, update)


def wide_dtype(*arrays: Any) -> np.dtype:
    """The dtype that a leaf is computed in: the widest of its arrays, and at least float32."""
    dtypes = (jnp.result_type(x) for x in arrays if x is not None)
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def _real(dtype: np.dtype) -> np.dtype:
    return np.finfo(dtype).dtype


def _start(slot: Slot, p: Array, dtype: Any) -> Array | None:
    wide = wide_dtype(p)
    if slot.nonnegative:
        wide = _real(wide)
    return slot.init(p, dtype=wide if dtype is None or wide.kind == "c" else dtype)


class _LeafStep(NamedTuple):
    """One step of one leaf, everything widened to one dtype and ready to be taken."""

    rule: Rule[Any]
    g: Array
    slots: Any
    at: At
    narrow: np.dtype
    stored: list[Array | None]

    @classmethod
    def widen(
        cls,
        rule: Rule[Any],
        slots: Sequence[Slot],
        tree: Any,
        g: Array,
        p: Array | None,
        stored: list[Array | None],
        count: Array,
        decays: bool,
    ) -> "_LeafStep":
        wide = wide_dtype(g, p, *stored)
        real = _real(wide)
        arrays = [
            x if x is None else x.astype(real if slot.nonnegative else wide)
            for slot, x in zip(slots, stored, strict=True)
        ]
        rule = jax.tree.map(lambda x: float(x) if isinstance(x, (int, float)) else jnp.asarray(x, real), rule)
        at = At(count.astype(real), p if p is None else jnp.asarray(p, wide), decays)
        return cls(rule, jnp.asarray(g, wide), tree.unflatten(arrays), at, jnp.result_type(g), stored)

    def measure(self) -> Any:
        with self._promotion():
            return self.rule.measure(self.g, self.slots, self.at)

    def take(self, total: Any) -> tuple[Array, list[Array | None]]:
        """The direction in the gradient's dtype, and the slots in the dtypes that they are stored in."""
        at = dataclasses.replace(self.at, total=jax.tree.map(lambda x: x.astype(self.at.t.dtype), total))
        with self._promotion():
            direction, slots = self.rule.step(self.g, self.slots, at)
            # Visible also where the rule takes the sign of a gradient that is not finite, or clips it.
            direction = direction + 0 * self.g
        new = jax.tree.leaves(slots, is_leaf=_leaves.is_none)
        narrowed = [x if x is None else new_x.astype(x.dtype) for new_x, x in zip(new, self.stored, strict=True)]
        return direction.astype(self.narrow), narrowed

    def _promotion(self) -> Any:
        """Within a complex leaf real and complex numbers mix on purpose; everything else is of one dtype."""
        return jax.numpy_dtype_promotion("standard") if jnp.iscomplexobj(self.g) else contextlib.nullcontext()


def _total(measures: list[Any]) -> Any:
    if not jax.tree.leaves(measures):
        return None
    dtype = wide_dtype(*jax.tree.leaves(measures))
    return jax.tree.map(lambda *xs: sum(x.astype(dtype) for x in xs), *measures)


def _now(rule: Rule[Any], state: State, count: Array) -> tuple[Any, dict[str, LogProduct]]:
    """The rule with its schedules at their values of this step, and the products of its betas up to it."""
    values, products = {}, {}
    for path, schedule, interval in hyperparameters(rule):
        if not callable(schedule):
            continue
        value = schedule(state.count)
        check_value(path.rpartition(".")[2], value, interval)
        values[path] = value
        if path in state.log_products:
            value = jnp.asarray(value, float)
            products[path] = state.log_products[path].plus(jnp.asarray(log_beta(value)))
            values[path] = Varying(value, products[path].total, count.astype(float))
    return replace(rule, values), products


def _check_shapes(
    g: Array | None, p: Array | None, stored: list[tuple[str, Slot, Array | None]], path: _leaves.Path
) -> None:
    if g is None:
        return
    shape, where = jnp.shape(g), _leaves.show("grads", path)
    if p is not None and jnp.shape(p) != shape:
        raise ValueError(f"{where} has shape {shape}, its parameter {jnp.shape(p)}")
    for name, slot, x in stored:
        if x is not None and x.shape == shape:
            continue
        wanted = jax.eval_shape(lambda g, slot=slot: slot.init(g, dtype=np.float32), g)
        if x is None and wanted is not None:
            raise ValueError(f"{where} is an array where `init` was given None")
        if x is not None and (wanted is None or x.shape != wanted.shape):
            raise ValueError(
                f"{where} has shape {shape}, but {name} of its state has {x.shape}: the state was made from other "
                "parameters"
            )


def _land(p: Any, delta: Any) -> Any:
    if p is None or delta is None:
        return p
    wide = wide_dtype(p, delta)
    return (jnp.asarray(p, wide) + jnp.asarray(delta, wide)).astype(jnp.result_type(p))
