"""How long does a step take? adamx beside Optax, PyTorch's fused AdamW and a loop in C, in turns, in one process.

`python -m benchmarks.step_time [--full] [--rounds N]`. Every contender owns its parameters and state and steps with the
same gradients; a call returns when the new parameters are there. Times are medians over rounds with the middle half,
ratios the median of each round's ratio to Optax's. On another device than a CPU, XLA's path is measured alone, and the
share of the bandwidth `--peak` (GB/s) that the bytes of a step amount to.
"""

import argparse
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import adamx

from .machine import Spread, in_turns, machine, write

RATE, DECAY = 1e-3, 1e-2
M = 2**20

Tree = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
Make = Callable[[Shapes], Callable[[], None]]


def one_leaf(millions: int) -> Shapes:
    return {"w": (millions * 1024, 1024)}


def transformer(layers: int = 12, width: int = 768, words: int = 50257, context: int = 1024) -> Shapes:
    """GPT-2's 124 million parameters as they are laid out."""
    shapes: Shapes = {"wte": (words, width), "wpe": (context, width), "ln": (width,), "ln_b": (width,)}
    for i in range(layers):
        block = {"ln1": (width,), "ln1_b": (width,), "ln2": (width,), "ln2_b": (width,)}
        for name, (a, b) in {"qkv": (1, 3), "mix": (1, 1), "up": (1, 4), "down": (4, 1)}.items():
            block |= {name: (a * width, b * width), f"{name}_b": (b * width,)}
        shapes |= {f"h{i}.{name}": shape for name, shape in block.items()}
    return shapes


CASES: dict[str, tuple[Shapes, bool]] = {
    "1 M in one leaf": (one_leaf(1), False),
    "16 M in one leaf": (one_leaf(16), False),
    "64 M in one leaf": (one_leaf(64), True),
    "128 M in one leaf": (one_leaf(128), True),
    "transformer, 124 M": (transformer(), False),
    "2,000 leaves of 64": ({f"p{i}": (64,) for i in range(2000)}, False),
}
"""Name, shapes, and whether it is left to `--full`."""


def arrays(shapes: Shapes, dtype: Any = np.float32, scale: float = 1.0) -> Tree:
    rng = np.random.default_rng(0)
    return {k: jnp.asarray(scale * rng.standard_normal(s, np.float32), dtype) for k, s in shapes.items()}


# Contenders


def stepped(step: Callable[..., Any], init: Callable[[Tree], Any], dtype: Any = jnp.float32) -> Make:
    """A jitted step with parameters and state donated.

    They are taken and given in the same order, as in a training loop: JAX reuses donated buffers of one shape in order.
    """

    def make(shapes: Shapes) -> Callable[[], None]:
        in_order = lambda params, state, grads: step(grads, state, params)  # noqa: E731
        compiled, grads = jax.jit(in_order, donate_argnums=(0, 1)), arrays(shapes, dtype, 1e-2)
        carry = [arrays(shapes, dtype)]
        carry.append(init(carry[0]))

        def call() -> None:
            carry[0], carry[1] = jax.block_until_ready(compiled(carry[0], carry[1], grads))

        return call

    return make


def chained(opt: optax.GradientTransformation) -> Make:
    """`update` and `apply_updates`, as in a chain."""

    def step(grads: Tree, state: Any, params: Tree) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return stepped(step, opt.init)


def of_adamx(dtype: Any = jnp.float32, **kwargs: Any) -> Make:
    opt = adamx.adamw(RATE, weight_decay=DECAY, **kwargs)
    return stepped(opt.step, opt.init, dtype)


def of_torch(shapes: Shapes) -> Callable[[], None]:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes.values()]
    for p in params:
        p.grad = 1e-2 * torch.randn(p.shape)
    opt = torch.optim.AdamW(params, lr=RATE, weight_decay=DECAY, fused=True)
    return opt.step


def of_c(shapes: Shapes) -> Callable[[], None]:
    """In place on arrays of JAX's: NumPy's, on larger pages of memory, would be faster for any of us."""
    library = compiled_loop()
    buffers = [
        [x, g, jnp.zeros_like(x), jnp.zeros_like(x)]
        for x, g in zip(arrays(shapes).values(), arrays(shapes, scale=1e-2).values(), strict=True)
    ]
    pointers = [(row[0].size, *(ctypes.c_void_p(x.unsafe_buffer_pointer()) for x in row)) for row in buffers]
    numbers = [ctypes.c_float(x) for x in (RATE, DECAY, 0.9, 0.999, 0.5, 0.5, 1e-8)]

    def call(keep: Any = buffers) -> None:
        del keep
        for size, *arrays_of in pointers:
            library.adamw(ctypes.c_long(size), *arrays_of, *numbers)

    return call


