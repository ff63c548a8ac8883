"""What does `adamx.monitor` cost in a training step of the demo's CNN? `python -m benchmarks.monitor_cost`.

Contenders take turns: Adam by itself, under a monitor that looks at every step, at every tenth, and at every step
without adamx's C++, neither for the step nor for the monitor's sums. "in a scan" is the demo's own way, an epoch in one
compiled function; "a call each" is a compiled step with donated parameters and state.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from rich.console import Console
from rich.table import Table

import adamx
from adamx.diagnostics import monitor
from adamx.examples.data import Dataset, digits
from adamx.examples.models import CNN, cross_entropy
from adamx.examples.protocol import Settings
from adamx.flax import take_step

from .machine import Spread, in_turns, machine, write

CONTENDERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: adamx.adam(1e-3),
    "monitored": lambda: monitor(adamx.adam(1e-3)),
    "monitored, every=10": lambda: monitor(adamx.adam(1e-3), every=10),
    "monitored, all by XLA": lambda: monitor(adamx.adam(1e-3, kernel="xla")),
}


def trainings(name: str, dataset: Dataset, batch_size: int) -> dict[str, tuple[Callable[[], None], int]]:
    """Of each way to train, what runs it and how many steps that takes."""
    opt = CONTENDERS[name]()
    shape = dataset.train_images.shape[1:]
    graph, params = nnx.split(CNN(shape, dataset.classes, rngs=nnx.Rngs(0)), nnx.Param)
    steps = len(dataset.train_labels) // batch_size
    images = jax.device_put(dataset.train_images[: steps * batch_size].reshape(steps, batch_size, *shape))
    labels = jax.device_put(dataset.train_labels[: steps * batch_size].reshape(steps, batch_size))

    def step(carry: tuple[Any, Any], batch: tuple[Any, Any]) -> tuple[tuple[Any, Any], None]:
        params, state = carry
        grads = jax.grad(lambda p: cross_entropy(nnx.merge(graph, p)(batch[0]), batch[1]))(params)
        return take_step(opt, grads, state, params), None

    epoch = jax.jit(lambda carry: jax.lax.scan(step, carry, (images, labels))[0], donate_argnums=0)
    one = jax.jit(lambda carry, batch: step(carry, batch)[0], donate_argnums=0)
    batches = [jax.block_until_ready((images[i], labels[i])) for i in range(steps)]
    fresh = partial(jax.tree.map, lambda x: x.copy())
    carries = {way: fresh((params, opt.init(params))) for way in ("in a scan", "a call each")}

    def scanned() -> None:
        carries["in a scan"] = jax.block_until_ready(epoch(carries["in a scan"]))

    def called() -> None:
        carry = carries["a call each"]
        for batch in batches:
            carry = one(carry, batch)
        carries["a call each"] = jax.block_until_ready(carry)

    return {"in a scan": (scanned, steps), "a call each": (called, steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--output", type=Path, default=Path("monitor_cost.json"), help="the JSON file")
    arguments = parser.parse_args()
    console = Console()
    dataset, batch_size = digits(), Settings().batch_size
    console.print(f"jax {jax.__version__}, {machine()}, native kernel: {adamx.kernels.available()['native']}")
    ready = {name: trainings(name, dataset, batch_size) for name in CONTENDERS}
    table = Table(title=f"CNN of the demo, digits, batch {batch_size}: medians; ratios to Adam's in the same round")
    for heading in ("training", "contender", "µs a step", "to Adam", "middle half"):
        table.add_column(heading, justify="left" if heading in ("training", "contender") else "right")
    results: dict[str, dict[str, Any]] = {}
    for way in ready["adam"]:
        seconds = in_turns({name: ready[name][way][0] for name in CONTENDERS}, arguments.rounds)
        results[way] = {}
        for name, row in seconds.items():
            one = Spread.of(x / ready[name][way][1] for x in row)
            ratio = Spread.of(x / y for x, y in zip(row, seconds["adam"], strict=True))
            results[way][name] = {"seconds": one._asdict(), "to_adam": ratio._asdict()}
            span = f"{ratio.low:.3f}–{ratio.high:.3f}"
            table.add_row(way, name, f"{1e6 * one.median:.0f}", f"{ratio.median:.3f}", span)
    console.print(table)
    write(arguments.output, rounds=arguments.rounds, batch_size=batch_size, training=results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
