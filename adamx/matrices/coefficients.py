r"""The polynomials $a\sigma + b\sigma^3 + c\sigma^5$ of Newton–Schulz iterations towards singular values of 1.

A few steep steps bring the singular values of a normalised matrix to about 1. How near to it, from which least value
on, and in how many steps is what the sets differ in; `largest_error` computes it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .._names import validate_choice, validate_whole

Triple = tuple[float, float, float]


class Coefficients(NamedTuple):
    """The polynomials of an iteration.

    Attributes:
        triples: the coefficients of each step.
        margin: by how much more than its norm a matrix is divided, so that rounding does not lift the largest singular
            value above 1, beyond which the polynomials grow.
        is_delicate: whether a step's rounding in less than float32 can lift values to where the next polynomial grows.
    """

    triples: tuple[Triple, ...]
    margin: float = 1.0
    is_delicate: bool = False


_SETS = {
    # Keller Jordan's: the slope at 0 is as large as it can be; values end anywhere between .68 and 1.2.
    "keller_jordan": Coefficients(((3.4445, -4.7750, 2.0315),)),
    # Of Cesista et al., in Microsoft's and NVIDIA's code ("quintic") and Optax's ("dion").
    "quintic": Coefficients(
        (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        )
    ),
    # arXiv:2505.16932, of 5 steps, cushion 2 and safety 1.02.
    "polar_express": Coefficients(
        (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        1.02,
    ),
    # arXiv:2506.10935.
    "cans": Coefficients(
        (
            (8.4703, -25.1081, 18.6293),
            (4.1828, -3.1087, 0.5806),
            (3.9619, -2.9541, 0.5630),
            (3.2866, -2.4647, 0.5074),
            (2.2737, -1.6447, 0.4162),
        ),
        is_delicate=True,
    ),
    # DeepSeek-V4's: eight steps of Keller Jordan's, and two that pull the values to 1.
    "deepseek_v4": Coefficients(((3.4445, -4.7750, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2),
}
SETS: Mapping[str, Coefficients] = MappingProxyType(
    {**_SETS, "standard": _SETS["keller_jordan"], "dion": _SETS["quintic"]}  # the last two by Optax's names
)
"""By name. Of one triple, every step is the same."""


def coefficients(given: Any, steps: int | None) -> Coefficients:
    """The polynomials of each step.

    Args:
        given: a name of `SETS`, three numbers for all steps, or three for each.
        steps: how many there are; `None` for 5 of the same polynomial, or as many as polynomials are given.

    Raises:
        ValueError: an unknown name; not three numbers; another number of steps than of polynomials, or none.
    """
    if steps is not None:
        validate_whole("ns_steps", steps, 1)
    if isinstance(given, str):
        known = SETS[validate_choice("ns_coeffs", given, SETS)]
    else:
        table = np.asarray(given, float)
        if table.shape != (3,) and not (table.ndim == 2 and table.shape[1] == 3 and len(table)):
            raise ValueError(
                f"ns_coeffs = {given!r} should be three numbers, several threes or a name: {', '.join(SETS)}"
            )
        known = Coefficients(tuple((float(a), float(b), float(c)) for a, b, c in np.atleast_2d(table)))
    triples = known.triples
    if len(triples) == 1:
        triples *= 5 if steps is None else steps
    if steps is not None and len(triples) != steps:
        raise ValueError(
            f"ns_steps = {steps}, but ns_coeffs are {len(triples)} polynomials: leave ns_steps out, or give one for all"
        )
    return known._replace(triples=triples)


def largest_error(of: Coefficients, least: float, most: float = 1.0) -> float:
    """The largest distance from 1 at which singular values end that begin, relative to the norm, in [least, most]."""
    x = np.geomspace(least, most, 200_001) / of.margin
    for a, b, c in of.triples:
        x = x * (a + x**2 * (b + x**2 * c))
    return float(np.max(np.abs(x - 1)))
