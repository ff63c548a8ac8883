"""Enumerations and argument order of the C++ library; a test compares them with `interface.h`."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from ..._annotations import Array

VERSION = 5
"""A library built from sources of another version is refused."""


class Rule(enum.IntEnum):
    """The rule of a step."""

    ADAM = 0
    AMSGRAD = 1
    ADAMAX = 2
    LION = 3
    RMSPROP = 4
    ADAGRAD = 5


class Flags(enum.IntFlag):
    """Variants of a rule."""

    NESTEROV = 1
    RAW = 2
    MOMENTUM = 4


class Decay(enum.IntEnum):
    """The kind of weight decay."""

    NONE = 0
    SHRINK = 1
    L2 = 2
    CAUTIOUS = 3
    PROXIMAL = 4


class Rounding(enum.IntEnum):
    """The rounding of 16-bit weights, by the names of `weights=`."""

    NEAREST = 0
    STOCHASTIC = 1
    KAHAN = 2
    SPLIT8 = 3
    SPLIT16 = 4


class Format(enum.IntEnum):
    """The storage format of a slot."""

    FLOAT = 0
    BFLOAT16 = 1
    DITHERED_MEAN = 2
    FLOAT_CODE = 3
    LOG = 4
    RATIO = 5


class Unit(enum.IntEnum):
    """The unit of a mean: none, the root of the second slot, or the second slot."""

    NONE = 0
    ROOT = 1
    ITSELF = 2


SCALARS = (
    *("grad_scale", "learning_rate", "shrink", "weight_decay"),
    *("first_weight", "first_from_old", "second_weight", "second_from_old"),
    *("first_correction", "next_correction", "second_correction"),
    *("eps", "eps_root", "decay_rate", "momentum", "step_size"),
    *("first_share", "second_share"),
)
"""The float32 numbers that a step reads, in order."""


MAX_TRAILS = 2
"""How many averages of the weights follow a step."""


class Program(NamedTuple):
    """How the library computes a rule.

    Attributes:
        rule: which of the library's.
        flags: its variants.
        scalars: the numbers that it reads, by name; the others are 1 or 0 and not read.
        unit: what its mean is stored in units of.
    """

    rule: Rule
    flags: Flags
    scalars: dict[str, Any]
    unit: Unit = Unit.NONE


class Writer(NamedTuple):
    """An entry of `PROGRAMS`: how a class of rules is computed, and which instances are not supported.

    Attributes:
        program: the program of a rule at step t, float32.
        unsupported_reason: why there is none for this rule; `None` if there is.
    """

    program: Callable[[Any, Array], Program]
    unsupported_reason: Callable[[Any], str | None] = lambda rule: None


PROGRAMS: dict[type, Writer] = {}
"""The registry of rules that the library computes, which `programs.py` fills when adamx is imported."""
