"""How long does the first call take, and the later ones, with many leaves? adamx's step beside Optax's, in turns.

`python -m benchmarks.compile_time [--rounds N]`. The first call traces, compiles and runs; JAX's caches are emptied
before each; the time of tracing alone stands beside it. Later calls take turns when all are compiled. Leaves have 64
elements, so that what counts is the number of leaves. The last contender gives parameters and Optax's state back
untouched: what JAX and XLA take for so many arrays, whatever is done with them.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import adamx
from adamx.kernels import Kernel

from .machine import Spread, in_turns, machine, write

LEAVES = (10, 100, 500, 2000)
RATE, DECAY = 1e-3, 1e-2
Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def of_optax() -> tuple[Any, Step]:
    opt = optax.adamw(RATE, weight_decay=DECAY)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return opt, step


def of_adamx(kernel: Kernel) -> tuple[Any, Step]:
    opt = adamx.adamw(RATE, weight_decay=DECAY, kernel=kernel)
    return opt, lambda params, state, grads: opt.step(grads, state, params)


def of_nothing() -> tuple[Any, Step]:
    return optax.adamw(RATE, weight_decay=DECAY), lambda params, state, grads: (params, state)


CONTENDERS: dict[str, Callable[[], tuple[Any, Step]]] = {
    "optax": of_optax,
    "adamx": lambda: of_adamx("auto"),
    "adamx, kernel xla": lambda: of_adamx("xla"),
    "nothing done": of_nothing,
}


def prepared(make: Callable[[], tuple[Any, Step]], leaves: int) -> tuple[Any, list[Any], Any]:
    """A jitted step, parameters and state, and gradients."""
    opt, step = make()
    params = {f"p{i}": jnp.full(64, 0.5) for i in range(leaves)}
    grads = {k: x * 0.1 for k, x in params.items()}
    carry = [params, jax.block_until_ready(jax.jit(opt.init)(params))]
    return jax.jit(step, donate_argnums=(0, 1), keep_unused=True), carry, grads


def ready(make: Callable[[], tuple[Any, Step]], leaves: int) -> Callable[[], None]:
    """What takes a step at each call, and compiles it at the first."""
    step, carry, grads = prepared(make, leaves)

    def call() -> None:
        carry[:] = jax.block_until_ready(step(*carry, grads))

    return call


def first_call(make: Callable[[], tuple[Any, Step]], leaves: int) -> tuple[float, float]:
    """Seconds of its trace and of all of it, when nothing is compiled yet."""
    jax.clear_caches()
    step, carry, grads = prepared(make, leaves)
    begin = time.perf_counter()
    step.trace(*carry, grads)
    traced = time.perf_counter() - begin
    jax.block_until_ready(step(*carry, grads))
    return traced, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leaves", type=int, nargs="+", default=LEAVES)
    parser.add_argument("--output", type=Path, default=Path("compile_time.json"), help="the JSON file")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"jax {jax.__version__}, {machine()}, native kernel: {adamx.kernels.available()['native']}")
    table = Table(title="medians; ratios to Optax's in the same round")
    headings = ("traced, s", "to Optax", "first call, s", "to Optax", "later calls, ms", "to Optax")
    for heading in ("leaves", "contender", *headings):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    results: dict[int, dict[str, Any]] = {}
    for leaves in arguments.leaves:
        traced: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        first: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(arguments.rounds):
            for name, make in CONTENDERS.items():
                for seconds, taken in zip((traced, first), first_call(make, leaves), strict=True):
                    seconds[name].append(taken)
        later = in_turns({name: ready(make, leaves) for name, make in CONTENDERS.items()}, rounds=4 * arguments.rounds)
        results[leaves] = {}
        for name in CONTENDERS:
            results[leaves][name] = {}
            for which, seconds in (("traced", traced), ("first", first), ("later", later)):
                row, of_optax = seconds[name], seconds["optax"]
                results[leaves][name] |= {
                    which: Spread.of(row)._asdict(),
                    f"{which}_to_optax": Spread.of(x / y for x, y in zip(row, of_optax, strict=True))._asdict(),
                }
            trace, trace_to, once, once_to, *then = (result["median"] for result in results[leaves][name].values())
            numbers = (trace, trace_to, once, once_to, 1e3 * then[0], then[1])
            table.add_row(f"{leaves:,}", name, *(f"{x:.2f}" for x in numbers))
    console.print(table)
    write(arguments.output, rounds=arguments.rounds, leaves=results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