def compiled_loop() -> Any:
    folder = Path(tempfile.mkdtemp())
    source, target = Path(__file__).with_name("plain_loop.c"), folder / "plain_loop.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(source), "-o", str(target), "-lm"], check=True)
    return ctypes.CDLL(str(target))


OPTAX = "optax"
NARROW = {"dtype": jnp.bfloat16, "weights": "split8", "moments": "int8"}
CONTENDERS: dict[str, tuple[Make, float]] = {
    OPTAX: (chained(optax.adamw(RATE, weight_decay=DECAY)), 28),
    "adamx": (of_adamx(), 28),
    "adamx, moments bfloat16": (of_adamx(moments="bfloat16"), 20),
    "adamx, moments int8": (of_adamx(moments="int8"), 16.1),
    "adamx, bfloat16 weights and gradients, split8, int8": (of_adamx(**NARROW), 12.1),
    "adamx, kernel xla": (of_adamx(kernel="xla"), 28),
    "adamx, update and apply_updates": (chained(adamx.adamw(RATE, weight_decay=DECAY)), 28),
    "loop in C": (of_c, 28),
    "torch fused": (of_torch, 28),
}
"""Each with the bytes per parameter that a single pass reads and writes."""
ELSEWHERE = (OPTAX, "adamx", "adamx, moments bfloat16", "adamx, moments int8")


def measure(shapes: Shapes, names: list[str], rounds: int, console: Console) -> dict[str, dict[str, Any]]:
    """Of each contender, milliseconds of a step and the ratio to Optax's."""
    ready: dict[str, Callable[[], None]] = {}
    for name in names:
        try:
            ready[name] = CONTENDERS[name][0](shapes)
        except (ImportError, OSError, subprocess.CalledProcessError) as error:
            console.print(f"without {name}: {error}")
    seconds = in_turns(ready, rounds)
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    return {
        name: {
            "milliseconds": Spread.of(1e3 * x for x in row)._asdict(),
            "to_optax": Spread.of(x / y for x, y in zip(row, seconds[OPTAX], strict=True))._asdict(),
            "gigabytes_per_second": size * CONTENDERS[name][1] / median(row) / 1e9,
        }
        for name, row in seconds.items()
    }


def table(case: str, rows: dict[str, dict[str, Any]], peak: float | None) -> Table:
    result = Table(title=case)
    result.add_column("contender")
    for heading in ("ms", "middle half", "to Optax", "middle half", "GB/s", *(["share of peak"] if peak else [])):
        result.add_column(heading, justify="right")
    for name, row in rows.items():
        ms, ratio, speed = row["milliseconds"], row["to_optax"], row["gigabytes_per_second"]
        result.add_row(
            name,
            f"{ms['median']:.2f}",
            f"{ms['low']:.2f}–{ms['high']:.2f}",
            f"{ratio['median']:.2f}",
            f"{ratio['low']:.2f}–{ratio['high']:.2f}",
            f"{speed:.1f}",
            *([f"{speed / peak:.0%}"] if peak else []),
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true", help="also 64 M and 128 M parameters in one leaf")
    parser.add_argument("--quick", action="store_true", help="1 M parameters and 50 leaves, three rounds")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--peak", type=float, help="memory bandwidth in GB/s, for its share")
    parser.add_argument("--output", type=Path, default=Path("step_time.json"), help="the JSON file")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"jax {jax.__version__}, {machine()}, native kernel: {adamx.kernels.available()['native']}")
    on_cpu = jax.default_backend() == "cpu"
    names = list(CONTENDERS if on_cpu else ELSEWHERE)
    cases = {name: shapes for name, (shapes, big) in CASES.items() if arguments.full or not big}
    rounds = arguments.rounds
    if arguments.quick:
        cases, rounds = {"1 M": one_leaf(1), "50 leaves of 64": {f"p{i}": (64,) for i in range(50)}}, 3
    results = {}
    for case, shapes in cases.items():
        results[case] = measure(shapes, names, rounds, console)
        console.print(table(case, results[case], arguments.peak))
        write(arguments.output, rounds=rounds, peak=arguments.peak, cases=results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
