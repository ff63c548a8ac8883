"""Grouping of leaves by their paths."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from .._leaves import Path, show

Groups: TypeAlias = int | Callable[[str], str | None] | None
"""How leaves are grouped: by a number of leading keys, by a function of the path, or (`None`) where paths branch."""

ALL = "all"
"""The group of all leaves."""


class Grouping(NamedTuple):
    """Leaves and groups in alphabetical order of their names, the order of dictionary keys in JAX.

    Attributes:
        leaves: the names of the leaves.
        order: for each position, the index of that leaf in the order of the tree.
        groups: the names of the groups, `ALL` among them.
        member: whether each leaf belongs to each group, (groups, leaves).
    """

    leaves: list[str]
    order: list[int]
    groups: list[str]
    member: np.ndarray


def grouping(paths: Sequence[Path], groups: Groups) -> Grouping:
    """The groups of the leaves at `paths`.

    Raises:
        ValueError: a negative depth; a group called "all".
        TypeError: neither a depth nor a function of paths that gives names.
    """
    names = [show("", path) for path in paths]
    order = sorted(range(len(names)), key=lambda i: names[i])
    found = [_group(paths[i], paths, groups) for i in order]
    if ALL in found:
        raise ValueError(f"{names[order[found.index(ALL)]]} is in a group called {ALL!r}, which is that of all leaves")
    known = sorted({ALL, *(name for name in found if name is not None)})
    member = np.array([[name in (ALL, group) for group in found] for name in known], bool)
    return Grouping([names[i] for i in order], order, known, member.reshape(len(known), len(names)))


def _group(path: Path, paths: Sequence[Path], groups: Groups) -> str | None:
    if callable(groups):
        name: Any = groups(_joined(path))
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"groups({_joined(path)!r}) = {name!r} should be the name of a group, or None for none")
        return name
    depth = _branching(paths) if groups is None else groups
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise TypeError(f"groups = {groups!r} should be a number of keys, a function of a leaf's path, or None")
    if depth < 0:
        raise ValueError(f"groups = {groups} should be a number of keys, 0 for all leaves together")
    return _joined(path[:depth]) or None


def _branching(paths: Sequence[Path]) -> int:
    """The number of leading keys that all paths share, plus one."""
    levels = zip(*(path[:-1] for path in paths), strict=False)
    return sum(1 for _ in takewhile(lambda keys: len(set(keys)) == 1, levels)) + 1


def _joined(path: Path) -> str:
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)
