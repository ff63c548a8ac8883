"""What steps leaves by different optimizers: those whose paths match a pattern, or matrices of a layout."""

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import optax

from . import _leaves, kernels
from ._annotations import Array, Params
from ._layout import wide_dtype
from ._leaves import Leaves
from ._math import dtype_of
from ._names import refuse_step_words, validate_choice
from ._transform import Optimizer
from .groups import Group, Groups, Match, assigned, matches, names_of
from .matrices.kinds import why_not
from .matrices.layout import axes
from .wrapper import Parts, Wrapper, frozen_in, has_own_gradients, parts_of, take_step


class ByPathState(NamedTuple):
    """The state of `by_path`.

    Attributes:
        parts: of each pattern the state of its optimizer, with `None` in place of the leaves of others.
    """

    parts: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class ByPath(Wrapper):
    """The object whose methods are those of the optimizer; see `by_path`. In `opt` is that of each pattern's name."""

    groups: tuple[Group, ...]
    skips = False

    @property
    def inner(self) -> list[Any]:
        """The optimizers of all patterns."""
        return [*self.opt.values()]

    @property
    def engine(self) -> NoReturn:
        """There is not one.

        Raises:
            TypeError: always.
        """
        first = next(iter(self.opt))
        raise TypeError(
            f"adamx.by_path has {len(self.opt)} optimizers: give one of them alone, of a state its part, such as "
            f"state.parts[{first!r}]"
        )

    def parts(self, *trees: Params) -> Parts:
        """Those of each optimizer, in the order of the state's arrays."""
        shares: dict[str, list[Params]] = {name: [] for name in self.opt}
        if trees:
            leaves = _leaves.flatten(trees[0], "params")
            places = self._places(leaves)
            for tree in trees:
                arrays = _leaves.match(leaves, tree, "grads")
                for name, share in zip(shares, self._divided(leaves._replace(arrays=arrays), places), strict=True):
                    shares[name].append(share)
        found: Parts = []
        for name in sorted(self.opt):
            one = self.opt[name]
            found += parts_of(one, *shares[name]) if isinstance(one, Optimizer) else [(None, *shares[name])]
        return found

    def frozen(self, leaves: Leaves) -> list[bool]:
        """Which leaves are frozen by their optimizer."""
        places, found = self._places(leaves), [False] * len(leaves.arrays)
        for i, opt in enumerate(self.opt.values()):
            mine = [x if place == i else None for x, place in zip(leaves.arrays, places, strict=True)]
            told = frozen_in(opt, leaves._replace(arrays=mine))
            found = [now if place == i else was for now, was, place in zip(told, found, places, strict=True)]
        return found

    def patterns(self, leaves: Leaves) -> list[str]:
        """The pattern that each leaf is chosen by."""
        names = [*self.opt, ""]
        return [names[place] for place in self._places(leaves)]

    def init(self, params: Params) -> ByPathState:
        """The state before the first step."""
        leaves = _leaves.flatten(params, "params")
        shares = zip(self.opt.items(), self._divided(leaves, self._places(leaves, absent=False)), strict=True)
        state = ByPathState({name: opt.init(share) for (name, opt), share in shares})
        return kernels.beside(leaves.arrays, state)

    def update(
        self, updates: Params, state: Any, params: Params = None, *, learning_rate: Any = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        """The updates of all, and the next state."""
        refuse_step_words("update", extra_args)

        def take(opt: Any, grads: Params, state: Any, params: Params, options: dict[str, Any]) -> tuple[Params, Any]:
            return optax.with_extra_args_support(opt).update(grads, state, params, **options)

        return self._each(take, updates, state, params, learning_rate, extra_args)

    def step(
        self, grads: Params, state: Any, params: Params, *, learning_rate: Any = None, **options: Any
    ) -> tuple[Params, Any]:
        """The steps of all, and the next state."""
        if params is None:
            raise ValueError("`step` moves the parameters: call `step(grads, state, params)`")
        if "clip_norm" in options and (within := [name for name, opt in self.opt.items() if has_own_gradients(opt)]):
            raise ValueError(
                f"clip_norm: the optimizer of {within[0]!r} accumulates, and the norm of all mean gradients is not "
                "known there: put adamx.accumulate around adamx.by_path"
            )
        if "clip_norm" in options and "grad_norm" not in options:
            leaves = _leaves.flatten(grads, "grads")
            frozen = self.frozen(leaves._replace(arrays=_leaves.match(leaves, params, "params")))
            read = [None if still else g for g, still in zip(leaves.arrays, frozen, strict=True)]
            options["grad_norm"] = kernels.global_norm(read, kernels.named_axes(options.get("axis_name")))
        return self._each(_step, grads, state, params, learning_rate, options)

    def _each(
        self, take: Any, grads: Params, state: Any, params: Params, learning_rate: Any, options: dict[str, Any]
    ) -> tuple[Params, ByPathState]:
        """What `take` gives of each optimizer's part, in one tree, and the next state."""
        if not isinstance(state, ByPathState) or state.parts.keys() != self.opt.keys():
            made = f"of {', '.join(state.parts)}" if isinstance(state, ByPathState) else f"a {type(state).__name__}"
            raise TypeError(f"the state is {made}, not of these patterns, {', '.join(self.opt)}: make it with `init`")
        rates = learning_rate if isinstance(learning_rate, Mapping) else dict.fromkeys(self.opt, learning_rate)
        for name in rates:
            validate_choice("learning_rate: pattern", name, self.opt)
        leaves = _leaves.flatten(grads, "grads")
        like = leaves if params is None else leaves._replace(arrays=_leaves.match(leaves, params, "params"))
        places = self._places(like)
        shares = self._divided(leaves, places)
        weights = [None] * len(shares) if params is None else self._divided(like, places)
        columns, after = [], {}
        for (name, opt), share, weight in zip(self.opt.items(), shares, weights, strict=True):
            given = options if (rate := rates.get(name)) is None else options | {"learning_rate": rate}
            if share is None:  # a tree of one leaf, of another optimizer
                new, after[name] = None, state.parts[name]
            else:
                new, after[name] = take(opt, share, state.parts[name], weight, dict(given))
            columns.append(_leaves.match(leaves, new, "updates"))
        columns.append([None] * len(places))  # of absent leaves that no pattern matches
        return leaves.rebuild([columns[place][i] for i, place in enumerate(places)]), ByPathState(after)

    def _places(self, leaves: Leaves, absent: bool = True) -> list[int]:
        """The number of each leaf's optimizer; `leaves` are the parameters or like them."""
        places = assigned(self.groups, leaves, absent)
        for path, x, place in zip(leaves.paths, leaves.arrays, places, strict=True):
            if x is not None and place == len(self.groups):
                where = jax.tree_util.keystr(path, simple=True, separator="/")
                raise ValueError(
                    f"{where} matches none of {', '.join(map(repr, self.opt))}: add '.*' as the last, for all others"
                )
        return places

    def _divided(self, leaves: Leaves, places: list[int]) -> list[Params]:
        """The tree of each optimizer's leaves."""
        return [
            leaves.rebuild([x if place == i else None for x, place in zip(leaves.arrays, places, strict=True)])
            for i in range(len(self.opt))
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Matrices(ByPath):
    """An optimizer for the matrices of each layout, whose name it has in `opt`, and one for the "rest".

    `groups` are the patterns of layouts.

    Attributes:
        layout_of: the layout of a leaf, of its path.
        why_rest: why it is of the rest, of path, leaf and layout; "" if it is not.
        chosen: the leaves that the user says are matrices, a group; none if kinds of leaves decide.
        settings: the groups of the matrices of all layouts.
    """

    layout_of: Callable[[str], str]
    why_rest: Callable[[str, Any, str], str]
    chosen: tuple[Group, ...]
    settings: Groups

    def init(self, params: Params) -> ByPathState:
        """The state before the first step; raises if a pattern that the user gave has no leaf."""
        leaves = _leaves.flatten(params, "params")
        for groups in (self.groups, self.chosen):
            assigned(groups, leaves, absent=False)
        of_rest = [name == "rest" for name, _ in self._told(leaves)]
        arrays = [None if rest else x for x, rest in zip(leaves.arrays, of_rest, strict=True)]
        assigned(self.settings, leaves._replace(arrays=arrays), absent=False)
        return super().init(params)

    def patterns(self, leaves: Leaves) -> list[str]:
        """The layout of each matrix, and why other leaves are none."""
        return [f"{layout}: {why}" if why else layout for layout, why in self._told(leaves)]

    def _places(self, leaves: Leaves, absent: bool = True) -> list[int]:
        del absent
        names = [*self.opt]
        return [names.index(layout) for layout, _ in self._told(leaves)]

    def _told(self, leaves: Leaves) -> list[tuple[str, str]]:
        """The name of each leaf's optimizer, and why it is that of the rest."""
        told = []
        for path, x in zip(names_of(leaves), leaves.arrays, strict=True):
            layout = "" if x is None else self.layout_of(path)
            why = "" if x is None else self.why_rest(path, x, layout)
            told.append(("rest" if why or x is None else layout, why))
        return told


def of_matrices(
    made: Callable[[str, Groups], Any],
    rest: Any,
    layout: str | Mapping[str, str],
    matrices: Match | None,
    groups: Groups,
) -> Optimizer:
    """The optimizer `made` of each layout for its matrices, and `rest`; the arguments are those of `adamx.muon`."""
    given = layout if isinstance(layout, Mapping) else {"": layout}
    declared = {pattern: axes(words).layout for pattern, words in {**given, "": given.get("", "in,out")}.items()}
    named = [Group(pattern, name="layout") for pattern in declared if pattern]

    chosen = [Group(x, name="matrices") for x in (matrices,) if x is not None]

    def layout_of(path: str) -> str:
        return next(words for pattern, words in declared.items() if re.search(pattern, path))

    def why_rest(path: str, leaf: Any, layout: str) -> str:
        if matrices is None:
            return why_not(path, leaf.shape, layout)
        if not matches(chosen[0], path, leaf):
            return "not chosen by `matrices`"
        if leaf.ndim < 2 and isinstance(matrices, str):
            return "a vector"
        if why := axes(layout).misfit(leaf.shape):
            raise ValueError(f"{path}: {why}: declare its axes by `layout`, or do not choose it by `matrices`")
        return ""

    if not hasattr(rest, "init") or not hasattr(rest, "update"):
        raise TypeError(f"rest = {rest!r} is not a gradient transformation: give one, such as optax.sgd(0.1)")
    own = [copy.copy(group) for group in groups]
    for group in own:
        group.is_needed = False  # in one layout's optimizer: `Matrices.init` looks in all
    parts = {words: made(words, own) for words in declared.values()}
    owner = Matrices(parts | {"rest": rest}, tuple(named), layout_of, why_rest, tuple(chosen), groups)
    return Optimizer(owner.init, owner.update)


def _step(opt: Any, grads: Params, state: Any, params: Params, options: dict[str, Any]) -> tuple[Params, Any]:
    """`take_step`, of gradients that are scaled and clipped where there is no `step`."""
    if not isinstance(opt, Optimizer):
        if "learning_rate" in options:
            raise TypeError(
                "learning_rate: an Optax transformation does not read it; give a mapping from the patterns of adamx's "
                "optimizers to their step sizes"
            )
        names = kernels.named_axes(options.get("axis_name"))
        clip_norm, grad_scale, norm, _ = (options.pop(x, None) for x in ("clip_norm", "grad_scale", "grad_norm", "ok"))
        factor = kernels.gradient_factor(jax.tree.leaves(grads), clip_norm, grad_scale, names, norm)
        if factor is not None:
            grads = jax.tree.map(lambda g: _scaled(g, factor), grads)
    return take_step(opt, grads, state, params, **options)


def _scaled(g: Any, factor: Array) -> Array:
    """The gradient times a number, rounded once."""
    wide = wide_dtype(g)
    return (jnp.asarray(g, wide) * factor.astype(wide)).astype(dtype_of(g))
