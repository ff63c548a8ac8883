"""One of the processes of `test_processes.py`.

Its part is "undisturbed", 20 steps; "begin", which saves after 8 and is killed after 13; or "resume", which goes on
from what was saved.
"""

import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx

DEVICES = 4
SAVED, KILLED, STEPS = 8, 13, 20
OPT = adamx.monitor(adamx.adamw(1e-2, moments="int8", weights="split8"))


def init() -> tuple[Any, Any]:
    """Bfloat16 weights of an autoencoder, and the state with what rounding took."""
    narrow, wide = (jax.random.normal(jax.random.key(i), (64, 256)) / 8 for i in range(2))
    return adamx.from_master({"bias": jnp.zeros(256), "into": narrow, "out": wide}, OPT)


def loss(params: Any, x: Any) -> Any:
    bias, into, out = (params[name].astype(jnp.float32) for name in ("bias", "into", "out"))
    return jnp.mean((jnp.tanh(x @ into + bias[None]) @ out.T - x) ** 2)


class Run:
    """Training over a mesh of one axis: FSDP of the first layer; of the second, ZeRO-1 or the columns."""

    def __init__(self, axis: str, devices: int = DEVICES):
        mesh = jax.make_mesh((devices,), (axis,), (AxisType.Auto,), devices=jax.devices()[:devices])
        zero = axis if axis == "data" else None
        specs = {"bias": P(axis), "into": P(axis), "out": P() if zero else P(None, axis)}
        params = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
        shapes = jax.eval_shape(init)
        at = (params, adamx.state_shardings(OPT, shapes[0], params, zero=zero))
        self.batch = NamedSharding(mesh, P("data") if zero else P())
        self.target = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, at)
        self.start = jax.jit(init, out_shardings=at)

        def step(carry: tuple[Any, Any], x: Any) -> tuple[Any, Any]:
            params, state = carry
            return OPT.step(jax.grad(loss)(params, x), state, params, clip_norm=0.5)

        self.step = jax.jit(step, donate_argnums=0, out_shardings=at)

    def advance(self, carry: Any, begin: int, end: int) -> Any:
        """Take the steps from `begin` to `end`; each process gives its rows of the batch."""
        for step in range(begin, end):
            batch = np.random.default_rng(step).standard_normal((32, 64), np.float32)
            rows = np.split(batch, jax.process_count())[jax.process_index()]
            carry = self.step(carry, jax.make_array_from_process_local_data(self.batch, rows))
        return carry

    def restored(self, path: Path) -> Any:
        """Parameters and state of a checkpoint, wherever they were when it was written."""
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, self.target)


def save(path: Path, carry: Any) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, carry)


def main(address: str, processes: int, rank: int, folder: Path, part: str) -> None:
    jax.config.update("jax_num_cpu_devices", DEVICES // processes)
    jax.distributed.initialize(address, processes, rank, initialization_timeout=60, heartbeat_timeout_seconds=60)
    run = Run("data")
    if part == "undisturbed":
        save(folder / part, run.advance(run.start(), 0, STEPS))
    elif part == "begin":
        carry = run.advance(run.start(), 0, SAVED)
        save(folder / part, carry)
        jax.block_until_ready(run.advance(carry, SAVED, KILLED))
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        save(folder / part, run.advance(run.restored(folder / "begin"), SAVED, STEPS))
    assert run.step._cache_size() == 1, "compiled once, after a restart too"
