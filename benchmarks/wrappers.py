"""What do groups, live numbers and wrappers cost? Each beside the step that it wraps, and beside Optax's counterpart.

`python -m benchmarks.wrappers [--parts time compile bytes tree] [--rounds N]`. "time": a jitted step with parameters
and state donated, in turns, as the ratio to the step without the wrapper (of a guard: to one with `clip_norm`, for
which the norm is taken, too), and the bytes of temporary arrays. "compile": 200 leaves of ten shapes in five groups,
beside no groups. "bytes": read and written for each parameter by programs for an H100 and a TPU v5e, compiled without
either (`deviceless.py`), of a loop that runs once where a step may be skipped. "tree": the leaves' paths in the state
with groups and without, and in that of `optax.partition`.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

if __name__ == "__main__":  # before JAX is imported: it is not to look for the devices whose compilers are installed
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import adamx

from .deviceless import Step, counts, missing
from .machine import Spread, in_turns, machine, write
from .step_time import DECAY, RATE, Shapes, Tree, arrays

LARGE: Shapes = {f"layer_{i}/kernel": (2048, 2048) for i in range(4)}
MANY: Shapes = {f"{kind}_{i}/kernel": (64, 8 * (i % 10 + 1)) for i in range(40) for kind in "abcde"}
TARGETS = ("H100", "v5e")

Take = Callable[[Any, Any, Any], tuple[Any, Any]]
"""From parameters, state and gradients to the next parameters and state."""


class Contender(NamedTuple):
    """A step.

    Attributes:
        init: makes its state.
        step: the step.
        beside: the contender whose time it is compared with.
        stores: bytes for each parameter that it reads and writes besides that contender's, in its best case.
    """

    init: Callable[[Tree], Any]
    step: Take
    beside: str = "adamw"
    stores: float = 0.0


def of_adamx(opt: Any, beside: str = "adamw", stores: float = 0.0, **options: Any) -> Contender:
    return Contender(opt.init, lambda p, s, g: opt.step(g, s, p, **options), beside, stores)


def of_optax(opt: Any) -> Contender:
    def step(params: Tree, state: Any, grads: Tree) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Contender(opt.init, step, "optax.adamw")


def with_average(opt: Any) -> Contender:
    """Optax's way: the average is a tree of the user's own."""

    def step(params: Tree, state: Any, grads: Tree) -> tuple[Any, Any]:
        updates, inner = opt.update(grads, state[0], params)
        new = optax.apply_updates(params, updates)
        return new, (inner, optax.incremental_update(new, state[1], 1e-3))

    return Contender(lambda p: (opt.init(p), jax.tree.map(jnp.copy, p)), step, "optax.adamw")


def adamw(**options: Any) -> Any:
    return adamx.adamw(options.pop("learning_rate", RATE), weight_decay=DECAY, **options)


def contenders() -> dict[str, Contender]:
    """By name."""
    groups = [adamx.Group("0/|a_", weight_decay=0.0), adamx.Group("1/|b_", learning_rate_scale=0.5, b2=0.95)]
    theirs = optax.adamw(RATE, weight_decay=DECAY)
    labels = lambda tree: {name: "first" if "0/" in name or "a_" in name else "rest" for name in tree}  # noqa: E731
    return {
        "adamw": of_adamx(adamw()),
        "groups": of_adamx(adamw(groups=groups)),
        "live": of_adamx(adamw(learning_rate=adamx.live("learning_rate", RATE))),
        "by_path": of_adamx(adamx.by_path({"0/|a_": adamw(), ".*": adamw()})),
        "clip_norm": of_adamx(adamw(), clip_norm=1.0, stores=4.0),
        "guard": of_adamx(adamx.guard(adamw()), "clip_norm", clip_norm=1.0),
        "accumulate, 4": of_adamx(adamx.accumulate(adamw(), every=4), stores=12.0),
        "averaged": of_adamx(adamx.averaged(adamw()), stores=8.0),
        "guard(averaged)": of_adamx(adamx.guard(adamx.averaged(adamw())), "clip_norm", 8.0, clip_norm=1.0),
        "monitor": of_adamx(adamx.monitor(adamw()), stores=20.0),
        "optax.adamw": of_optax(theirs),
        "optax.partition": of_optax(optax.partition({"first": theirs, "rest": theirs}, labels)),
        "optax.inject_hyperparams": of_optax(optax.inject_hyperparams(optax.adamw)(RATE, weight_decay=DECAY)),
        "optax.apply_if_finite": of_optax(optax.apply_if_finite(theirs, 10)),
        "optax.MultiSteps, 4": of_optax(optax.MultiSteps(theirs, 4)),
        "optax.incremental_update": with_average(theirs),
    }


def timed(shapes: Shapes, rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of each step, ratios to what it is compared with, and bytes of temporaries for each parameter."""
    found, calls, temporary = contenders(), {}, {}
    grads, size = arrays(shapes, scale=1e-2), sum(map(math.prod, shapes.values()))
    for name, contender in found.items():
        program = jax.jit(contender.step, donate_argnums=(0, 1))
        params = arrays(shapes)
        carry = [params, contender.init(params)]
        memory: Any = program.lower(*carry, grads).compile().memory_analysis()
        temporary[name] = memory.temp_size_in_bytes / size

        def call(program: Any = program, carry: list[Any] = carry) -> None:
            carry[:] = jax.block_until_ready(program(*carry, grads))

        calls[name] = call
    seconds = in_turns(calls, rounds)
    rows = {}
    for name, row in seconds.items():
        ratios = [x / y for x, y in zip(row, seconds[found[name].beside], strict=True)]
        rows[name] = {
            "milliseconds": Spread.of(1e3 * x for x in row)._asdict(),
            "beside": found[name].beside,
            "ratio": Spread.of(ratios)._asdict(),
            "temporary": temporary[name],
        }
    return rows


