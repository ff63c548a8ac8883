"""Compile for GPUs and TPUs that are not there, and count what the compiled program does.

The compilers are JAX's plugins, which need no driver and no device: `missing` says what to install. JAX has to be kept
from looking for devices of theirs: set `JAX_PLATFORMS=cpu` before it is imported. One process at a time can load the
TPU's, or more with `ALLOW_MULTIPLE_LIBTPU_LOAD=1`. Nothing here tells a speed.
"""

import functools
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from . import hlo


class Target(NamedTuple):
    """A device to compile for.

    Attributes:
        platform: JAX's name of its platform.
        topology: how many of them there are, in the platform's words.
        plugin: the module that compiles.
        description: the file in `targets/` that describes the device; a TPU's name is enough.
    """

    platform: str
    topology: str
    plugin: str
    description: str | None = None


TARGETS = {
    "H100": Target("cuda", "1x1x1", "jax_plugins.xla_cuda12", "h100.txtpb"),
    "A100": Target("cuda", "1x1x1", "jax_plugins.xla_cuda12", "a100.txtpb"),
    "v5e": Target("tpu", "v5e:2x2", "libtpu"),
    "v6e": Target("tpu", "v6e:2x2", "libtpu"),
}

INSTALL = f"pip install 'jax[tpu,cuda12-local]=={jax.__version__}'"
"""Both plugins, of the versions that belong to this JAX, and nothing of CUDA's own."""


def missing(target: str) -> str | None:
    """Why nothing can be compiled for the target, and the cure; `None` if it can."""
    plugin = TARGETS[target].plugin
    try:
        found = find_spec(plugin) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        return f"{plugin}, which compiles for {target}, is not installed: {INSTALL}"
    config: Any = jax.config
    return None if config.jax_platforms == "cpu" else "JAX_PLATFORMS=cpu has to be set before JAX is imported"


@functools.cache
def devices(target: Target) -> list[Any]:
    """Devices that programs can be compiled for and not be run on."""
    platform, topology, _, description = target
    if description is None:
        # Otherwise it asks the network what machine this is.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        return topologies.get_topology_desc(topology, platform=platform).devices
    text = (Path(__file__).parent / "targets" / description).read_text(encoding="utf-8")
    return topologies.get_topology_desc("", platform=platform, topology=topology, target_config=text).devices


class Step(NamedTuple):
    """A step to compile.

    Attributes:
        function: from `arguments` to what comes in place of the donated ones.
        arguments: trees of shapes and dtypes.
        donated: which of the arguments are written over; the others are read only.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: tuple[int, ...]

    def ideal(self) -> int:
        """Bytes that have to be moved: each array read once, and if it is donated, written once."""
        times = (1 + (i in self.donated) for i in range(len(self.arguments)))
        return sum(n * nbytes(tree) for n, tree in zip(times, self.arguments, strict=True))


def nbytes(tree: Any) -> int:
    """Of all arrays of a tree of shapes and dtypes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


class Counts(NamedTuple):
    """What was counted in a compiled step.

    Attributes:
        bytes: read from and written to the device's main memory.
        ideal: what has to be.
        kernels: how many are started.
        big: those among them that touch an array of at least as many elements as `large`.
        scalars: instructions of a TPU's scalar unit.
        temporary: bytes set aside beside arguments and results.
        seconds: of tracing, lowering and compiling.
        processor: the same, of all processors.
    """

    bytes: int
    ideal: int
    kernels: int
    big: int
    scalars: int
    temporary: int
    seconds: float
    processor: float


def compiled(step: Step, target: str) -> tuple[Any, float, float]:
    """The compiled step, and how many seconds and seconds of all processors that took."""
    sharding = SingleDeviceSharding(devices(TARGETS[target])[0])
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
    arguments = jax.tree.map(place, step.arguments)
    begin, busy = time.perf_counter(), time.process_time()
    program = jax.jit(step.function, donate_argnums=step.donated).trace(*arguments).lower().compile()
    return program, time.perf_counter() - begin, time.process_time() - busy


def counts(step: Step, target: str, large: int, rounds: int | None = None) -> Counts:
    """Compile a step, and count; `large` is the number of elements from which on an array is large.

    `rounds` is how often loops run whose number of iterations XLA does not know.
    """
    program, seconds, processor = compiled(step, target)
    work = hlo.work(program.as_text(), rounds)
    kernels = [x for x in work if x.kind == "kernel"]
    return Counts(
        sum(x.read + x.written for x in work),
        step.ideal(),
        len(kernels),
        sum(x.size >= large for x in kernels),
        sum(x.kind == "scalar" for x in work),
        program.memory_analysis().temp_size_in_bytes,
        seconds,
        processor,
    )
