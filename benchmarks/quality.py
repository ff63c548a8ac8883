"""Does a language model learn as well with moments in one byte, and better by other optimizers? Two tables.

`python -m benchmarks.quality [--quick] [--parts storage optimizers]`. A decoder-only transformer reads the sources of
Python's standard library byte by byte; the loss is that on files which training never reads.

storage: AdamW, a cosine schedule with warm-up. For a seed, all variants start from the same float32 weights, each as it
stores them, and see the same windows of text in the same order. Forward and backward pass are computed in float32 from
the weights as they are stored (of bfloat16 weights with a residual, the bfloat16 part), and gradients stay float32, so
that variants differ in what is stored and in nothing else.

optimizers: see `benchmarks.optimizers`.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from adamx.diagnostics import drawing

from . import optimizers
from .language_model import Settings, Text, Transformer, standard_library
from .machine import machine, versions
from .stored_training import VARIANTS, Run, Variant, run
from .tuned_training import CONTENDERS

PARTS = ("storage", "optimizers")
FILES = ("quality.png", "quality.json")
LINEAR = 0.1
"""Up to how many percent the axis of differences is linear; beyond, it is logarithmic."""


QUICK = Settings(width=64, layers=1, heads=2, context=64, steps=400, warmup=40, windows=64)

Results = dict[Variant, list[Run]]


def compare(
    variants: Sequence[Variant], settings: Settings, seeds: int, text: Text, output: Path, console: Console
) -> Results:
    """Every variant from every seed; the files are written after each seed, so that a broken-off run leaves them."""
    output.mkdir(parents=True, exist_ok=True)
    results: Results = {variant: [] for variant in variants}
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=300,
    )
    with bar:
        task = bar.add_task("compiling", total=seeds * len(variants) * settings.steps)
        for seed in range(seeds):
            for n, variant in enumerate(variants):
                done = (seed * len(variants) + n) * settings.steps
                what = f"seed {seed}  {variant.name:20}"

                def show(step: int, value: float, done: int = done, what: str = what) -> None:
                    bar.update(task, completed=done + step, description=f"{what}  loss {value:.4f}")

                bar.update(task, description=what)
                results[variant].append(run(variant, settings, seed, text, show))
                final = results[variant][-1]
                console.print(f"{what}  loss {final.losses[-1]:.4f}  {final.step_seconds:.3f} s/step", highlight=False)
            drawing.save(figure(results), output / FILES[0])
            (output / FILES[1]).write_text(as_json(results, settings, text), encoding="utf-8")
    return results


# What is said of it


class Summary(NamedTuple):
    """The final validation loss over seeds, and how much larger it is than the first variant's with the same seed."""

    loss: float
    loss_deviation: float
    difference: float
    difference_deviation: float


def summary(results: Results, variant: Variant) -> Summary:
    finals = [run.losses[-1] for run in results[variant]]
    base = [run.losses[-1] for run in next(iter(results.values()))]
    differences = [final / other - 1 for final, other in zip(finals, base, strict=False)]
    return Summary(*_spread(finals), *_spread(differences))


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def table(results: Results) -> Table:
    base, seeds = next(iter(results)), max(map(len, results.values()))
    spread = (lambda x, digits: f" ± {x:.{digits}f}") if seeds > 1 else lambda x, digits: ""
    title = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    result = Table(title=f"Validation loss in nats per byte, {title}")
    result.add_column("stored")
    for heading in ("bytes per parameter", "loss", f"to {base.name}, %"):
        result.add_column(heading, justify="right")
    for variant, runs in results.items():
        row = summary(results, variant)
        difference = f"{100 * row.difference:+.3f}{spread(100 * row.difference_deviation, 3)}"
        result.add_row(
            variant.name,
            f"{runs[0].bytes_per_parameter:.2f}",
            f"{row.loss:.4f}{spread(row.loss_deviation, 4)}",
            "–" if variant is base else difference,
        )
    return result


