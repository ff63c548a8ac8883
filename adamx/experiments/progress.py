"""A live account of a comparison: a progress bar in a terminal, a line per run anywhere else."""

from collections.abc import Sequence
from math import isfinite

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .sweep import Heard
from .training import Contender, Epoch, Settings


class Live:
    """A context whose instance is the callback that `grid_search` calls after each epoch.

    Args:
        console: where to write.
        contenders: what is going to run; their grids fix the number of runs to come.
        settings: what the runs share; it fixes the number of epochs in each.
    """

    def __init__(self, console: Console, contenders: Sequence[Contender], settings: Settings):
        self._console = console
        self._epochs = settings.epochs
        self._bar = epochs_bar(console)
        runs = sum(len(contender.grid) for contender in contenders)
        self._task = self._bar.add_task("compiling", total=runs * settings.epochs)

    def __enter__(self) -> "Live":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, epoch: Epoch) -> None:
        """Show one epoch."""
        what = f"{epoch.contender.name:14} step size {epoch.learning_rate:<6g} loss {epoch.loss:.2e}"
        self._bar.update(self._task, advance=1, description=what)
        if not self._console.is_terminal and epoch.number == self._epochs:
            self._console.print(what, highlight=False)


class LiveSweeps:
    """A context whose instance is the callback that `sweep` calls after each epoch.

    Args:
        console: where to write.
        epochs: epochs to come, over all sweeps.
    """

    def __init__(self, console: Console, epochs: int):
        self._console = console
        self._bar = epochs_bar(console)
        self._task = self._bar.add_task("compiling", total=epochs)

    def __enter__(self) -> "LiveSweeps":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, heard: Heard) -> None:
        """Show one epoch."""
        sizes = f"{len(heard.costs)} step size{'s' if len(heard.costs) > 1 else ''}"
        lowest = min(heard.costs, key=lambda cost: (not isfinite(cost), cost))
        what = f"{heard.contender.name:19} seed {heard.seed}, {sizes:12} lowest cost {lowest:.3e}"
        self._bar.update(self._task, advance=1, description=what)
        if not self._console.is_terminal and heard.number == heard.epochs:
            self._console.print(what, highlight=False)


def epochs_bar(console: Console) -> Progress:
    """A bar that counts epochs; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("epochs,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
