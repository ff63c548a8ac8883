"""Averages of any width after a run, from those that it kept (arXiv:2312.02696)."""

import numpy as np


def power_of(sigma_rel: float) -> float:
    """The exponent of the power function of a relative width: eq. 126, Algorithm 2."""
    return float(max(np.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2]).real))
