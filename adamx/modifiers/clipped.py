"""Clipping a step by its root mean square (arXiv:1804.04235, section 6)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Positive
from .._rule import Modifier, StepContext


class ClippedByRMS(Modifier):
    r"""A leaf's step, shortened to a root mean square of at most $d$: $u'_t = u_t / \max(1, \mathrm{RMS}(u_t)/d)$.

    Attributes:
        rule: the rule.
        threshold: $d$.

    Reference: Shazeer & Stern, arXiv:1804.04235, section 6.
    """

    threshold: Positive = 1.0
    elementwise = False

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        return u / jnp.maximum(1, at.rms(u) / self.threshold), s
