"""Several optimizers on one problem, each at the best step size of its grid and from several seeds.

A panel of a figure, a table for the terminal and an entry of a JSON file are three views of one `Comparison`; what it
says about a claim is judged by the training cost after the last epoch, and by the epochs that it took to get there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import optax
from rich.table import Table

from adamx.examples.protocol import Contender, Run, Search, Settings
from adamx.examples.report import six_digits

from .claims import Verdict, shown
from .narrow import Stage, narrow
from .runs import Runs
from .sweep import OnSweep, Problem, repeat, sweep

SLOWER = 1.5
"""An optimizer that takes more than so many times another's epochs is no longer as fast."""


@dataclass(frozen=True)
class Line:
    """One optimizer: its search, its runs at the best step size, one for each seed, and those that the search ended."""

    search: Search
    runs: tuple[Run, ...]
    ended: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """The optimizer's name."""
        return self.search.contender.name

    @property
    def at_edge(self) -> bool:
        """Whether the best step size is at the edge of a grid, so that one outside may be better still."""
        return self.search.at_edge and len(self.search.contender.grid) > 1

    @property
    def costs(self) -> np.ndarray:
        """Training costs `(seeds, epochs + 1)`."""
        return np.array([run.losses for run in self.runs])

    @property
    def finals(self) -> np.ndarray:
        """Training costs `(seeds,)` after the last epoch."""
        return self.costs[:, -1]

    @property
    def final(self) -> float:
        """The mean of `finals`."""
        return float(self.finals.mean())

    def epochs_to(self, cost: float) -> int | None:
        """Epochs until the mean curve is at `cost` or below; `None` if it never is."""
        there = np.flatnonzero(self.costs.mean(axis=0) <= cost)
        return int(there[0]) if there.size else None

    def ahead_of(self, other: "Line") -> bool:
        """Whether this optimizer ends lower from every seed."""
        return bool(np.all(self.finals < other.finals))

    def as_fast_as(self, other: "Line", behind: "Line") -> bool:
        """Whether it ends lower than `other`, or higher by less than half of the way from `other` to `behind`."""
        return self.final - other.final < max(0.0, behind.final - other.final) / 2


@dataclass(frozen=True)
class Comparison:
    """The lines of several optimizers on one problem.

    Attributes:
        title: the problem, as above a panel.
        settings: what the runs share, the seed being the first.
        lines: one for each optimizer.
        steps: of an epoch.
        real: whether the data are the paper's, and the epochs as many as its own.
    """

    title: str
    settings: Settings
    lines: tuple[Line, ...]
    steps: int = 0
    real: bool = False

    def __getitem__(self, name: str) -> Line:
        """The line of the optimizer called `name`."""
        return next(line for line in self.lines if line.name == name)

    def ends(self, *names: str) -> str:
        """Final costs of the optimizers called so, or of all from the lowest to the highest, in words."""
        ranked = sorted(self.lines, key=lambda line: (not isfinite(line.final), line.final))
        chosen = [self[name] for name in names] or ranked
        return ", ".join(f"{line.name} {line.final:.3g}" for line in chosen) + " nats"

    def as_fast(self, name: str, other: str, behind: str) -> tuple[Verdict, str]:
        """Whether one optimizer converges as fast as another, and in how many epochs.

        It is no match for `other` if it ends too high (`Line.as_fast_as`). If it does not, it holds with a correction
        that it takes over `SLOWER` times the epochs to where the slower of the two ends, or to where `behind` does.
        """
        one, two, third = self[name], self[other], self[behind]
        ends = [line.final for line in (one, two, third) if isfinite(line.final)]
        targets = sorted({max(ends[:2]), max(ends)}) if ends else []
        took = [(cost, one.epochs_to(cost), two.epochs_to(cost)) for cost in targets]
        pairs = [(mine / max(its, 1), f"{mine} epochs to {cost:.3g}, {other} {its}")
                 for cost, mine, its in took if mine is not None and its is not None]  # fmt: skip
        longer, words = max(pairs, default=(1.0, "never as low"))
        more = one.final / two.final - 1
        ended = f"{name} ends {abs(more):.1%} {'above' if more > 0 else 'below'} {other}"
        if not one.as_fast_as(two, third):
            return shown(False, self.real), f"{ended}, more than half of the way to {behind}"
        if longer <= SLOWER:
            return "holds", f"{ended}, and takes as long: {words}"
        return "holds with a correction", f"{ended}, but takes up to {longer:.2g} times as many epochs: {words}"

    def reached(self, name: str, end: str) -> str:
        """When one optimizer gets to the cost at which another ends, in words."""
        epochs = self[name].epochs_to(self[end].final)
        return "never" if epochs is None else f"after {epochs} of {self.settings.epochs} epochs"


