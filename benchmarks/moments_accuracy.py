"""How far do low-bit moments lead Adam's step astray? adamx's formats beside the packages that have them.

`python -m benchmarks.moments_accuracy [--quick]`. Every format steps through the same streams of gradients as float32
Adam. A cell shows the relative L2 error of the direction (mean over the last quarter of the run) and the largest |step|
after warm-up (a tenth of the run) relative to the true largest. Gradients are S (mu + N(0, 1)), mu = .1 N(0, 1) per
element, b1 = .9, b2 = .999 unless said, no eps.

Peers join where they are installed: `pip install flashoptim-jax bitsandbytes torchao torch` (a virtual environment of
their own keeps this one clean). Their direction is how far float32 parameters move from zero with a learning rate of 1
and no decay; the parameters are set back to zero after each step, so that nothing of them is rounded.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

import adamx

from .machine import versions, write
from .moment_formats import EAGER, NOTES, TINY, TRACED, Eager, Traced, by_torch, stored_by_adamx
from .streams import COLUMNS, STREAMS, Stream, gradients

PACKAGES = ("adamx", "jax", "optax", "numpy", "flashoptim-jax", "bitsandbytes", "torchao", "torch")

COLORS = ("#0072B2",) * 3 + ("#56B4E9", "#009E73", "#999999", "#E69F00", "#D55E00", "#CC79A7", "#000000", "#B8A800")
"""Okabe and Ito's, which the colour-blind tell apart."""
MARKERS = "o8h^vXsD*P<"


BARS = {"adamx bfloat16": dict.fromkeys((stream.name for stream in STREAMS), 0.015)} | dict.fromkeys(
    ("adamx int8", "adamx int8/64", "adamx int8/32"),
    {"σ = .5": 0.045, "σ = 2": 0.10, "drift e⁻²": 0.065, "drift e²": 0.065}
    | {stream.name: 0.045 for stream in STREAMS if stream.scale != 1},
)
"""The error that each of adamx's formats promises to stay below."""
LARGEST_BAR = 1.3


# The run


