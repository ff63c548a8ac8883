"""A grid of step sizes that narrows: short runs of all of them, long runs of the best.

Where a matrix product fills the processor, side by side is no faster than one after another: then this saves most runs.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import NamedTuple

from adamx.examples.protocol import Contender, Run, Search, Settings

from .runs import Runs
from .sweep import OnSweep, Problem, alone, key_of, sweep


class Stage(NamedTuple):
    """A stage of a search: how long every step size that is left is trained, in epochs, and how many of them go on."""

    epochs: int
    keep: int


def narrow(
    contender: Contender,
    problem: Problem,
    settings: Settings,
    stages: Sequence[Stage],
    on_epoch: OnSweep = lambda epoch: None,
    runs: Runs = Runs(),  # noqa: B008
) -> tuple[Search, tuple[Run, ...]]:
    """The contender's step sizes one after another: all of them for a short while, the best of them for longer.

    Returns:
        The search among those that were trained for all epochs, and the runs that were not, as far as they went.
    """
    left, ended = contender.grid, []
    for stage in stages:
        short = replace(settings, epochs=stage.epochs)
        tried = [
            sweep(alone(contender, rate), problem, short, on_epoch, runs, settings.epochs).runs[0] for rate in left
        ]
        ranked = sorted(tried, key=lambda run: (not isfinite(run.final_loss), run.final_loss))
        for run in ranked[stage.keep :]:
            runs.shed(key_of(alone(contender, run.learning_rate), problem, settings))
            ended.append(run)
        left = sorted(run.learning_rate for run in ranked[: stage.keep])
    final = [sweep(alone(contender, rate), problem, settings, on_epoch, runs).runs[0] for rate in left]
    return Search(contender, tuple(final)), tuple(ended)


def epochs_to_come(contender: Contender, settings: Settings, stages: Sequence[Stage], seeds: int) -> int:
    """How often `on_epoch` is called for a contender and its repeats."""
    left, count = len(contender.grid), 0
    for stage in stages:
        count, left = count + left * stage.epochs, min(left, stage.keep)
    return count + ((left if stages else 1) + seeds - 1) * settings.epochs
