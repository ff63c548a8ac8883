"""Stochastic gradient descent (Robbins & Monro 1951)."""

from .._rule import At, Rule
from .._typing import Array


class SGD(Rule[tuple[()]]):
    r"""The gradient itself, $u_t = g_t$: what other rules and trajectories are measured against, or wrapped around.

    Reference: Robbins & Monro, Annals of Mathematical Statistics 22, 1951.
    """

    elementwise = True
    eps_place = "none"
    corrected_averages = "none"

    def step(self, g: Array, s: tuple[()], at: At) -> tuple[Array, tuple[()]]:
        return g, s
