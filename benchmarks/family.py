"""What does each optimizer cost, how exact is it, and how far does it get? Every optimizer, one table.

`python -m benchmarks.family [--quick]`. Columns: bytes of state for a float32 parameter of a large matrix; the largest
error of a float32 step over 1,000 random gradients against the paper's box in extended precision
(tests/reference_cases.py), relative to the largest step so far, or for boxes that yield parameters to how far they
moved; the time of a jitted step of a million parameters relative to Adam's, taken in turns (median); the training loss
of the demo's network after 30 epochs at the customary step size and at the best of nine around it, half a decade apart.
"""

import argparse
import functools
import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

import adamx
from adamx._factory import FACTORIES
from adamx.examples.data import digits
from adamx.examples.models import MLP
from adamx.examples.protocol import Contender, Search, Settings
from adamx.examples.training import grid_search
from tests import reference
from tests.helpers import directions
from tests.reference.matrices import keller
from tests.reference_cases import DIRECTIONS, PARAMETERS

CUSTOMARY = {
    "adamax": 2e-3,  # the paper
    "adamaxw": 2e-3,
    "nadam": 2e-3,  # the paper, PyTorch
    "nadamw": 2e-3,
    "yogi": 1e-2,  # the paper
    "laprop": 4e-4,  # the official code
    "adam_atan2": 1e-4,  # adam-atan2-pytorch
    "simplified_ademamix": 1e-5,  # its momentum is a sum, 100 times a mean
    "lion": 1e-4,  # the official code
    "adagrad": 1e-2,  # PyTorch
    "adadelta": 1.0,  # the paper has none
    "novograd": 1e-2,  # the paper
    "adafactor": 1e-2,  # the paper's upper bound
    "muon": 2e-2,  # Keller Jordan
    "came": 2e-4,  # the official code
    "mars_adamw": 3e-3,  # the official code
    "schedule_free_adamw": 2.5e-3,  # the official code
    "schedule_free_sgd": 1.0,
    "prodigy": 1.0,
    "dadapt_adamw": 1.0,
}
"""Step sizes that papers and frameworks set; .001, Adam's, for all others."""

BOXES = {
    "adamw": "adam",
    "adamaxw": "adamax",
    "nadam": "adam_nesterov",
    "nadamw": "adam_nesterov",
    "cadamw": "cautious",
    "mars_adamw": "mars",
}
"""The box of an optimizer that has another's rule."""


def state_bytes(make: Callable[..., adamx.Optimizer]) -> float:
    shape = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    state = jax.eval_shape(make(1e-3).init, shape)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / shape.size


def error(name: str, steps: int) -> float:
    """The largest error of a float32 step, or of where it leads, against the box."""
    grads = np.random.default_rng(0).standard_normal((steps, 8, 8), np.float32)
    box = BOXES.get(name, name)
    of_matrices = {"muon": (adamx.Muon(bias_correction=False), keller)}
    if box in DIRECTIONS or box in of_matrices:
        rule, exact = (DIRECTIONS | of_matrices)[box]
        wanted = np.asarray(list(exact(grads)))
        scale = np.maximum.accumulate(np.abs(wanted), axis=0)
        got = np.asarray(directions(rule, jnp.asarray(grads)), np.float64)
        return float(np.max(np.abs(got - wanted) / np.where(scale == 0, 1, scale)))
    start = np.zeros((8, 8), np.float32)
    if box in PARAMETERS:
        opt, exact = PARAMETERS[box]
        wanted = np.asarray(list(exact(grads, start)))
    else:
        opt, exact = {
            "prodigy": (adamx.prodigy(), reference.prodigy),
            "dadapt_adamw": (adamx.dadapt_adamw(), reference.dadapt_adam),
        }[box]
        wanted = np.asarray([p for (p,) in exact([[g] for g in grads], [start])])
    moved = np.maximum(np.maximum.accumulate(np.max(np.abs(wanted), axis=(1, 2), keepdims=True)), 1e-30)
    return float(np.max(np.abs(_parameters(opt, grads, start) - wanted) / moved))


def _parameters(opt: adamx.Optimizer, grads: np.ndarray, start: np.ndarray) -> np.ndarray:
    def body(carry: Any, g: jax.Array) -> Any:
        p, state = opt.step(g, carry[1], carry[0])
        return (p, state), p

    path = jax.jit(lambda p, gs: jax.lax.scan(body, (p, opt.init(p)), gs)[1])
    return np.asarray(path(jnp.asarray(start), jnp.asarray(grads)), np.float64)


def step_times(rounds: int) -> dict[str, float]:
    """Seconds of a step of 2^20 parameters in one leaf, in turns: the median for each optimizer."""
    grads = jax.random.normal(jax.random.key(0), (1024, 1024))
    running = {}
    for name, make in FACTORIES.items():
        opt, params = make(1e-3), jnp.ones_like(grads)
        step = jax.jit(opt.step, donate_argnums=(1, 2))
        running[name] = (step, *step(grads, opt.init(params), params))
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, (step, params, state) in running.items():
            start = time.perf_counter()
            params, state = jax.block_until_ready(step(grads, state, params))
            seconds[name].append(time.perf_counter() - start)
            running[name] = (step, params, state)
    return {name: statistics.median(times) for name, times in seconds.items()}


def losses(name: str, epochs: int, tries: int) -> Search:
    """The demo's network at step sizes around the customary one, half a decade apart."""
    data = digits()
    model = MLP(data.image, data.classes, (128, 128), rngs=nnx.Rngs(0))
    rate = CUSTOMARY.get(name, 1e-3)
    grid = tuple(rate * 10 ** (i / 2) for i in range(-(tries // 2), tries // 2 + 1))
    return grid_search(Contender(name, _with_required(name), grid), model, data, Settings(epochs=epochs))


@functools.cache
def _with_required(name: str) -> Callable[..., adamx.Optimizer]:
    factory = FACTORIES[name]
    if "weight_decay" in inspect.signature(factory).parameters:
        return lambda rate: factory(rate, weight_decay=0.0)
    return lambda rate: factory(rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 epochs, 3 step sizes, 100 gradients")
    quick = parser.parse_args().quick
    console = Console(width=120)
    console.print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}")
    times = step_times(5 if quick else 31)
    table = Table(title="adamx's optimizers (weight decay 0)")
    for column in ("optimizer", "state bytes", "float32 error", "time / Adam", "customary", "loss", "best", "loss"):
        table.add_column(column, justify="left" if column == "optimizer" else "right")
    for name in track(FACTORIES, "training", console=console):
        search = losses(name, 3 if quick else 30, 3 if quick else 9)
        customary = search.runs[len(search.runs) // 2]
        table.add_row(
            name,
            f"{state_bytes(FACTORIES[name]):.2f}",
            f"{error(name, 100 if quick else 1_000):.0e}",
            f"{times[name] / times['adam']:.2f}",
            f"{customary.learning_rate:.2g}",
            f"{customary.final_loss:.1e}",
            f"{search.best.learning_rate:.2g}{'*' if search.at_edge else ''}",
            f"{search.best.final_loss:.1e}",
        )
    console.print(table)
    console.print("* the best step size is the least or the largest tried. Schedule-free losses are of y, not of x.")


if __name__ == "__main__":
    main()
