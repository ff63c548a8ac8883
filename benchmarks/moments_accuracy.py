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
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

import adamx
from adamx.moments import Moments

COLUMNS = 1024
B1 = 0.9
TINY = 1e-30
"""The eps of peers, which divide 0 by 0 without one: nothing beside the least root of a second moment here, 1e-14."""

PACKAGES = ("adamx", "jax", "optax", "numpy", "flashoptim-jax", "bitsandbytes", "torchao", "torch")

COLORS = ("#0072B2", "#56B4E9", "#009E73", "#999999", "#E69F00", "#D55E00", "#CC79A7", "#000000", "#B8A800")
"""Okabe and Ito's, which the colour-blind tell apart."""
MARKERS = "o^vXsD*P<"


# What the gradients are


class Stream(NamedTuple):
    """A stream of gradients.

    Attributes:
        name: its name in the table.
        sigma: the standard deviation of the logarithms of the elements' scales.
        row_sigma: that of the rows' scales.
        scale: of all gradients.
        late: what they are multiplied with in the second half.
        share: of the rows that are not zero in a step.
        heavy: Student's t with two degrees of freedom in place of the normal distribution.
        b2: Adam's.
    """

    name: str
    sigma: float = 0.5
    row_sigma: float = 0.0
    scale: float = 1.0
    late: float = 1.0
    share: float = 1.0
    heavy: bool = False
    b2: float = 0.999


STREAMS = (
    Stream("σ = .5"),
    Stream("σ = 1", sigma=1.0),
    Stream("σ = 2", sigma=2.0),
    Stream("rows σ = 2", sigma=0.0, row_sigma=2.0),
    Stream("drift e⁻²", late=float(np.exp(-2))),
    Stream("drift e²", late=float(np.exp(2))),
    Stream("99 % rows zero", share=0.01),
    Stream("Student t, 2", heavy=True),
    *(Stream(f"|g| {scale:g}", scale=scale) for scale in (1e-12, 1e-8, 1e-6, 1e-4, 1e4)),
    *(Stream(f"b2 = {b2}", b2=b2) for b2 in (0.95, 0.99, 0.9999)),
)

BARS = {"adamx bfloat16": dict.fromkeys((stream.name for stream in STREAMS), 0.015)} | {
    "adamx int8": {"σ = .5": 0.045, "σ = 2": 0.10, "drift e⁻²": 0.065, "drift e²": 0.065}
    | {stream.name: 0.045 for stream in STREAMS if stream.scale != 1}
}
"""The error that each of adamx's formats promises to stay below."""
LARGEST_BAR = 1.3


