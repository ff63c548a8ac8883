"""The protocol of a comparison: who runs, for how long, and which run counts.

Every contender trains the same model from the same initial weights on the same minibatches, once with each step size of
its grid. The run with the lowest final training loss counts, as in arXiv:1412.6980, section 6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import jax
import optax

from .data import Dataset

MakeOptimizer = Callable[[float | jax.Array], optax.GradientTransformation]
"""From a step size, possibly traced, to an optimizer. Keep one function per optimizer: compilation is cached by it."""


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
