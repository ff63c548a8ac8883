"""What does SOAP's step cost? adamx beside a plain transcription of the algorithm, in turns, in one process.

`python -m benchmarks.matrix_soap [--width N] [--layers N] [--steps N] [--rounds N] [--only NAME ...] [--output FILE]`.
The transcription is how the method is written over Optax (SOAP_JAX): leaf by leaf, the first moment kept in the
parameters' own axes and turned at every step, the choices of the first step and of a refresh around all leaves. Each
contender takes the first step, then in turns rounds of `--steps` steps (a multiple of the ten between refreshes), of
which are printed the mean and the longest; medians over rounds. On a busy machine the threads of LAPACK wait for each
other a hundred times as long as they compute: set OPENBLAS_NUM_THREADS=1 there.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import adamx

from .machine import machine, write
from .step_time import Shapes, Tree, arrays, transformer

RATE, LONGEST, EVERY = 1e-3, 4096, 10

Step = Callable[[Any, Any, Any], tuple[Any, Any]]
"""From gradients, state and parameters to the next parameters and state."""


class Contender(NamedTuple):
    """An optimizer: how its state is made, and its step."""

    init: Callable[[Tree], Any]
    step: Step


class Plain(NamedTuple):
    """The state of the transcription; statistics and bases are lists, of an axis that is not turned `None`."""

    count: Any
    mu: Any
    nu: Any
    statistics: Any
    bases: Any


def transcription(b: float = 0.95, eps: float = 1e-8, decay: float = 0.01) -> Contender:
    highest = jax.lax.Precision.HIGHEST

    def each(f: Callable[..., Any], *trees: Tree) -> Tree:
        return {name: f(*(tree[name] for tree in trees)) for name in trees[0]}

    def squares(p: Any) -> list[Any]:
        return [jnp.zeros((n, n)) if p.ndim > 1 and n <= LONGEST else None for n in p.shape]

    def seen(x: Any, bases: list[Any], of: int) -> Any:
        for q in bases:
            x = jnp.moveaxis(x, 0, -1) if q is None else jnp.tensordot(x, q, ((0,), (of,)), precision=highest)
        return x

    def gathered(g: Any, statistics: list[Any]) -> list[Any]:
        others = [[i for i in range(g.ndim) if i != axis] for axis in range(g.ndim)]
        return [
            None if s is None else s + (1 - b) * (jnp.tensordot(g, g, (axes, axes), precision=highest) - s)
            for s, axes in zip(statistics, others, strict=True)
        ]

    def first(statistics: list[Any]) -> list[Any]:
        return [None if s is None else jnp.linalg.eigh(s + 1e-30 * jnp.eye(len(s)))[1][:, ::-1] for s in statistics]

    def refreshed(nu: Any, statistics: list[Any], bases: list[Any]) -> tuple[Any, list[Any]]:
        new = []
        for axis, (s, q) in enumerate(zip(statistics, bases, strict=True)):
            if s is None:
                new.append(None)
                continue
            values = jnp.diag(jnp.matmul(jnp.matmul(q.T, s, precision=highest), q, precision=highest))
            order = jnp.argsort(-values)
            nu = jnp.take(nu, order, axis)
            new.append(jnp.linalg.qr(jnp.matmul(s, q[:, order], precision=highest))[0])
        return nu, new

    def init(params: Tree) -> Plain:
        zeros, none = each(jnp.zeros_like, params), each(squares, params)
        return Plain(jnp.zeros([], jnp.int32), zeros, zeros, none, none)

    def step(grads: Tree, state: Plain, params: Tree) -> tuple[Tree, Plain]:
        t = state.count

        def begin() -> tuple[Tree, Plain]:
            statistics = each(gathered, grads, state.statistics)
            return params, state._replace(statistics=statistics, bases=each(first, statistics))

        def go_on() -> tuple[Tree, Plain]:
            turned = each(lambda g, q: seen(g, q, 0), grads, state.bases)
            mu = each(lambda m, g: b * m + (1 - b) * g, state.mu, grads)
            nu = each(lambda v, g: b * v + (1 - b) * g * g, state.nu, turned)
            ahead = each(lambda m, q: seen(m, q, 0), mu, state.bases)
            u = each(lambda m, v, q: seen(m / (jnp.sqrt(v) + eps), q, 1), ahead, nu, state.bases)
            rate = RATE * jnp.sqrt(1 - b**t) / (1 - b**t)
            new = each(lambda p, u: (p - rate * u) * (1 - RATE * decay), params, u)
            statistics = each(gathered, grads, state.statistics)

            def refresh() -> tuple[Tree, Tree]:
                both = each(refreshed, nu, statistics, state.bases)
                return {k: x[0] for k, x in both.items()}, {k: x[1] for k, x in both.items()}

            nu, bases = jax.lax.cond(t % EVERY == 0, refresh, lambda: (nu, state.bases))
            return new, Plain(t, mu, nu, statistics, bases)

        new, after = jax.lax.cond(t == 0, begin, go_on)
        return new, after._replace(count=t + 1)

    return Contender(init, step)


def of_adamx(**options: Any) -> Contender:
    opt = adamx.soap(RATE, max_precondition_dim=LONGEST, **options)
    return Contender(opt.init, opt.step)


def contenders() -> dict[str, Contender]:
    return {
        "transcription": transcription(),
        "adamx.soap": of_adamx(),
        "staggered": of_adamx(staggered=True),
        "one-sided": of_adamx(one_sided=True),
        "kl": of_adamx(kl=True),
        "adamx.adamw": Contender((opt := adamx.adamw(RATE)).init, opt.step),
    }


class Run:
    """A contender's compiled step with its parameters and state, which it changes in place."""

    def __init__(self, contender: Contender, shapes: Shapes, grads: list[Tree]) -> None:
        params = arrays(shapes)
        state = jax.jit(contender.init)(params)
        in_order = lambda params, state, grads: contender.step(grads, state, params)  # noqa: E731
        lowered = jax.jit(in_order, donate_argnums=(0, 1)).lower(params, state, grads[0])
        begin = time.perf_counter()
        self.compiled = lowered.compile()
        self.compile_time = time.perf_counter() - begin
        self.bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        self.carry, self.grads, self.means, self.longest = (params, state), grads, [], []
        self.take(1)

    def take(self, steps: int) -> list[float]:
        """Seconds of each step."""
        times = []
        for i in range(steps):
            begin = time.perf_counter()
            self.carry = jax.block_until_ready(self.compiled(*self.carry, self.grads[i % len(self.grads)]))
            times.append(time.perf_counter() - begin)
        return times

    def round(self, steps: int) -> None:
        """One turn."""
        times = self.take(steps)
        self.means.append(mean(times))
        self.longest.append(max(times))


