"""PyTorch's optimizer states as adamx's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _leaves
from .._annotations import Params
from .._state import State
from ..moments import stored_shape
from ..wrapper import is_state
from .filling import Found, filled, kept_by
from .parts import Place, begin

Names = Sequence[Any] | Mapping[str, Any] | Callable[[str], Any]


def from_torch(opt: Any, state_dict: Mapping[str, Any], params: Params, names: Names) -> Any:
    """The state with which `opt` goes on where an optimizer of PyTorch stopped.

    `opt` is an `adamx.preset("pytorch", ...)` with the arguments of the run, which are not read from `param_groups`.

    Args:
        opt: the adamx optimizer, or an Optax transformation with one or more in it, whose wrappers begin anew.
        state_dict: `optimizer.state_dict()`, of tensors or NumPy arrays.
        params: the parameters, as they are to be stepped: PyTorch's, in the layout of the model here.
        names: which parameter of PyTorch each leaf is: a sequence of leaves in the order of `param_groups` (that of
            `model.parameters()` if there is one group), or a mapping or function from a leaf to the number of PyTorch's
            parameter, or to its name if the optimizer was made of `named_parameters()`. A leaf is written
            "dense.kernel". Where the layouts differ, give a pair with the function that turns PyTorch's array into the
            leaf: `("dense.kernel", np.transpose)` in the sequence, `(0, np.transpose)` in the mapping. A square kernel
            that is left untransposed is not noticed.

    Returns:
        The state, of the types that `opt.init(params)` has.

    Raises:
        ValueError: a leaf without a name, or without a state in PyTorch; a parameter of PyTorch's that is no leaf; an
            array of another shape, or without a place; the state of another optimizer; leaves that PyTorch has stepped
            a different number of times. The message names the leaf.

    Examples:
        >>> import adamx, jax.numpy as jnp, numpy as np
        >>> weight = {"step": np.float32(7), "exp_avg": np.ones((3, 2)), "exp_avg_sq": np.ones((3, 2))}
        >>> bias = {"step": np.float32(7), "exp_avg": np.ones(3), "exp_avg_sq": np.ones(3)}
        >>> saved = {"state": {0: weight, 1: bias}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
        >>> opt = adamx.preset("pytorch", "adamw", lr=1e-3)
        >>> params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
        >>> state = adamx.from_torch(opt, saved, params, [("dense.kernel", np.transpose), "dense.bias"])
        >>> int(state.count), state.slots.nu["dense"]["kernel"].shape
        (7, (2, 3))
    """
    begun, places, structure = begin(opt, params)
    claimed: set[Any] = set()
    find = _finder(state_dict, names, claimed)
    made = iter([_adopted(place, find) for place in places])
    paths = [path for place in places for path in _leaves.flatten(place.params, "params").paths]
    known = {jax.tree_util.keystr(path, simple=True, separator=".") for path in paths}
    if not callable(names) and (unread := {x if isinstance(x, str) else x[0] for x in names} - known):
        raise ValueError(f"names has {min(unread)!r}, which is no leaf: take it out, or write it as {min(known)!r} is")
    if idle := [number for number in state_dict["state"] if number not in claimed]:
        raise ValueError(f"PyTorch's parameter {idle[0]!r} is no leaf: name it, or take it out of state_dict['state']")
    new = jax.tree.map(lambda x: next(made) if is_state(x) else x, begun, is_leaf=is_state)
    return structure.unflatten(jax.tree.leaves(new))


Find = Callable[[str], tuple[Any, dict[str, Any], Any]]
"""From a leaf to PyTorch's name for it, its state and the function of the leaf's layout."""


def _finder(state_dict: Mapping[str, Any], names: Names, claimed: set[Any]) -> Find:
    """How leaves are found in the state of PyTorch; the keys of what has been found are added to `claimed`."""
    if not isinstance(state_dict, Mapping) or not {"param_groups", "state"} <= {*state_dict}:
        raise TypeError(
            "state_dict should be what `optimizer.state_dict()` returns, with 'state' and 'param_groups': not the "
            "optimizer, nor the model's; in a checkpoint it often is checkpoint['optimizer']"
        )
    if not callable(names) and not isinstance(names, (Sequence, Mapping)):
        raise TypeError(f"names = {names!r} should be a sequence or a mapping of leaves, or a function of one")
    groups, states = state_dict["param_groups"], state_dict["state"]
    numbers = {name: n for g in groups for name, n in zip(g.get("param_names", g["params"]), g["params"], strict=True)}
    if isinstance(names, Sequence):
        pairs = [(x, None) if isinstance(x, str) else x for x in names]
        names = {leaf: (i, change) for i, (leaf, change) in enumerate(pairs)}

    def find(leaf: str) -> tuple[Any, dict[str, Any], Any]:
        if not callable(names) and leaf not in names:
            raise ValueError(
                f"names has nothing for params {leaf!r}: give PyTorch's number or name of it, under this key"
            )
        given = names(leaf) if callable(names) else names[leaf]
        key, change = given if isinstance(given, tuple) else (given, None)
        number = numbers.get(key, key)
        if number not in states:
            raise ValueError(
                f"PyTorch has no state of {key!r} for params {leaf!r}, only of {', '.join(map(repr, states))}: "
                "name one of these; a parameter without a gradient has none, and None in its place in params"
            )
        if number in claimed:
            raise ValueError(f"PyTorch's {key!r} is claimed by two leaves, the second being {leaf!r}: name another")
        claimed.add(number)
        return key, {name: x for name, x in states[number].items() if x is not None}, change

    return find


def _adopted(place: Place, find: Find) -> State:
    """The state of `place` with what PyTorch keeps."""
    kept, leaves = kept_by(place, "torch_slots", "PyTorch"), _leaves.flatten(place.params, "params")
    likes, _ = place.engine.rows(leaves, place.like)
    found: list[list[Found | None]] = [[] for _ in kept]
    steps: dict[str, int] = {}
    for path, p, like in zip(leaves.paths, leaves.arrays, likes, strict=True):
        leaf = jax.tree_util.keystr(path, simple=True, separator=".")
        key, entry, change = (None, {}, None) if p is None else find(leaf)
        for column, slot, x in zip(found, kept, like, strict=True):
            column.append(None)
            if x is not None:
                if slot is None or slot.name not in entry:
                    raise ValueError(
                        f"PyTorch's state of parameter {key!r} has {', '.join(entry)}, but for params {leaf!r} the "
                        f"optimizer reads {getattr(slot, 'name', 'more')}: give the same optimizer and options"
                    )
                at = f"{slot.name} of parameter {key!r}"
                column[-1] = Found(_laid_out(entry.pop(slot.name), x, p, change, at), at)
        if p is not None:
            if "step" not in entry:
                raise ValueError(f"PyTorch's state of parameter {key!r} counts no steps: put in their number as 'step'")
            steps[leaf] = int(entry.pop("step"))
            if entry:
                raise ValueError(
                    f"{next(iter(entry))} of parameter {key!r} has no place in the state of params {leaf!r}: give the "
                    "same optimizer and options"
                )
    if len(set(steps.values())) > 1:
        (one, most), (other, least) = (f(steps.items(), key=lambda item: item[1]) for f in (max, min))
        raise ValueError(
            f"PyTorch has stepped {one!r} {most} times and {other!r} {least} times, but an optimizer here counts the "
            "steps of all its leaves together: give those that differ their own, by `optax.partition`"
        )
    return filled(place, kept, found, next(iter(steps.values()), 0))


def _laid_out(x: Any, like: Any, p: Any, change: Any, at: str) -> np.ndarray:
    """PyTorch's array or tensor in the layout of the leaf's slot."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()  # NumPy has no bfloat16 of its own
    x, shape = np.asarray(x), stored_shape(like)
    if x.ndim == 0 or shape == p.shape:
        return change(x) if change is not None and x.ndim else x
    if change is not None:
        raise ValueError(
            f"{at} is of rows or columns, which trade places in another layout: keep PyTorch's for this leaf"
        )
    # PyTorch keeps the axis that it has taken the mean of.
    return x.reshape(shape) if [n for n in x.shape if n > 1] == [n for n in shape if n > 1] else x
