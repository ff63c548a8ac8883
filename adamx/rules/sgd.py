"""Stochastic gradient descent (Robbins & Monro 1951)."""

import jax.numpy as jnp

from .._annotations import Array
from .._rule import Rule, StepContext
from ..idle import IdleSteps


class SGD(Rule[tuple[()]]):
    r"""The gradient itself, $u_t = g_t$: what other rules and trajectories are measured against, or wrapped around.

    Reference: Robbins & Monro, Annals of Mathematical Statistics 22, 1951.
    """

    elementwise = True
    eps_place = "none"
    corrected_averages = "none"
    optax_slots = ()

    def step(self, g: Array, s: tuple[()], at: StepContext) -> tuple[Array, tuple[()]]:
        return g, s

    def idle(self, s: tuple[()], at: IdleSteps) -> tuple[Array, tuple[()]]:
        return jnp.zeros_like(at.params), s
