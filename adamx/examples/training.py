"""The training loop: a classifier, one optimizer, one step size; or each step size of a grid in turn.

An epoch is one compiled scan over minibatches. Nothing here prints or draws: `on_epoch` is called after every epoch.
"""

import time
from collections.abc import Callable
from functools import partial
from math import nan
from statistics import median
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from ..flax import take_step
from .data import Dataset
from .models import accuracy, cross_entropy
from .protocol import Contender, MakeOptimizer, Run, Search, Settings, steps_per_epoch

EVALUATION_BATCH = 1024


class Epoch(NamedTuple):
    """The argument of `on_epoch`: a run after epoch `number`, counted from 1."""

    contender: Contender
    learning_rate: float
    number: int
    loss: float


def run(
    contender: Contender,
    learning_rate: float,
    model: nnx.Module,
    dataset: Dataset,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Run:
    """Train a copy of `model` with one optimizer at one step size.

    Args:
        contender: makes the optimizer; its grid is not used.
        learning_rate: the step size. It is traced: all step sizes share one compilation.
        model: maps images to logits. It is not changed, so that every run starts from the same weights.
        dataset: its training images are trained on, its test images give the accuracy.
        settings: number of epochs, batch size, and the seed of the order.
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
    """Call `run` for each step size of the contender's grid."""
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
