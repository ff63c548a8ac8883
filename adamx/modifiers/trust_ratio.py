"""The layer-wise trust ratio of LAMB and LARS (arXiv:1904.00962)."""

from typing import Any

import jax.numpy as jnp

from .._math import norm
from .._rule import At, Modifier
from .._typing import Array, NonNegative


class Decayed(Modifier):
    r"""The rule's direction plus weight decay, $u_t + \lambda p$, where what comes around it should see the decay.

    Attributes:
        rule: the rule.
        weight_decay: λ.
    """

    weight_decay: NonNegative = 0.0
    elementwise = property(lambda self: self.rule.elementwise)
    decay_coupling = "λp before the trust ratio"

    def step(self, g: Array, s: Any, at: At) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        return u + at.decay(self.weight_decay), s


class TrustRatio(Modifier):
    r"""A leaf's step in units of its weights, $u'_t = \frac{\|p\|}{\|u_t\|} u_t$; $u_t$ itself where either is 0.

    LAMB is `TrustRatio(Decayed(Adam(eps=1e-6), weight_decay))`.

    Attributes:
        rule: the rule, with its weight decay.

    Reference: You et al., arXiv:1904.00962, Algorithm 2.
    """

    elementwise = False

    def step(self, g: Array, s: Any, at: At) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        weight, length = norm(at.p), norm(u)
        plain = (weight == 0) | (length == 0)
        return u * jnp.where(plain, 1, weight / jnp.where(plain, 1, length)), s
