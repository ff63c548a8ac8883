"""Progress of a comparison: a bar in a terminal, a line per run anywhere else."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .protocol import Contender, Settings
from .training import Epoch


class Live:
    """A context manager, and the `on_epoch` of `grid_search` inside it.

    Args:
        console: where to write.
        contenders: what will run; their grids fix the number of runs.
        settings: fixes the number of epochs of each run.
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


def epochs_bar(console: Console) -> Progress:
    """A bar that counts epochs; it shows nothing where there is no terminal."""
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
