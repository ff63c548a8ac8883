"""The arrays that a coded slot consists of, where it is not stored as one array.

Codes by groups of 128 along the last axis have a type for each other size of group, so that a state tells its own.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class LogCode(NamedTuple):
    """A nonnegative slot in one byte an element: its place on a logarithmic scale between a group's ends.

    Attributes:
        code: uint8, the shape of the leaf; 0 is exactly zero.
        low: uint8, the biased exponent at the lower end of each group along the last axis; 255 for a group that holds a
            value that is not finite.
        high: uint8, the biased exponent at the upper end.
    """

    code: Any
    low: Any
    high: Any


class FloatCode(NamedTuple):
    """A nonnegative slot in two bytes an element: a float32's 8 bits of exponent and first 8 of fraction.

    bfloat16 has 7 bits of fraction and a sign bit, which a nonnegative slot does not need.

    Attributes:
        code: uint16, the shape of the leaf.
    """

    code: Any


class RatioCode(NamedTuple):
    """A slot in one byte an element: its ratio to its unit, companded relative to the largest ratio of its group.

    Attributes:
        code: int8, the shape of the leaf.
        scale: bfloat16, the largest ratio of each group along the last axis.
    """

    code: Any
    scale: Any


class LogCode64(LogCode):
    """A `LogCode` by groups of 64."""


class LogCode32(LogCode):
    """A `LogCode` by groups of 32."""


class RatioCode64(RatioCode):
    """A `RatioCode` by groups of 64."""


class RatioCode32(RatioCode):
    """A `RatioCode` by groups of 32."""


LOG_CODES: Mapping[int, type[LogCode]] = MappingProxyType({128: LogCode, 64: LogCode64, 32: LogCode32})
RATIO_CODES: Mapping[int, type[RatioCode]] = MappingProxyType({128: RatioCode, 64: RatioCode64, 32: RatioCode32})
GROUPS = tuple(LOG_CODES)
"""The sizes of groups, the default first."""