def measured(shapes: Shapes, steps: int, rounds: int, names: list[str]) -> dict[str, dict[str, float]]:
    grads = [jax.tree.map(lambda g, i=i: jnp.roll(g, i), arrays(shapes, scale=1e-2)) for i in range(4)]
    runs = {name: Run(x, shapes, grads) for name, x in contenders().items() if name in names}
    for _ in range(rounds):
        for run in runs.values():
            run.round(steps)
    return {
        name: {
            "mean": median(run.means),
            "longest": median(run.longest),
            "ratio": median(a / b for a, b in zip(run.means, runs[names[0]].means, strict=True)),
            "compile": run.compile_time,
            "bytes": run.bytes,
        }
        for name, run in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2 * EVERY)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[*contenders()])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    shapes = transformer(args.layers, args.width, 12_000, 256)
    found = measured(shapes, args.steps, args.rounds, args.only)
    table = Table("", "mean (ms)", "longest (ms)", f"mean / {args.only[0]}'s", "compile (s)", "state (MB)")
    for name, x in found.items():
        times = (f"{1e3 * x['mean']:.1f}", f"{1e3 * x['longest']:.1f}", f"{x['ratio']:.2f}")
        table.add_row(name, *times, f"{x['compile']:.2f}", f"{x['bytes'] / 1e6:.1f}")
    Console(width=110).print(table)
    if args.output is not None:
        write(args.output, width=args.width, layers=args.layers, steps=args.steps, results=found)
    else:
        print(machine())


if __name__ == "__main__":
    main()
