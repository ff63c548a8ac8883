"""Slots in host memory: a leaf's are fetched for its step and sent back, and few leaves' are on the device at a time.

Left to itself XLA fetches all of them at once. Here the fetch of a leaf's slots waits until those of the leaf before it
are back. What a fetch waits for has to be in host memory, too: the compilers for TPUs leave out any other order.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from .._annotations import Array
from .._leaf import Step, StepResult
from .placement import aligned

HOST, DEVICE = jax.memory.Space.Host, jax.memory.Space.Device


def in_turns(take: Callable[..., list[Any]]) -> Callable[..., list[StepResult | None]]:
    """`take(..., steps, total)`, for steps whose slots are in host memory one after another.

    These slots stay as they are if `ok=`, a boolean, is given and false.
    """

    @functools.wraps(take)
    def taken(*args: Any, ok: Array | None = None) -> list[StepResult | None]:
        *options, steps, total = args
        away = {i: step for i, step in enumerate(steps) if step is not None and is_away(step)}
        if not away:
            return take(*args)
        done = take(*options, [None if i in away else step for i, step in enumerate(steps)], total)
        sent, before = list[Array](), None
        for i, step in away.items():
            here = fetched(step, sent, before)
            ((before, *kept),) = take(*options, [here], total)
            if ok is not None:
                old, tree = jax.tree.leaves((here.leaf.stored, here.leaf.residual)), jax.tree.structure(kept)
                kept = tree.unflatten(map(functools.partial(jnp.where, ok), jax.tree.leaves(kept), old))
            kept, sent = _sent(kept, step)
            done[i] = (before, *kept)
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
    return any(map(is_in_host_memory, jax.tree.leaves((step.leaf.stored, step.leaf.residual))))


def fetched(step: Step, after: Sequence[Array] = (), before: Array | None = None) -> Step:
    """The step with everything on the device; what is in host memory is fetched when `after`, too, is there.

    It begins when `before` is computed, the new weight of the leaf before: XLA would put off its change of layout.
    """
    arrays, tree = jax.tree.flatten((step.leaf.stored, step.leaf.residual))
    away = [i for i, x in enumerate(arrays) if is_in_host_memory(x)]
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
    return jax.tree.map(lambda x: jax.device_put(x, DEVICE) if is_in_host_memory(x) else x, tree)


def _sent(kept: Any, step: Step) -> tuple[Any, list[Array]]:
    """The new slots and residual, in host memory what was there, and the list of that."""
    arrays, tree = jax.tree.flatten(kept)
    old = jax.tree.leaves((step.leaf.stored, step.leaf.residual))
    new = [jax.device_put(x, HOST) if is_in_host_memory(was) else x for x, was in zip(arrays, old, strict=True)]
    return tree.unflatten(new), [x for x in new if is_in_host_memory(x)]


def is_in_host_memory(x: Any) -> bool:
    """Whether an array is in the host's memory."""
    return jax.typeof(x).memory_space == HOST
