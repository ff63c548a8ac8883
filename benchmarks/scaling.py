"""How much of the state does a device hold, and what do devices exchange in a step? By how weights are cut.

`python -m benchmarks.scaling [--parts formats sums] [--devices N]`. Steps of a transformer's block are compiled for N
devices of the CPU, and the exchanges in XLA's optimised program counted: those of the optimizer alone, as gradients
come cut like the weights (with ZeRO-1 like the state). GPT-2, of two layers, is compiled for sixteen v5e, for which the
TPU's compiler has to be installed. Kernels are timed under `jit`, beside `shard_map` around them.
"""

import argparse
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # before JAX is imported: it is not to look for the devices whose compilers are installed
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx

from . import hlo, scaling_tables
from .deviceless import TARGETS, devices, missing
from .machine import Spread, in_turns, machine, versions, write
from .step_time import Shapes, transformer

Row = dict[str, Any]
AXIS = "x"
KINDS = (AxisType.Auto, AxisType.Explicit)
FSDP, HOST = "FSDP, first axis", "FSDP, first axis, state in host memory"


class Strategy(NamedTuple):
    """How weights and state are cut over a mesh of one axis.

    Attributes:
        spec: of a weight, by its name and shape.
        zero: whether the state is cut where the weight is not, and gradients with it.
        memory_kind: where the state lives, if not in the device's memory.
    """

    spec: Callable[[str, tuple[int, ...]], P]
    zero: str | None = None
    memory_kind: str | None = None


def last(name: str, shape: tuple[int, ...]) -> P:
    return P(*[None] * (len(shape) - 1), AXIS)


def by_role(name: str, shape: tuple[int, ...]) -> P:
    """Megatron's: what widens is cut by columns, what narrows by rows, so that one sum follows both."""
    role = name.rpartition(".")[2]
    return last(name, shape) if role in COLUMNS else P(AXIS) if role in ROWS else P()


COLUMNS, ROWS = ("qkv", "qkv_b", "up", "up_b", "wpe"), ("mix", "down", "wte")

STRATEGIES = {
    "data parallel": Strategy(lambda name, shape: P()),
    FSDP: Strategy(lambda name, shape: P(AXIS)),
    "FSDP, last axis": Strategy(last),
    "tensor parallel": Strategy(by_role),
    "ZeRO-1": Strategy(lambda name, shape: P(), zero=AXIS),
    HOST: Strategy(lambda name, shape: P(AXIS), memory_kind="pinned_host"),
}


class Contender(NamedTuple):
    """An optimizer, the dtype of its weights, and to which norm gradients are clipped."""

    opt: Any
    dtype: Any = jnp.float32
    clip_norm: float | None = None

    def step(self, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        """New parameters and state."""
        if isinstance(self.opt, adamx.Optimizer):
            return self.opt.step(grads, state, params, clip_norm=self.clip_norm)
        updates, state = self.opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state


FORMATS = {
    "optax": Contender(optax.adamw(1e-3)),
    "float32": Contender(adamx.adamw(1e-3)),
    "bfloat16": Contender(adamx.adamw(1e-3, moments="bfloat16")),
    "int8": Contender(adamx.adamw(1e-3, moments="int8")),
    "int8, split8": Contender(adamx.adamw(1e-3, moments="int8", weights="split8"), jnp.bfloat16),
}

SUMS = {
    "clip_norm": Contender(adamx.adamw(1e-3), clip_norm=1.0),
    "monitor": Contender(adamx.monitor(adamx.adamw(1e-3))),
    "LAMB": Contender(adamx.lamb(1e-3)),
    "NovoGrad": Contender(adamx.novograd(1e-3)),
    "StableAdamW": Contender(adamx.stable_adamw(1e-3)),
    "Prodigy": Contender(adamx.prodigy()),
    "Adafactor": Contender(adamx.adafactor(1e-3)),
    "CAME": Contender(adamx.came(1e-3)),
}
"""What needs sums over whole arrays."""

TOGETHER = {"monitor, LAMB, clip_norm": Contender(adamx.monitor(adamx.lamb(1e-3)), clip_norm=1.0)}
SUMS |= TOGETHER


class Case(NamedTuple):
    """Shapes, dtypes and shardings of weights, state and gradients."""

    params: Any
    state: Any
    grads: Any

    @classmethod
    def of(cls, strategy: str, contender: Contender, shapes: Shapes, devices: Sequence[Any], kind: AxisType) -> "Case":
        """Nothing is allocated."""
        spec, zero, memory_kind = STRATEGIES[strategy]
        mesh = Mesh(np.array(list(devices)), (AXIS,), axis_types=(kind,))
        at = {name: NamedSharding(mesh, spec(name, shape)) for name, shape in shapes.items()}
        params = placed({name: jax.ShapeDtypeStruct(shape, contender.dtype) for name, shape in shapes.items()}, at)
        cut = adamx.state_shardings(adamx.adam(1e-3), params, zero=zero).slots.mu
        state = adamx.state_shardings(contender.opt, params, zero=zero, memory_kind=memory_kind)
        return cls(params, placed(jax.eval_shape(contender.opt.init, params), state), placed(params, cut))

    def jitted(self, step: Callable[..., Any]) -> Any:
        """A step, its first two arguments donated and given back where they were."""
        return jax.jit(step, donate_argnums=(0, 1), out_shardings=shardings((self.params, self.state)))


def placed(tree: Any, at: Any) -> Any:
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, at)


