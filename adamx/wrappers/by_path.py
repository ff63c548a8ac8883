"""Several optimizers in one, each of the leaves whose paths it is given for."""

from collections.abc import Mapping
from typing import Any

from .._transform import Optimizer
from ..groups import Group, Match
from ..pathwise import ByPath


def by_path(optimizers: Mapping[Match, Any]) -> Optimizer:
    """Step leaves by different optimizers, chosen by their paths.

    A leaf belongs to the first pattern that matches. Each optimizer sees the whole tree with `None` in place of the
    leaves of others, so that paths, random bits, and what is given by path, such as groups and masks, are those of the
    whole model; a mask by `optax.masked` is a function, as a tree of booleans has no `None` there. Nothing stands in
    the state for leaves of others: `jax.tree.leaves` of an optimizer's part is its own. Sums over all leaves, such as
    the estimate of `adamx.prodigy`, are over its own leaves only; the norm of `clip_norm` is over all of them, taken
    once. Steps are counted by each. With different numbers only, take `groups` of one optimizer.

    `step` and `update` pass keywords on to all. `learning_rate` may be a mapping from patterns to step sizes, where
    those left out keep their own; a number is that of all. Gradients of an Optax transformation are scaled before its
    `update`; it reads nothing else of `step`, and one that is given it refuses it.

    Args:
        optimizers: from patterns to optimizers, in order of preference. A pattern is a regular expression searched in
            the leaf's path, its keys joined by "/", or a function of path and leaf, as in `adamx.Group`. An optimizer
            is one of adamx's, with or without wrappers, or any Optax transformation whose updates are added.

    Returns:
        An `Optimizer`. Its state has the part of each in `state.parts[pattern]`, of a function by its name.

    Raises:
        TypeError: what should be a mapping, a pattern or an optimizer is none.
        ValueError: two functions of one name; a leaf that no pattern matches, or a pattern without a leaf; a
            `learning_rate` for a pattern that there is not; `clip_norm` with `adamx.accumulate` around a part: it
            belongs around all.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> opt = adamx.by_path({"bias|norm": adamx.adam(0.1), ".*": optax.sgd(1.0)})
        >>> params = {"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}}
        >>> new, state = opt.step(params, opt.init(params), params, grad_scale=0.5)
        >>> new["dense"]["kernel"], new["dense"]["bias"]
        (Array([0.5, 0.5], dtype=float32), Array([0.9, 0.9], dtype=float32))
        >>> state.parts["bias|norm"].slots.nu["dense"]["kernel"] is None
        True
    """
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(f'optimizers = {optimizers!r} should map patterns to optimizers: {{"bias": ..., ".*": ...}}')
    groups = tuple(map(Group, optimizers))
    names = [group.name for group in groups]
    for i, (name, opt) in enumerate(zip(names, optimizers.values(), strict=True)):
        if name in names[:i]:
            raise ValueError(f"two patterns are called {name!r}, their place in the state: name functions apart")
        if not (callable(getattr(opt, "init", None)) and callable(getattr(opt, "update", None))):
            raise TypeError(f"{opt!r}, of {name!r}, is not a gradient transformation: give one, such as optax.sgd(0.1)")
    owner = ByPath(dict(zip(names, optimizers.values(), strict=True)), groups)
    return Optimizer(owner.init, owner.update)
