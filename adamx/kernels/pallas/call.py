"""A kernel for one kind of leaves, traced once and called for each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..._annotations import Array
from ..._leaf import Step, StepResult
from . import gpu, tpu
from .blocks import Scalars, block_program, group_of

DEVICES: dict[str, Any] = {"gpu": gpu, "tpu": tpu}


class Kernel:
    """The step of the leaves of one kind, as a function of each leaf's arrays and key.

    Args:
        device: "gpu" or "tpu".
        step: the step of a leaf of the kind.
        total: the rule's measure over all leaves.
        interpret: how Pallas interprets the kernel on a CPU: True, or the parameters of the TPU's simulator.
    """

    def __init__(self, device: str, step: Step, total: Any, interpret: Any = False) -> None:
        parts = DEVICES[device]
        self._program = block_program(step, total, parts.view(jnp.shape(step.leaf.g), group_of(step)))

        def adamx_step(operands: list[Array], scalars: Scalars) -> list[Array]:
            return parts.call(self._program, scalars, operands, interpret)

        self._call: Callable[..., list[Array]] = jax.jit(adamx_step)

    def __call__(self, step: Step) -> StepResult:
        """The new parameter, stored slots and residual of a leaf of the kind."""
        program = self._program
        scalars = program.scalars.with_key(step.noise.key)
        return program.results(step, self._call(program.operands(step), scalars))
