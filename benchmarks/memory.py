"""What a step takes beyond parameters, gradients and state: bytes that XLA sets aside, and the process's own peak.

`python -m benchmarks.memory [--millions N]`. Every contender has a process of its own, parameters and state donated.
Temporary bytes are XLA's; the peak is how far the resident memory rises during steps above what arrays take.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import adamx

from .machine import machine, write

CONTENDERS = ("optax", "adamx", "adamx, int8", "adamx, kernel xla", "adamx, int8, kernel xla", "adamx, update")


def contender(name: str) -> tuple[Any, Any]:
    """The optimizer and its step."""
    if name == "optax":
        opt: Any = optax.adamw(1e-3)
    else:
        moments = "int8" if "int8" in name else "float32"
        opt = adamx.adamw(1e-3, moments=moments, kernel="xla" if "kernel xla" in name else "auto")
    if name in ("optax", "adamx, update"):

        def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
            updates, state = opt.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        return opt, step
    return opt, lambda params, state, grads: opt.step(grads, state, params)


def measure(name: str, millions: int) -> dict[str, float]:
    """In this process: bytes of the state, XLA's temporary ones, and the rise of the resident memory while stepping."""
    opt, step = contender(name)
    params = {f"w{i}": jnp.full((millions * 256, 1024), 0.5) for i in range(4)}
    grads = {k: x * 0.1 for k, x in params.items()}
    state = jax.block_until_ready(jax.jit(opt.init)(params))
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
    analysis: Any = compiled.memory_analysis()
    parameters = sum(x.size for x in params.values())
    held = sum(x.nbytes for x in jax.tree.leaves((params, grads, state)))
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
    for _ in range(3):
        params, state = jax.block_until_ready(compiled(params, state, grads))
    return {
        "state": sum(x.nbytes for x in jax.tree.leaves(state)) / parameters,
        "temporary": analysis.temp_size_in_bytes / parameters,
        "held": held / parameters,
        "rise": max(peak() - before, 0) / parameters,
    }


def resident() -> int:
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), _maximum())


def _maximum() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--millions", type=int, default=64, help="parameters, in four leaves")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("memory.json"), help="the JSON file")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.millions)))
        return
    console = Console()
    console.print(f"jax {jax.__version__}, {machine()}, native kernel: {adamx.kernels.available()['native']}")
    table = Table(title=f"bytes per parameter, {arguments.millions} M parameters in four leaves")
    for heading in ("contender", "state", "parameters, gradients, state", "XLA's temporary", "rise of the peak"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    results = {}
    for name in CONTENDERS:
        command = [sys.executable, "-m", "benchmarks.memory", "--only", name, "--millions", str(arguments.millions)]
        results[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        row = results[name]
        table.add_row(name, *(f"{row[key]:.2f}" for key in ("state", "held", "temporary", "rise")))
    console.print(table)
    write(arguments.output, millions=arguments.millions, contenders=results)
    console.print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
