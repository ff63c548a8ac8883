"""How long does a step of Muon take, and how orthogonal is what it makes? adamx beside Optax, in turns.

`python -m benchmarks.matrix [--layers N] [--rounds N] [--parts orthogonality steps]`. Both take the matrices of GPT-2's
layers (768 wide, queries, keys and values fused), and AdamW the embeddings, vectors and all else. Times are
medians over rounds with the middle half; the processor's seconds do not count what else runs.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import adamx
from adamx.matrices.coefficients import SETS, coefficients, largest_error
from adamx.matrices.newton_schulz import NewtonSchulz

from .machine import Spread, machine, write
from .step_time import Shapes, arrays, transformer

RATE = 0.02
OPTAX = "optax"


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Both take the same leaves: Optax alone would take the embeddings, too."""
    return len(shape) == 2 and name not in ("wte", "wpe")


def of_optax(shapes: Shapes) -> Any:
    axes: Any = {k: optax.contrib.MuonDimensionNumbers() if is_matrix(k, s) else None for k, s in shapes.items()}
    tx = optax.contrib.muon(RATE, muon_weight_dimension_numbers=axes)

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return tx.init, step


def of_adamx(**given: Any) -> Callable[[Shapes], Any]:
    def make(shapes: Shapes) -> Any:
        del shapes
        opt = adamx.muon(RATE, matrices=lambda path, leaf: is_matrix(path, leaf.shape), **given)
        return opt.init, lambda params, state, grads: opt.step(grads, state, params)

    return make


CONTENDERS: dict[str, Callable[[Shapes], Any]] = {
    OPTAX: of_optax,
    "adamx": of_adamx(),
    "adamx, momentum in int8": of_adamx(moments="int8"),
    "adamx, NorMuon": of_adamx(second_moment="rows"),
}


def started(make: Callable[[Shapes], Any], shapes: Shapes) -> tuple[Callable[[], None], float]:
    """A contender's step, taken once, and the processor's seconds of its compilation."""
    init, step = make(shapes)
    carry = [arrays(shapes)]
    carry.append(jax.jit(init)(carry[0]))
    grads = arrays(shapes, scale=1e-2)
    begin = time.process_time()
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*carry, grads).compile()
    seconds = time.process_time() - begin

    def call() -> None:
        carry[:] = jax.block_until_ready(compiled(*carry, grads))

    call()
    return call, seconds


def steps(shapes: Shapes, rounds: int) -> dict[str, dict[str, Any]]:
    """Of each contender, seconds of compiling and of steps, by the clock and by the processor."""
    calls: dict[str, Callable[[], None]] = {}
    compiling: dict[str, float] = {}
    for name, make in CONTENDERS.items():
        calls[name], compiling[name] = started(make, shapes)
    clock, processor = ({name: [] for name in calls} for _ in range(2))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter(), time.process_time()
            call()
            clock[name].append(time.perf_counter() - begin[0])
            processor[name].append(time.process_time() - begin[1])
    ratios = {k: [x / y for x, y in zip(row, processor[OPTAX], strict=True)] for k, row in processor.items()}
    return {
        name: {
            "seconds": Spread.of(clock[name])._asdict(),
            "processor_seconds": Spread.of(processor[name])._asdict(),
            "to_optax": Spread.of(x / y for x, y in zip(clock[name], clock[OPTAX], strict=True))._asdict(),
            "processor_to_optax": Spread.of(ratios[name])._asdict(),
            "compiling": compiling[name],
        }
        for name in calls
    }


def steps_table(rows: dict[str, dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    table.add_column("contender")
    for heading in ("s", "middle half", "to Optax", "processor's s", "to Optax", "compiling, processor's s"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        s, cpu = row["seconds"], row["processor_seconds"]
        table.add_row(
            name,
            f"{s['median']:.2f}",
            f"{s['low']:.2f}–{s['high']:.2f}",
            f"{row['to_optax']['median']:.2f}",
            f"{cpu['median']:.2f}",
            f"{row['processor_to_optax']['median']:.2f}",
            f"{row['compiling']:.1f}",
        )
    return table


# How orthogonal


SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "from 1 to .1": lambda n: np.geomspace(1, 1e-1, n),
    "from 1 to 1e-3": lambda n: np.geomspace(1, 1e-3, n),
    "12 decades": lambda n: np.geomspace(1, 1e-12, n),
}


def orthogonality(rows: int = 128, columns: int = 256) -> list[dict[str, Any]]:
    """How far from 1 the singular values above 1e-2 of the norm end, and what the polynomials promise."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((n, rows)))[0] for n in (rows, columns))
    found: list[dict[str, Any]] = []
    for name in (name for name in SETS if name not in ("standard", "dion")):  # Optax's names of two others
        of = coefficients(name, None)
        row: dict[str, Any] = {"set": name, "steps": len(of.triples), "promised": largest_error(of, 1e-2)}
        for dtype in ("float32", *([] if of.is_delicate else ["bfloat16"])):
            iterate = jax.jit(NewtonSchulz(of, dtype))
            for spectrum, values in SPECTRA.items():
                s = values(rows)
                made = np.asarray(iterate(jnp.asarray((u * s) @ v.T, jnp.float32)), np.float64)
                ended = np.diag(u.T @ made @ v)[s >= 1e-2 * np.linalg.norm(s)]
                row[f"{dtype}, {spectrum}"] = float(np.abs(ended - 1).max())
        found.append(row)
    return found


def orthogonality_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="largest distance from 1 at which singular values above 1e-2 of the norm end")
    columns = list(rows[0])
    for name in columns:
        table.add_column(name.replace(", ", "\n"), justify="left" if name == "set" else "right")
    for row in rows:
        cells = [row.get(name, "–") for name in columns]
        table.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in cells))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=12, help="of GPT-2's, each of 7 million parameters")
    parser.add_argument("--words", type=int, default=50257, help="rows of the embedding")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["orthogonality", "steps"], choices=["orthogonality", "steps"])
    parser.add_argument("--output", type=Path, default=Path("matrix.json"), help="the JSON file")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"jax {jax.__version__}, {machine()}")
    results: dict[str, Any] = {}
    if "orthogonality" in arguments.parts:
        results["orthogonality"] = orthogonality()
        console.print(orthogonality_table(results["orthogonality"]))
    if "steps" in arguments.parts:
        shapes = transformer(arguments.layers, arguments.width, arguments.words)
        results["muon"] = steps(shapes, arguments.rounds)
        millions = sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6
        console.print(steps_table(results["muon"], f"Muon: {arguments.layers} layers, {millions:.0f} M parameters"))
    write(arguments.output, layers=arguments.layers, rounds=arguments.rounds, **results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
