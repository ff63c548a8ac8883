"""What pictures of diagnostics share; matplotlib comes when one is drawn."""

from pathlib import Path
from typing import Any

from .._palette import COLOURS, DASHES


def axes(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = (8.0, 5.0)) -> tuple[Any, Any]:
    """A figure without pyplot, on opaque white, and its axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install matplotlib", name="matplotlib") from error
    figure = Figure(figsize=size, dpi=150, facecolor="white", layout="constrained")
    one = figure.add_subplot(facecolor="white")
    one.set(xlabel=xlabel, ylabel=ylabel)
    one.set_title(title, loc="left", fontsize=11)
    one.grid(which="major", color="#DDDDDD", linewidth=0.8)
    one.spines[["top", "right"]].set_visible(False)
    return figure, one


def line(i: int) -> dict[str, Any]:
    """Colour and dashes of the line number `i`."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.6}


def save(figure: Any, path: Path | str) -> None:
    """Write a picture in the format of its name, its background opaque: legible on a dark page."""
    figure.savefig(path, transparent=False)
