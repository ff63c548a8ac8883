"""Kernels for kinds of leaves, each traced once and called for all leaves of its kind."""

import math
from collections.abc import Hashable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from ..._annotations import Array
from ..._leaf import Step, StepResult
from ..operands import axes_of, group_of
from ..traced import brought, kind
from . import gpu, tpu
from .blocks import BlockProgram, Scalars, has_scalars, keys

DEVICES: dict[str, Any] = {"gpu": gpu, "tpu": tpu}

MAX_SHARED_SIZE = 4096
"""Leaves of fewer elements share kernels: to start one takes longer than such a leaf does."""


def apply(device: str, interpret: Any, steps: Sequence[Step], total: Any) -> list[StepResult]:
    """The new parameter, stored slots and residual of each leaf.

    Args:
        device: "gpu" or "tpu".
        interpret: how Pallas interprets the kernels on a CPU: True, or the parameters of the TPU's simulator; False to
            compile them.
        steps: the step of each leaf.
        total: the rule's measure over all leaves.

    Raises:
        NotImplementedError: a rule contains what Pallas cannot compile on this device.
    """
    parts, done = DEVICES[device], cast(list[StepResult], [None] * len(steps))
    large: dict[Hashable, list[int]] = {}
    small: dict[Hashable, list[int]] = {}
    for i, step in enumerate(steps):
        if is_small(device, step):
            small.setdefault((_stored_alike(step), parts.alike(step)), []).append(i)
        else:
            large.setdefault(kind(step), []).append(i)
    if not interpret:
        for step in {_stored_alike(step): step for step in steps}.values():
            _try(parts, step, total)
    for places in large.values():
        kernel = Kernel(parts, steps[places[0]], total, interpret)
        for i in places:
            done[i] = kernel(steps[i])
    for places in small.values():
        kernel = SharedKernel(parts, steps[places[0]], total, interpret)
        together = parts.together(len(places), jnp.shape(steps[places[0]].leaf.g))
        for start in range(0, len(places), together):
            some = places[start : start + together]
            for i, result in zip(some, kernel([steps[i] for i in some]), strict=True):
                done[i] = result
    return done


def is_small(device: str, step: Step) -> bool:
    """Whether a leaf shares a kernel with others."""
    shape = jnp.shape(step.leaf.g)
    fits = math.prod(shape) < MAX_SHARED_SIZE and DEVICES[device].together(2, shape) > 0
    return fits and not group_of(step) and not has_scalars(step)


def _stored_alike(step: Step) -> Hashable:
    """Equal for leaves that differ in their shapes only."""
    arrays, tree = jax.tree.flatten(brought(step)._replace(key=None))
    return tree, *(x.dtype for x in arrays), step.leaf.decays, id(step.leaf.rounding), id(step.shared)


def _try(parts: Any, step: Step, total: Any) -> None:
    """Find out whether leaves that are stored like this one can have a kernel.

    When this is found within a program, half of a function is already there. Pallas raises errors of many kinds.

    Raises:
        NotImplementedError: they cannot.
    """
    try:
        Kernel(parts, step, total, False).lower(step)
    except Exception as error:
        rule = type(getattr(step.rule, "rule", step.rule)).__name__
        raise NotImplementedError(f"Pallas cannot compile {rule}: {error}") from error


class Kernel:
    """The step of the leaves of one kind, each in a call of its own."""

    def __init__(self, parts: Any, step: Step, total: Any, interpret: Any) -> None:
        shape, part = jnp.shape(step.leaf.g), step.noise.part
        view = parts.view(shape, group_of(step))._replace(axes=None if part is None else axes_of(part, shape))
        self._program = BlockProgram(step, total, view.block, masked=view.is_ragged and group_of(step) > 0)
        self._platform = parts.PLATFORM

        def pallas_step(scalars: Scalars, keys: Array, arrays: list[Array]) -> list[Array]:
            widths = [view.grid[1] if each else view.columns for each in self._program.grouped]
            matrices = [x.reshape(view.rows, width) for x, width in zip(arrays, widths, strict=True)]
            new = parts.call(self._program, view, scalars, keys, matrices, interpret)
            return [x.reshape(was.shape) for x, was in zip(new, arrays[1:], strict=True)]

        self._call = jax.jit(pallas_step)

    def __call__(self, step: Step) -> StepResult:
        """The new parameter, stored slots and residual of a leaf of the kind."""
        program = self._program
        scalars = program.scalars(step)
        return program.results(self._call(Scalars.of(scalars), keys([step]), program.operands(step)), scalars)

    def lower(self, step: Step) -> None:
        """Lower the kernel by itself, for one device."""
        from concurrent.futures import ThreadPoolExecutor  # not needed to import adamx

        program = self._program
        arguments = jax.eval_shape(lambda: (Scalars.of(program.scalars(step)), keys([step]), program.operands(step)))
        lower = lambda: self._call.trace(*arguments).lower(lowering_platforms=(self._platform,))  # noqa: E731
        with ThreadPoolExecutor(1) as thread:  # which is in no `jax.set_mesh`
            thread.submit(lower).result()


class SharedKernel:
    """The step of small leaves that are stored alike, several in a call."""

    def __init__(self, parts: Any, step: Step, total: Any, interpret: Any) -> None:
        self._parts, self._first, self._total, self._interpret = parts, step, total, interpret
        self._calls: dict[int, tuple[BlockProgram, Any]] = {}

    def __call__(self, steps: Sequence[Step]) -> list[StepResult]:
        """The new parameter, stored slots and residual of each leaf."""
        if len(steps) not in self._calls:
            program = self._parts.program_together(self._first, self._total, len(steps))

            def pallas_step(scalars: Scalars, keys: Array, leaves: list[list[Array]]) -> list[list[Array]]:
                return self._parts.call_together(program, scalars, keys, leaves, self._interpret)

            self._calls[len(steps)] = program, jax.jit(pallas_step)
        program, call = self._calls[len(steps)]
        scalars = program.scalars(self._first)
        new = call(Scalars.of(scalars), keys(steps), [program.operands(step) for step in steps])
        return [program.results(arrays, scalars) for arrays in new]
