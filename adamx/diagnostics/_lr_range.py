"""Learning-rate range test: the loss of one short run while the step size grows."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._annotations import Above, Array, Params
from .._descent import Descent
from .._rule import innermost, replace, validate_value
from .._transform import Optimizer, engine_of
from .drawing import axes, line, save

DIVERGED = 3.0
"""How far above its least value, in units of its first, the smoothed loss may rise before the test is over."""

WINDOW = 20
"""Slopes are taken over 1/WINDOW of the ramp, as the loss of single batches is noise."""


BEGUN = 0.1
"""Slopes count from where the smoothed loss has fallen by this share of its whole fall; before, they are noise."""


class LRRange(NamedTuple):
    """The losses at growing step sizes, and the advised step size; prints as text.

    Attributes:
        steps: the step sizes, those that were tried before the loss diverged.
        losses: the loss of each batch before the step of that size.
        smoothed: its exponential average, corrected for bias.
        lr: the step size to take.
        reason: why.
    """

    steps: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    lr: float
    reason: str

    def __str__(self) -> str:
        return f"lr = {self.lr:.1e}: {self.reason}"

    def plot(self, path: Path | str) -> None:
        """Plot losses over step sizes, the advice marked; needs matplotlib.

        Args:
            path: the picture's file; its suffix is the format.
        """
        figure, ax = axes("Loss while the step size grows", "step size α (log scale)", "training loss")
        ax.plot(self.steps, self.losses, color="#999999", linewidth=0.8, label="loss of a batch")
        ax.plot(self.steps, self.smoothed, **line(0), label="smoothed")
        ax.axvline(self.lr, **line(1), label=f"advice, {self.lr:.1e}")
        ax.set_xscale("log")
        low, high = (
            float(np.min(self.losses)),
            float(max(np.max(self.smoothed[: len(self.smoothed) // 2 + 1]), self.losses[0])),
        )
        ax.set_ylim(low - 0.05 * (high - low), high + 0.5 * (high - low))
        ax.legend(frameon=False)
        save(figure, path)


def lr_range_test(
    loss_fn: Callable[[Params, Any], Array],
    params: Params,
    data: Any,
    opt: Any,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 200,
    smoothing: float = 0.9,
) -> LRRange:
    r"""Train while the step size grows from `low` to `high`, and advise one from where the loss fell fastest.

    $$\alpha_i = \text{low}\,(\text{high}/\text{low})^{i/(n-1)}$$

    The advice is the step size where the smoothed loss falls fastest over $\log\alpha$, and at most a tenth of the one
    where the loss is least: the loss responds with a delay, and there it is about to rise. Use it to begin a search: a
    long run with a schedule often needs less, one with warm-up can take more.

    Args:
        loss_fn: `loss_fn(params, batch)`, the loss to be differentiated, of shape ().
        params: where to start; they are not changed.
        data: arrays whose first axis counts batches, taken in turns under one compiled scan; or an iterator of
            batches, each of which is one call of a compiled step.
        opt: an adamx optimizer, whose step size is replaced; or a function from a step size to an optimizer, such as
            `adamx.adam` or `optax.sgd`.
        low: the first step size.
        high: the last step size.
        steps: the number of steps.
        smoothing: decay rate of the average of losses, in (0, 1).

    Returns:
        An `LRRange`: the step sizes tried, the losses, and the advice; it prints as text and has a `plot`.

    Raises:
        ValueError: `low` and `high` are not 0 < low < high, fewer than 10 steps; the first losses are not finite.
        TypeError: the step size of `opt` cannot be replaced.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (8, 32, 4))          # 8 batches of 32
        >>> y = x @ jnp.array([1.0, -2.0, 3.0, 0.5])
        >>> loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2)
        >>> found = adamx.diagnostics.lr_range_test(loss, jnp.zeros(4), (x, y), adamx.adam, high=100.0)
        >>> 0.01 < found.lr < 1
        True

    Reference: Smith, arXiv:1506.01186, section 3.3 (there linear in $\alpha$).
    """
    if not 0 < low < high:
        raise ValueError(f"low = {low}, high = {high}: the step size grows from low to high, give 0 < low < high")
    if steps < 10:
        raise ValueError(f"steps = {steps} should be at least 10, to see a slope")
    validate_value("smoothing", smoothing, Above(0.0, 1.0))
    make = _maker(opt)
    sizes = low * (high / low) ** (np.arange(steps) / (steps - 1))
    run = _drawn if isinstance(data, Iterator) else _scanned
    with np.errstate(invalid="ignore", over="ignore"):
        return _judged(sizes, run(loss_fn, make, params, data, sizes.astype(np.float32)), smoothing)


def _maker(opt: Any) -> Callable[[Any], Any]:
    """From a step size to an optimizer."""
    if isinstance(opt, Optimizer):
        engine = engine_of(opt)
        if not isinstance(engine.rule, Descent):
            raise TypeError("this optimizer has no step size to replace: give what makes one from a step size")

        def replaced(rate: Any) -> Optimizer:
            rule = replace(engine.rule, {str(innermost(engine.rule, "learning_rate")): rate})
            at_rate = dataclasses.replace(engine, rule=rule)
            return Optimizer(at_rate.init, at_rate.update)

        return replaced
    if callable(opt) and not isinstance(opt, optax.GradientTransformation):
        return opt
    raise TypeError(
        f"{type(opt).__name__} hides its step size: give what makes it from one, such as `lambda lr: optax.sgd(lr)`"
    )


def _one_step(loss_fn: Any, make: Any, params: Any, state: Any, rate: Any, batch: Any) -> tuple[Any, Any, Array]:
    opt = make(rate)
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    if isinstance(opt, Optimizer):
        params, state = opt.step(grads, state, params)
    else:
        updates, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state, loss


def _scanned(loss_fn: Any, make: Any, params: Params, data: Any, sizes: np.ndarray) -> np.ndarray:
    """The losses, all in one compiled function."""
    batches = {jnp.shape(x)[:1] for x in jax.tree.leaves(data)}
    if len(batches) != 1 or batches == {()} or batches == {(0,)}:
        raise ValueError(f"the arrays of data have first axes {sorted(batches)}: give each one that counts the batches")
    ((count,),) = batches

    @jax.jit
    def run(params: Params, data: Any) -> Array:
        def step(carry: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], Array]:
            batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i % count, keepdims=False), data)
            params, state, loss = _one_step(loss_fn, make, *carry, jnp.asarray(sizes)[i], batch)
            return (params, state), loss

        start = params, make(jnp.float32(sizes[0])).init(params)
        return jax.lax.scan(step, start, jnp.arange(len(sizes)))[1]

    return np.asarray(run(params, jax.tree.map(jnp.asarray, data)), np.float64)


def _drawn(loss_fn: Any, make: Any, params: Params, data: Iterator[Any], sizes: np.ndarray) -> np.ndarray:
    """The losses of as many batches as there are, one call each."""
    step = jax.jit(lambda *args: _one_step(loss_fn, make, *args))
    state = jax.jit(lambda params: make(jnp.float32(sizes[0])).init(params))(params)
    losses = []
    for rate, batch in zip(sizes, data, strict=False):
        params, state, loss = step(params, state, rate, batch)
        losses.append(loss)
    return np.asarray(jax.device_get(losses), np.float64)


def _judged(sizes: np.ndarray, losses: np.ndarray, smoothing: float) -> LRRange:
    bad = np.flatnonzero(~np.isfinite(losses))
    losses = losses[: bad[0]] if bad.size else losses
    if losses.size < 10:
        raise ValueError(f"only {losses.size} finite losses: give at least 10 batches, or a smaller low")
    average, smoothed = 0.0, np.empty_like(losses)
    for i, loss in enumerate(losses):
        average = smoothing * average + (1 - smoothing) * loss
        smoothed[i] = average / (1 - smoothing ** (i + 1))
    limit = np.minimum.accumulate(smoothed) + DIVERGED * abs(smoothed[0])
    away = np.flatnonzero(smoothed > limit)
    stop = max(10, away[0] + 1) if away.size else losses.size
    sizes, losses, smoothed = sizes[:stop], losses[:stop], smoothed[:stop]
    least = int(np.argmin(smoothed))
    calm = smoothed[: max(10, least // 3)]
    before, gained = float(np.median(calm)), float(np.median(calm) - smoothed[least])
    if least < max(3, losses.size // WINDOW) or gained <= np.std(calm):
        text = "the loss fell at none of these step sizes: this is the smallest; try a smaller low or a larger high"
        return LRRange(sizes, losses, smoothed, float(sizes[0]), text)
    half = max(1, losses.size // (2 * WINDOW))
    at = np.arange(half, least + 1)
    fall = smoothed[at - half] - smoothed[np.minimum(at + half, losses.size - 1)]
    fall = np.where(smoothed[at] <= before - BEGUN * gained, fall, -np.inf)
    steepest, top = float(sizes[at[int(np.argmax(fall))]]), float(sizes[least])
    lr = min(steepest, top / 10)
    why = "there the smoothed loss falls fastest" if lr == steepest else "a tenth of where the smoothed loss is least"
    text = f"{why}; least at {top:.1e}"
    if least == stop - 1:
        text += ", the largest tried: try a larger high"
    return LRRange(sizes, losses, smoothed, lr, text)
