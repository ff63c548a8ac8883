"""Grams (arXiv:2412.17107)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import sign
from .._rule import Modifier, StepContext
from ..rules.adam import Adam


class Grams(Modifier):
    r"""The length of the rule's step in the direction of the gradient's sign, $u'_t = \mathrm{sign}(g_t)\,|u_t|$.

    Attributes:
        rule: the rule.

    Reference: Cao, Li & Song, arXiv:2412.17107, Algorithm 1.
    """

    elementwise = property(lambda self: self.rule.elementwise)

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        return sign(g) * jnp.abs(u), s


@named(Grams, Adam)
def grams(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Grams (arXiv:2412.17107): the length of Adam's step in the direction of the gradient's sign.

    It is `Grams(Adam(..., eps_hat=True))`; hyperparameters are those of `adamx.Adam`, the rest is described by
    `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.grams(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.500008], dtype=float32)
    """
    rule = Grams(Adam(b1, b2, eps, eps_hat=True))
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
