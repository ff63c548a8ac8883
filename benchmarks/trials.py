"""Problems to try optimizers on, and one loop that runs a grid of them from several seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from adamx.examples import data
from adamx.examples.models import MLP, accuracy, cross_entropy

SEEDS = 8

Params = Any
Make = Callable[..., optax.GradientTransformation]
"""From hyperparameters, possibly traced, to an optimizer. One function per optimizer: compilation is cached by it."""
Measure = Callable[[Params, optax.OptState], Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """Something to minimise: a random start, a random gradient, the exact loss, and held-out accuracy if it has one."""

    start: Callable[[jax.Array], Params]
    gradient: Callable[[Params, jax.Array], Params]
    loss: Callable[[Params], jax.Array]
    accuracy: Callable[[Params], jax.Array] = lambda params: jnp.array(jnp.nan)


class Spread(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:.1e} ± {self.deviation:.0e}" if np.isfinite(self.mean) else "diverged"


class Best(NamedTuple):
    """The loss at the step size of a grid that makes its mean lowest."""

    rate: float
    loss: Spread
    at_edge: bool

    def __str__(self) -> str:
        return f"{self.loss}, {self.rate:g}{'*' if self.at_edge else ''}"


# Two problems


def quadratic(
    dim: int = 64, condition: float = 100.0, noise: float = 1.0, scale: float = 1.0, rotated: bool = False
) -> Problem:
    """Half of x'Hx in units of `scale`, eigenvalues from 1/`condition` to 1, gradient noise of covariance `noise`² H.

    The noise is that of least squares on few examples: directions of low curvature see little of it. Unrotated, the
    eigenvectors are the coordinates, which is the case that Adam's diagonal scaling is made for.
    """
    h = jnp.geomspace(1 / condition, 1, dim)
    q = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (dim, dim)))[0] if rotated else jnp.eye(dim)

    def gradient(x: jax.Array, key: jax.Array) -> jax.Array:
        return scale * (q @ (h * (q.T @ x) + noise * jnp.sqrt(h) * jax.random.normal(key, (dim,))))

    return Problem(lambda key: jax.random.normal(key, (dim,)), gradient, lambda x: jnp.vdot(h, (q.T @ x) ** 2) / 2)


@cache
def digits(hidden: tuple[int, ...] = (32,), batch_size: int = 64, mislabelled: float = 0.0) -> Problem:
    """Handwritten digits, a small MLP, minibatches drawn with replacement; the loss is that of the training set.

    A share `mislabelled` of the training labels is drawn anew at random; the held-out labels are as they were.
    """
    dataset, rng = data.digits(), np.random.default_rng(0)
    wrong = rng.random(len(dataset.train_labels)) < mislabelled
    drawn = rng.integers(dataset.classes, size=len(wrong), dtype=np.int32)
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(np.where(wrong, drawn, dataset.train_labels))
    held_out = jnp.asarray(dataset.test_images), jnp.asarray(dataset.test_labels)

    def model(key: jax.Array) -> MLP:
        return MLP(dataset.image, dataset.classes, hidden, rngs=nnx.Rngs(key))

    graph, _, other = nnx.split(model(jax.random.key(0)), nnx.Param, ...)

    def logits(params: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, other)(x)

    def gradient(params: nnx.State, key: jax.Array) -> nnx.State:
        batch = jax.random.randint(key, (batch_size,), 0, len(labels))
        return jax.grad(lambda p: cross_entropy(logits(p, images[batch]), labels[batch]))(params)

    return Problem(
        start=lambda key: nnx.state(model(key), nnx.Param),
        gradient=gradient,
        loss=lambda params: cross_entropy(logits(params, images), labels),
        accuracy=lambda params: accuracy(logits(params, held_out[0]), held_out[1]),
    )


# One loop, and a grid of it


def minimise(
    opt: optax.GradientTransformation,
    gradient: Callable[[Params, jax.Array], Params],
    start: Callable[[jax.Array], Params],
    steps: int | jax.Array,
    seeds: int,
) -> tuple[Params, optax.OptState]:
    """Take `steps` steps from `start`; parameters and states have one leading entry for each seed."""

    def run(seed: jax.Array) -> tuple[Params, optax.OptState]:
        first, noise = jax.random.split(jax.random.key(seed))

        def step(t: jax.Array, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
            params, state = carry
            updates, state = opt.update(gradient(params, jax.random.fold_in(noise, t)), state, params)
            return optax.apply_updates(params, updates), state

        params = start(first)
        return jax.lax.fori_loop(0, steps, step, (params, opt.init(params)))

    return jax.vmap(run)(jnp.arange(seeds))


@partial(jax.jit, static_argnames=("make", "problem", "measure", "seeds"))
def sweep(
    make: Make, problem: Problem, measure: Measure, grid: Sequence[jax.Array], steps: int | jax.Array, seeds: int
) -> Any:
    """What `measure` finds at the end, for each setting `make(*setting)` of the grid and each seed."""

    def one(*setting: jax.Array) -> Any:
        return jax.vmap(measure)(*minimise(make(*setting), problem.gradient, problem.start, steps, seeds))

    return jax.vmap(one)(*grid)


def spread(values: jax.Array | np.ndarray) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values)))


def best(rates: Sequence[float], losses: jax.Array | np.ndarray) -> Best:
    """The best of `losses`, one row for each step size and one column for each seed; divergence comes last."""
    means = np.nan_to_num(np.mean(losses, axis=1), nan=np.inf)
    i = int(np.argmin(means))
    return Best(rates[i], spread(losses[i]), i in (0, len(rates) - 1))
