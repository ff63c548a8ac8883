"""What a step moves on GPUs and TPUs, compiled for them where there are none: `make test-accelerators`.

Without the compilers, which are 395 MB, every test is skipped by name.
"""

import contextlib
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from benchmarks.device_steps import CONTENDERS, SHAPES, large, measure, parameters
from benchmarks.deviceless import TARGETS, devices, missing
from benchmarks.hlo import exchanges, work

pytestmark = pytest.mark.usefixtures("one_device", "loose")


class Bar(NamedTuple):
    """What a step may take at most.

    Attributes:
        times: bytes moved, in units of the least possible.
        temporary: bytes set aside for each parameter.
        big: kernels that touch an array as large as the smallest matrix.
        kernels: all kernels.
    """

    times: float = math.inf
    temporary: float = math.inf
    big: float = math.inf
    kernels: float = math.inf


BARS = {
    "4096x4096": Bar(times=1.05, temporary=0.05, big=1),
    "GPT-2": Bar(times=1.10, big=50),  # one for each matrix
    "2000x64": Bar(kernels=64),
}

INT8, SPLIT = "adamx, moments int8", "adamx, bfloat16 weights, split8, int8"
EACH = (
    *("adamx", "adamx, moments bfloat16", INT8, SPLIT),
    *(f"adamx, bfloat16 weights, {mode}" for mode in ("stochastic", "kahan", "split16")),
    *("adamx.flax.TrainState, int8", "adamx.flax.Optimizer, int8"),
)
CASES = [
    *((target, "4096x4096", contender) for target in ("H100", "v5e") for contender in EACH),
    *((target, "4096x4096", INT8) for target in ("A100", "v6e")),
    *(("v6e", "4096x4096", f"adamx, bfloat16 weights, {mode}") for mode in ("kahan", "split16")),
    *((target, "GPT-2", contender) for target in ("H100", "v5e") for contender in (INT8, SPLIT)),
    *((target, "2000x64", "adamx") for target in ("H100", "v5e")),
]
"""One of each kind takes everything, the others what is hardest: int8, and what XLA steps in two passes on a v6e."""


@pytest.mark.parametrize(("target", "shape", "contender"), CASES)
def test_a_step_is_one_pass_over_memory(target, shape, contender):
    if reason := missing(target):
        pytest.skip(reason)
    bar, row = BARS[shape], measure(target, shape, contender)
    assert row["times"] <= bar.times
    assert row["temporary"] <= bar.temporary
    assert row["kernels"] <= bar.kernels
    assert row["big"] <= bar.big


@pytest.mark.parametrize("target", TARGETS)
def test_optax_in_float32_moves_what_has_to_be_moved(target):
    """The count itself, where XLA is known to take one pass."""
    if reason := missing(target):
        pytest.skip(reason)
    row = measure(target, "4096x4096", "optax")
    assert row["ideal"] == pytest.approx(28, rel=1e-6)
    assert row["times"] == pytest.approx(1, rel=1e-4)
    assert row["temporary"] == pytest.approx(0, abs=1e-3)
    assert row["big"] == 1


@pytest.mark.parametrize(
    ("target", "kind"), [("H100", AxisType.Auto), ("H100", AxisType.Explicit), ("v5e", AxisType.Explicit)]
)
def test_a_step_of_leaves_cut_over_four_devices_is_one_pass_over_their_parts(target, kind):
    """Nothing is sent. The compiler for TPUs asks no kernel how it is cut: where it chooses shardings, XLA steps."""
    if reason := missing(target):
        pytest.skip(reason)
    known = TARGETS[target]
    four = devices(known if known.description is None else known._replace(topology="1x4x1"))
    mesh = Mesh(np.array(four).reshape(2, 2), ("x", "y"), axis_types=(kind,) * 2)
    opt = adamx.adamw(1e-3, moments="int8", weights="split8")
    params = jax.ShapeDtypeStruct((2048, 4096), jnp.bfloat16)
    cut = lambda x: NamedSharding(mesh, P("x", "y") if x.ndim else P())  # noqa: E731
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut(x))  # noqa: E731
    params, state = jax.tree.map(place, (params, jax.eval_shape(opt.init, params)))
    with jax.set_mesh(mesh) if kind == AxisType.Explicit else contextlib.nullcontext():
        compiled = jax.jit(opt.step, donate_argnums=(1, 2)).lower(params, state, params).compile()
    text, ideal = compiled.as_text(), 12.06 * 2048 * 4096 / 4
    assert exchanges(text) == []
    assert sum(x.kind == "kernel" and x.size >= 2**20 for x in work(text)) == 1
    assert sum(x.read + x.written for x in work(text)) <= 1.05 * ideal
    assert compiled.memory_analysis().temp_size_in_bytes < 0.01 * ideal


def test_slots_in_host_memory_are_on_the_device_a_few_leaves_at_a_time():
    """Of 32 MB for each leaf. That nothing is computed on the host, its instructions would say."""
    if reason := missing("v5e"):
        pytest.skip(reason)
    mesh = Mesh(np.array(devices(TARGETS["v5e"])), ("x",), axis_types=(AxisType.Auto,))
    cut = NamedSharding(mesh, P("x"))
    opt = adamx.adamw(1e-3)
    params = {f"w{i:02}": jax.ShapeDtypeStruct((4096, 4096), jnp.float32, sharding=cut) for i in range(12)}
    placed = adamx.state_shardings(opt, params, memory_kind="pinned_host")
    place = lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)  # noqa: E731
    state = jax.tree.map(place, jax.eval_shape(opt.init, params), placed)
    compiled = jax.jit(opt.step, donate_argnums=(1, 2)).lower(params, state, params).compile()
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory.host_argument_size_in_bytes == memory.host_output_size_in_bytes == 12 * 2**25
    assert memory.argument_size_in_bytes < 12 * 2**25 + 2**20  # gradients and weights
    assert memory.temp_size_in_bytes < 4 * 2**25
    assert '_xla_compute_type="host"' not in text
    assert exchanges(text) == []


def test_shapes_are_what_their_names_say():
    assert parameters(SHAPES["4096x4096"]) == large(SHAPES["4096x4096"]) == 2**24
    assert parameters(SHAPES["GPT-2"]) == pytest.approx(124e6, rel=0.01)
    assert len(SHAPES["GPT-2"]) == 148
    assert large(SHAPES["GPT-2"]) == 768 * 768
    assert len(SHAPES["2000x64"]) == 2000
    assert large(SHAPES["2000x64"]) == 64


@pytest.mark.parametrize(
    ("contender", "ideal"),
    {
        "optax": 28,
        "adamx": 28,
        "adamx, moments bfloat16": 20,
        "adamx, moments int8": 16 + 8 / 128,
        "adamx, bfloat16 weights, nearest": 22,
        "adamx, bfloat16 weights, kahan": 26,
        "adamx, bfloat16 weights, split8": 24,
        "adamx, bfloat16 weights, split8, int8": 12 + 8 / 128,
        "adamx.flax.TrainState": 28,
        "adamx.flax.Optimizer, int8": 16 + 8 / 128,
        "adamx, (grads, state, params)": 28,
    }.items(),
)
def test_the_least_bytes_are_those_of_each_array_once(contender, ideal):
    """4 bytes of scales for each group of 128, read and written."""
    shapes = {"w": (1024, 1024)}
    assert CONTENDERS[contender](shapes).ideal() / 2**20 == pytest.approx(ideal, abs=1e-4)
