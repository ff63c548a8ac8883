"""The bias of averages that start at zero, and what Adam's bias correction does about it."""

from typing import NamedTuple

import numpy as np

from .._annotations import Interval
from .._rule import validate_value


class BiasCurves(NamedTuple):
    r"""Curves over the steps 1 to T; float64, each of shape (T,).

    Attributes:
        t: the number of the step.
        mean: $1-\beta_1^t$, the share of $E[g]$ that $E[m_t]$ has.
        square: $1-\beta_2^t$, the share of $E[g^2]$ that $E[v_t]$ has.
        correction: $\sqrt{1-\beta_2^t}/(1-\beta_1^t)$, the factor by which bias correction multiplies the step.
        uncorrected_step: its inverse: the length of the step, in units of α, that a constant gradient gives without
            correction. With correction it is 1.
    """

    t: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    correction: np.ndarray
    uncorrected_step: np.ndarray

    @property
    def worst(self) -> tuple[int, float]:
        """The number of the step that is longest without correction, and its length in units of α."""
        at = int(np.argmax(self.uncorrected_step))
        return int(self.t[at]), float(self.uncorrected_step[at])


def bias_curves(b1: float, b2: float, steps: int) -> BiasCurves:
    r"""The bias of both moments at each step, and the length of the step without bias correction.

    $E[m_t] = (1-\beta_1^t)\,E[g]$ and $E[v_t] = (1-\beta_2^t)\,E[g^2]$ for identically distributed gradients.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        steps: the number of steps.

    Returns:
        `BiasCurves` over the steps 1 to `steps`.

    Raises:
        ValueError: a decay rate outside [0, 1), or `steps` not a positive whole number.

    Reference: Kingma & Ba, arXiv:1412.6980, section 3.

    Examples:
        >>> from adamx import theory
        >>> curves = theory.bias_curves(0.9, 0.999, steps=1000)
        >>> curves.uncorrected_step[[0, 999]].round(2), curves.worst[0]
        (array([3.16, 1.26]), 12)
    """
    validate_value("b1", b1, Interval(0.0, 1.0))
    validate_value("b2", b2, Interval(0.0, 1.0))
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps = {steps} should be a positive whole number")
    t = np.arange(1, steps + 1)
    mean, square = (-np.expm1(t * np.log(b)) if b > 0 else np.ones(steps) for b in (b1, b2))
    correction = np.sqrt(square) / mean
    return BiasCurves(t, mean, square, correction, 1 / correction)
