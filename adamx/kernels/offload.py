"""Slots in host memory: a leaf's are fetched for its step and sent back, and few leaves' are on the device at a time.

Left to itself XLA fetches all of them at once. Here the fetch of a leaf's slots waits until those of the leaf before it
are back. What a fetch waits for has to be in host memory, too: the compilers for TPUs leave out any other order.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax

from .._annotations import Array
from .._leaf import Step, StepResult
from .placement import aligned

HOST, DEVICE = jax.memory.Space.Host, jax.memory.Space.Device


def in_turns(take: Callable[..., list[StepResult | None]]) -> Callable[..., list[StepResult | None]]:
    """`take(..., steps, total)`, for steps whose slots are in host memory one after another."""

    @functools.wraps(take)
    def taken(*args: Any) -> list[StepResult | None]:
        *options, steps, total = args
        away = {i: step for i, step in enumerate(steps) if step is not None and is_away(step)}
        if not away:
            return take(*args)
        done = take(*options, [None if i in away else step for i, step in enumerate(steps)], total)
        sent, before = list[Array](), None
        for i, step in away.items():
            (result,) = take(*options, [fetched(step, sent, before)], total)
            (sent, done[i]), before = _sent(result, step), result[0]
        return done

    return taken


def measures(steps: Iterable[Step | None]) -> list[Any]:
    """The rule's measure of each leaf."""
    found, sent = [], []
    for step in steps:
        if step is not None:
            found.append(aligned(fetched(step, sent)).measure())
            sent = jax.device_put(jax.tree.leaves(found[-1]), HOST) if is_away(step) else sent
    return found


def is_away(step: Step) -> bool:
    """Whether any of what is kept for the leaf is in host memory."""
    return any(map(_is_in_host_memory, jax.tree.leaves((step.leaf.stored, step.leaf.residual))))


def fetched(step: Step, after: Sequence[Array] = (), before: Array | None = None) -> Step:
    """The step with everything on the device; what is in host memory is fetched when `after`, too, is there.

    It begins when `before` is computed, the new weight of the leaf before: XLA would put off its change of layout.
    """
    arrays, tree = jax.tree.flatten((step.leaf.stored, step.leaf.residual))
    away = [i for i, x in enumerate(arrays) if _is_in_host_memory(x)]
    for turn, i in enumerate(away):
        x = arrays[i]
        if after:  # array by array, so that one can be fetched while another is still sent back
            x, _ = jax.lax.optimization_barrier((x, after[min(turn, len(after) - 1)]))
        arrays[i] = jax.device_put(x, DEVICE)
    if not away:
        return step
    leaf = step.leaf
    g, p, arrays, _ = jax.lax.optimization_barrier((leaf.g, leaf.p, arrays, before))
    stored, residual = tree.unflatten(arrays)
    return replace(step, leaf=leaf._replace(g=g, p=p, stored=stored, residual=residual))


def on_device(tree: Any) -> Any:
    """The tree, what is in host memory fetched."""
    return jax.tree.map(lambda x: jax.device_put(x, DEVICE) if _is_in_host_memory(x) else x, tree)


def _sent(result: Any, step: Step) -> tuple[list[Array], StepResult]:
    """What goes back to host memory, and the result with it there."""
    arrays, tree = jax.tree.flatten(result[1:])
    old = jax.tree.leaves((step.leaf.stored, step.leaf.residual))
    new = [jax.device_put(x, HOST) if _is_in_host_memory(was) else x for x, was in zip(arrays, old, strict=True)]
    return [x for x in new if _is_in_host_memory(x)], (result[0], *tree.unflatten(new))


def _is_in_host_memory(x: Any) -> bool:
    return jax.typeof(x).memory_space == HOST
