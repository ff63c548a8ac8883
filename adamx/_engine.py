"""Rule -> Optimizer: flatten, count, resolve schedules, step each leaf, unflatten; once, for every rule."""

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import _leaves, kernels
from ._leaf import Layout, Leaf, Now, Step, wide_dtype
from ._math import Varying, abs_sq, log_beta
from ._names import choose
from ._random import Noise, noise
from ._rule import Rule, check, check_value, hyperparameters, replace
from ._typing import Above, Array, Params, Scalar
from ._weights import ROUNDINGS, Rounding, is_narrow
from .moments import Moments


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
        residuals: what is kept beside weights narrower than float32, a tree like the parameters; () if nothing is.
        log_products: for every decay rate that follows a schedule, the logarithm of the product of its values so far.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    slots: Any
    log_products: dict[str, LogProduct]
    residuals: Any = ()


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

    @property
    def engine(self) -> "Engine":
        """What does the work: the rule, how slots are stored, how weights are rounded."""
        engine = getattr(self.update, "__self__", None)
        if not isinstance(engine, Engine):
            raise TypeError("this optimizer was put together by hand: make one with `adamx.optimizer` or `scale_by`")
        return engine

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        *,
        clip_norm: Scalar | None = None,
        grad_scale: Scalar | None = None,
        **extra_args: Any,
    ) -> tuple[Params, Any]:
        """Update and apply in one; a weight's change is added in at least float32 and rounded once.

        On a CPU this is one pass over memory where the rule has a kernel: see `adamx.kernels`, `adamx.explain`. Under
        `jit` donate `state` and `params`, which are then changed in place.

        Args:
            grads: the gradients; the tree and shapes of `params`, any floating or complex dtype.
            state: from `init(params)` or the step before.
            params: the parameters; `None` leaves stay `None`.
            clip_norm: the largest norm that the gradients of all leaves together may have; longer ones are shortened
                to it, as `optax.clip_by_global_norm` chained in front would.
            grad_scale: what gradients are multiplied with before that: the inverse of a loss scale, or of the number of
                gradients summed up.
            **extra_args: not read; what a training loop gives to every optimizer.

        Returns:
            The new parameters, in their own dtypes, and the new state.

        Raises:
            ValueError: trees or shapes do not match; kernel="native" cannot take a leaf's step.

        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam(learning_rate=0.5)
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> params, state = opt.step({"w": jnp.array([3.0, -4.0])}, opt.init(params), params)
        >>> params["w"]
        Array([0.5, 2.5], dtype=float32)
        """
        return self.engine.step(grads, state, params, clip_norm=clip_norm, grad_scale=grad_scale)


class Work(NamedTuple):
    """One step of all leaves, ready to be taken.

    Attributes:
        steps: each leaf's, `None` for one without a gradient.
        total: what the rule measured, summed over leaves.
        rows: of each leaf, its slots as they are stored.
        kept: of each leaf, its residual.
        after: the next state but for what the steps give.
    """

    steps: list[Step | None]
    total: Any
    rows: list[list[Any]]
    kept: list[Any]
    after: State


