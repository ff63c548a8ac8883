"""How large Adam's second moment is against ε as training goes on."""

from collections.abc import Callable
from math import nan
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import adamx
from adamx.examples.protocol import Contender, Settings
from adamx.examples.report import six_digits

from .optimizers import OPTIMIZERS
from .runs import Runs, Training
from .sweep import Carry, Problem, epoch_of, key_of, started


class Moment(NamedTuple):
    r"""The second moment after one epoch.

    Attributes:
        epoch: counted from 1.
        idle: the share of weights whose every gradient was 0: of units that never fire, of kernels' margins where the
            images are smaller than they. The rest is over the other weights.
        below_eps: the share with $\sqrt{\hat v} < \varepsilon$.
        median: of $\sqrt{\hat v}$, in units of ε.
        span: the largest median of a layer's weights over the smallest.
    """

    epoch: int
    idle: float
    below_eps: float
    median: float
    span: float = nan

    def as_dict(self) -> dict[str, float | None]:
        """To six digits."""
        return {"epoch": self.epoch} | {name: six_digits(getattr(self, name)) for name in self._fields[1:]}

    @classmethod
    def from_dict(cls, content: dict[str, float | None]) -> "Moment":
        """From `as_dict`."""
        return cls(**{name: nan if value is None else value for name, value in content.items()})  # pyright: ignore[reportArgumentType]


def second_moments(
    problem: Problem,
    settings: Settings,
    learning_rate: float,
    runs: Runs = Runs(),  # noqa: B008
    told: Callable[[int, bool], None] = lambda epoch, kept: None,
) -> list[Moment]:
    """Adam's second moment after each epoch of the run that `paper.sweep.sweep` makes with the same arguments.

    Args:
        problem: the model, its data and its penalty.
        settings: epochs, batch size and seed.
        learning_rate: the step size.
        runs: where to keep the run.
        told: called after each epoch, with its number and whether it was kept from an earlier command.
    """
    make, data = OPTIMIZERS["Adam"], jax.device_put(problem.train)
    graph, initial, other = nnx.split(problem.model(nnx.Rngs(settings.seed)), nnx.Param, ...)
    rates = jnp.array([learning_rate], jnp.float32)
    order, _ = jax.random.split(jax.random.key(settings.seed))

    def epoch(number: int, carry: Carry) -> Carry:
        key = jax.random.fold_in(order, number)
        return epoch_of(graph, make, problem.l2, settings.batch_size, rates, key, carry, other, data)

    training = Training(
        lambda: started(make, rates, initial),
        epoch,
        lambda number, carry: np.array(measure(number, carry[1])),
        lambda carry: np.zeros(1),
    )
    alone = Contender("Adam", make, (learning_rate,))
    key = {**key_of(alone, problem, settings), "measured": "second moment"}
    kept = runs.train(key, training, settings.epochs, settings.epochs, lambda n, values, kept: told(n, kept))
    return [Moment(int(number), *values) for number, *values in kept.curve[1:].tolist()]


def measure(epoch: int, state: adamx.State) -> Moment:
    """The second moment in a state of Adam's with its default hyperparameters.

    Layers are told by their kernels, of two axes after that of the runs.
    """
    nu = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(state.slots.nu)])
    live = nu[nu > 0]
    if not live.size:
        return Moment(epoch, 1.0, nan, nan)
    root = np.sqrt(live / (1 - adamx.Adam.b2 ** int(np.max(state.count)))) / adamx.Adam.eps
    kernels = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.slots.nu) if leaf.ndim > 2]
    medians = [float(np.median(np.sqrt(kernel[kernel > 0]))) for kernel in kernels if (kernel > 0).any()]
    span = max(medians) / min(medians) if medians else nan
    return Moment(epoch, 1 - live.size / nu.size, float(np.mean(root < 1)), float(np.median(root)), span)
