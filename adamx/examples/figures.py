"""The demo's figure: training loss against epoch."""

from collections.abc import Sequence
from math import inf, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..diagnostics import drawing
from .protocol import Search


def loss_curves(searches: Sequence[Search], title: str) -> Figure:
    """Training loss against epoch on a logarithmic axis, one line per optimizer at its best step size.

    The legend lists the optimizers from the highest final loss to the lowest, as the lines end.
    """
    figure, axes = drawing.axes(title, "epoch", "training loss (cross-entropy, nats)")
    lines = []
    for i, search in enumerate(searches):
        best = search.best
        label = f"{search.contender.name}, {best.learning_rate:g}"
        (line,) = axes.plot(range(len(best.losses)), best.losses, label=label, **drawing.line(i))
        lines.append((best.final_loss if isfinite(best.final_loss) else inf, line))
    axes.set_yscale("log")
    whole_epochs(axes)
    handles = [line for _, line in sorted(lines, key=lambda pair: pair[0], reverse=True)]
    legend = figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=3.2)
    legend.set_title("optimizer, best step size")
    legend.set_alignment("left")
    return figure


def whole_epochs(axes: Axes) -> None:
    """Label the horizontal axis with whole epochs only, and let the lines fill it."""
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
