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
THREE, DECADE = 3, 10
"""So many panels fit beside each other."""


def places(names: Sequence[str]) -> dict[str, int]:
    """The line number of each optimizer, which fixes its colour and dashes: the same in all figures."""
    others = [name for name in dict.fromkeys(names) if name not in PLACES]
    return {name: i for i, name in enumerate((*PLACES, *others))}


def cost_panels(comparisons: Sequence[Comparison], title: str, cost: str) -> Figure:
    """Training cost against epoch on logarithmic axes, a panel for each comparison, a line for each optimizer.

    A line is the mean of the seeds, the band around it their range; an optimizer looks alike in all panels.

    Args:
        comparisons: the panels, from left to right and top to bottom; more than three, an even number, in two rows.
        title: above all of them.
        cost: label of the vertical axes, with the unit.
    """
    rows = 1 if len(comparisons) <= THREE else 2
    columns = -(-len(comparisons) // rows)
    figure = drawing.figure(4.6 * columns + 0.8, 5.6 * rows)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    place = places([line.name for comparison in comparisons for line in comparison.lines])
    for axes, comparison in zip(np.ravel(figure.subplots(rows, columns)), comparisons, strict=True):
        seeds = max(len(line.runs) for line in comparison.lines)
        length = f"{comparison.settings.epochs * comparison.steps:,} steps, {seeds} seed{'s' if seeds > 1 else ''}"
        axes.set_title(f"{comparison.title}\n{length}", loc="left", fontsize=10)
        handles, first = [], []
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
            first.append(costs.mean(axis=0)[1])
            handles.append((line.final if isfinite(line.final) else inf, handle))
        axes.set(xlabel=f"epoch of {comparison.steps} steps", ylabel=cost)
        axes.set_yscale("log")
        if np.isfinite(first).any():
            axes.set_ylim(top=1.1 * np.nanmax(first))  # what was lost in the first epoch would leave the rest no height
        whole_epochs(axes)
        drawing.style(axes)
        # Costs often span less than a decade: one labelled power of ten would not be enough to read them.
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > DECADE * low else (1, 1.5, 2, 3, 4, 5, 7)))
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
