"""Training cost against epoch, in panels side by side; an optimizer looks the same in every figure of the paper."""

from collections.abc import Sequence
from math import inf, isfinite

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from adamx.diagnostics import drawing
from adamx.examples.figures import whole_epochs

from .comparison import Comparison

PLACES = ("Adam", "SGD + Nesterov", "AdaGrad", "RMSProp", "AdaDelta")
"""The optimizers that have the first colours and dashes in every figure of the paper."""


def places(names: Sequence[str]) -> dict[str, int]:
    """The line number of each optimizer, which fixes its colour and dashes: the same in all figures."""
    others = [name for name in dict.fromkeys(names) if name not in PLACES]
    return {name: i for i, name in enumerate((*PLACES, *others))}


def cost_panels(comparisons: Sequence[Comparison], title: str, cost: str) -> Figure:
    """Training cost against epoch on logarithmic axes, a panel for each comparison, a line for each optimizer.

    A line is the mean of the seeds, the band around it their range; an optimizer looks alike in all panels.

    Args:
        comparisons: the panels, from left to right.
        title: above all of them.
        cost: label of the vertical axes, with the unit.
    """
    figure = drawing.figure(4.6 * len(comparisons) + 0.8, 5.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    place = places([line.name for comparison in comparisons for line in comparison.lines])
    for axes, comparison in zip(np.ravel(figure.subplots(1, len(comparisons))), comparisons, strict=True):
        seeds = max(len(line.runs) for line in comparison.lines)
        length = f"{comparison.settings.epochs * comparison.steps:,} steps, {seeds} seed{'s' if seeds > 1 else ''}"
        axes.set_title(f"{comparison.title}\n{length}", loc="left", fontsize=10)
        handles = []
        for line in comparison.lines:
            costs = np.where(np.isfinite(line.costs), line.costs, np.nan)
            epochs = np.flatnonzero(np.isfinite(costs).any(axis=0))  # where a cost was taken
            costs = costs[:, epochs]
            (handle,) = axes.plot(
                epochs,
                costs.mean(axis=0),
                label=f"{line.name}, {line.search.best.learning_rate:g}",
                **drawing.line(place[line.name]),
            )
            low, high = costs.min(axis=0), costs.max(axis=0)
            axes.fill_between(epochs, low, high, color=handle.get_color(), alpha=0.2, linewidth=0)
            handles.append((line.final if isfinite(line.final) else inf, handle))
        axes.set(xlabel=f"epoch of {comparison.steps} steps", ylabel=cost)
        axes.set_yscale("log")
        whole_epochs(axes)
        drawing.style(axes)
        # Costs often span less than a decade: one labelled power of ten would not be enough to read them.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        ranked = [handle for _, handle in sorted(handles, key=lambda pair: pair[0], reverse=True)]
        # Below the panel, because inside it spikes of a large step size reach everywhere.
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
