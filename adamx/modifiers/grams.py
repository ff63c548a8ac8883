"""Grams (arXiv:2412.17107)."""

from typing import Any

import jax.numpy as jnp

from .._math import sign
from .._rule import At, Modifier
from .._typing import Array


class Grams(Modifier):
    r"""The length of the rule's step in the direction of the gradient's sign, $u'_t = \mathrm{sign}(g_t)\,|u_t|$.

    Attributes:
        rule: the rule.

    Reference: Cao, Li & Song, arXiv:2412.17107, Algorithm 1.
    """

    elementwise = property(lambda self: self.rule.elementwise)

    def step(self, g: Array, s: Any, at: At) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        return sign(g) * jnp.abs(u), s
