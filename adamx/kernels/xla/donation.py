"""Donated arrays in another order than that of the results, which GPUs would pay for with copies.

JAX gives each result the first donated array of its type. In a program of (grads, state, params) that returns (params,
state), such as `jax.jit(opt.step, donate_argnums=(1, 2))`, the new parameter goes where the first slot was, each slot
where the next one was, and the last where the parameter was. XLA's GPU compiler writes a result over an input that it
is computed from, and makes a copy of any other: float32 Adam would move 44 bytes a parameter instead of 28. So each new
slot is made to depend on what it may be written over, by a choice that is never made.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from ..._annotations import Array
from ..._leaf import Step, StepResult
from ..lowering import Branch, Branches, by_platform
from ..manual import is_manual
from .shared_functions import in_a_program

GPUS = ("cuda", "rocm")


def is_placed_anywhere(platform: str) -> bool:
    """Whether programs for this platform write results over donated inputs in any order.

    With several devices XLA pairs donated arrays and results itself, and the choice would tie their shardings.
    """
    return platform in GPUS and jax.device_count() == 1


def stored_like_parameter(step: Step) -> bool:
    """Whether a slot or the residual has the parameter's type, so that it can be given the parameter's place."""
    return bool(_in_place_of(step))


def placed_anywhere(steps: Sequence[Step], done: Sequence[StepResult]) -> list[StepResult]:
    """The results of `Step.apply`, to be written over the donated inputs in either order."""
    new, structure = jax.tree.flatten(list(done))
    pairs: dict[int, Array] = {}
    if in_a_program() and not is_manual() and is_placed_anywhere(GPUS[0]):
        first = 0
        for step in steps:
            mine = _in_place_of(step)
            pairs |= {first + i: x for i, x in mine.items()}
            first += len(jax.tree.leaves((step.leaf.p, step.leaf.stored, step.leaf.residual)))
    if not pairs:
        return list(done)
    branches = (Branch.of(GPUS, _Choice(len(pairs))), Branch.of(None, _Same(len(pairs))))
    chosen = by_platform(
        Branches("xla", branches, len(pairs)), [*(new[i] for i in pairs), *pairs.values(), steps[0].shared.count]
    )
    for i, x in zip(pairs, chosen, strict=True):
        new[i] = x
    return structure.unflatten(new)


def _in_place_of(step: Step) -> dict[int, Any]:
    """What stands in the place of which result, if the parameter is the last input and the first result."""
    p, *others = jax.tree.leaves((step.leaf.p, step.leaf.stored, step.leaf.residual))
    alike = [i for i, x in enumerate(others, 1) if jax.typeof(x) == jax.typeof(p)]
    return dict(zip(alike, [*(others[i - 1] for i in alike[1:]), p], strict=True)) if alike else {}


class _Choice(NamedTuple):
    """The first `n` arrays; the next `n` if the last operand, the number of the step, is negative."""

    n: int

    def __call__(self, *operands: Array) -> list[Array]:
        """The choices."""
        never = operands[-1] < 0
        pairs = zip(operands[: self.n], operands[self.n : -1], strict=True)
        return [jax.lax.select(never, other, x) for x, other in pairs]


class _Same(NamedTuple):
    """The first `n` arrays."""

    n: int

    def __call__(self, *operands: Array) -> list[Array]:
        """The arrays."""
        return list(operands[: self.n])
