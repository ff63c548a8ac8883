"""Groups: settings of some leaves, chosen by their paths, that change numbers and formats but not the state's tree."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from . import _leaves
from ._annotations import DecayRate, Fixed, Interval, ScalarOrSchedule
from ._decay import largest_rate
from ._layout import Layout
from ._names import validate_choice
from ._rule import Modifier, Rule, hyperparameters, innermost, name_at, validate_value
from ._variables import without_variables
from ._weights import ROUNDINGS, Rounding, Weights
from .moments import MomentFormats
from .schedules import Live

Match: TypeAlias = str | Callable[[str, Any], bool]
"""A regular expression searched in a leaf's path, such as "decoder/layers_0/kernel"; or a function of path and leaf."""


class Group:
    """Settings of the leaves of an optimizer that `match`: what is given here takes the place of the optimizer's own.

    An optimizer takes a sequence of them, `groups=[Group("norm|bias", weight_decay=0), Group("embed", frozen=True)]`. A
    leaf belongs to the first that matches, and to none if none does. The state is the same tree as without groups, but
    for frozen leaves, whose slots are `None`.

    Args:
        match: a regular expression, searched in the leaf's path: its keys, joined by "/"; or a function of the path and
            the leaf.
        learning_rate_scale: what the step size is multiplied with; a number or a schedule of the finished steps. A
            group with a `learning_rate` of its own keeps it where `step` is given another. A scale does not
            change "independent" decay, except that 0 stops it; beside a `learning_rate` of the group's that decay is
            relative to an `lr_max` of the group's, or to the `learning_rate` itself if that is a number.
        weight_decay_scale: the same of the weight decay.
        moments: how slots are stored, see `adamx.scale_by`.
        weights: how narrow parameters are rounded, see `adamx.optimizer`.
        frozen: the leaves have no slots and are not moved; their gradients are not read and may be `None`. They are
            floating or complex, as all are: have `None` in place of integers, or mask them.
        name: what it is called where numbers are read and told; `None` for the pattern, or the name of the function.
        **values: hyperparameters of the rule or `weight_decay`, by name: numbers, or schedules of the finished steps
            (a decay rate: numbers).

    Raises:
        TypeError: a number or a regular expression that is none; a frozen group with other settings.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
        >>> groups = [adamx.Group("bias", weight_decay=0.0, b2=0.95), adamx.Group("^head", learning_rate_scale=0.1)]
        >>> opt = adamx.adamw(0.1, weight_decay=1.0, groups=groups)
        >>> new, state = opt.step(params, opt.init(params), params)
        >>> new["dense"]["kernel"][0], new["dense"]["bias"][0], new["head"]["kernel"][0]
        (Array(0.8, dtype=float32), Array(0.9, dtype=float32), Array(0.98, dtype=float32))
    """

    __slots__ = ("frozen", "is_needed", "match", "moments", "name", "scales", "values", "weights")
    moments: MomentFormats | None
    weights: Weights | None

    def __init__(
        self,
        match: Match,
        *,
        learning_rate_scale: ScalarOrSchedule | None = None,
        weight_decay_scale: ScalarOrSchedule | None = None,
        moments: MomentFormats | None = None,
        weights: Weights | None = None,
        frozen: bool = False,
        name: str | None = None,
        **values: ScalarOrSchedule,
    ) -> None:
        self.match, self.moments, self.weights, self.frozen = match, moments, weights, frozen
        self.is_needed = True
        pattern = match if isinstance(match, str) else getattr(match, "__qualname__", repr(match))
        self.name = pattern if name is None else name
        if not callable(match):
            try:
                re.compile(match)
            except (TypeError, re.error) as error:
                raise TypeError(f"Group({match!r}) has no regular expression: {error}") from None
        if not isinstance(frozen, bool):
            raise TypeError(f"Group({match!r}): frozen = {frozen!r} should be True or False")
        scales = {"learning_rate": learning_rate_scale, "weight_decay": weight_decay_scale}
        self.scales = MappingProxyType({name: x for name, x in scales.items() if x is not None})
        self.values = MappingProxyType(values)
        if frozen and (self.scales or values or moments is not None or weights is not None):
            raise TypeError(f"{self!r} is frozen: its leaves take no step that other settings would change")
        for name, x in self.scales.items():
            if not callable(x):
                validate_value(f"{name}_scale", x, Interval(0.0, float("inf")))
        if both := self.scales.keys() & values.keys():
            raise TypeError(f"{self!r} gives {both.pop()} and its scale: give one of them")

    def __repr__(self) -> str:
        """`Group('bias')`, `Group('bias', name='no_decay')`."""
        if callable(self.match) or self.name == self.match:
            return f"Group({self.name!r})"
        return f"Group({self.match!r}, name={self.name!r})"


