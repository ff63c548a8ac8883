"""Cautious optimizers (arXiv:2411.16085)."""

from typing import Any

import jax.numpy as jnp

from .._rule import At, Modifier, static
from .._typing import Array


class Cautious(Modifier):
    r"""Step only where the rule's direction agrees in sign with the gradient, and as much further there.

    $$\phi = [u_t g_t > 0] \qquad u'_t = \phi\,u_t \cdot \frac{n}{\sum\phi + 1} \quad\text{or}\quad
      \phi\,u_t / \max(\mathrm{mean}(\phi), 10^{-3})$$

    Attributes:
        rule: the rule.
        normalisation: "mean" (the second form, the current official code) or "count" (the first, of its first version).

    Reference: Liang et al., arXiv:2411.16085, Algorithm 1.
    """

    normalisation: str = static(default="mean", choices=("mean", "count"))
    elementwise = False

    def step(self, g: Array, s: Any, at: At) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        agrees = (u * jnp.conj(g)).real > 0
        kept, masked = jnp.sum(agrees, dtype=at.t.dtype), jnp.where(agrees, u, 0 * u)  # 0 * NaN stays visible
        if self.normalisation == "count":
            return masked * (g.size / (kept + 1)), s
        return masked / jnp.maximum(kept / max(g.size, 1), 1e-3), s
