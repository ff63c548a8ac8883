"""What does a step of an embedding table cost, and is it exact? Beside steps of the whole table, and PyTorch's.

`python -m benchmarks.rows [--parts time size exact] [--rows N] [--ids N] [--features N] [--rounds N] [--steps N]`.
"time": a step of as many distinct random rows, in turns: looked up, and stepped by given gradients; of rows that slept
for thousands of steps. Optax's gradient is dense, as derivatives of a lookup are. "size": over tables of 10⁵ to 10⁷
rows, and over rows that slept for 1 to 10⁶ steps. "exact": `Rows` in both precisions, and steps of the whole table in
single precision, as their distance from steps of the whole table in double precision; in units of the farthest that a
weight moved. Ids follow Zipf's law and gradients span eight decades.
"""

import argparse
import functools
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

from .machine import Spread, in_turns, write

RATE, DECAY, SLEPT = 1e-3, 1e-2, 5000


def cosine(count: Any) -> Any:
    """A schedule in the precision of the run."""
    return RATE * 0.5 * (1 + jnp.cos(jnp.asarray(count).astype(float) / 10_000))


TIMED = {
    "adamx, adam": adamx.Rows(adamx.adam(RATE)),
    "adamx, adamw": adamx.Rows(adamx.adamw(RATE, weight_decay=DECAY)),
    "adamx, adamw, b2=.95": adamx.Rows(adamx.adamw(RATE, b2=0.95, weight_decay=DECAY)),
    "adamx, adamw, cosine": adamx.Rows(adamx.adamw(cosine, weight_decay=DECAY)),
    "adamx, one second moment a row": adamx.Rows(adamx.adam_mini(RATE, keep=(0,))),
    "adamx, lazy": adamx.Rows(adamx.adam(RATE), catch_up="lazy"),
}

EXACT = {
    "adam": adamx.adam(1e-2),
    "adam, b2 = .95": adamx.adam(1e-2, b2=0.95),
    "adamw, b1 = b2 = .95": adamx.adamw(1e-2, 0.95, 0.95, weight_decay=0.1),
    "adamw, cosine": adamx.adamw(cosine, weight_decay=0.1),
    "adamw, independent": adamx.adamw(1e-2, weight_decay=1e-3, decay="independent"),
    "nadam": adamx.nadam(cosine, momentum_decay=4e-3),
    "amsgrad": adamx.amsgrad(cosine),
    "adamax": adamx.adamax(cosine),
    "lion": adamx.lion(cosine, weight_decay=0.1),
    "rmsprop, momentum": adamx.rmsprop(cosine, momentum=0.9),
    "adagrad": adamx.adagrad(1e-2),
    "laprop": adamx.laprop(cosine, weight_decay=0.1),
    "one second moment a row": adamx.adam_mini(cosine, keep=(0,), weight_decay=0.1),
}


def batches(rows: int, ids: int, features: int, n: int = 8) -> list[tuple[Any, Any]]:
    """Distinct ids and their gradients."""
    rng = np.random.default_rng(0)
    return [
        (rng.choice(rows, ids, replace=False).astype(np.int32), rng.normal(size=(ids, features)).astype(np.float32))
        for _ in range(n)
    ]


def asleep(rows: adamx.Rows, table: Any, steps: int) -> Any:
    """A state whose rows had a gradient once, and then none for so many steps."""
    state = rows.init(table)
    count = jnp.asarray(steps + 1, jnp.int32)
    slots = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), state.state.slots)
    return state._replace(state=state.state._replace(count=count, slots=slots), last=jnp.ones_like(state.last))


def of_rows(rows: adamx.Rows, size: tuple[int, int], data: list[Any], steps: int = SLEPT) -> Callable[[], None]:
    def step(ids: Any, grads: Any, state: Any, table: Any) -> Any:
        values, ticket = rows.take(ids, state, table)
        table, state = rows.put(grads, state, table, ticket)
        return values, state, table

    table = jnp.zeros(size)
    return _turning(jax.jit(step, donate_argnums=(2, 3)), (asleep(rows, table, steps), table), data)


def of_optax(size: tuple[int, int], data: list[Any]) -> Callable[[], None]:
    opt = optax.adamw(RATE, weight_decay=DECAY)

    def step(ids: Any, grads: Any, state: Any, table: Any) -> Any:
        dense = jnp.zeros_like(table).at[ids].add(grads)
        updates, state = opt.update(dense, state, table)
        return table[ids], state, optax.apply_updates(table, updates)

    table = jnp.zeros(size)
    return _turning(jax.jit(step, donate_argnums=(2, 3)), (opt.init(table), table), data)


def _turning(program: Any, carry: tuple[Any, Any], data: list[Any]) -> Callable[[], None]:
    held, i = [*carry], [0]
    ready = [jax.device_put(x) for x in data]

    def call() -> None:
        i[0] = (i[0] + 1) % len(ready)
        _, *held[:] = jax.block_until_ready(program(*ready[i[0]], *held))

    return call


