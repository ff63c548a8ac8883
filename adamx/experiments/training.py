"""Training a classifier with one optimizer, and the protocol by which the Adam paper compares several.

Every contender trains the same model from the same initial weights on the same minibatches, once with each step size of
its grid, and is judged by the run with the lowest final training loss (arXiv:1412.6980, section 6). Nothing here prints
or draws: a callback hears of every epoch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from statistics import median
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from ..flax import take_step
from .data import Dataset
from .models import accuracy, cross_entropy

MakeOptimizer = Callable[[float | jax.Array], optax.GradientTransformation]
"""From a step size, possibly traced, to an optimizer. Keep one function per optimizer: compilation is cached by it."""

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Contender:
    """An optimizer in a comparison, and the step sizes it is tried with."""

    name: str
    make: MakeOptimizer
    grid: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """What all runs of a comparison share; `seed` fixes the order of the minibatches."""

    epochs: int = 30
    batch_size: int = 64
    seed: int = 0


class Epoch(NamedTuple):
    """What a callback hears after each epoch, counted from 1."""

    contender: Contender
    learning_rate: float
    number: int
    loss: float


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        learning_rate: the step size.
        losses: loss on the whole training set, before training and after each epoch.
        test_accuracy: the fraction of test images classified correctly, after the last epoch.
        step_seconds: seconds per step, evaluation excluded: the median over epochs after the first, in which the epoch
            may be compiled. NaN if there was one epoch only.
    """

    learning_rate: float
    losses: tuple[float, ...]
    test_accuracy: float
    step_seconds: float

    @property
    def final_loss(self) -> float:
        """Training loss after the last epoch."""
        return self.losses[-1]


@dataclass(frozen=True)
class Search:
    """The runs of one contender, in the order of its grid."""

    contender: Contender
    runs: tuple[Run, ...]

    @property
    def best(self) -> Run:
        """The run with the lowest final training loss; runs that diverged come last."""
        return min(self.runs, key=lambda run: (not isfinite(run.final_loss), run.final_loss))

    @property
    def at_edge(self) -> bool:
        """Whether the best step size is the smallest or largest tried, so that one outside may be better still."""
        grid = self.contender.grid
        return self.best.learning_rate in (min(grid), max(grid))


def steps_per_epoch(settings: Settings, dataset: Dataset) -> int:
    """Whole minibatches in the training set.

    Raises:
        ValueError: there is none.
    """
    n = len(dataset.train_labels)
    if not 1 <= settings.batch_size <= n:
        raise ValueError(f"batch size {settings.batch_size} is not between 1 and the {n} training images")
    return n // settings.batch_size


def run(
    contender: Contender,
    learning_rate: float,
    model: nnx.Module,
    dataset: Dataset,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Run:
    """The training of a copy of `model` with one optimizer at one step size.

    Args:
        contender: makes the optimizer; its grid is not used.
        learning_rate: the step size. It is traced: all step sizes share one compilation.
        model: maps images to logits. It is left as it is, so that every run starts from the same weights.
        dataset: what to train on, and to test on.
        settings: for how long, in which batches and in which order.
        on_epoch: called after each epoch.

    Raises:
        ValueError: the batch size is not between 1 and the number of training images.
    """
    steps = steps_per_epoch(settings, dataset)
    train = jax.device_put((dataset.train_images, dataset.train_labels))
    test = jax.device_put((dataset.test_images, dataset.test_labels))
    graph, params, other = nnx.split(model, nnx.Param, ...)
    carry = params, other, _init(contender.make, learning_rate, params)
    order = jax.random.key(settings.seed)
    losses = [float(_evaluate(graph, *carry[:2], *train)[0])]
    seconds = []
    for number in range(1, settings.epochs + 1):
        start = time.perf_counter()
        key = jax.random.fold_in(order, number)
        carry = _epoch(graph, contender.make, settings.batch_size, learning_rate, key, carry, *train)
        jax.block_until_ready(carry)
        seconds.append(time.perf_counter() - start)
        losses.append(float(_evaluate(graph, *carry[:2], *train)[0]))
        on_epoch(Epoch(contender, learning_rate, number, losses[-1]))
    test_accuracy = float(_evaluate(graph, *carry[:2], *test)[1])
    step_seconds = median(seconds[1:]) / steps if len(seconds) > 1 else nan
    return Run(learning_rate, tuple(losses), test_accuracy, step_seconds)


def grid_search(
    contender: Contender,
    model: nnx.Module,
    dataset: Dataset,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Search:
    """One run for each step size of the contender's grid; see `run`."""
    runs = [run(contender, rate, model, dataset, settings, on_epoch) for rate in contender.grid]
    return Search(contender, tuple(runs))


@partial(jax.jit, static_argnums=0)
def _init(make: MakeOptimizer, learning_rate: float | jax.Array, params: nnx.State) -> optax.OptState:
    return make(learning_rate).init(params)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _epoch(
    graph: nnx.GraphDef,
    make: MakeOptimizer,
    batch_size: int,
    learning_rate: float | jax.Array,
    key: jax.Array,
    carry: tuple[nnx.State, nnx.State, optax.OptState],
    images: jax.Array,
    labels: jax.Array,
) -> tuple[nnx.State, nnx.State, optax.OptState]:
    """One pass over shuffled minibatches; `carry` is the parameters, the model's other state, the optimizer's state."""
    optimizer = make(learning_rate)
    steps = len(labels) // batch_size
    batches = jax.random.permutation(key, len(labels))[: steps * batch_size].reshape(steps, batch_size)

    def loss(params: nnx.State, other: nnx.State, batch: jax.Array) -> tuple[jax.Array, nnx.State]:
        # Dropout counts its draws in `other`; `grad` lets only variables change that were made inside it.
        model = nnx.merge(graph, params, other, copy=True)
        value = cross_entropy(model(images[batch]), labels[batch])
        _, _, other = nnx.split(model, nnx.Param, ...)
        return value, other

    def step(carry: tuple[nnx.State, nnx.State, optax.OptState], batch: jax.Array) -> tuple[Any, None]:
        params, other, state = carry
        grads, other = jax.grad(loss, has_aux=True)(params, other, batch)
        params, state = take_step(optimizer, grads, state, params)
        return (params, other, state), None

    carry, _ = jax.lax.scan(step, carry, batches)
    return carry


@partial(jax.jit, static_argnums=0)
def _evaluate(
    graph: nnx.GraphDef, params: nnx.State, other: nnx.State, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy on all images, in batches that bound the memory for activations."""

    def logits(image: jax.Array) -> jax.Array:
        model = nnx.merge(graph, params, other)
        model.eval()
        return model(image[None])[0]

    outputs = jax.lax.map(logits, images, batch_size=EVALUATION_BATCH)
    return cross_entropy(outputs, labels), accuracy(outputs, labels)
