"""Steps split into arrays and static parts, and put together again."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array
from .._layout import Layout
from .._leaf import Leaf, SharedInputs, Step, StepResult
from .._weights import Rounding
from ..moments.noise import Noise, Part
from .backend import Backend
from .manual import is_manual, varying, varying_alike


class Moved(NamedTuple):
    """The arrays that a step changes: parameter, stored slots, residual."""

    p: Any
    stored: list[Any]
    residual: Array | None


class Shared(NamedTuple):
    """The inputs that leaves share: each group's rule and `begun`, the step number, gradient scale and measure."""

    rules: list[Any]
    begun: list[Array | None]
    step_number: Array
    grad_scale: Array | None
    total: Any


class Fixed(NamedTuple):
    """The static inputs of a leaf; `group` is the number of its rule."""

    group: int
    layout: Layout
    path: _leaves.Path
    decays: bool
    rounding: Rounding | None
    strides: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True, repr=False)
class Packed:
    """The static part of steps.

    Attributes:
        leaves: the static inputs of each leaf.
        tree: the structure of changed arrays, gradients, keys and places, leaf by leaf, and of the shared inputs.
        constants: for each place of the tree a Python number, or `None` where an array is.
    """

    leaves: tuple[Fixed, ...]
    tree: Any
    constants: tuple[Any, ...]

    def steps(self, arrays: Sequence[Array]) -> tuple[list[Step], Any]:
        """The steps with these arrays, and the rule's measure over all leaves."""
        given = iter(arrays)
        moved, grads, bits, shared = self.tree.unflatten([next(given) if x is None else x for x in self.constants])
        now = [
            SharedInputs(rule, shared.step_number, shared.grad_scale, begun=begun)
            for rule, begun in zip(shared.rules, shared.begun, strict=True)
        ]
        steps = []
        for fixed, (p, stored, residual), g, (key, first) in zip(self.leaves, moved, grads, bits, strict=True):
            leaf = Leaf(fixed.path, g, p, stored, fixed.decays, fixed.rounding, residual)
            part = None if fixed.strides is None else Part(first, fixed.strides)
            noise = Noise(key, shared.step_number, part=part)
            steps.append(Step(leaf, fixed.layout, now[fixed.group], noise))
        return steps, shared.total


class Applied(NamedTuple):
    """Steps, each by its backend, as a function of flat arrays, changed ones first; returns their new values.

    Attributes:
        backends: that of each step.
        packed: the steps.
        apply: takes a backend, some steps and the rule's measure over all leaves; returns the results.
    """

    backends: tuple[Backend, ...]
    packed: Packed
    apply: Callable[[Backend, list[Step], Any], list[StepResult]] = lambda backend, *steps: backend.apply(*steps)

    def __call__(self, *arrays: Array) -> list[Array]:
        """The leaves' new parameters, slots and residuals."""
        steps, total = self.packed.steps(arrays)
        done: dict[int, Moved] = {}
        for backend in dict.fromkeys(self.backends):
            places = [i for i, mine in enumerate(self.backends) if mine == backend]
            results = self.apply(backend, [steps[i] for i in places], total)
            done |= {i: Moved(*result) for i, result in zip(places, results, strict=True)}
        return jax.tree.leaves([done[i] for i in range(len(steps))])


def pack(steps: Sequence[Step], total: Any) -> tuple[Packed, list[Array], Any]:
    """The static part of steps, their arrays (changed ones first), and the structure of the changed ones.

    Under `shard_map` the results of a step vary over the axes that any of its inputs varies over.
    """
    first, groups = steps[0].shared, list({id(step.shared): step.shared for step in steps}.values())
    rules, begun = [group.rule_as_given for group in groups], [group.begun for group in groups]
    shared = Shared(rules, begun, first.count, first.grad_scale, total)
    moved = [jax.tree.map(jnp.asarray, Moved(leaf.p, leaf.stored, leaf.residual)) for leaf in (s.leaf for s in steps)]
    grads = [jnp.asarray(step.leaf.g) for step in steps]
    if is_manual():
        over = varying([x for x in jax.tree.leaves(shared) if _is_array(x)])
        pairs = zip(moved, grads, strict=True)
        moved, grads = map(list, zip(*(_varying_alike(row, g, over) for row, g in pairs), strict=True))
    parts = [step.noise.part for step in steps]
    bits = [(step.noise.key, part and part.first) for step, part in zip(steps, parts, strict=True)]
    values, tree = jax.tree.flatten((moved, grads, bits, shared))
    constants = tuple(None if _is_array(x) else x for x in values)
    fixed = tuple(
        Fixed(
            groups.index(step.shared),
            step.layout,
            step.leaf.path,
            step.leaf.decays,
            step.leaf.rounding,
            part and part.strides,
        )
        for step, part in zip(steps, parts, strict=True)
    )
    return Packed(fixed, tree, constants), [x for x in values if _is_array(x)], jax.tree.structure(moved)


def unpack(structure: Any, moved: Sequence[Array]) -> list[StepResult]:
    """The result of each step."""
    return [tuple(row) for row in structure.unflatten(moved)]


def _varying_alike(moved: Moved, g: Array, over: frozenset[str]) -> tuple[Moved, Array]:
    arrays, tree = jax.tree.flatten((moved, g))
    return tree.unflatten(varying_alike(arrays, over))


def _is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray))


def axes_of(part: Part, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Lengths and strides of a part of this shape, axes that lie as one in the whole leaf taken together."""
    axes: list[tuple[int, int]] = []
    for length, stride in zip(shape, part.strides, strict=True):
        if axes and axes[-1][1] == length * stride:
            axes[-1] = (axes[-1][0] * length, stride)
        elif length > 1:
            axes.append((length, stride))
    return axes or [(1, 1)]


def group_of(step: Step) -> int:
    """The number of elements in a group of any slot; 0 if none is grouped."""
    return max((form.group for form in step.formats), default=0)
