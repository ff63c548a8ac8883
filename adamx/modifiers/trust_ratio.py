"""The layer-wise trust ratio of LAMB and LARS (arXiv:1904.00962)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._rule import Modifier, StepContext
from ..rules.adam import Adam


class Decayed(Modifier):
    r"""The rule's direction plus weight decay, $u_t + \lambda p$, where what comes around it should see the decay.

    Attributes:
        rule: the rule.
        weight_decay: its strength $\lambda$.
    """

    weight_decay: NonNegative = 0.0
    elementwise = property(lambda self: self.rule.elementwise)
    decay_coupling = "λp before the trust ratio"

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
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

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        weight, length = at.norm(at.p), at.norm(u)
        plain = (weight == 0) | (length == 0)
        return u * jnp.where(plain, 1, weight / jnp.where(plain, 1, length)), s


@named(Decayed, Adam)
def lamb(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """LAMB (arXiv:1904.00962): AdamW with each leaf's step in units of its weights.

    It is `TrustRatio(Decayed(Adam(...), weight_decay))`; hyperparameters are those of `adamx.Adam`, the rest is
    described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.lamb(0.5)
        >>> params = jnp.array([3.0, 4.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.232233, 2.232233], dtype=float32)
    """
    rule = TrustRatio(Decayed(Adam(b1, b2, eps, eps_root), weight_decay))
    return optimizer(rule, learning_rate, mask=mask, **common(moments, weights, seed, kernel, groups))