def shardings(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)


def held(tree: Any) -> int:
    """Bytes of the arrays on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def measure(
    strategy: str, contender: Contender, shapes: Shapes, devices: Sequence[Any], kind: AxisType = AxisType.Auto
) -> Row:
    """Bytes of the state on a device, an equal share of it, temporary ones; what is exchanged in a step, and its bytes.

    Those of the state are what the compiled step takes as arguments, less weights and gradients.
    """
    case = Case.of(strategy, contender, shapes, devices, kind)
    program = case.jitted(contender.step).lower(*case).compile()
    text, size = program.as_text(), program.memory_analysis()
    found = hlo.exchanges(text)
    return {
        "bytes": size.argument_size_in_bytes + size.host_argument_size_in_bytes - held((case.params, case.grads)),
        "share": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(case.state)) / len(devices),
        "temporary": size.temp_size_in_bytes,
        "exchanges": Counter(opcode for opcode, _ in found),
        "exchanged": sum(nbytes for _, nbytes in found),
    }


def formats() -> dict[str, dict[str, Row]]:
    """By strategy."""
    return {x: block({k: v for k, v in FORMATS.items() if k != "optax" or x != HOST}, x) for x in STRATEGIES}


def sums() -> dict[str, dict[str, Row]]:
    """By strategy."""
    return {x: block(SUMS, x) for x in STRATEGIES if x != HOST}


def block(contenders: dict[str, Contender], strategy: str) -> dict[str, Row]:
    """Of a transformer's block whose every part is whole groups of codes, on all devices of the CPU."""
    on = jax.devices()
    shapes = transformer(layers=1, width=128 * len(on), words=2048)
    return {name: measure(strategy, each, shapes, on) for name, each in contenders.items()}


def topology() -> dict[str, Row]:
    """Two layers of GPT-2 and its vocabulary, filled up to 50,304 words, under FSDP on sixteen TPUs."""
    if (reason := missing("v5e")) is not None:
        print(reason)
        return {}
    sixteen = devices(TARGETS["v5e"]._replace(topology="v5e:4x4"))
    shapes = transformer(layers=2, words=50304)
    both = itertools.product((FORMATS | TOGETHER).items(), KINDS)
    cases = [(f"{name}, axes {kind.name}", FSDP, each, kind) for (name, each), kind in both]
    cases += [("float32, state in host memory", HOST, FORMATS["float32"], AxisType.Auto)]
    return {name: measure(strategy, each, shapes, sixteen, kind) for name, strategy, each, kind in cases}


def kernels() -> dict[str, dict[str, Any]]:
    """Seconds of a step of 16 M parameters under `jit`, and with `shard_map` around it, in turns."""
    return {name: timed(each) for name, each in FORMATS.items() if name != "optax"}


def timed(contender: Contender, millions: int = 16, rounds: int = 11) -> dict[str, Any]:
    """Medians of each way and of the ratio in each round."""
    case = Case.of(FSDP, contender, {"w": (millions * 1024, 1024)}, jax.devices(), AxisType.Auto)
    specs = jax.tree.map(lambda x: x.sharding.spec, tuple(case))
    mesh = case.params["w"].sharding.mesh
    inside = contender._replace(opt=adamx.in_shard_map(contender.opt, specs[0]))
    mapped = jax.shard_map(inside.step, mesh=mesh, in_specs=specs, out_specs=specs[:2])

    def stepping(step: Callable[..., Any]) -> Callable[[], None]:
        start = lambda: (jax.tree.map(jnp.ones_like, case.params), contender.opt.init(case.params))  # noqa: E731
        carry, compiled = list(jax.jit(start, out_shardings=shardings(tuple(case[:2])))()), case.jitted(step)
        grads = jax.tree.map(jnp.copy, carry[0])

        def call() -> None:
            carry[:] = jax.block_until_ready(compiled(*carry, grads))

        return call

    seconds = in_turns({"jit": stepping(contender.step), "shard_map": stepping(mapped)}, rounds)
    ratios = [a / b for a, b in zip(seconds["jit"], seconds["shard_map"], strict=True)]
    return {name: Spread.of(values)._asdict() for name, values in (seconds | {"ratio": ratios}).items()}


PARTS: dict[str, Callable[[], Any]] = {f.__name__: f for f in (formats, sums, topology, kernels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=8, help="of the CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("scaling.json"), help="the JSON file")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    print(f"jax {jax.__version__}, {versions('libtpu')}, {machine()}")
    results: dict[str, Any] = {"devices": arguments.devices}
    for part in arguments.parts:
        results[part] = PARTS[part]()
        print(f"\n{scaling_tables.PARTS[part](results[part])}", flush=True)
    write(arguments.output, compilers=versions("libtpu"), **results)
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
