"""How long does XLA take to compile a step with coded moments? adamx's first call beside Optax's, in turns.

`python -m benchmarks.compile_formats [--rounds N]`. All leaves are of ten shapes, matrices of 2^12 to 2^16 elements,
which are coded; `kernel="xla"`, the path of several devices and accelerators. The first call traces, compiles and
runs; JAX's caches are emptied before each. Processor seconds, and those of tracing alone, stand beside: a busy machine
changes them less.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import adamx
from adamx.moments import MomentFormat

from .compile_time import DECAY, RATE, Step, of_optax
from .machine import Spread, machine, write

LEAVES = (50, 200)
SHAPES = (
    *((64, 64), (64, 128), (128, 64), (128, 128), (96, 128)),
    *((128, 256), (256, 128), (256, 256), (64, 512), (128, 512)),
)


def of_adamx(moments: MomentFormat) -> tuple[Any, Step]:
    opt = adamx.adamw(RATE, weight_decay=DECAY, moments=moments, kernel="xla")
    return opt, lambda params, state, grads: opt.step(grads, state, params)


FORMATS: tuple[MomentFormat, ...] = ("float32", "bfloat16", "int8")
CONTENDERS: dict[str, Callable[[], tuple[Any, Step]]] = {
    "optax": of_optax,
    **{f"adamx, moments {moments}": (lambda m=moments: of_adamx(m)) for moments in FORMATS},
}


def first_call(make: Callable[[], tuple[Any, Step]], leaves: int) -> tuple[float, float, float]:
    """Its seconds, those of all processors, and those of tracing alone, when nothing is compiled yet."""
    opt, step = make()
    params = {f"p{i}": jnp.full(SHAPES[i % len(SHAPES)], 0.5) for i in range(leaves)}
    state = jax.block_until_ready(jax.jit(opt.init)(params))
    grads = jax.tree.map(jnp.ones_like, params)
    jax.clear_caches()
    begin, busy = time.perf_counter(), time.process_time()
    compiled = jax.jit(step, donate_argnums=(0, 1))
    compiled.trace(params, state, grads)
    traced = time.process_time() - busy
    jax.block_until_ready(compiled(params, state, grads))
    return time.perf_counter() - begin, time.process_time() - busy, traced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leaves", type=int, nargs="+", default=LEAVES)
    parser.add_argument("--output", type=Path, default=Path("compile_formats.json"), help="the JSON file")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"jax {jax.__version__}, {machine()}")
    table = Table(title="first call: medians, ratios to Optax's in the same round")
    for heading in ("leaves", "contender", "s", "to Optax", "processor s", "to Optax", "traced", "to Optax"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    results: dict[int, dict[str, Any]] = {}
    first_call(of_optax, 1)  # what JAX makes once in a process
    for leaves in arguments.leaves:
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(arguments.rounds):
            for name, make in CONTENDERS.items():
                taken[name].append(first_call(make, leaves))
        results[leaves] = {}
        for name, rounds in taken.items():
            row = {}
            for i, which in enumerate(("seconds", "processor", "traced")):
                row[which] = Spread.of(times[i] for times in rounds)._asdict()
                ratios = (times[i] / of[i] for times, of in zip(rounds, taken["optax"], strict=True))
                row[f"{which}_to_optax"] = Spread.of(ratios)._asdict()
            results[leaves][name] = row
            table.add_row(f"{leaves:,}", name, *(f"{x['median']:.2f}" for x in row.values()))
    console.print(table)
    write(arguments.output, rounds=arguments.rounds, leaves=results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
