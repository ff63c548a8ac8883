"""Figures of the experiments: every optimizer at its best step size, told apart by colour and by line style.

Drawn without pyplot, so that no window system is asked for and no figure outlives its call.
"""

from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .training import Search

# Okabe and Ito's palette without its yellow, which is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (1.5, 1.2)), (0, (3, 1, 1, 1, 1, 1)))


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
    axes.set_yscale("log")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="training loss (cross-entropy, nats)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [line for _, line in sorted(lines, key=lambda pair: pair[0], reverse=True)]
    legend = figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=3.2)
    legend.set_title("optimizer, best step size")
    legend.set_alignment("left")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its background is opaque, so that it is legible on a dark page."""
    figure.savefig(path, format="png", transparent=False)
