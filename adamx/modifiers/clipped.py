"""Clipping a step by its root mean square (arXiv:1804.04235, section 6)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Positive
from .._rule import Modifier, StepContext


class ClippedByRMS(Modifier):
    r"""A leaf's step, shortened to a root mean square of at most $d$: $u'_t = u_t / \max(1, \mathrm{RMS}(u_t)/d)$.

    Attributes:
        rule: the rule.
        threshold: $d$, the largest root mean square.

    Reference: Shazeer & Stern, arXiv:1804.04235, section 6.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.optimizer(adamx.ClippedByRMS(adamx.Adam(), threshold=0.5), learning_rate=1.0)
        >>> params = jnp.array([2.0, -2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([ 1.5, -1.5], dtype=float32)
    """

    threshold: Positive = 1.0
    elementwise = False

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        return u / jnp.maximum(1, at.rms(u) / self.threshold), s