def gradients(streams: Sequence[Stream], rows: int, steps: int) -> Callable[[jax.Array], jax.Array]:
    """From the number of a step to all streams' gradients, of shape (streams, rows, COLUMNS)."""
    shape = (len(streams), rows, COLUMNS)
    keys = jax.random.split(jax.random.key(0), 4)
    settings = {
        name: jnp.asarray([getattr(stream, name) for stream in streams], jnp.float32)[:, None, None]
        for name in ("sigma", "row_sigma", "scale", "late", "share")
    }
    logs = settings["sigma"] * jax.random.normal(keys[0], shape)
    logs += settings["row_sigma"] * jax.random.normal(keys[1], (*shape[:2], 1))
    scales, mean = settings["scale"] * jnp.exp(logs), 0.1 * jax.random.normal(keys[2], shape)

    def at(t: jax.Array) -> jax.Array:
        noise, rate, active = jax.random.split(jax.random.fold_in(keys[3], t), 3)
        z = jax.random.normal(noise, shape)
        for i, stream in enumerate(streams):
            if stream.heavy:
                uniform = jax.random.uniform(rate, shape[1:], minval=np.finfo(np.float32).tiny)
                z = z.at[i].divide(jnp.sqrt(-jnp.log(uniform)))  # never 0, as jax.random.exponential can be
        g = scales * jnp.where(t >= steps // 2, settings["late"], 1) * (mean + z)
        return jnp.where(jax.random.uniform(active, (*shape[:2], 1)) < settings["share"], g, 0)

    return at


# Formats: adamx's and Optax's and flashoptim's, which are JAX's


class Traced(NamedTuple):
    """A format that steps within `jit`.

    Attributes:
        init: from parameters of one stream to the state.
        step: from b2, gradients and state to direction and state.
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[jax.Array, jax.Array, Any], tuple[Any, Any]]

    def bytes(self) -> float:
        """Of state per element, of a large matrix."""
        shape = jax.ShapeDtypeStruct((64, COLUMNS), jnp.float32)
        state = jax.eval_shape(self.init, shape)
        return round(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / shape.size, 3)


def stored_by_adamx(moments: Moments) -> Traced:
    def rule(b2: Any) -> optax.GradientTransformation:
        return adamx.scale_by(adamx.Adam(b1=B1, b2=b2, eps=0.0), moments=moments)

    return Traced(rule(0.999).init, lambda b2, g, state: rule(b2).update(g, state))


def stored_by_optax(dtype: Any) -> Traced:
    """Optax in float32, its state stored in `dtype` from step to step."""

    def narrow(state: Any) -> Any:
        return state._replace(**{k: jax.tree.map(lambda x: x.astype(dtype), getattr(state, k)) for k in ("mu", "nu")})

    def step(b2: jax.Array, g: jax.Array, state: Any) -> tuple[Any, Any]:
        wide = state._replace(mu=state.mu.astype(jnp.float32), nu=state.nu.astype(jnp.float32))
        u, state = optax.scale_by_adam(B1, b2, eps=TINY).update(g, wide)
        return u, narrow(state)

    return Traced(lambda p: narrow(optax.scale_by_adam().init(p)), step)


def stored_by_flashoptim() -> Traced:
    flashoptim_jax = importlib.import_module("flashoptim_jax")

    def adam(b2: Any) -> Any:
        return flashoptim_jax.flash_adam(1.0, B1, b2, TINY, master_weight_bits=None, fused=False)

    def step(b2: jax.Array, g: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        moved, state = adam(b2).step(jnp.zeros_like(g), state, g)
        return -moved, state

    return Traced(adam(0.999).init, step)


TRACED: dict[str, Callable[[], Traced]] = {
    "adamx int8": lambda: stored_by_adamx("int8"),
    "adamx bfloat16, int8": lambda: stored_by_adamx(("bfloat16", "int8")),
    "adamx bfloat16": lambda: stored_by_adamx("bfloat16"),
    "Optax bfloat16": lambda: stored_by_optax(jnp.bfloat16),
    "flashoptim-jax": stored_by_flashoptim,
}


# Formats: PyTorch's


class Eager:
    """A PyTorch optimizer, its parameters one for each b2, which hold the streams that have it."""

    def __init__(self, make: Callable[[list[dict[str, Any]]], Any], streams: Sequence[Stream], rows: int):
        import torch

        rates = [stream.b2 for stream in streams]
        self.members = [[i for i, rate in enumerate(rates) if rate == b2] for b2 in dict.fromkeys(rates)]
        self.params = [torch.nn.Parameter(torch.zeros(len(member) * rows, COLUMNS)) for member in self.members]
        self.shape = (len(streams), rows, COLUMNS)
        self.opt = make(
            [{"params": [p], "betas": (B1, b2)} for p, b2 in zip(self.params, dict.fromkeys(rates), strict=True)]
        )

    def step(self, g: Any) -> Any:
        """From gradients to directions, both tensors of all streams."""
        import torch

        u = torch.empty(self.shape)
        for p, member in zip(self.params, self.members, strict=True):
            p.data.zero_()
            p.grad = g[member].reshape(p.shape)
        self.opt.step()
        for p, member in zip(self.params, self.members, strict=True):
            u[member] = -p.data.reshape(len(member), *self.shape[1:])
        return u

    def bytes(self) -> float:
        """Of state per element, after a step; tables of the code's values are left out."""
        import torch

        def weigh(x: torch.Tensor) -> int:
            inner = [getattr(x, name) for name in getattr(x, "tensor_attrs", ()) if name != "qmap"]
            return sum(map(weigh, inner)) if inner else x.numel() * x.element_size()

        state = self.opt.state[self.params[0]]
        coded = [x for name, x in state.items() if isinstance(x, torch.Tensor) and x.numel() > 1 and "qmap" not in name]
        return round(sum(map(weigh, coded)) / self.params[0].numel(), 3)


def by_torch(module: str, name: str) -> Callable[[Sequence[Stream], int], Eager]:
    """Import the optimizer `name` of `module`; it is made when the streams are known."""
    import torch

    torch.set_num_threads(1)  # two beside JAX's wait for each other on a busy machine
    make = getattr(importlib.import_module(module), name)
    return lambda streams, rows: Eager(lambda groups: make(groups, lr=1.0, eps=TINY), streams, rows)


NOTES = {
    "Optax bfloat16": "computes in float32; its state is cast to bfloat16 after each step",
    "flashoptim-jax": "unfused, as its kernels need a GPU",
    "bitsandbytes 8 bits": "its CPU code does not round to nearest: in a block whose largest is 1, 1e-8 becomes 1.6e-5",
}
"""What to know about a peer's run on this machine."""

EAGER = {
    "bitsandbytes 8 bits": ("bitsandbytes.optim", "Adam8bit"),
    "torchao 8 bits": ("torchao.optim", "Adam8bit"),
    "torchao fp8": ("torchao.optim", "AdamFp8"),
    "torchao 4 bits": ("torchao.optim", "Adam4bit"),
}


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


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = adamx.__version__ if name == "adamx" else "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 steps and a few rows: half a minute, rough numbers")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="for JSON and plot")
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
    found = versions()
    console.print(", ".join(f"{name} {version}" for name, version in found.items()))
    cells = {
        name: {stream: cell._asdict() for stream, cell in streams.items()} for name, streams in result.cells.items()
    }
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "device": jax.devices()[0].device_kind}
    run_of = {
        "rows": rows,
        "columns": COLUMNS,
        "steps": steps,
        "seconds": seconds,
        "quick": args.quick,
        "eps of peers": TINY,
    }
    written = {
        "machine": machine,
        "versions": found,
        "run": run_of,
        "bytes": result.bytes,
        "notes": notes,
        "missing": result.missing,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    name = "moments_accuracy_quick" if args.quick else "moments_accuracy"
    (args.output / f"{name}.json").write_text(json.dumps({**written, "cells": cells}, indent=1, ensure_ascii=False))
    plot(result, args.output / f"{name}.png")
    console.print(f"wrote {args.output / name}.json and .png")


if __name__ == "__main__":
    main()