def compare(
    title: str,
    problem: Problem,
    contenders: Sequence[Contender],
    settings: Settings,
    seeds: int,
    on_epoch: OnSweep = lambda epoch: None,
    runs: Runs = Runs(),  # noqa: B008
    stages: Sequence[Stage] = (),
    real: bool = False,
) -> Comparison:
    """Search each contender's grid with the settings' seed, then repeat its best run from `seeds - 1` further seeds.

    Without `stages` a grid is trained side by side; with them it is narrowed. `real` is as in `Comparison`.
    """
    lines = []
    for contender in contenders:
        if stages:
            search, ended = narrow(contender, problem, settings, stages, on_epoch, runs)
        else:
            search, ended = sweep(contender, problem, settings, on_epoch, runs), ()
        lines.append(Line(search, repeat(search, problem, settings, seeds, on_epoch, runs), ended))
    return Comparison(title, settings, tuple(lines), len(problem.train.labels) // settings.batch_size, real)


def table(comparison: Comparison) -> Table:
    """A row for each optimizer; a star marks a best step size at the edge of its grid."""
    edge = any(line.at_edge for line in comparison.lines)
    caption = "* at the edge of the grid: a step size outside it may be better still" if edge else None
    result = Table(title=comparison.title, caption=caption)
    result.add_column("optimizer")
    slowest = max((line.final for line in comparison.lines if isfinite(line.final)), default=0.0)
    headings = (
        "best step size",
        "training cost",
        "lowest to highest seed",
        f"epochs to {slowest:.3g}",
        "test accuracy",
    )
    for heading in headings:
        result.add_column(heading, justify="right")
    for line in comparison.lines:
        epochs = line.epochs_to(slowest)
        result.add_row(
            line.name,
            f"{line.search.best.learning_rate:g}{'*' if line.at_edge else ''}",
            f"{line.final:.4g}" if isfinite(line.final) else "diverged",
            f"{line.finals.min():.4g} to {line.finals.max():.4g}" if isfinite(line.final) else "–",
            "–" if epochs is None else str(epochs),
            f"{np.mean([run.test_accuracy for run in line.runs]):.1%}",
        )
    return result


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """What a JSON file keeps: every final cost of the grids, every curve at the best step sizes."""
    return {
        "title": comparison.title,
        "steps_per_epoch": comparison.steps,
        "as_in_the_paper": comparison.real,
        "optimizers": [
            {
                "name": line.name,
                "best_step_size": line.search.best.learning_rate,
                "at_edge_of_grid": line.at_edge,
                "grid": {f"{run.learning_rate:g}": six_digits(run.final_loss) for run in line.search.runs},
                "ended": {
                    f"{run.learning_rate:g}": {
                        "epochs": len(run.losses) - 1,
                        "cost": six_digits(run.final_loss),
                    }
                    for run in line.ended
                },
                "training_cost": {
                    str(comparison.settings.seed + i): [six_digits(cost) for cost in run.losses]
                    for i, run in enumerate(line.runs)
                },
                "test_accuracy": [six_digits(run.test_accuracy) for run in line.runs],
            }
            for line in comparison.lines
        ],
    }


def from_dict(content: dict[str, Any]) -> Comparison:
    """The comparison whose `as_dict` a JSON file has; without its batch size, and nothing in it can be trained."""
    lines, settings = [], Settings()
    for entry in content["optimizers"]:
        curves = [tuple(_number(cost) for cost in costs) for costs in entry["training_cost"].values()]
        settings = Settings(len(curves[0]) - 1, seed=int(next(iter(entry["training_cost"]))))
        best = entry["best_step_size"]
        runs = tuple(
            Run(best, curve, _number(right), nan) for curve, right in zip(curves, entry["test_accuracy"], strict=True)
        )
        tried = (
            runs[0] if float(rate) == best else Run(float(rate), (_number(cost),), nan, nan)
            for rate, cost in entry["grid"].items()
        )
        ended = tuple(
            Run(float(rate), (nan,) * one["epochs"] + (_number(one["cost"]),), nan, nan)
            for rate, one in entry.get("ended", {}).items()
        )
        found = tuple(tried)
        grid = tuple(sorted(run.learning_rate for run in (*found, *ended)))
        lines.append(Line(Search(Contender(entry["name"], optax.sgd, grid), found), runs, ended))
    steps, real = content.get("steps_per_epoch", 0), content.get("as_in_the_paper", False)
    return Comparison(content["title"], settings, tuple(lines), steps, real)


def _number(value: float | None) -> float:
    return nan if value is None else value
