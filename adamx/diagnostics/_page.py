"""A self-contained page of plots: one for each metric, one line a group."""

import base64
import html
import io
import re
from collections.abc import Mapping
from math import isfinite, nan
from typing import Any

from .drawing import axes, line

Series = Mapping[str, tuple[list[int], list[float]]]

LABELS = {
    "gradient_norm": ("Gradient norm", "‖g‖"),
    "update_norm": ("Update norm", "‖Δ‖"),
    "parameter_norm": ("Parameter norm", "‖p‖"),
    "update_ratio": ("Update to weight", "‖Δ‖ / ‖p‖"),
    "sign_agreement": ("Updates that go down the gradient", "share of weights"),
    "stalled": ("Stalled weights", "share of weights"),
    "nonfinite": ("Gradients not finite", "number"),
    "step_mean": ("Effective step, mean", "|Δ| / α"),
    "step_max": ("Effective step, largest", "|Δ| / α"),
    "snr": ("Signal-to-noise ratio, mean", "|m̂| / √v̂"),
    "bound_share": ("Largest |m̂| / √v̂ to its bound", "share of the bound"),
    "eps_share": ("Where ε dominates, √v̂ < ε", "share of weights"),
    "idle": ("No gradient yet, v = 0", "share of weights"),
}
"""Of each metric its title, and what its axis shows."""

LOGARITHMIC = ("gradient_norm", "update_norm", "parameter_norm", "update_ratio")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
body { color: #111; background: #fafafa }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem }
img { width: 100%; background: #fff; border: 1px solid #ddd; border-radius: 6px }
table { border-collapse: collapse; margin-top: 2rem }
td, th { padding: .15rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #16181c } img { border-color: #444 } }
"""


def page(series: Series, title: str) -> str:
    """The page as HTML.

    Raises:
        ValueError: there is nothing to show.
    """
    if not series:
        raise ValueError("the history is empty: `history.add(step, read(state))` first")
    plots: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for name, one in series.items():
        group, _, metric = name.rpartition("/")
        plots.setdefault(metric, {})[group or metric] = one
    order = [*(m for m in plots if m not in LABELS), *(m for m in LABELS if m in plots)]
    pictures = "\n".join(_picture(metric, plots[metric]) for metric in order)
    head = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{head}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{head}</h1>\n<main>\n{pictures}\n</main>\n{_table(series)}\n</html>\n"
    )


def draw(metric: str, lines: Series) -> Any:
    """The figure of one metric, a line for each group, that of all leaves first."""
    title, label = LABELS.get(metric, (metric, metric))
    figure, ax = axes(title, "step", label, (5.6, max(3.4, 0.6 + 0.17 * len(lines))))  # as high as its legend
    for i, name in enumerate(sorted(lines, key=lambda name: (name != "all", _natural(name)))):
        steps, values = lines[name]
        marker = "." if len(steps) < 2 else None
        ax.plot(steps, [x if isfinite(x) else nan for x in values], **line(i), label=name, marker=marker)
    drawn = [x for _, values in lines.values() for x in values if isfinite(x)]
    if metric in LOGARITHMIC and drawn and min(drawn) > 0:
        ax.set_yscale("log")
    if len(lines) > 1:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=3)
    return figure


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """What sorts layer_2 before layer_10."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _picture(metric: str, lines: Series) -> str:
    file = io.BytesIO()
    draw(metric, lines).savefig(file, format="svg", transparent=False)
    data = base64.b64encode(file.getvalue()).decode()
    alt = html.escape(f"{LABELS.get(metric, (metric,))[0]} by step: {', '.join(lines)}")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{alt}">'


def _table(series: Series) -> str:
    rows = "\n".join(
        f"<tr><td>{html.escape(name)}</td><td>{steps[-1]}</td><td>{values[-1]:.4g}</td>"
        f"<td>{min(values):.4g}</td><td>{max(values):.4g}</td></tr>"
        for name, (steps, values) in sorted(series.items())
    )
    return f"<table>\n<tr><th>value</th><th>step</th><th>last</th><th>least</th><th>largest</th></tr>\n{rows}\n</table>"