Groups: TypeAlias = Sequence[Group]
"""Groups in order of preference: a leaf belongs to the first that matches."""


class Member(NamedTuple):
    """What the leaves of one group are stepped with.

    Attributes:
        name: the group's; "" for the leaves of no group.
        frozen: whether they are not stepped.
        layout: the rule's slots, and how they store each.
        weights: how narrow ones are rounded.
        scales: factors of hyperparameters, by path in the rule.
        values: hyperparameters of their own, by path in the rule.
    """

    name: str
    frozen: bool
    layout: Layout
    weights: str
    scales: Mapping[str, ScalarOrSchedule]
    values: Mapping[str, ScalarOrSchedule]

    @property
    def rounding(self) -> Rounding | None:
        """How narrow ones are rounded; `None` if the caller rounds them when applying updates."""
        return ROUNDINGS[self.weights]

    def __str__(self) -> str:
        """The name and what it sets: "head: learning_rate x 0.1, b2 = 0.95"."""
        told = [*self._told(self.scales, "{} x {}"), *self._told(self.values, "{} = {}")]
        return f"{self.name}: {', '.join(told)}" if told else self.name

    @staticmethod
    def _told(numbers: Mapping[str, Any], form: str) -> list[str]:
        pairs = [(name_at(path), x) for path, x in numbers.items() if not path.endswith("lr_max")]
        return [
            form.format(name, "a schedule" if callable(x) else f"{x:g}" if isinstance(x, (int, float)) else "an array")
            for name, x in pairs
        ]

    def own(self, rule: Rule[Any], values: Mapping[str, Any], finished: Any) -> dict[str, Any]:
        """The hyperparameters that are not those of no group, after `finished` steps; `values` has scheduled ones."""
        at = lambda x: x(finished) if callable(x) else x  # noqa: E731
        found = {path: at(x) for path, x in self.values.items()}
        if self.scales:
            numbers = {h.path: values.get(h.path, h.value) for h in hyperparameters(rule)}
            found |= {path: numbers[path] * at(scale) for path, scale in self.scales.items()}
        return found


def own_numbers(
    parts: Sequence[Member], rule: Rule[Any], values: Mapping[str, Any], finished: Any
) -> list[dict[str, Any]]:
    """`Member.own` of each member.

    A weight decay of 0 makes another program of a leaf's step. Where only some members have it, it is an array for all:
    their leaves then share programs.
    """
    found = [member.own(rule, values, finished) for member in parts]
    for path, number, _ in hyperparameters(rule):
        if path.rpartition(".")[2] == "weight_decay":
            each = [own.get(path, values.get(path, number)) for own in found]
            if len({isinstance(x, (int, float)) and x == 0 for x in each}) > 1:
                found = [
                    own | {path: x if hasattr(x, "dtype") else np.asarray(x)}
                    for own, x in zip(found, each, strict=True)
                ]
    return found


def members(rule: Rule[Any], groups: Groups, weights: str, layout: Callable[[Any], Layout]) -> tuple[Member, ...]:
    """The member of each group, and last that of the leaves of no group.

    Args:
        rule: the rule of the whole step.
        groups: in order of preference.
        weights: the optimizer's own rounding mode.
        layout: the layout for `moments`; `None` for the optimizer's own.

    Raises:
        TypeError: what should be a `Group` is none, or sets what the rule does not have.
        ValueError: a number out of range, an unknown `weights` or `moments`.
    """
    for path, value, interval in hyperparameters(rule):
        if isinstance(value, Live):
            validate_value(path.rpartition(".")[2], value.value, interval)
    found: list[Member] = []
    if isinstance(groups, Group):
        raise TypeError(f"groups = {groups!r} should be a list of groups: [{groups!r}]")
    for group in groups:
        if not isinstance(group, Group):
            raise TypeError(
                f"groups = [... {group!r} ...] should be adamx.Groups, such as adamx.Group('bias', b2=0.95)"
            )
        values = {_path(rule, group, name): x for name, x in group.values.items()}
        numbers = {h.path: h for h in hyperparameters(rule)}
        for path, x in values.items():
            name, interval = path.rpartition(".")[2], numbers[path].interval
            if not callable(x):
                validate_value(name, x, interval)
            elif isinstance(interval, (DecayRate, Fixed)):
                raise TypeError(f"{group!r}: {name} of a group is the same at all steps: give a number")
        scales = {_path(rule, group, name): x for name, x in group.scales.items()}
        rate = innermost(rule, "learning_rate") or ""
        if (largest := rate.removesuffix("learning_rate") + "lr_max") in numbers:
            scales |= {largest: _nonzero(scales[rate])} if rate in scales else {}
            values |= {largest: largest_rate(values[rate], values.get(largest))} if rate in values else {}
        if group.moments is not None and not layout(None).slots:
            raise TypeError(f"{group!r}: moments = {group.moments!r}, but the rule keeps none")
        chosen = weights if group.weights is None else validate_choice("weights", group.weights, ROUNDINGS)
        taken = sum(member.name.partition("#")[0] == group.name for member in found)
        name = f"{group.name}#{taken + 1}" if taken else group.name
        found.append(Member(name, group.frozen, layout(group.moments), chosen, scales, values))
    return (*found, Member("", False, layout(None), weights, {}, {}))