def figure(results: Results) -> Figure:
    """Left the validation loss against the step, right how far above the first variant's it is; means over seeds.

    The legend lists the variants from the highest final loss to the lowest.
    """
    whole = drawing.figure(11, 5)
    left, right = whole.subplots(1, 2)
    base, *_ = means = [np.mean([run.losses for run in runs], axis=0)[1:] for runs in results.values()]
    lines = []
    for i, ((variant, runs), losses) in enumerate(zip(results.items(), means, strict=True)):
        lines += left.plot(runs[0].steps[1:], losses, label=variant.name, **drawing.line(i))
        right.plot(runs[0].steps[1:], 100 * (losses / base - 1), **drawing.line(i))
    left.set(xlabel="step", ylabel="validation loss (nats per byte)")
    right.set(xlabel="step", ylabel=f"difference to {next(iter(results)).name} (%); linear within ±{LINEAR}")
    right.set_yscale("symlog", linthresh=LINEAR)
    right.yaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.margins(x=0.01)
        drawing.style(axes)
    order = sorted(range(len(lines)), key=lambda i: -means[i][-1])
    whole.legend(handles=[lines[i] for i in order], loc="outside right center", frameon=False, handlelength=3.2)
    return whole


def as_json(results: Results, settings: Settings, text: Text) -> str:
    """Machine, versions, settings and every number."""
    content = {
        "machine": machine(),
        "versions": versions("adamx", "jax", "jaxlib", "flax", "optax", "numpy"),
        "settings": asdict(settings) | {"gradients": "float32", "schedule": "linear warm-up times cosine to 0"},
        "parameters": parameters(settings),
        "text": {
            name: {"bytes": len(part), "sha256": hashlib.sha256(part.tobytes()).hexdigest()}
            for name, part in text._asdict().items()
        },
        "variants": [
            asdict(variant) | {"final": summary(results, variant)._asdict(), "runs": [run._asdict() for run in runs]}
            for variant, runs in results.items()
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def parameters(settings: Settings) -> int:
    shapes = nnx.eval_shape(lambda: nnx.state(Transformer(settings, rngs=nnx.Rngs(0))))
    return sum(x.size for x in jax.tree.leaves(shapes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tiny model, few steps, one seed: under two minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is compared")
    parser.add_argument("--seeds", type=int, help="3 if left out, or 1 with --quick")
    parser.add_argument("--steps", type=int, help="steps of each run")
    parser.add_argument(
        "--runs", type=Path, help="folder that keeps the optimizers' runs, with which a killed command goes on"
    )
    parser.add_argument("--output", type=Path, default=Path(), help="folder for pictures and JSON files")
    arguments = parser.parse_args()
    seeds, text, console = arguments.seeds or (1 if arguments.quick else 3), standard_library(), Console()
    for part in arguments.parts:
        quick, full = (QUICK, Settings()) if part == "storage" else (optimizers.QUICK, optimizers.FULL)
        settings = quick if arguments.quick else full
        if arguments.steps is not None:
            settings = replace(settings, steps=arguments.steps, warmup=max(1, arguments.steps // 10))
        console.print(
            f"jax {jax.__version__}, {machine()['cpu']}, {os.cpu_count()} cores; {parameters(settings):,} parameters, "
            f"{settings.steps} steps of {settings.batch} x {settings.context} bytes out of {len(text.train):,}"
        )
        if part == "storage":
            console.print(table(compare(VARIANTS, settings, seeds, text, arguments.output, console)))
        else:
            runs = arguments.runs or arguments.output / "runs"
            results = optimizers.compare(CONTENDERS, settings, seeds, text, runs, arguments.output, console)
            console.print(optimizers.table(results))
        files = FILES if part == "storage" else optimizers.FILES
        console.print(f"Wrote {' and '.join(str(arguments.output / name) for name in files)}", highlight=False)


if __name__ == "__main__":
    main()
