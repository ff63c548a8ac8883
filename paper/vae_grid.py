"""Adam with and without bias correction on the autoencoder, for a whole grid of hyperparameters at once.

The hyperparameters of all runs are arrays and `vmap` maps over them, so that a grid is one program: it is compiled once
with the correction and once without. All runs start from the same weights and see the same minibatches and noise. Where
a matrix product fills the processor they train one after another, which is as fast, and each is kept when it is done.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import adamx

from .runs import Key, Runs, Training
from .vae import VAE, negative_elbo

ON_EPOCH = Callable[[int, bool], None]
"""Called with the number of an epoch, and whether it was kept from an earlier command."""


@dataclass(frozen=True)
class Settings:
    """What the runs share.

    Attributes:
        hidden: units of each hidden layer.
        latent: dimensions of the latent.
        b1: decay rates of the mean in the grid.
        b2: those of the mean square.
        rates: step sizes.
        checkpoints: after how many epochs the loss is taken, in order.
        batch_size: images per step.
        seeds: each draws initial weights, order of images and noise once.
        whole: how many of the seeds train the whole grid to the last checkpoint, at least one; from the others only the
            step size that was best from the first seed goes on after the first checkpoint. `None` is all.
        together: whether the grid is one program, or one run after another.
    """

    hidden: int = 500
    latent: int = 50
    b1: tuple[float, ...] = (0.0, 0.9)
    b2: tuple[float, ...] = (0.99, 0.999, 0.9999)
    rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    checkpoints: tuple[int, ...] = (10, 100)
    batch_size: int = 100
    seeds: tuple[int, ...] = (0, 1)
    whole: int | None = None
    together: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid: values of b1, b2 and step size."""
        return len(self.b1), len(self.b2), len(self.rates)


class Point(NamedTuple):
    """One combination of hyperparameters; or, in arrays of one axis, all of them."""

    b1: Any
    b2: Any
    rate: Any


class Losses(NamedTuple):
    """Losses on the training images of one seed, in nats per image.

    Attributes:
        untrained: with the initial weights.
        trained: `(checkpoints, b1, b2, step sizes)`; a run that diverged is not finite, one that was not made masked.
    """

    untrained: float
    trained: np.ma.MaskedArray


def train(
    images: np.ndarray,
    settings: Settings,
    corrected: bool,
    seed: int,
    on_epoch: ON_EPOCH = lambda epoch, kept: None,
    runs: Runs = Runs(),  # noqa: B008
    key: Key | None = None,
    onward: np.ndarray | None = None,
) -> Losses:
    """Train every point of the grid.

    Args:
        images: float32 `(n, pixels)` in [0, 1].
        settings: the grid and what its runs share.
        corrected: whether Adam corrects its averages for their bias.
        seed: of weights, order and noise, whatever `corrected` is.
        on_epoch: called after each epoch of the grid or, if it is not one program, of each run; counted from 1.
        runs: where to keep the runs.
        key: what tells these images from others, for the files of the runs.
        onward: which points go on after the first checkpoint, `(b1, b2, step sizes)`; by default all.

    Raises:
        ValueError: the batch size is not between 1 and the number of images.
    """
    if not 1 <= settings.batch_size <= len(images):
        raise ValueError(f"batch size {settings.batch_size} is not between 1 and the {len(images)} images")
    weights, order, measure = jax.random.split(jax.random.key(seed), 3)
    model = VAE(images.shape[1], settings.hidden, settings.latent, rngs=nnx.Rngs(weights))
    graph, params = nnx.split(model, nnx.Param)
    pixels = jnp.asarray(images)

    def made(points: Sequence[tuple[float, float, float]]) -> Training:
        grid = Point(*(jnp.array(axis) for axis in zip(*points, strict=True)))

        def epoch(number: int, carry: Any) -> Any:
            draw = jax.random.fold_in(order, number)
            return _epoch(graph, corrected, settings.batch_size, grid, draw, carry, pixels)

        def loss(number: int, carry: Any) -> np.ndarray:
            if number and number not in settings.checkpoints:
                return np.full(len(points), np.nan, np.float32)
            return np.asarray(_evaluate(graph, carry[0], measure, pixels))

        return Training(lambda: _start(corrected, grid, params), epoch, loss, lambda carry: np.zeros(len(points)))

    points = list(product(settings.b1, settings.b2, settings.rates))
    goes_on = np.ones(len(points), bool) if onward is None else onward.ravel()
    first, last = settings.checkpoints[0], settings.checkpoints[-1]
    curves, untrained = [], 0.0
    for bundle in [slice(None)] if settings.together else [slice(i, i + 1) for i in range(len(points))]:
        about = {
            **(key or {"figure": "figure4"}),
            "network": [*images.shape, settings.hidden, settings.latent],
            "batch size": settings.batch_size,
            "measured": settings.checkpoints,
            "points": points[bundle],
            "corrected": corrected,
            "seed": seed,
        }
        epochs = last if goes_on[bundle].any() else first
        kept = runs.train(about, made(points[bundle]), epochs, last, lambda number, _, kept: on_epoch(number, kept))
        if epochs < last:
            runs.shed(about)
        curve = np.ma.masked_all((last + 1, kept.curve.shape[1]))
        curve[: epochs + 1] = kept.curve
        curves.append(curve)
        untrained = float(kept.curve[0, 0])
    trained = np.ma.concatenate(curves, axis=1)[list(settings.checkpoints)]
    return Losses(untrained, trained.reshape(len(settings.checkpoints), *settings.shape))


