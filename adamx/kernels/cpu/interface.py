"""What calls of the C++ library say, by number and by place; a test compares it with `interface.h`, the C++ of it."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from ..._annotations import Array

VERSION = 2
"""A library that was built from sources of another version is refused."""


class Rule(enum.IntEnum):
    """How slots and direction are computed."""

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
    """How a weight decays."""

    NONE = 0
    SHRINK = 1
    L2 = 2
    CAUTIOUS = 3
    PROXIMAL = 4


class Rounding(enum.IntEnum):
    """How a narrow weight takes its step, by the names of `weights=`."""

    NEAREST = 0
    STOCHASTIC = 1
    KAHAN = 2
    SPLIT8 = 3
    SPLIT16 = 4


class Format(enum.IntEnum):
    """How a slot is stored."""

    FLOAT = 0
    BFLOAT16 = 1
    DITHERED_MEAN = 2
    FLOAT_CODE = 3
    LOG = 4
    RATIO = 5


class Unit(enum.IntEnum):
    """What a mean is stored in units of: nothing, the root of the second slot, or that itself."""

    NONE = 0
    ROOT = 1
    ITSELF = 2


SCALARS = (
    *("grad_scale", "learning_rate", "shrink", "weight_decay"),
    *("first_weight", "first_from_old", "second_weight", "second_from_old"),
    *("first_correction", "next_correction", "second_correction"),
    *("eps", "eps_root", "decay_rate", "momentum", "step_size"),
)
"""The float32 numbers that a step reads, in their order."""


class Program(NamedTuple):
    """How a rule is computed.

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
    """What is known of a rule's class.

    Attributes:
        program: the program of a rule at step t, float32.
        unsupported_reason: why there is none for this rule; `None` if there is.
    """

    program: Callable[[Any, Array], Program]
    unsupported_reason: Callable[[Any], str | None] = lambda rule: None
