"""Figures of the experiments: every optimizer at its best step size, told apart by colour and by line style.

Drawn without pyplot, so that no window system is asked for and no figure outlives its call.
"""

from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .._palette import COLOURS, DASHES
from .comparison import Comparison
from .training import Search

PLACES = ("Adam", "SGD + Nesterov", "AdaGrad", "RMSProp", "AdaDelta")
"""Who has the first colours and dashes in every figure of the paper."""


def places(names: Sequence[str]) -> dict[str, int]:
    """Of each optimizer the number of its colour and dashes: the same in all figures; others come after."""
    others = [name for name in dict.fromkeys(names) if name not in PLACES]
    return {name: i for i, name in enumerate((*PLACES, *others))}


def loss_curves(searches: Sequence[Search], title: str) -> Figure:
    """Training loss against epoch on a logarithmic axis, one line per optimizer at its best step size.

    The legend lists the optimizers from the highest final loss to the lowest, as the lines end.
    """
    figure = Figure(figsize=(8, 5), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot(facecolor="white")
    lines = []
    for i, search in enumerate(searches):
        best = search.best
        (line,) = axes.plot(
            range(len(best.losses)),
            best.losses,
            color=COLOURS[i % len(COLOURS)],
            linestyle=DASHES[i % len(DASHES)],
            linewidth=1.8,
            label=f"{search.contender.name}, {best.learning_rate:g}",
        )
        lines.append((best.final_loss if isfinite(best.final_loss) else inf, line))
    axes.set_title(title, loc="left", fontsize=11)
    _log_of_epochs(axes, "training loss (cross-entropy, nats)")
    handles = [line for _, line in sorted(lines, key=lambda pair: pair[0], reverse=True)]
    legend = figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=3.2)
    legend.set_title("optimizer, best step size")
    legend.set_alignment("left")
    return figure


def cost_panels(comparisons: Sequence[Comparison], title: str, cost: str) -> Figure:
    """Training cost against epoch on logarithmic axes, a panel for each comparison, a line for each optimizer.

    A line is the mean of the seeds, the band around it their range; an optimizer looks alike in all panels.

    Args:
        comparisons: the panels, from left to right.
        title: above all of them.
        cost: what the cost is, with its unit.
    """
    figure = Figure(figsize=(4.6 * len(comparisons) + 0.8, 5.6), dpi=150, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    place = places([line.name for comparison in comparisons for line in comparison.lines])
    for axes, comparison in zip(np.ravel(figure.subplots(1, len(comparisons))), comparisons, strict=True):
        axes.set_title(comparison.title, loc="left", fontsize=10)
        handles = []
        for line in comparison.lines:
            i = place[line.name]
            colour, costs = COLOURS[i % len(COLOURS)], line.costs
            costs = np.where(np.isfinite(costs), costs, np.nan)
            epochs = np.arange(costs.shape[1])
            (handle,) = axes.plot(
                epochs,
                costs.mean(axis=0),
                color=colour,
                linestyle=DASHES[i % len(DASHES)],
                linewidth=1.8,
                label=f"{line.name}, {line.search.best.learning_rate:g}",
            )
            axes.fill_between(epochs, costs.min(axis=0), costs.max(axis=0), color=colour, alpha=0.2, linewidth=0)
            handles.append((line.final if isfinite(line.final) else inf, handle))
        _log_of_epochs(axes, cost)
        # Costs often span less than a decade, which one labelled power of ten would not tell.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        ranked = [handle for _, handle in sorted(handles, key=lambda pair: pair[0], reverse=True)]
        # Below the panel, where no curve is: spikes of a large step size reach everywhere.
        axes.legend(
            handles=ranked,
            title="optimizer, best step size",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            ncols=2,
            frameon=False,
            handlelength=3.2,
            fontsize=9,
        )
    return figure


def _log_of_epochs(axes: Axes, quantity: str) -> None:
    axes.set_yscale("log")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its background is opaque, so that it is legible on a dark page."""
    figure.savefig(path, format="png", transparent=False)
