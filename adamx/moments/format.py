"""What every storage format of a slot declares of itself."""

from typing import Any, Protocol

import numpy as np

from .._annotations import Array
from .codes import GROUPS
from .noise import Noise


class Format(Protocol):
    """How one slot of one leaf is stored.

    Attributes:
        name: as it is written in signatures, as in `moments="int8"`.
        code: the NamedTuple of arrays that it stores, whose first field is `code`, shaped like the slot; `None` if it
            stores one array.
        dtypes: of the arrays that it stores, in order.
        group: how many elements along the last axis share one number of the fields after the first; 0 if none do.
        has_unit: whether it stores ratios to the slot's unit; `encode` and `decode` are given `None` otherwise.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def code(self) -> type[Any] | None: ...  # noqa: D102
    @property
    def dtypes(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def group(self) -> int: ...  # noqa: D102
    @property
    def has_unit(self) -> bool: ...  # noqa: D102

    def sizes(self, x: Array, unit: Array | None) -> tuple[Array, ...]:
        """What `encode` needs to know the largest of in each group of `x`, (..., groups, elements); () without groups.

        They are int32, not negative and below 2^11: exact in float32, the only numbers that some kernels reduce.
        """
        ...

    def encode(self, x: Array, unit: Array | None, noise: Noise, largest: tuple[Array, ...]) -> Any:
        """The stored form of `x`, as a ratio to `unit` if the format has one.

        `largest` are the largest of `sizes` in each group, (..., groups, 1).
        """
        ...

    def decode(self, code: Any, unit: Array | None) -> Array:
        """The values, of at least float32 or a dtype that the engine widens."""
        ...


def validate_code(form: Format, code: Any, name: str) -> None:
    """Raise unless the arrays of a code are there, have the format's dtypes, and its groups belong to its shape."""
    for field, x, dtype in zip(code._fields, code, form.dtypes, strict=True):
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
    wanted, *others = ((*rows, -(-length // max(min(n, length), 1))) for n in (form.group, *GROUPS))
    for field in code._fields[1:]:
        if (found := getattr(code, field).shape) != wanted:
            cure = f"cut the last axis in multiples of {form.group} only"
            if found in others:
                cure = (
                    f"these are of groups of {GROUPS[others.index(found)]}, {type(code).__name__} is of {form.group}; "
                    "restore a state into one that its own optimizer makes, and go on from it by `adamx.convert_state`"
                )
            raise ValueError(
                f"{name} has codes of shape {code.code.shape} but {field} of shape {found} instead of {wanted}: {cure}"
            )


def shared_groups(group: int, length: int, parts: int) -> str | None:
    """Why an axis of `length` in groups of `group` cannot be cut into `parts`, and the cure; `None` if it can."""
    own = length // max(parts, 1)
    if parts == 1 or group == 0 or own % max(min(group, length), 1) == 0:
        return None
    smaller = next((n for n in GROUPS if n < group and own % n == 0), None)
    return (
        f"is stored in groups of {min(group, length)} along its last axis, of which {parts} devices have {own} each: "
        + (f"take moments=adamx.Int8(group={smaller}), " if smaller else "")
        + "cut another axis, or keep this leaf in moments='bfloat16' (an optimizer of its own in optax.partition)"
    )
