"""arXiv:1904.09237's examples of Adam's non-convergence: the slopes of f_1, ..., f_T, each linear on [-1, 1].

The best point is -1 in each; Adam, with lr / sqrt(t) and the rates given, goes to +1.
"""

import numpy as np


def example_a(steps: int, c=5.0) -> np.ndarray:
    """Theorem 1: c > 2 if t mod 3 = 1, else -1; b1 = 0, b2 = 1 / (1 + c^2)."""
    t = np.arange(1, steps + 1)
    return np.where(t % 3 == 1, c, -1.0)


def example_b(steps: int) -> np.ndarray:
    """Section 5, online: 1010 if t mod 101 = 1, else -10; b1 = 0.9, b2 = 0.99."""
    t = np.arange(1, steps + 1)
    return np.where(t % 101 == 1, 1010.0, -10.0)


def example_c(steps: int, generator: np.random.Generator) -> np.ndarray:
    """Section 5, stochastic: 1010 with probability 0.01, else -10 (mean 0.2); b1 = 0.9, b2 = 0.99."""
    return np.where(generator.random(steps) < 0.01, 1010.0, -10.0)
