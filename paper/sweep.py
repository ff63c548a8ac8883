"""A whole grid of step sizes in one compiled run, and the best of them again from other seeds.

The step sizes of one optimizer train side by side, `vmap`ped: the same initial weights, the same minibatches, the same
dropout, so that what is shared is computed once. The cost is what training minimises, dropout and penalty included,
as the figures of arXiv:1412.6980, section 6, show it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import nan
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from adamx.examples.models import accuracy
from adamx.examples.protocol import Contender, MakeOptimizer, Run, Search, Settings
from adamx.flax import take_step

from .optimizers import SETTINGS
from .runs import Key, Runs, Training

EVALUATION_BATCH = 1000
TEN = 10


class Examples(NamedTuple):
    """Inputs `(n, …)` of a model and labels `(n,)`."""

    inputs: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    r"""What the optimizers of a comparison minimise: $E[-\log p(y|x)] + \frac{\lambda}{2}\|W\|^2$, in nats.

    Attributes:
        model: from random streams to a classifier; the seed draws its initial weights.
        train: what to train on.
        test: what to test on.
        l2: $\lambda$; biases are not penalised.
        every: the cost is taken after each of the first ten epochs, and from there after every so many.
        key: what tells this problem from others, for the files of its runs.
    """

    model: Callable[[nnx.Rngs], nnx.Module]
    train: Examples
    test: Examples
    l2: float = 0.0
    every: int = 1
    key: Key = field(default_factory=lambda: {"figure": "sweep"})


class SweepEpoch(NamedTuple):
    """The argument of `on_epoch`: the cost of each step size of the grid after `number` of `epochs`, from 1.

    Where the cost was not taken it is NaN; `kept` are epochs of an earlier command.
    """

    contender: Contender
    seed: int
    number: int
    epochs: int
    costs: tuple[float, ...]
    kept: bool = False


OnSweep = Callable[[SweepEpoch], None]


def sweep(
    contender: Contender,
    problem: Problem,
    settings: Settings,
    on_epoch: OnSweep = lambda epoch: None,
    runs: Runs = Runs(),  # noqa: B008
    last: int | None = None,
) -> Search:
    """Train with each step size of the contender's grid, all at once.

    Args:
        contender: the optimizer and its grid.
        problem: the model, its data and its penalty.
        settings: epochs, batch size and seed; the seed draws initial weights, order and dropout.
        on_epoch: called after each epoch.
        runs: where to keep the runs.
        last: epochs to which they may later go on; by default they do not.

    Returns:
        The runs; their losses are costs on the training set, before training and after each epoch, with one draw of
        dropout that all optimizers and epochs share; NaN where they were not taken. Accuracies are without dropout,
        NaN before `last`. Times are not taken (NaN).

    Raises:
        ValueError: the batch size is not between 1 and the number of training examples.
    """
    if not 1 <= settings.batch_size <= len(problem.train.labels):
        raise ValueError(
            f"batch size {settings.batch_size} is not between 1 and the {len(problem.train.labels)} training examples"
        )
    train, test = jax.device_put((problem.train, problem.test))
    rates = jnp.asarray(contender.grid, jnp.float32)
    order, masks = jax.random.split(jax.random.key(settings.seed))
    graph, initial, other = nnx.split(problem.model(nnx.Rngs(settings.seed)), nnx.Param, ...)

    def epoch(number: int, carry: Carry) -> Carry:
        key = jax.random.fold_in(order, number)
        return epoch_of(graph, contender.make, problem.l2, settings.batch_size, rates, key, carry, other, train)

    def measure(number: int, carry: Carry) -> np.ndarray:
        if number > TEN and number % problem.every:
            return np.full(len(rates), nan, np.float32)
        return np.asarray(cost_of(graph, problem.l2, carry[0], other, train, masks))

    training = Training(
        lambda: started(contender.make, rates, initial),
        epoch,
        measure,
        lambda carry: np.asarray(_accuracy(graph, carry[0], other, test)),
    )

    def heard(number: int, costs: np.ndarray, kept: bool) -> None:
        on_epoch(SweepEpoch(contender, settings.seed, number, settings.epochs, tuple(costs.tolist()), kept))

    kept = runs.train(key_of(contender, problem, settings), training, settings.epochs, last or settings.epochs, heard)
    right = kept.end if kept.end.size else np.full(len(rates), nan)
    found = zip(contender.grid, kept.curve.T.tolist(), right.tolist(), strict=True)
    return Search(contender, tuple(Run(rate, tuple(curve), share, nan) for rate, curve, share in found))


def repeat(
    search: Search,
    problem: Problem,
    settings: Settings,
    seeds: int,
    on_epoch: OnSweep = lambda epoch: None,
    runs: Runs = Runs(),  # noqa: B008
) -> tuple[Run, ...]:
    """The best run of `search`, then runs at its step size from the seeds after it, `seeds` runs in all."""
    best = search.best
    again = alone(search.contender, best.learning_rate)
    later = (replace(settings, seed=settings.seed + i) for i in range(1, seeds))
    return best, *(sweep(again, problem, settings, on_epoch, runs).runs[0] for settings in later)


def alone(contender: Contender, rate: float) -> Contender:
    """The contender with one step size."""
    return replace(contender, grid=(rate,))


def key_of(contender: Contender, problem: Problem, settings: Settings) -> Key:
    """What a sweep depends on, but for its length."""
    return {
        **problem.key,
        "examples": len(problem.train.labels),
        "l2": problem.l2,
        "every": problem.every,
        "optimizer": [contender.name, SETTINGS.get(contender.name.partition(",")[0])],
        "step sizes": list(contender.grid),
        "batch size": settings.batch_size,
        "seed": settings.seed,
    }


Carry = tuple[nnx.State, optax.OptState]


@partial(jax.jit, static_argnums=0)
def started(make: MakeOptimizer, rates: jax.Array, initial: nnx.State) -> Carry:
    """The same initial weights for every step size, each with its own optimizer's state."""
    return jax.vmap(lambda rate: (initial, make(rate).init(initial)))(rates)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def epoch_of(
    graph: nnx.GraphDef,
    make: MakeOptimizer,
    l2: float,
    batch_size: int,
    rates: jax.Array,
    key: jax.Array,
    carry: Carry,
    other: nnx.State,
    data: Examples,
) -> Carry:
    """One pass over shuffled minibatches for each of the step sizes `rates` `(k,)`."""
    order, masks = jax.random.split(key)
    steps = len(data.labels) // batch_size
    batches = jax.random.permutation(order, len(data.labels))[: steps * batch_size].reshape(steps, batch_size)

    def loss(params: nnx.State, inputs: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        return loss_of(graph, l2, params, other, inputs, labels, key)

    def step(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        batch, key = at
        inputs, labels = data.inputs[batch], data.labels[batch]

        def one(rate: jax.Array, params: nnx.State, state: optax.OptState) -> Carry:
            grads = jax.grad(loss)(params, inputs, labels, key)
            return take_step(make(rate), grads, state, params)

        return jax.vmap(one)(rates, *carry), None

    return jax.lax.scan(step, carry, (batches, jax.random.split(masks, steps)))[0]


def loss_of(
    graph: nnx.GraphDef,
    l2: float,
    params: nnx.State,
    other: nnx.State,
    inputs: jax.Array,
    labels: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """What training minimises, on one minibatch."""
    logits = _logits(graph, params, other, inputs, key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() + _penalty(l2, params)


@partial(jax.jit, static_argnums=(0, 1))
def cost_of(
    graph: nnx.GraphDef, l2: float, params: nnx.State, other: nnx.State, data: Examples, key: jax.Array
) -> jax.Array:
    """The training cost `(k,)` of each of `k` sets of parameters, with one draw of dropout for each example."""
    keys = jax.random.split(key, len(data.labels))

    def one(params: nnx.State) -> jax.Array:
        def logits(example: tuple[jax.Array, jax.Array]) -> jax.Array:
            return _logits(graph, params, other, example[0][None], example[1])[0]

        outputs = jax.lax.map(logits, (data.inputs, keys), batch_size=EVALUATION_BATCH)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, data.labels)
        return losses.mean() + _penalty(l2, params)

    return jax.vmap(one)(params)


@partial(jax.jit, static_argnums=0)
def _accuracy(graph: nnx.GraphDef, params: nnx.State, other: nnx.State, data: Examples) -> jax.Array:
    def one(params: nnx.State) -> jax.Array:
        def logits(inputs: jax.Array) -> jax.Array:
            return _logits(graph, params, other, inputs[None], None)[0]

        return accuracy(jax.lax.map(logits, data.inputs, batch_size=EVALUATION_BATCH), jnp.asarray(data.labels))

    return jax.vmap(one)(params)


def _logits(
    graph: nnx.GraphDef, params: nnx.State, other: nnx.State, inputs: jax.Array, key: jax.Array | None
) -> jax.Array:
    """With a key, dropout draws from it; without, nothing is dropped."""
    if key is None:
        model = nnx.merge(graph, params, other, copy=True)
        model.eval()
    else:
        model = nnx.merge(graph, params, _reseeded(other, key), copy=True)
    return model(inputs)


def _reseeded(other: nnx.State, key: jax.Array) -> nnx.State:
    """Each random stream begins anew from `key`. `nnx.reseed` would pass over streams that bear another name."""
    leaves, tree = jax.tree.flatten(other)
    streams = (jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
    renewed = [
        jax.random.fold_in(key, i) if is_key else leaf
        for i, (leaf, is_key) in enumerate(zip(leaves, streams, strict=True))
    ]
    return jax.tree.unflatten(tree, renewed)


def _penalty(l2: float, params: nnx.State) -> jax.Array | float:
    if not l2:
        return 0.0
    return l2 / 2 * sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