def _adam(corrected: bool, point: Point) -> adamx.Optimizer:
    rule = adamx.Adam(b1=point.b1, b2=point.b2, bias_correction=corrected)
    return adamx.optimizer(rule, point.rate, kernel="xla")


@partial(jax.jit, static_argnums=0)
def _start(corrected: bool, grid: Point, params: nnx.State) -> Any:
    """The same weights for every point, and the states of their optimizers."""
    return jax.vmap(lambda point: (params, _adam(corrected, point).init(params)))(grid)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=5)
def _epoch(
    graph: nnx.GraphDef,
    corrected: bool,
    batch_size: int,
    grid: Point,
    key: jax.Array,
    carry: Any,
    images: jax.Array,
) -> Any:
    """One pass over shuffled minibatches for every point."""
    order, draw = jax.random.split(key)
    steps = len(images) // batch_size
    batches = jax.random.permutation(order, len(images))[: steps * batch_size].reshape(steps, batch_size)
    keys = jax.random.split(draw, steps)

    def loss(params: nnx.State, batch: jax.Array, key: jax.Array) -> jax.Array:
        return _loss(graph, params, images[batch], key)

    def step(carry: Any, drawn: Any) -> tuple[Any, None]:
        def of(point: Point, params: nnx.State, state: Any) -> Any:
            return _adam(corrected, point).step(jax.grad(loss)(params, *drawn), state, params)

        # Mapped inside the scan, so that minibatches and noise are drawn once for all points.
        return jax.vmap(of)(grid, *carry), None

    carry, _ = jax.lax.scan(step, carry, (batches, keys))
    return carry


@partial(jax.jit, static_argnums=0)
def _evaluate(graph: nnx.GraphDef, params: nnx.State, key: jax.Array, images: jax.Array) -> jax.Array:
    """The loss on all images, with the same noise for every point and at every checkpoint; one point at a time."""
    return jax.lax.map(lambda params: _loss(graph, params, images, key), params)


def _loss(graph: nnx.GraphDef, params: nnx.State, images: jax.Array, key: jax.Array) -> jax.Array:
    model = nnx.merge(graph, params)
    noise = jax.random.normal(key, (len(images), model.latent))
    return negative_elbo(model, images, noise)
