"""Six pictures of Adam's theory, from the curves that the checks found."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adamx.diagnostics import drawing
from adamx.diagnostics.drawing import COLOURS, DASHES

Curves = dict[str, Any]


def theory(curves: Curves) -> Figure:
    """The exact bound and the paper's, bias, signal to noise; problem A, its regret, and the average regret."""
    figure = drawing.figure(16, 9, dpi=110)
    panels = figure.subplots(2, 3)
    for axes, draw in zip(panels.flat, (_bounds, _bias, _noise, _iterates, _regret, _average), strict=True):
        draw(axes, curves)
        drawing.style(axes)
        axes.legend(frameon=False, fontsize=8.5)
    return figure


def _titled(axes: Axes, title: str, x: str, y: str, logarithmic: str = "x") -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set(xlabel=x, ylabel=y)
    for axis in logarithmic:
        getattr(axes, f"set_{axis}scale")("log")


def _lines(axes: Axes, x: Any, lines: Iterable[tuple[str, Any]]) -> None:
    for i, (label, y) in enumerate(lines):
        axes.plot(x, y, label=label, **drawing.line(i))


def _bounds(axes: Axes, curves: Curves) -> None:
    for i, (name, curve) in enumerate((name, c) for name, c in curves.items() if name.startswith("bound at ")):
        betas = name.removeprefix("bound at ")
        axes.plot(curve["t"], curve["exact"], color=COLOURS[i], linewidth=1.8, label=f"{betas}: exact")
        paper = np.full(len(curve["t"]), curve["paper"])
        axes.plot(
            curve["t"], paper, color=COLOURS[i], linestyle=DASHES[i + 1], linewidth=1.4, label=f"{betas}: paper's"
        )
    measured = curves["longest step of Adam at (.9, .999)"]
    axes.plot(
        measured["t"], measured["step"], "o", color=COLOURS[4], markersize=5, label="(.9, .999): Adam, worst gradients"
    )
    _titled(axes, "How long a step can be", "step t", "largest |Δ| (units of α)")


def _bias(axes: Axes, curves: Curves) -> None:
    chosen = {
        name.removeprefix("without correction at "): c for name, c in curves.items() if name.startswith("without")
    }
    _lines(axes, next(iter(chosen.values()))["t"], ((betas, curve["step"]) for betas, curve in chosen.items()))
    axes.axhline(1, color="#555555", linewidth=1.4, linestyle=DASHES[3], label="with correction")
    _titled(axes, "Steps without bias correction, constant gradient", "step t", "|Δ| (units of α)", "xy")


def _noise(axes: Axes, curves: Curves) -> None:
    found = curves["signal to noise"]
    x = np.asarray(found["ratio"])[1:]
    _lines(axes, x, (("mean: μ/√(μ²+σ²)", found["formula"][1:]), ("root mean square, measured", found["size"][1:])))
    axes.plot(x, found["mean"][1:], "o", color=COLOURS[4], markersize=5, label="mean, measured")
    axes.axhline(found["floor"], color="#555555", linewidth=1.4, linestyle=DASHES[3], label="√((1−β₁)/(1+β₁)), β₁ = .9")
    _titled(axes, "Signal and noise, (.9, .999)", "mean / deviation of the gradient, μ/σ", "step (units of α)", "xy")


def _iterates(axes: Axes, curves: Curves) -> None:
    found = curves["Reddi A"]
    _lines(axes, found["t"], (("Adam", found["adam_point"]), ("AMSGrad", found["amsgrad_point"])))
    axes.axhline(-1, color="#555555", linewidth=1.4, linestyle=DASHES[3], label="best point")
    _titled(axes, "Problem A: 5x every third round, else −x", "round T", "x (no unit)")


def _regret(axes: Axes, curves: Curves) -> None:
    found = curves["Reddi A"]
    names = {
        "Adam": "adam_regret",
        "Theorem 4.1's bound for Adam": "theorem_4_1",
        "AMSGrad": "amsgrad_regret",
        "Theorem 4's bound for AMSGrad": "amsgrad_bound",
    }
    _lines(axes, found["t"], ((label, found[name]) for label, name in names.items()))
    _titled(axes, "Problem A: regret, and what was proved of it", "round T", "regret R(T) (units of the loss)", "xy")


def _average(axes: Axes, curves: Curves) -> None:
    found, a = curves["average regret"], curves["Reddi A"]
    t = np.asarray(found["t"])
    runs = [("noisy quadratics, " + name, found[name]) for name in ("α/√t", "constant α")]
    _lines(axes, t, runs)
    t_a = np.asarray(a["t"])
    axes.plot(t_a, np.asarray(a["adam_regret"]) / t_a, color=COLOURS[4], linestyle=DASHES[4], label="problem A, α/√t")
    axes.plot(t, 3 / np.sqrt(t), color="#888888", linewidth=1.2, label="∝ 1/√T")
    _titled(axes, "Average regret of Adam", "round T", "R(T)/T (units of the loss)", "xy")
