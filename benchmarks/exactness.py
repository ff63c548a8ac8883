"""How far are float32 updates from the exact ones, and what happens at zero? adamx beside Optax, in one run.

`python -m benchmarks.exactness`, which writes exactness.json. The exact direction is the paper's box in extended
precision (tests/reference), fed the same float32 gradients. Errors are ||u - exact|| / ||exact|| over 4096 coordinates.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import adamx
from adamx._math import bias_correction
from benchmarks.machine import write
from tests import reference

STEPS = (1, 10, 100, 1_000, 10_000)
RATES = (0.99, 0.999, 0.9999, 0.99999)
DTYPES = (jnp.float16, jnp.bfloat16, jnp.float32)
LIBRARIES = {"adamx": adamx, "optax": optax}
FACTORIES = ("adam", "adamw", "adamax", "adamaxw")


def random_gradients(n: int = 4096) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((max(STEPS), n), np.float32)


def constant_gradients(n: int = 4096) -> np.ndarray:
    scales = np.logspace(-3, 3, n).astype(np.float32)
    return np.broadcast_to(scales, (max(STEPS), n))


def errors(tx: optax.GradientTransformation, grads: np.ndarray, exact: dict[int, np.ndarray]) -> list[float]:
    """The relative error of the direction at each of STEPS, running freely from the first."""
    state, update, found = tx.init(jnp.asarray(grads[0])), jax.jit(tx.update), []
    for t, g in enumerate(grads, start=1):
        u, state = update(jnp.asarray(g), state)
        if t in STEPS:
            found.append(float(np.linalg.norm(np.asarray(u) - exact[t]) / np.linalg.norm(exact[t])))
    return found


def directions(grads: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Each library's errors at STEPS, by b2."""
    found = {}
    for b2 in RATES:
        exact = {t: u for t, u in enumerate(reference.adam(grads, b2=b2), start=1) if t in STEPS}
        found[f"{b2}"] = {name: errors(lib.scale_by_adam(b2=b2), grads, exact) for name, lib in LIBRARIES.items()}
    return found


def direction_table(title: str, found: dict[str, dict[str, list[float]]]) -> Table:
    table = Table("b2", "", *(f"t = {t}" for t in STEPS), title=title)
    for b2, rows in found.items():
        for name, row in rows.items():
            table.add_row(b2, name, *(f"{e:.1e}" for e in row), end_section=name == "optax")
    return table


def correction_table() -> Table:
    table = Table("b", "adamx", "optax", title="1 - b^t alone: largest relative error over t = 1 to 10^6")
    t = np.unique(np.round(np.logspace(0, 6, 20_000)))

    def worst(correct: Callable, b: float) -> str:
        got = np.asarray(jax.jit(jax.vmap(correct))(jnp.asarray(t, jnp.float32)), np.float64)
        return f"{np.max(np.abs(got / -np.expm1(t * np.log(b)) - 1)):.1e}"

    for b in (0.9, *RATES, 0.999999):
        ours = worst(lambda t, b=b: bias_correction(b, t), b)
        theirs = worst(lambda t, b=b: 1 / optax.tree.bias_correction(jnp.ones(()), b, t), b)
        table.add_row(f"{b}", ours, theirs)
    return table


def zero_table() -> Table:
    table = Table("factory", "", *(jnp.dtype(d).name for d in DTYPES), title="three steps of zero gradients: update")
    for factory in FACTORIES:
        for name, library in LIBRARIES.items():
            cells = []
            for dtype in DTYPES:
                zero, opt = jnp.zeros(2, dtype), getattr(library, factory)(1e-3)
                state, update = opt.init(zero), jax.jit(opt.update)
                steps = []
                for _ in range(3):
                    u, state = update(zero, state, zero)
                    steps.append(np.asarray(u, np.float32))
                cells.append("0" if not np.any(steps) else str(steps[-1][0]))
            table.add_row(factory, name, *cells, end_section=name == "optax")
    return table


def injected(library) -> str:
    params = jnp.ones(2, jnp.bfloat16)
    try:
        opt = optax.inject_hyperparams(library.adam)(learning_rate=1e-3)
        update, _ = opt.update(params, opt.init(params), params)
    except TypeError as error:
        return f"TypeError: {error}"
    return f"update {np.asarray(update, np.float32)[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("exactness.json"), help="the JSON file")
    output = parser.parse_args().output
    console = Console(width=100)
    console.print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}")
    found = {"random": directions(random_gradients()), "constant": directions(constant_gradients())}
    for kind, errors_of in found.items():
        console.print(direction_table(f"Adam's direction, {kind} gradients: relative error", errors_of))
    console.print(correction_table())
    console.print(zero_table())
    table = Table("", "first step", title="optax.inject_hyperparams(adam)(learning_rate=1e-3) on bfloat16 parameters")
    for name, library in LIBRARIES.items():
        table.add_row(name, injected(library))
    console.print(table)
    write(output, steps=STEPS, directions=found)


if __name__ == "__main__":
    main()
