"""Trees as lists of leaves with paths, and errors that name the leaf where two trees differ."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._annotations import Array, Params
from ._math import dtype_of
from .moments import is_code

Path = tuple[Any, ...]

LIKE = (
    "pass gradients of the same parameters that the state was made from by `init`, and None for those of frozen leaves"
)


class Leaves(NamedTuple):
    """The leaves of a tree in order, `None` included, with their paths and the tree's structure."""

    arrays: list[Array | None]
    paths: list[Path]
    tree: Any

    def rebuild(self, arrays: Sequence[Array | None]) -> Params:
        """A tree of the same structure."""
        return self.tree.unflatten(arrays)


def flatten(tree: Params, name: str) -> Leaves:
    """The leaves of `tree`, each a floating array of at least 16 bits, a complex one or `None`.

    Raises:
        TypeError: a leaf is none of these; `name` is the tree's name in the message.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    for path, leaf in pairs:
        if leaf is not None and not jnp.issubdtype(_dtype(leaf), jnp.inexact):
            raise TypeError(
                f"{show(name, path)} is {_dtype(leaf)}, which an optimizer cannot move: leave it out of the tree (None "
                "in its place), or wrap the optimizer in optax.masked or optax.partition"
            )
        if leaf is not None and jnp.finfo(_dtype(leaf)).bits < 16:
            raise TypeError(
                f"{show(name, path)} is {_dtype(leaf)}, whose few digits no step adds up in: keep {name} in bfloat16 "
                f"or wider, and cast them to {_dtype(leaf)} where they are multiplied"
            )
    return Leaves([leaf for _, leaf in pairs], [path for path, _ in pairs], treedef)


def match(grads: Leaves, tree: Params, name: str, own: str = "gradients", cure: str = LIKE) -> list[Array | None]:
    """The leaves of `tree`, one for each gradient, or for each leaf of what else is called `own` in the error.

    Raises:
        ValueError: the trees differ; the message names the first leaf that only one of them has.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_stored)
    if treedef != grads.tree:
        paths = [path for path, _ in pairs]
        for here, there, path_list in ((own, name, grads.paths), (name, own, paths)):
            other = paths if path_list is grads.paths else grads.paths
            for path in path_list:
                if path not in other:
                    raise ValueError(f"{show(here, path)} has no counterpart in the {there}: {cure}")
        raise ValueError(
            f"the {own} and the {name} have the same leaves in different containers: {grads.tree} and {treedef}"
        )
    return [leaf for _, leaf in pairs]


def covered(
    mask: Any, params: Params, name: str = "the mask", otherwise: str = "leave it out and set weight_decay=0"
) -> list[bool]:
    """The value of `mask` for each leaf of `params`.

    Leaves are matched by path, where one path may be a prefix of the other: a mask may have one boolean for a subtree,
    or one container more than the parameters, as a tree made from `flax.nnx.state` has. `name` and `otherwise` enter
    the messages: the name of the mask, and what to do if no leaf should be covered.

    Raises:
        ValueError: the mask has no value for a leaf, or covers no leaf.
        TypeError: the mask contains something other than booleans.
    """
    tree = mask(params) if callable(mask) else mask
    said: dict[Path, bool] = {}
    below: dict[Path, list[bool]] = defaultdict(list)
    for path, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if _dtype(value) not in (bool, jnp.bool_) or jnp.shape(value) != ():
            raise TypeError(f"{show(name.split()[-1], path)} = {value!r} should be True or False")
        names = _names(path)
        said[names] = bool(value)
        for stop in range(len(names)):
            below[names[:stop]].append(bool(value))

    covers = []
    pairs = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)[0]
    for path, leaf in pairs:
        names = _names(path)
        at_or_above = [said[names[:stop]] for stop in range(len(names) + 1) if names[:stop] in said]
        answers = set(at_or_above or below[names])
        if leaf is not None and len(answers) != 1:
            where = show("params", path)
            raise ValueError(f"{name} has no value for {where}: give a boolean for it or a subtree that contains it")
        covers.append(leaf is not None and answers.pop())
    present = [path for path, leaf in pairs if leaf is not None]
    if present and not any(said.values()):
        leaves = f"{len(present)} leaves, the first being {show('params', present[0])}"
        raise ValueError(f"{name} covers none of the {leaves}: invert it, or {otherwise}")
    return covers


def show(name: str, path: Path) -> str:
    """`params['layer']['kernel']`."""
    return name + jax.tree_util.keystr(path)


def _dtype(leaf: Any) -> Any:
    try:
        return dtype_of(leaf)
    except (TypeError, ValueError):
        return type(leaf)


def is_none(x: Any) -> bool:
    """Whether `x` is an absent leaf."""
    return x is None


def is_stored(x: Any) -> bool:
    """Whether `x` is the stored slot of one leaf, or absent."""
    return x is None or is_code(x)


def _names(path: Path) -> Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