def compile_seconds(rounds: int = 5) -> dict[str, Any]:
    """Of tracing, lowering and compiling a step of `MANY`, all processors together, in turns."""

    def five(*decays: float) -> list[adamx.Group]:
        """Four, and the leaves that none takes; every number grows from group to group."""
        return [
            adamx.Group(f"^{kind}_", learning_rate_scale=0.5 + i, b2=0.99 - 0.01 * i, weight_decay=decay)
            for i, (kind, decay) in enumerate(zip("abcd", decays, strict=True))
        ]

    cases = {"none": [], "five": five(*[DECAY] * 4), "five, decays": five(0.01, 0.02, 0.03, 0.04)}
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in MANY.items()}
    seconds: dict[str, list[float]] = {}
    for kernel in ("auto", "xla"):
        for _ in range(rounds):
            for name, groups in cases.items():
                opt = adamw(groups=groups, kernel=kernel)
                state, begin = jax.eval_shape(opt.init, shapes), time.process_time()
                jax.jit(opt.step).lower(shapes, state, shapes).compile()
                seconds.setdefault(f"{kernel}, {name}", []).append(time.process_time() - begin)
    told = {name: median(x) for name, x in seconds.items()}
    ratios = {
        f"{kernel}, {name}, ratio": told[f"{kernel}, {name}"] / told[f"{kernel}, none"]
        for kernel in ("auto", "xla")
        for name in cases
        if name != "none"
    }
    return told | ratios


def moved(target: str) -> dict[str, dict[str, float]]:
    """Bytes for each parameter of `LARGE` that the program for a device moves, and temporaries."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in LARGE.items()}
    size, rows = sum(map(math.prod, LARGE.values())), {}
    for name, contender in contenders().items():
        arguments = (params, jax.eval_shape(contender.init, params), params)
        try:
            found = counts(Step(contender.step, arguments, (0, 1)), target, size // 8, rounds=1)
        except ValueError as error:  # a conditional, of which the text does not say which branch is taken
            rows[name] = {"not counted": str(error)}
            continue
        rows[name] = {"bytes": found.bytes / size, "temporary": found.temporary / size}
    for name, contender in contenders().items():
        if "bytes" in rows[name] and contender.beside == "adamw":
            best = rows["adamw"]["bytes"] + contender.stores
            rows[name]["to_best"] = rows[name]["bytes"] / best
    return rows


def trees() -> dict[str, list[str]]:
    """The paths in three states of one model."""
    params = {"embed": jnp.ones((4, 2)), "head": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(4)}}
    labels = {"embed": "first", "head": {"kernel": "rest", "bias": "first"}}
    opts = {
        "adamx.adamw": adamx.adamw(RATE),
        "adamx.adamw, groups": adamx.adamw(RATE, groups=[adamx.Group("embed|bias", weight_decay=0.0)]),
        "optax.partition": optax.partition({"first": optax.adamw(RATE), "rest": optax.adamw(RATE)}, labels),
    }
    paths = lambda state: [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]  # noqa: E731
    return {name: paths(opt.init(params)) for name, opt in opts.items()}


def table(case: str, rows: dict[str, dict[str, Any]]) -> Table:
    result = Table(title=case)
    result.add_column("step")
    for heading in ("ms", "middle half", "ratio", "middle half", "to", "temporary bytes"):
        result.add_column(heading, justify="right")
    for name, row in rows.items():
        ms, ratio = row["milliseconds"], row["ratio"]
        halves = (f"{x['low']:.2f}–{x['high']:.2f}" for x in (ms, ratio))
        cells = (f"{ms['median']:.2f}", next(halves), f"{ratio['median']:.2f}", next(halves), row["beside"])
        result.add_row(name, *cells, f"{row['temporary']:.2f}")
    return result


def main() -> None:
    parts = ("time", "compile", "bytes", "tree")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("wrappers.json"), help="the JSON file")
    arguments = parser.parse_args()
    console, results = Console(), {}
    about = {"load": os.getloadavg()[0]}
    console.print(f"jax {jax.__version__}, {machine()}, {about}, native: {adamx.kernels.available()['native']}")

    def keep(part: str, found: Any) -> None:
        results[part] = found
        write(arguments.output, **about, rounds=arguments.rounds, **results)

    if "tree" in arguments.parts:
        keep("tree", trees())
        for name, paths in results["tree"].items():
            console.print(f"{name}: {', '.join(paths)}", markup=False)
    if "compile" in arguments.parts:
        keep("compile", compile_seconds())
        console.print({name: round(x, 2) for name, x in results["compile"].items()})
    if "time" in arguments.parts:
        cases = {"16 M in 4 leaves": LARGE, "200 leaves": MANY}
        for case, shapes in cases.items():
            keep("time", results.get("time", {}) | {case: timed(shapes, arguments.rounds)})
            console.print(table(case, results["time"][case]))
    if "bytes" in arguments.parts:
        for target in TARGETS:
            if (reason := missing(target)) is not None:
                console.print(f"without {target}: {reason}", markup=False)
                continue
            keep("bytes", results.get("bytes", {}) | {target: moved(target)})
            for name, row in results["bytes"][target].items():
                told = {key: x if isinstance(x, str) else round(x, 3) for key, x in row.items()}
                console.print(f"{target:5} {name:26} {told}", markup=False)


if __name__ == "__main__":
    main()
