"""Progress of runs: a bar in a terminal, a line for each sweep and each minute anywhere else."""

import time
from collections.abc import Callable
from math import isfinite
from typing import Self

from rich.console import Console

from adamx.examples.progress import epochs_bar

from .sweep import SweepEpoch

MINUTE = 60.0


class LiveEpochs:
    """A context manager that counts epochs, and says how long those to come may take.

    Args:
        console: where to write.
        epochs: epochs to come, over all runs, those kept from an earlier command included.
    """

    def __init__(self, console: Console, epochs: int):
        self._console = console
        self._total, self._done, self._trained, self._seconds = epochs, 0, 0, 0.0
        self._since = self._told = time.perf_counter()
        self._bar = epochs_bar(console)
        self._task = self._bar.add_task("compiling", total=epochs)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def advance(self, what: str, kept: bool = False, ended: bool = False) -> None:
        """Count an epoch: of what, whether kept from an earlier command, and whether it was the last of a run."""
        now = time.perf_counter()
        self._done += 1
        if not kept:
            self._trained, self._seconds = self._trained + 1, self._seconds + now - self._since
        self._since = now
        self._bar.update(self._task, advance=1, description=what)
        if not self._console.is_terminal and (ended or now - self._told > MINUTE):
            self._told = now
            left = (self._total - self._done) * self._seconds / max(self._trained, 1) / MINUTE
            rest = f", {left:.0f} min left" if self._trained else ""
            self._console.print(f"{what}; {self._done} of {self._total} epochs{rest}", highlight=False, soft_wrap=True)

    def told(self, what: str) -> Callable[[int, bool], None]:
        """The `on_epoch` of runs that are described by one text."""
        return lambda number, kept: self.advance(what, kept)


class LiveSweeps(LiveEpochs):
    """A context manager, and the `on_epoch` of `sweep` inside it."""

    def __call__(self, epoch: SweepEpoch) -> None:
        """Show one epoch."""
        sizes = f"{len(epoch.costs)} step size{'s' if len(epoch.costs) > 1 else f' {epoch.contender.grid[0]:g}'}"
        lowest = min(epoch.costs, key=lambda cost: (not isfinite(cost), cost))
        what = f"{epoch.contender.name:19} seed {epoch.seed}, {sizes:14} lowest cost {lowest:.3e}"
        self.advance(what, epoch.kept, epoch.number == epoch.epochs)
