"""Progress of sweeps: a bar in a terminal, a line per sweep anywhere else."""

from math import isfinite

from rich.console import Console

from adamx.examples.progress import epochs_bar

from .sweep import SweepEpoch


class LiveSweeps:
    """A context manager, and the `on_epoch` of `sweep` inside it.

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

    def __call__(self, epoch: SweepEpoch) -> None:
        """Show one epoch."""
        sizes = f"{len(epoch.costs)} step size{'s' if len(epoch.costs) > 1 else ''}"
        lowest = min(epoch.costs, key=lambda cost: (not isfinite(cost), cost))
        what = f"{epoch.contender.name:19} seed {epoch.seed}, {sizes:12} lowest cost {lowest:.3e}"
        self._bar.update(self._task, advance=1, description=what)
        if not self._console.is_terminal and epoch.number == epoch.epochs:
            self._console.print(what, highlight=False)
