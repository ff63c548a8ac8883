"""The step of a leaf whose slots are coded by groups, as two passes over memory: what GPUs and TPUs do.

An element is encoded by numbers of its whole group, which come out of a reduction. XLA's compilers for accelerators
write what is needed before and after a reduction to memory, in float32. Here the first pass ends with the reduction,
and the second computes everything again from the stored inputs. CPUs, which read faster than they compute, do not.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from ..._annotations import Array
from ..._leaf import Step, StepResult
from ...moments import group_largest, stored_shape
from ..lowering import Branch, Branches, by_platform
from ..operands import Packed, pack
from ..placement import is_explicit
from .shared_functions import Take, in_a_program, taken
from .stages import call_together, on_one_device, taken_in_stages, told
from .together import marked

ACCELERATORS = ("cuda", "rocm", "tpu")


def taken_by_platform(steps: Sequence[Step | None], take: Take, total: Any) -> list[StepResult | None]:
    """The result of `take` for each leaf, in two passes on accelerators; `None` where there is no step.

    Rules that do not take elements one at a time sum over them, which programs for several devices do in stages.
    """
    given = [step for step in steps if step is not None]
    mixing = not (all(step.rule.elementwise for step in given) or jax.sharding.get_abstract_mesh().manual_axes)
    if mixing and not in_a_program() and any(is_explicit(step.leaf.g) for step in given):
        steps = told(steps, False, marked)  # which may multiply what types say is cut
    if not in_a_program() or not (mixing or any(has_two_passes(step) for step in given)):
        return taken(steps, take, total)
    packed, arrays, _ = pack(given, total)
    like = [_alike(step, take) for step in packed.steps(arrays)[0]]
    operands, structure = jax.tree.flatten(like)
    whole = _Way(take, packed, len(operands))
    if mixing:
        in_stages, ways = whole._replace(taken=taken_in_stages), (Branch(None, whole, False, None),)
        if call_together(given, take, total):  # CPUs multiply matrices as fast one after another
            joined = whole._replace(taken=on_one_device)
            ways = (Branch(("cpu",), whole, False, in_stages), Branch(None, joined, False, in_stages))
        ways = (*ways, Branch.of(None, in_stages))
    else:
        ways = (Branch.of(ACCELERATORS, whole._replace(take=TwoPasses(take))), Branch.of(None, whole))
    results = iter(structure.unflatten(by_platform(Branches("xla", ways, len(operands)), [*operands, *arrays])))
    return [None if step is None else next(results) for step in steps]


def has_two_passes(step: Step) -> bool:
    """Whether slots have groups, all of one size, and the rule's step of an element depends on that element alone."""
    shape, groups = jnp.shape(step.leaf.g), _groups(step)
    return (
        len(groups) == 1
        and step.rule.elementwise is True
        and all(x is None or stored_shape(x) == shape for x in step.leaf.stored)
        and all(shape[-1] < group or shape[-1] % group == 0 for group in groups)
    )


class TwoPasses(NamedTuple):
    """A step in two passes where it can have them.

    All arrays are seen with the elements of a group along their last axis: XLA's GPU compiler does not fuse across a
    change of shape.

    Attributes:
        take: `Step.apply` or `Step.update`.
    """

    take: Callable[[Step, Any], StepResult]

    def __call__(self, step: Step, total: Any) -> StepResult:
        """The result of `take`; `total` is the rule's measure over all leaves."""
        if not has_two_passes(step):
            return self.take(step, total)
        *rows, length = jnp.shape(step.leaf.g)
        groups = max(length // _groups(step).pop(), 1)

        def by_groups(x: Array) -> Array:
            return jnp.asarray(x).reshape(*rows, groups, x.shape[-1] // groups)

        leaf = step.leaf
        inputs = jax.tree.map(by_groups, (leaf.g, leaf.p, leaf.stored, leaf.residual))
        if jax.device_count() == 1:
            # Iotas of several axes shard well; but XLA shares them between leaves, and then fuses across leaves.
            index = jax.lax.iota(jnp.uint32, step.leaf.g.size).reshape(inputs[0].shape)
            step = dataclasses.replace(step, noise=step.noise._replace(elements=index))
        first = _with(step, inputs)
        _, slots = first.compute(total)
        values = first.layout.tree.flatten_up_to(slots)
        largest = group_largest(first.formats, values, first.layout.units(values, first.formats))
        # Without the barrier XLA would see that both passes compute the same, and keep it in memory.
        again = dataclasses.replace(_with(step, jax.lax.optimization_barrier(inputs)), largest=largest)
        return jax.tree.map(lambda x: x.reshape(*rows, groups * x.shape[-1]), self.take(again, total))


def _groups(step: Step) -> set[int]:
    """The sizes of groups of all slots."""
    return {form.group for form in step.formats if form.group}


class _Way(NamedTuple):
    """Steps as a function of flat arrays, the first of which only have the types of the results.

    Attributes:
        take: what computes a result.
        packed: the steps.
        results: the number of arrays of all results.
        taken: computes all results by `take`.
    """

    take: Take
    packed: Packed
    results: int
    taken: Callable[[Sequence[Step | None], Take, Any], Sequence[StepResult | None]] = taken

    def __call__(self, *arrays: Array) -> list[Array]:
        """The arrays of all results."""
        steps, total = self.packed.steps(arrays[self.results :])
        return jax.tree.leaves(self.taken(steps, self.take, total))


def _alike(step: Step, take: Take) -> StepResult:
    """Arrays of the types of the step's results."""
    leaf = step.leaf
    if take is not Step.update:
        return cast(Array, leaf.p), leaf.stored, leaf.residual
    return leaf.g if leaf.rounding is None else leaf.g.astype(jnp.float32), leaf.stored, leaf.residual


def _with(step: Step, inputs: Any) -> Step:
    g, p, stored, residual = inputs
    return dataclasses.replace(step, leaf=step.leaf._replace(g=g, p=p, stored=stored, residual=residual))