def _nonzero(scale: ScalarOrSchedule) -> ScalarOrSchedule:
    """1 in place of a scale of 0, which is that of the step size, too: independent decay is of their quotient."""
    if not callable(scale):
        return jnp.where(scale == 0, 1.0, scale) if isinstance(scale, jax.Array) else scale or 1.0
    return lambda finished: jnp.where((x := scale(finished)) == 0, 1.0, x)


def names_of(leaves: _leaves.Leaves) -> list[str]:
    """The path of each leaf, its keys joined by "/"."""
    bare = without_variables(leaves.rebuild(leaves.arrays))  # whose paths are those of a step's gradients
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(bare, is_leaf=_leaves.is_none)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]


def assigned(groups: Groups, leaves: _leaves.Leaves, absent: bool = True) -> list[int]:
    """The number of each leaf's group, in order; that of no group is the number of groups.

    `absent` is whether absent leaves are enough for a group: a gradient may be, in a step.

    Raises:
        ValueError: a group has no leaf; the message lists the paths that there are.
    """
    if not (groups and leaves.arrays):  # `optax.tree.map_params` makes a state of no leaf
        return [0] * len(leaves.arrays)
    names = names_of(leaves)
    found = [_first(groups, name, x) for name, x in zip(names, leaves.arrays, strict=True)]
    some = {i for i, x in zip(found, leaves.arrays, strict=True) if absent or x is not None}
    for i, group in enumerate(groups):
        if i not in some and group.is_needed:
            here = [name for name, x in zip(names, leaves.arrays, strict=True) if x is not None]
            taken = any(matches(group, name, x) for name, x in zip(names, leaves.arrays, strict=True) if x is not None)
            why = "all its leaves are of groups before it" if taken else "it matches none of the paths"
            raise ValueError(
                f"{group!r} has no leaf: {why}. The paths are {', '.join(here[:40])}{' ...' * (len(here) > 40)}"
            )
    return found


def refuse_masked(leaves: _leaves.Leaves, members: Sequence[Member], decays: Sequence[bool]) -> None:
    """Raise if a group gives a leaf a weight decay that the mask leaves out."""
    for path, x, member, covered in zip(leaves.paths, leaves.arrays, members, decays, strict=True):
        own = [rate for name, rate in member.values.items() if name.rpartition(".")[2] == "weight_decay"]
        if x is not None and not covered and own and not (isinstance(own[0], (int, float)) and own[0] == 0):
            where = _leaves.show("params", path)
            raise ValueError(f"group {member.name!r} gives {where} weight_decay = {own[0]}, and the mask leaves it out")


def matches(group: Group, path: str, leaf: Any) -> bool:
    """Whether the leaf at a path belongs to the group if it belongs to none before it; functions see no `None`."""
    if callable(group.match):
        return leaf is not None and bool(group.match(path, leaf))
    return re.search(group.match, path) is not None


def _first(groups: Groups, path: str, leaf: Any) -> int:
    return next((i for i, group in enumerate(groups) if matches(group, path, leaf)), len(groups))


def _path(rule: Rule[Any], group: Group, name: str) -> str:
    """The path in the rule of the hyperparameter of this name: of several, the innermost.

    Raises:
        TypeError: there is none.
    """
    if (found := innermost(rule, name)) is not None:
        return found
    has = dict.fromkeys(h.name for h in hyperparameters(rule))
    own = [word for word in Group.__init__.__kwdefaults__ or () if word.removesuffix("_scale") in (word, *has)]
    while isinstance(rule, Modifier):
        rule = rule.rule
    given = name if name in group.values else f"{name}_scale"
    try:
        return validate_choice(f"{group!r} of {type(rule).__name__}: keyword", given, [*has, *own])
    except ValueError as error:
        raise TypeError(str(error)) from None
