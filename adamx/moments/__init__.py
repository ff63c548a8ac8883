"""How slots are stored: `dense` in a floating dtype, `bfloat16` with dither, `int8` in one byte an element.

A format encodes and decodes one slot of one leaf. It knows of the slot whether it can be negative and what it is
measured in, and nothing of the rule.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import jax.numpy as jnp
import numpy as np

from .._names import choose
from .._random import Noise
from .._rule import Slot
from .._typing import Array
from .bfloat16 import Dithered, DitheredMean
from .codes import CODES, FloatCode, LogCode, RatioCode
from .dense import Dense
from .int8 import GROUP, Log, Ratio

MomentFormat: TypeAlias = Literal["float32", "bfloat16", "int8"]
"""The names of `FORMATS`."""

MomentFormats: TypeAlias = MomentFormat | Sequence[MomentFormat] | Mapping[str, MomentFormat]
"""A format for all slots, one for each in their order, or by name."""

FORMATS = ("float32", "bfloat16", "int8")

SMALL = 4096
"""Leaves of fewer elements stay dense: they weigh nothing, and biases and scales are where precision shows."""


class Format(Protocol):
    """How one slot of one leaf is stored."""

    def encode(self, x: Array, unit: Array | None, noise: Noise) -> Any:
        """What is stored for `x`, measured in `unit`."""
        ...

    def decode(self, code: Any, unit: Array | None) -> Array:
        """The values, of at least float32 or a dtype that the engine widens."""
        ...


def formats(moments: MomentFormats, names: Sequence[str]) -> list[str]:
    """The name of each slot's format.

    Raises:
        ValueError: an unknown format or slot, or not as many formats as slots.
    """
    if not isinstance(moments, (str, Mapping, Sequence)) or isinstance(moments, bytes):
        raise TypeError(f"moments = {moments!r} should be one of {', '.join(FORMATS)}, or one for each slot")
    if isinstance(moments, str):
        chosen = [moments] * len(names)
    elif isinstance(moments, Mapping):
        for name in moments:
            choose("slot in moments", name, names)
        chosen = [moments.get(name, "float32") for name in names]
    else:
        chosen = list(moments)
        if len(chosen) != len(names):
            raise ValueError(f"moments = {moments!r} names {len(chosen)} formats for the slots {', '.join(names)}")
    return [choose("moments", name, FORMATS) for name in chosen]


def format_of(name: str, slot: Slot, shape: tuple[int, ...], leaf: tuple[int, ...], dense: np.dtype) -> Format:
    """The format of a slot of `shape`: dense where to code it is not worth it, or not right."""
    coded = shape == leaf and int(np.prod(shape)) >= SMALL and dense == np.float32 and not slot.like_weights
    if name == "bfloat16" and coded:
        return Dithered() if slot.nonnegative else DitheredMean()
    if name == "int8" and coded:
        return Log() if slot.nonnegative else Ratio()
    return Dense(dense)


def form_of(stored: Any, kind: str, dense: np.dtype) -> Format:
    """The format of what is stored by a slot of this kind, of dtype `dense` if it is absent."""
    if isinstance(stored, CODES):
        return _OF_CODE[type(stored)]
    if stored is None:
        return Dense(dense)
    return DitheredMean() if kind == "bfloat16" and stored.dtype == jnp.bfloat16 else Dense(stored.dtype)


_OF_CODE: Mapping[type, Format] = MappingProxyType({LogCode: Log(), RatioCode: Ratio(), FloatCode: Dithered()})


_DTYPES: Mapping[type, tuple[Any, ...]] = MappingProxyType(
    {
        LogCode: (jnp.uint8, jnp.uint8, jnp.uint8),
        RatioCode: (jnp.int8, jnp.bfloat16),
        FloatCode: (jnp.uint16,),
    }
)


def stored_as(x: Any, name: str, nonnegative: bool) -> bool:
    """Whether `x` is what the format of this name makes of a slot that it codes."""
    if name == "bfloat16":
        return isinstance(x, FloatCode) if nonnegative else getattr(x, "dtype", None) == jnp.bfloat16
    return name == "int8" and isinstance(x, LogCode if nonnegative else RatioCode)


def check_code(code: Any, name: str) -> None:
    """Raise unless a code's arrays are there, of its dtypes, and its groups those of its shape."""
    for field, x, dtype in zip(code._fields, code, _DTYPES[type(code)], strict=True):
        if not hasattr(x, "dtype"):
            raise ValueError(
                f"{name} is stored as {type(code).__name__} whose {field} is {x!r} instead of an array of "
                f"{np.dtype(dtype)}: restore the whole state, or make one with `init(params)`"
            )
        if x.dtype != dtype:
            raise ValueError(
                f"{name} is stored as {type(code).__name__} whose {field} is {x.dtype} instead of "
                f"{np.dtype(dtype)}: leave codes out of casts, and restore checkpoints in the dtypes they were saved in"
            )
    *rows, length = code.code.shape
    groups = (*rows, -(-length // max(min(GROUP, length), 1)))
    for field in ("low", "high", "scale"):
        found = getattr(code, field, None)
        if found is not None and found.shape != groups:
            raise ValueError(
                f"{name} has codes of shape {code.code.shape} but {field} of shape {found.shape} instead of {groups}: "
                "cut the last axis in multiples of 128 only"
            )
