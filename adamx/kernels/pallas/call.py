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
from .blocks import BlockProgram, Scalars, has_scalars, keys, share_code

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
    calls: dict[Hashable, list[list[int]]] = {}
    small: dict[tuple[Any, ...], list[int]] = {}
    for i, step in enumerate(steps):
        if is_small(device, step):
            small.setdefault((_stored_alike(step), parts.alike(step), id(step.shared)), []).append(i)
        else:
            calls.setdefault(kind(step), []).append([i])
    for (*alike, _), places in small.items():
        together = parts.together(len(places), jnp.shape(steps[places[0]].leaf.g))
        for some in (places[start : start + together] for start in range(0, len(places), together)):
            calls.setdefault((*alike, len(some)), []).append(some)
    if not interpret:
        for step in {_stored_alike(step): step for step in steps}.values():
            _try(parts, step, total)
    known: dict[Hashable, Any] = {}
    for alike in calls.values():
        groups = {id(step.shared): step for places in alike if (step := steps[places[0]])}
        several = len(alike[0]) if is_small(device, steps[alike[0][0]]) else None
        kernels = dict(zip(groups, of_groups(parts, [*groups.values()], total, several, interpret, known), strict=True))
        for places in alike:
            results = kernels[id(steps[places[0]].shared)]([steps[i] for i in places])
            for i, result in zip(places, results, strict=True):
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
    return tree, *(x.dtype for x in arrays), step.leaf.decays, id(step.leaf.rounding)


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


def of_groups(
    parts: Any, steps: Sequence[Step], total: Any, several: int | None, interpret: Any, known: dict[Hashable, Any]
) -> list["Kernel | SharedKernel"]:
    """The kernels of leaves of one kind in these steps' groups: the same where groups differ in numbers only.

    Args:
        parts: the device.
        steps: one of each group.
        total: the rule's measure over all leaves.
        several: how many small leaves share a call; `None` for calls of one leaf.
        interpret: as in `apply`.
        known: of `Traced.scalars`.
    """
    if several is None:
        kernels = [Kernel(parts, step, total, interpret) for step in steps]
    else:
        kernels = [SharedKernel(parts, step, total, several, interpret) for step in steps]
    first: dict[int, Kernel | SharedKernel] = {}
    for kernel, code in zip(kernels, share_code([kernel.program for kernel in kernels], known), strict=True):
        kernel.call = first.setdefault(code, kernel).call
    return [*kernels]


class Kernel:
    """The step of the leaves of one kind, each in a call of its own."""

    def __init__(self, parts: Any, step: Step, total: Any, interpret: Any) -> None:
        shape, part = jnp.shape(step.leaf.g), step.noise.part
        view = parts.view(shape, group_of(step))._replace(axes=None if part is None else axes_of(part, shape))
        program = BlockProgram(step, total, view.block, masked=view.is_ragged and group_of(step) > 0)

        def pallas_step(scalars: Scalars, keys: Array, arrays: list[Array]) -> list[Array]:
            widths = [view.grid[1] if each else view.columns for each in program.grouped]
            matrices = [x.reshape(view.rows, width) for x, width in zip(arrays, widths, strict=True)]
            new = parts.call(program, view, scalars, keys, matrices, interpret)
            return [x.reshape(was.shape) for x, was in zip(new, arrays[1:], strict=True)]

        self.program, self.call, self._platform = program, jax.jit(pallas_step), parts.PLATFORM

    def __call__(self, steps: Sequence[Step]) -> list[StepResult]:
        """The new parameter, stored slots and residual of a leaf of the kind."""
        (step,), scalars = steps, self.program.scalars(steps[0])
        new = self.call(self.program.vectors(scalars), keys(steps), self.program.operands(step))
        return [self.program.results(new, scalars)]

    def lower(self, step: Step) -> None:
        """Lower the kernel by itself, for one device."""
        from concurrent.futures import ThreadPoolExecutor  # not needed to import adamx

        program = self.program
        arguments = jax.eval_shape(lambda: (Scalars.of(program.scalars(step)), keys([step]), program.operands(step)))
        lower = lambda: self.call.trace(*arguments).lower(lowering_platforms=(self._platform,))  # noqa: E731
        with ThreadPoolExecutor(1) as thread:  # which is in no `jax.set_mesh`
            thread.submit(lower).result()


class SharedKernel:
    """The step of small leaves of one group that are stored alike, several in a call."""

    def __init__(self, parts: Any, step: Step, total: Any, leaves: int, interpret: Any) -> None:
        program = parts.program_together(step, total, leaves)

        def pallas_step(scalars: Scalars, keys: Array, leaves: list[list[Array]]) -> list[list[Array]]:
            return parts.call_together(program, scalars, keys, leaves, interpret)

        self.program, self.call = program, jax.jit(pallas_step)

    def __call__(self, steps: Sequence[Step]) -> list[StepResult]:
        """The new parameter, stored slots and residual of each leaf."""
        program = self.program
        scalars = program.scalars(steps[0])
        new = self.call(program.vectors(scalars), keys(steps), [program.operands(step) for step in steps])
        return [program.results(arrays, scalars) for arrays in new]