class Cell(NamedTuple):
    """What a format makes of a stream.

    Attributes:
        error: of the direction, relative, mean over the last quarter of the run.
        largest: the largest |step| after warm-up, relative to the true largest of the whole run after warm-up.
        largest_at_once: the same of each step by itself, the worst.
    """

    error: float
    largest: float
    largest_at_once: float

    @classmethod
    def of(cls, errors: np.ndarray, largest: np.ndarray, true: np.ndarray) -> "Cell":
        """From each step's relative error and largest |u|, of the format and true."""
        late, warm = slice(-(len(errors) // 4), None), slice(len(errors) // 10, None)
        values = errors[late].mean(), largest[warm].max() / true[warm].max(), (largest[warm] / true[warm]).max()
        return cls(*map(float, values))


class Result(NamedTuple):
    """All cells by format and stream, each format's bytes per element, and why others are missing."""

    cells: dict[str, dict[str, Cell]]
    bytes: dict[str, float]
    missing: dict[str, str]


def run(streams: Sequence[Stream], rows: int, steps: int, eager: bool = True, chunk: int = 20) -> Result:
    """Every format that is at hand through all streams."""
    traced: dict[str, Traced] = {}
    others: dict[str, Eager] = {}
    missing: dict[str, str] = {}
    for name, make in TRACED.items():
        try:
            traced[name] = make()
        except ImportError as error:
            missing[name] = f"not installed ({error})"
    for name, where in EAGER.items() if eager else ():
        try:
            others[name] = by_torch(*where)(streams, rows)
        except ImportError as error:
            missing[name] = f"not installed ({error})"
    if not eager:
        missing |= dict.fromkeys(EAGER, "left out of --quick: PyTorch takes a minute to import and compile")

    at, b2 = gradients(streams, rows, steps), jnp.asarray([stream.b2 for stream in streams])
    true = Traced(adamx.scale_by(adamx.Adam()).init, stored_by_adamx("float32").step)
    formats = [true, *traced.values()]

    def norms(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sqrt(jnp.sum(x * x, axis=(1, 2))), jnp.max(jnp.abs(x), axis=(1, 2))

    @jax.jit
    def advance(states: Any, ts: jax.Array) -> Any:
        def step(states: Any, t: jax.Array) -> Any:
            g = at(t)
            pairs = [jax.vmap(form.step)(b2, g, state) for form, state in zip(formats, states, strict=True)]
            u = pairs[0][0]
            norm, largest = norms(u)
            seen = [(norms(v - u)[0] / norm, norms(v)[1]) for v, _ in pairs[1:]]
            return [state for _, state in pairs], (largest, seen, (g, u) if others else None)

        return jax.lax.scan(step, states, ts)

    states = [jax.vmap(form.init)(jnp.zeros((len(streams), rows, COLUMNS))) for form in formats]
    true_largest: list[np.ndarray] = []
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in (*traced, *others)}
    for start in track(range(0, steps, chunk), "steps", transient=True):
        states, (largest, seen, shown) = advance(states, jnp.arange(start, start + chunk))
        true_largest.append(np.asarray(largest))
        for name, (error, size) in zip(traced, seen, strict=True):
            found[name].append((np.asarray(error), np.asarray(size)))
        for name in list(others):
            try:
                found[name].append(_stepped(others[name], *shown))
            except Exception as error:  # whatever a peer cannot do on this machine
                missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                del others[name], found[name]
    cells = {
        name: {
            stream.name: Cell.of(*(np.concatenate(x)[:, i] for x in (*zip(*parts, strict=True), true_largest)))
            for i, stream in enumerate(streams)
        }
        for name, parts in found.items()
    }
    return Result(cells, {name: form.bytes() for name, form in (traced | others).items()}, missing)


def _stepped(form: Eager, grads: jax.Array, true: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Each step's relative error and largest |u|, by stream, of a chunk of steps."""
    import torch

    errors, sizes = [], []
    for g, u in zip(np.array(grads), np.array(true), strict=True):
        v, u = form.step(torch.from_numpy(g)), torch.from_numpy(u)
        errors.append((v - u).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1))
        sizes.append(v.abs().flatten(1).amax(dim=1))
    return torch.stack(errors).numpy(), torch.stack(sizes).numpy()


# What is shown


def misses(name: str, stream: str, cell: Cell) -> bool:
    """Whether one of adamx's formats fails what it promises."""
    late = not cell.error <= BARS.get(name, {}).get(stream, np.inf)
    return name.startswith("adamx") and (late or not cell.largest <= LARGEST_BAR)


def show(x: float, digits: int) -> str:
    return (
        f"{x:.{digits}f}"
        if x < 1
        else f"{x:.2f}"
        if x < 10
        else f"{x:.0f}"
        if x < 1000
        else f"{x:.0e}"
        if np.isfinite(x)
        else str(x)
    )


def table(result: Result, title: str) -> Table:
    out = Table("", title=title, caption="error of the direction / largest step over the true largest; * a bar missed")
    for name in result.cells:
        out.add_column(name, justify="right")
    out.add_row("bytes / element", *(f"{result.bytes[name]:.3f}" for name in result.cells), end_section=True)
    for stream in next(iter(result.cells.values())):
        cells = [(name, result.cells[name][stream]) for name in result.cells]
        out.add_row(
            stream,
            *(
                f"{show(c.error, 4)} / {show(c.largest, 2)}{'*' if misses(name, stream, c) else ''}"
                for name, c in cells
            ),
        )
    return out


def plot(result: Result, path: Path) -> None:
    """Each format's error in each stream."""
    names = list(next(iter(result.cells.values())))
    figure, axes = plt.subplots(figsize=(11, 5.5), layout="constrained", facecolor="white")
    for i, (name, cells) in enumerate(result.cells.items()):
        ours = name.startswith("adamx")
        x = np.arange(len(names)) + 0.7 * (i / max(1, len(result.cells) - 1) - 0.5)
        y = [cells[stream].error for stream in names]
        label = f"{name} ({result.bytes[name]:.2f} B)"
        axes.plot(x, y, MARKERS[i], color=COLORS[i], label=label, ms=8 if ours else 6, mec="black", mew=0.8 * ours)
    for edge in np.arange(len(names) - 1) + 0.5:
        axes.axvline(edge, color="#DDDDDD", lw=0.8, zorder=0)
    axes.axhline(1, color="#666666", lw=0.8, ls="--", zorder=0)
    axes.set(yscale="log", ylabel="relative error of Adam's direction", xlim=(-0.5, len(names) - 0.5))
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.grid(axis="y", color="#EEEEEE", zorder=0)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 steps and a few rows: half a minute, rough numbers")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the JSON file and the plot")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # peers'
    logging.disable(logging.WARNING)
    rows, steps = (4, 300) if args.quick else (16, 2500)
    begin = time.perf_counter()
    result = run(STREAMS, rows, steps, eager=not args.quick)
    seconds = round(time.perf_counter() - begin)
    console = Console(width=180)
    console.print(table(result, f"{steps} steps of ({rows}, {COLUMNS}) per stream, {seconds} s"))
    console.print(f"Peers have eps = {TINY:g}, adamx and its float32 none.")
    notes = {name: note for name, note in NOTES.items() if name in result.cells}
    for name, note in (notes | result.missing).items():
        console.print(f"{name}: {note}")
    found = versions(*PACKAGES)
    console.print(", ".join(f"{name} {version}" for name, version in found.items()))
    cells = {
        name: {stream: cell._asdict() for stream, cell in streams.items()} for name, streams in result.cells.items()
    }
    run_of = {
        "rows": rows,
        "columns": COLUMNS,
        "steps": steps,
        "seconds": seconds,
        "quick": args.quick,
        "eps of peers": TINY,
    }
    name = "moments_accuracy_quick" if args.quick else "moments_accuracy"
    found_of = {"bytes": result.bytes, "notes": notes, "missing": result.missing, "cells": cells}
    write(args.output / f"{name}.json", versions=found, run=run_of, **found_of)
    plot(result, args.output / f"{name}.png")
    console.print(f"wrote {args.output / name}.json and .png")


if __name__ == "__main__":
    main()
