"""Which optimizer learns a language model in the fewest steps, and in the least time? `python -m benchmarks.quality`.

Every contender tries five step sizes and three values of one other hyperparameter, seven runs from one seed; the best
setting is run from three others. What is compared is the validation loss at the end, and after how many steps, and
seconds, it is first at or below AdamW's at its end.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from adamx.diagnostics import drawing

from .language_model import Settings, Text
from .machine import machine, versions
from .tuned_training import FACTORS, Contender, Tuning, step_seconds

FILES = ("optimizers.png", "optimizers.json")

FULL = Settings(width=128, evaluations=40, windows=128)
QUICK = Settings(width=32, layers=1, heads=2, context=32, steps=80, warmup=8, evaluations=8, windows=32)


def compare(
    contenders: Sequence[Contender],
    settings: Settings,
    seeds: int,
    text: Text,
    runs: Path,
    output: Path,
    console: Console,
) -> dict[str, Any]:
    """Tune each contender, and run the best of each from `seeds` seeds; write the files."""
    tuning = Tuning(settings, text, runs, lambda line: console.print(line, highlight=False))
    rows, best = {}, []
    for contender in contenders:
        trials = tuning.trials(contender)
        setting = min(trials, key=lambda run: run.final).setting
        best.append((contender, setting))
        final = tuning.runs(contender, setting, range(1, seeds + 1))
        rows[contender.name] = {
            "other": contender.other,
            "trials": [run._asdict() for run in trials],
            "runs": [run._asdict() for run in final],
            "at_edge": setting.rate in (min(FACTORS) * contender.rate, max(FACTORS) * contender.rate),
        }
    for row, seconds in zip(rows.values(), step_seconds(settings, text, best), strict=True):
        row["step_seconds"] = seconds
    content = {
        "machine": machine(),
        "versions": versions("adamx", "jax", "jaxlib", "flax", "optax", "numpy"),
        "settings": asdict(settings),
        "contenders": rows,
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / FILES[1]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    drawing.save(figure(content), output / FILES[0])
    return content


def reached(run: dict[str, Any], target: float) -> float:
    """After how many steps the loss is `target`, on straight lines between evaluations; infinite if it never is."""
    steps, losses = run["steps"], np.minimum.accumulate(run["losses"])
    if losses[-1] > target:
        return np.inf
    return float(np.interp(-target, -losses, steps))


def summaries(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of each contender the cells of its row."""
    rows = content["contenders"]
    first = next(iter(rows.values()))
    targets = [run["losses"][-1] for run in first["runs"]]
    cells = []
    for name, row in rows.items():
        runs = row["runs"]
        finals = [run["losses"][-1] for run in runs]
        share = mean(reached(run, target) / run["steps"][-1] for run, target in zip(runs, targets, strict=True))
        seconds = row["step_seconds"] / first["step_seconds"]
        spread = f" ± {stdev(finals):.3f}" if len(finals) > 1 else ""
        cells.append(
            (
                name,
                f"{runs[0]['rate']:g}{' (edge)' if row['at_edge'] else ''}, {row['other']} {runs[0]['other']:g}",
                f"{mean(finals):.3f}{spread}",
                f"{share:.2f}" if np.isfinite(share) else "never",
                f"{seconds:.2f}",
                f"{share * seconds:.2f}" if np.isfinite(share) else "never",
                f"{runs[0]['state_bytes']:.1f}",
            )
        )
    return cells


HEADING = (
    "optimizer",
    "best setting",
    "loss at the end, nats a byte",
    "steps to AdamW's last loss",
    "time of a step",
    "time to it",
    "bytes of state a parameter",
)
"""Steps and times are in units of AdamW's; of steps, of all that it takes."""


def table(content: dict[str, Any]) -> Table:
    result = Table(title=f"a language model, each of {len(content['contenders'])} optimizers tuned over as many trials")
    for i, heading in enumerate(HEADING):
        result.add_column(heading, justify="right" if i > 1 else "left")
    for cells in summaries(content):
        result.add_row(*cells)
    return result


def figure(content: dict[str, Any]) -> Figure:
    """Left the validation loss against steps, right against time in AdamW's steps; means over seeds."""
    whole = drawing.figure(11, 5)
    left, right = whole.subplots(1, 2, sharey=True)
    rows = content["contenders"]
    unit, lines = next(iter(rows.values()))["step_seconds"], []
    for i, (name, row) in enumerate(rows.items()):
        steps = np.array(row["runs"][0]["steps"][1:])
        losses = np.mean([run["losses"] for run in row["runs"]], axis=0)[1:]
        lines += left.plot(steps, losses, label=name, **drawing.line(i))
        right.plot(steps * row["step_seconds"] / unit, losses, **drawing.line(i))
    least = min(line.get_ydata()[-1] for line in lines)
    left.set(xlabel="step", ylabel="validation loss (nats per byte)", ylim=(0.97 * least, 1.5 * least))
    right.set(xlabel="time, in steps of AdamW's")
    for axes in (left, right):
        axes.margins(x=0.01)
        drawing.style(axes)
    order = sorted(range(len(lines)), key=lambda i: -lines[i].get_ydata()[-1])
    whole.legend(handles=[lines[i] for i in order], loc="outside right center", frameon=False, handlelength=3.2)
    return whole
