"""The look of every picture: colours, dashes, grid and background. Matplotlib is imported when a picture is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow: too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (1.5, 1.2)), (0, (3, 1, 1, 1, 1, 1)))


def figure(width: float, height: float, dpi: int = 150) -> "Figure":
    """An empty white figure of so many inches. It is made without pyplot, so it needs no display and no closing.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install matplotlib", name="matplotlib") from error
    return Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")


def axes(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = (8.0, 5.0)) -> "tuple[Figure, Axes]":
    """A figure of `size` inches with one plot, and the plot's axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    whole = figure(*size)
    one = whole.add_subplot()
    one.set(xlabel=xlabel, ylabel=ylabel)
    one.set_title(title, loc="left", fontsize=11)
    style(one)
    return whole, one


def style(axes: "Axes") -> None:
    """Give axes a white background, a grey grid, and no frame at the top and the right."""
    axes.set_facecolor("white")
    axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def line(i: int) -> dict[str, Any]:
    """Colour, dashes and width of the line number `i`, as keywords of matplotlib's `plot`."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.8}


def save(figure: "Figure", path: Path | str) -> None:
    """Write a picture in the format of its name. Its background is opaque, so it stays legible on a dark page."""
    figure.savefig(path, transparent=False)