def of_torch(size: tuple[int, int], data: list[Any]) -> Callable[[], None] | None:
    try:
        import torch
    except ImportError:
        return None
    table = torch.nn.Parameter(torch.zeros(size))
    opt, i = torch.optim.SparseAdam([table], lr=RATE), [0]
    ready = [(torch.tensor(ids).long(), torch.tensor(grads)) for ids, grads in data]

    def call() -> None:
        i[0] = (i[0] + 1) % len(ready)
        ids, grads = ready[i[0]]
        torch.nn.functional.embedding(ids, table)
        table.grad = torch.sparse_coo_tensor(ids[None], grads, size, check_invariants=False)
        opt.step()

    return call


def timed(size: tuple[int, int], ids: int, rounds: int) -> dict[str, Any]:
    data = batches(size[0], ids, size[1])
    calls = {name: of_rows(rows, size, data) for name, rows in TIMED.items()}
    calls |= {"torch SparseAdam": of_torch(size, data), "optax.adamw, whole table": of_optax(size, data)}
    seconds = in_turns({name: call for name, call in calls.items() if call is not None}, rounds)
    return {name: Spread.of(1e3 * x for x in row)._asdict() for name, row in seconds.items()}


def sizes(ids: int, rounds: int, largest: int = 10_000_000, features: int = 16) -> dict[str, Any]:
    """Of adamw with a schedule, whose state has the most arrays."""
    rows, calls = TIMED["adamx, adamw"], {}
    for n in (100_000, 1_000_000, 10_000_000):
        if n <= largest:
            calls[f"{n:,} rows"] = of_rows(rows, (n, features), batches(n, ids, features))
    for steps in (1, 100, 1_000_000):
        calls[f"100,000 rows, asleep for {steps:,} steps"] = of_rows(
            rows, (100_000, features), batches(100_000, ids, features, 40), steps
        )
    seconds = in_turns(calls, rounds)
    return {name: Spread.of(1e3 * x for x in row)._asdict() for name, row in seconds.items()}


def exact(opt: Any, steps: int, n: int = 50, width: int = 4, taken: int = 6) -> dict[str, float]:
    rng, rows = np.random.default_rng(0), adamx.Rows(opt)
    share = 1 / np.arange(1.0, n + 1) ** 2
    ids = rng.choice(n, (steps, taken), p=share / share.sum()).astype(np.int32)
    grads = rng.normal(size=(steps, taken, width)) * 10.0 ** rng.uniform(-7, 1, (steps, taken, 1))
    start = rng.normal(size=(n, width)) / 100

    def by_rows(carry: Any, x: Any) -> Any:
        _, ticket = rows.take(x[0], carry[1], carry[0])
        return rows.put(x[1], carry[1], carry[0], ticket), None

    def whole(carry: Any, x: Any) -> Any:
        return opt.step(jnp.zeros_like(carry[0]).at[x[0]].add(x[1]), carry[1], carry[0]), None

    def after(body: Any, make: Any, finish: Any, dtype: Any) -> Any:
        # Single precision is of the same numbers.
        table = jnp.asarray(start.astype(np.float32), dtype)
        xs = jnp.asarray(ids), jnp.asarray(grads.astype(np.float32), dtype)
        scan = jax.jit(lambda carry, xs: jax.lax.scan(body, carry, xs)[0])
        return np.asarray(finish(*scan((table, make(table)), xs)), float)

    flushed = jax.jit(lambda table, state: rows.flush(state, table)[0])
    with jax.enable_x64(True):
        wanted = after(whole, opt.init, lambda table, _: table, jnp.float64)
        found = {
            "float32": after(by_rows, rows.init, flushed, jnp.float32),
            "float32, whole table": after(whole, opt.init, lambda table, _: table, jnp.float32),
            "float64": after(by_rows, rows.init, flushed, jnp.float64),
        }
    moved = np.abs(wanted - start).max()
    return {name: float(np.abs(x - wanted).max() / moved) for name, x in found.items()}


def show(title: str, rows: dict[str, dict[str, float]], form: str) -> None:
    table = Table(title=title)
    for name in ("", *next(iter(rows.values()))):
        table.add_column(name, justify="right" if name else "left")
    for name, row in rows.items():
        table.add_row(name, *(format(x, form) for x in row.values()))
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    number = functools.partial(parser.add_argument, type=int)
    parser.add_argument("--parts", nargs="+", default=["time", "size", "exact"], choices=["time", "size", "exact"])
    number("--rows", default=1_000_000, help="of the table of `time`, and the most of `size`, times ten")
    number("--ids", default=1024)
    number("--features", default=64)
    number("--rounds", default=15)
    number("--steps", default=2000, help="of `exact`")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/rows.json"))
    args = parser.parse_args()
    found: dict[str, Any] = {}
    if "time" in args.parts:
        found["time"] = timed((args.rows, args.features), args.ids, args.rounds)
        show(f"Milliseconds, {args.ids:,} ids of {args.rows:,} x {args.features}", found["time"], ".3f")
    if "size" in args.parts:
        found["size"] = sizes(args.ids, args.rounds, 10 * args.rows)
        show("Milliseconds, 16 features", found["size"], ".3f")
    if "exact" in args.parts:
        found["exact"] = {name: exact(opt, args.steps) for name, opt in EXACT.items()}
        show(f"Distance after {args.steps:,} steps, as a share of the way", found["exact"], ".1e")
    write(args.output, settings={k: v for k, v in vars(args).items() if k != "output"}, **found)


if __name__ == "__main__":
    main()
