"""How slots are stored: `dense` in a floating dtype, `bfloat16` with dither, `int8` in one byte an element.

A format encodes and decodes one slot of one leaf. It knows whether the slot can be negative and the unit it is measured
in, and nothing else of the rule.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .._names import validate_choice
from .._rule import Slot
from .bfloat16 import Dithered, DitheredMean
from .codes import GROUPS
from .dense import Dense
from .format import Format as Format
from .format import shared_groups as shared_groups
from .format import validate_code
from .groups import group_largest as group_largest
from .int8 import Int8 as Int8
from .int8 import Log, Ratio

MomentFormat: TypeAlias = Literal["float32", "bfloat16", "int8", "int8/64", "int8/32"]
"""How one slot is stored."""

MomentFormats: TypeAlias = MomentFormat | Int8 | Sequence[MomentFormat | Int8] | Mapping[str, MomentFormat | Int8]
"""A format for all slots, one for each in their order, or by name."""


class Coded(NamedTuple):
    """The two formats behind one name: for slots that are never negative, and for slots of either sign."""

    nonnegative: Format
    signed: Format


CODED: Mapping[str, Coded] = MappingProxyType(
    {
        entry.signed.name: entry
        for entry in (Coded(Dithered(), DitheredMean()), *(Coded(Log(group), Ratio(group)) for group in GROUPS))
    }
)
"""The registry of formats other than dense ones."""

FORMATS = ("float32", *CODED)

_OF_CODE: Mapping[type, Format] = MappingProxyType(
    {form.code: form for entry in CODED.values() for form in entry if form.code is not None}
)
_CODES = tuple(_OF_CODE)

MIN_CODED_SIZE = 4096
"""Leaves of fewer elements stay dense: they use little memory, and biases and scales need precision most."""


def formats(moments: MomentFormats, names: Sequence[str], exact: Sequence[str] = ()) -> list[str]:
    """The name of each slot's format; the slots called `exact` have no other than float32.

    Raises:
        ValueError: an unknown format or slot, or a sequence of another length than the slots.
    """
    if not isinstance(moments, (str, Int8, Mapping, Sequence)) or isinstance(moments, bytes):
        raise TypeError(f"moments = {moments!r} should be one of {', '.join(FORMATS)}, or one for each slot")
    if isinstance(moments, (str, Int8)):
        chosen = [moments] * len(names)
    elif isinstance(moments, Mapping):
        for name in moments:
            validate_choice("slot in moments", name, [x for x in names if x not in exact])
        chosen = [moments.get(name, "float32") for name in names]
    else:
        chosen = list(moments)
        if len(chosen) != len(names):
            raise ValueError(f"moments = {moments!r} names {len(chosen)} formats for the slots {', '.join(names)}")
    return [x.name if isinstance(x, Int8) else validate_choice("moments", x, FORMATS) for x in chosen]


def format_of(name: str, slot: Slot, shape: tuple[int, ...], leaf: tuple[int, ...], dense: np.dtype) -> Format:
    """The format of a slot of `shape`; dense for small leaves and for slots that no code represents well."""
    can_be_coded = shape == leaf and int(np.prod(shape)) >= MIN_CODED_SIZE and dense == np.float32
    if name not in CODED or not can_be_coded or slot.like_weights or slot.exact:
        return Dense(dense)
    return _coded(name, slot.nonnegative)


def format_stored(stored: Any, name: str, dense: np.dtype) -> Format:
    """The format of a stored slot whose optimizer asks for `name`; `dense` is the dtype of an absent one."""
    if is_code(stored):
        return _OF_CODE[type(stored)]
    if stored is None:
        return Dense(dense)
    return CODED[name].signed if is_stored_as(stored, name, nonnegative=False) else Dense(stored.dtype)


def is_code(x: Any) -> bool:
    """Whether `x` is a slot that is stored as several arrays or as integers."""
    return isinstance(x, _CODES)


def is_stored_as(x: Any, name: str, nonnegative: bool) -> bool:
    """Whether `x` is what the format `name` stores for a slot that it codes."""
    if name not in CODED:
        return False
    form = _coded(name, nonnegative)
    return getattr(x, "dtype", None) == form.dtypes[0] if form.code is None else type(x) is form.code


def group_of(x: Any) -> int:
    """How many elements along the last axis share a number in what is stored as `x`; 0 if none do."""
    return _OF_CODE[type(x)].group if is_code(x) else 0


def stored_shape(x: Any) -> tuple[int, ...]:
    """The shape of the slot that is stored as `x`."""
    return x.code.shape if is_code(x) else x.shape


def format_name(x: Any) -> str:
    """How a stored slot is called in signatures: the name of its format, or its dtype."""
    return _OF_CODE[type(x)].name if is_code(x) else str(x.dtype)


def with_groups(name: str) -> str:
    """A format's name, with the size of its groups if it has any."""
    group = CODED[name].signed.group if name in CODED else 0
    return f"{name} (groups of {group})" if group else name


def validate_stored(x: Any, name: str) -> None:
    """Raise unless a coded slot is complete; `name` says which it is."""
    if is_code(x):
        validate_code(_OF_CODE[type(x)], x, name)


def _coded(name: str, nonnegative: bool) -> Format:
    return CODED[name].nonnegative if nonnegative else CODED[name].signed