@dataclasses.dataclass(frozen=True, eq=False)
class Engine:
    """A rule at work on trees: what `init` and `update` of an optimizer belong to.

    Attributes:
        rule: how one array is updated.
        layout: its slots, and how each is stored.
        weights: how narrow parameters take the step.
        seed: of the random bits.
        decay_mask: for which leaves `At.decays` is set.
        kernel: who takes the whole step.
    """

    rule: Rule[Any]
    layout: Layout
    weights: str
    seed: Any
    decay_mask: Any
    kernel: str

    @property
    def rounding(self) -> Rounding | None:
        """How narrow parameters are rounded; `None` if that is left to who applies the update."""
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
        count = jnp.zeros([], jnp.int32)
        pairs = zip(leaves.paths, leaves.arrays, strict=True)
        rows = [
            [None] * len(layout.slots) if p is None else layout.start(p, self.noise(path, count)) for path, p in pairs
        ]
        products = {path: LogProduct(jnp.zeros([], float), jnp.zeros([], float)) for path in sorted(self.varying)}
        kept = [_residual(self.rounding, p) for p in leaves.arrays]
        residuals = leaves.rebuild(kept) if any(r is not None for r in kept) else ()
        return State(count, self.slots(leaves, rows), products, residuals)

    def update(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        """What is to be added to the parameters, and the next state."""
        del extra_args
        leaves = _leaves.flatten(updates, "grads")
        work = self.prepare(leaves, state, params)
        return self._finish(leaves, work, [step and step.update(work.total) for step in work.steps], None)

    def step(
        self, grads: Params, state: Any, params: Params, clip_norm: Scalar | None, grad_scale: Scalar | None
    ) -> tuple[Params, Any]:
        """The next parameters and the next state."""
        if params is None:
            raise ValueError("`step` moves the parameters: call `step(grads, state, params)`")
        leaves = _leaves.flatten(grads, "grads")
        weights = _leaves.match(leaves, params, "params")
        work = self.prepare(leaves, state, params, _factor(leaves.arrays, clip_norm, grad_scale))
        done = [step and kernels.choose(self.kernel, step).land(step, work.total) for step in work.steps]
        return self._finish(leaves, work, done, weights)

    def prepare(self, leaves: _leaves.Leaves, state: Any, params: Params, grad_scale: Array | None = None) -> Work:
        """Check everything that came in and make ready each leaf's step."""
        rows, kept = self.rows(leaves, state)
        parameters, decays = [None] * len(rows), [True] * len(rows)
        if params is not None:
            parameters = _leaves.match(leaves, params, "params")
        elif self.rounding is not None:
            raise ValueError(f"weights={self.weights!r} rounds the parameters: call `update(grads, state, params)`")
        if self.rounding is not None:
            self.check_residuals(state.residuals, leaves._replace(arrays=parameters))
        if self.decay_mask is not None:
            decays = _leaves.covered(self.decay_mask, leaves.rebuild(leaves.arrays) if params is None else params)
        count = jnp.asarray(optax.safe_increment(state.count))
        current, products = _now(self.rule, state, count)
        now = Now(current, count, grad_scale)
        steps: list[Step | None] = []
        for path, g, p, row, decay, residual in zip(
            leaves.paths, leaves.arrays, parameters, rows, decays, kept, strict=True
        ):
            if g is None:
                steps.append(None)
                continue
            narrow = self.rounding if p is not None and is_narrow(p) else None
            leaf = Leaf(path, g, p, row, decay, narrow, residual)
            leaf.check(self.layout)
            steps.append(Step(leaf, self.layout, now, self.noise(path, count)))
        total = _total([step.measure() for step in steps if step is not None]) if self.rule.measures else None
        return Work(steps, total, rows, kept, State(count, state.slots, products, state.residuals))

    def _finish(
        self, leaves: _leaves.Leaves, work: Work, done: list[Any], absent: list[Any] | None
    ) -> tuple[Params, State]:
        """The trees of what each leaf's step gave; where there was none, what was there before."""
        rows = [was if d is None else d[1] for d, was in zip(done, work.rows, strict=True)]
        first = [None if d is None else d[0] for d in done]
        if absent is not None:
            first = [was if d is None else d[0] for d, was in zip(done, absent, strict=True)]
        residuals = work.after.residuals
        if jax.tree.leaves(residuals):
            residuals = leaves.rebuild([was if d is None else d[2] for d, was in zip(done, work.kept, strict=True)])
        return leaves.rebuild(first), work.after._replace(slots=self.slots(leaves, rows), residuals=residuals)

    def rows(self, leaves: _leaves.Leaves, state: Any) -> tuple[list[list[Any]], list[Any]]:
        """Of each leaf, its slots as they are stored and its residual."""
        _check_state(state, self.varying)
        columns = [_leaves.match(leaves, column, "state") for column in self.layout.tree.flatten_up_to(state.slots)]
        rows = [[column[i] for column in columns] for i in range(len(leaves.arrays))]
        if jax.tree.leaves(state.residuals):
            return rows, _leaves.match(leaves, state.residuals, "residuals")
        return rows, [None] * len(rows)

    def slots(self, leaves: _leaves.Leaves, rows: list[list[Any]]) -> Any:
        """The slots' trees from each leaf's; the inverse of `rows`."""
        columns = [leaves.rebuild([row[i] for row in rows]) for i in range(len(self.layout.slots))]
        return self.layout.tree.unflatten(columns)

    def check_residuals(self, residuals: Any, params: _leaves.Leaves) -> None:
        """Raise, naming a leaf, unless there are residuals where narrow parameters have them."""
        if self.rounding is None or jax.tree.leaves(residuals):
            return
        for path, p in zip(params.paths, params.arrays, strict=True):
            if p is not None and is_narrow(p) and jax.eval_shape(self.rounding.start, p) is not None:
                raise ValueError(
                    f"the state keeps nothing beside {_leaves.show('params', path)}, as weights={self.weights!r} does: "
                    "make it with `init(params)` of these parameters, or with `adamx.from_master`"
                )

    def noise(self, path: _leaves.Path, count: Array) -> Noise:
        """The random bits of the leaf at `path` in step `count`."""
        return noise(self.seed, _leaves.show("", path), count)


def scale_by(
    rule: Rule[Any],
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    mu_dtype: Any = None,
    decay_mask: Any = None,
    kernel: str = "auto",
) -> Optimizer:
    """The rule as a gradient transformation: gradients in, directions of the step out, without a step size.

    A gradient of `None` leaves its weight and slots alone; steps are counted for all leaves together.

    Args:
        rule: how one array is updated.
        moments: how slots are stored, of leaves of 4096 elements and more: "float32" (at least; exact), "bfloat16" (two
            bytes, second moments dithered) or "int8" (one byte, and two to four for each group of 128 along the last
            axis); one for all, one for each slot in a tuple, or by name in a mapping.
        weights: how parameters narrower than float32 take the step, for a rule whose direction is their whole change;
            see `adamx.optimizer`.
        seed: of the random bits.
        mu_dtype: dtype that `mu` of a real leaf is stored in; `None` for at least float32, as every other slot.
        decay_mask: for which leaves `At.decays` is set: a tree of booleans, the top of one, or a function of the
            parameters that returns one; `None` for all.
        kernel: who takes the whole step in `Optimizer.step`; see `adamx.optimizer`.

    Raises:
        ValueError: a hyperparameter is out of range; `mu_dtype` without a `mu`, or not a real floating dtype.
        TypeError: a hyperparameter is not a number, or has too few digits. Values traced by JAX have no range yet and
            are not checked for it.

    >>> import adamx, jax.numpy as jnp
    >>> tx = adamx.scale_by(adamx.Adam(b1=0.8))
    >>> grads = {"w": jnp.array([2.0, -0.5, 0.0])}
    >>> direction, state = tx.update(grads, tx.init(grads))
    >>> direction["w"].round(6)
    Array([ 1., -1.,  0.], dtype=float32)
    """
    check(rule)
    choose("weights", weights, ROUNDINGS)
    choose("kernel", kernel, kernels.KERNELS)
    _check_seed(seed)
    layout = Layout.of(rule, moments, mu_dtype)
    if mu_dtype is not None:
        _check_mu_dtype(mu_dtype, rule, layout.names)
    engine = Engine(rule, layout, weights, seed, decay_mask, kernel)
    return Optimizer(engine.init, engine.update)


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


def _total(measures: list[Any]) -> Any:
    if not jax.tree.leaves(measures):
        return None
    dtype = wide_dtype(*jax.tree.leaves(measures))
    return jax.tree.map(lambda *xs: sum(x.astype(dtype) for x in xs), *measures)


def _residual(rounding: Rounding | None, p: Array | None) -> Array | None:
    return None if rounding is None or p is None or not is_narrow(p) else rounding.start(p)


def _check_seed(seed: Any) -> None:
    whole = isinstance(seed, (int, np.integer)) or (
        hasattr(seed, "dtype") and jnp.issubdtype(seed.dtype, jnp.integer) and jnp.shape(seed) == ()
    )
    if not whole or isinstance(seed, bool):
        raise TypeError(f"seed = {seed!r} should be an integer, or an array of one")


def _check_mu_dtype(mu_dtype: Any, rule: Rule[Any], names: list[str]) -> None:
    try:
        real = jnp.issubdtype(mu_dtype, jnp.floating)
    except TypeError:
        real = False
    if not real:
        raise ValueError(f"mu_dtype = {mu_dtype!r} is not a real floating dtype, such as jnp.bfloat16")
    if not any(name.split(".")[-1] == "mu" for name in names):
        raise ValueError(f"mu_dtype = {mu_dtype!r}, but {type(rule).__name__} keeps no `mu`: leave it out")


def _check_state(state: Any, varying: set[str]) -> None:
    if not hasattr(state, "slots"):
        raise TypeError(f"{type(state).__name__} is not a state from `init(params)`: call update(grads, state, params)")
    if set(state.log_products) != varying:
        raise ValueError(
            f"the state is of schedules of {sorted(state.log_products)}, the optimizer of {sorted(varying)}: the "
            "product of a scheduled decay rate is kept in the state, so make a new one with `init`"
        )


def _factor(grads: list[Any], clip_norm: Scalar | None, grad_scale: Scalar | None) -> Array | None:
    """What all gradients are multiplied with, float32."""
    if clip_norm is None:
        return None if grad_scale is None else jnp.asarray(grad_scale, jnp.float32)
    check_value("clip_norm", clip_norm, Above(0.0, float("inf")))
    squares = [jnp.sum(abs_sq(g.astype(wide_dtype(g)))).astype(jnp.float32) for g in grads if g is not None]
    scale = jnp.asarray(1.0 if grad_scale is None else grad_scale, jnp.float32)
    norm, largest = scale * jnp.sqrt(sum(squares, jnp.zeros([], jnp.float32))), jnp.asarray(clip_norm, jnp.float32)
    return scale * jnp.where(norm <= largest, 1, largest / norm)
