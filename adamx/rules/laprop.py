"""LaProp (arXiv:2002.04839)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, adam_ratio, debias, ema
from .._rule import Moments, Rule, Slot, StepContext
from ..idle import IdleSteps


class LaProp(Rule[Moments]):
    r"""Momentum of the rescaled gradient: Adam with the two steps in the other order.

    $$v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2 \qquad
      m_t = \beta_1 m_{t-1} + (1-\beta_1) \frac{g_t}{\sqrt{\hat v_t} + \varepsilon} \qquad u_t = m_t/(1-\beta_1^t)$$

    Each gradient is measured by the second moment of its own time, so the step is bounded for all decay rates.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.

    The authors' code averages step size times $n$, which differs while the step size changes.

    Reference: Ziyin, Wang & Ueda, arXiv:2002.04839, Algorithm 1.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-15
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.ones_like(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        nu = ema(s.nu, abs_sq(g), self.b2)
        mu = ema(s.mu, adam_ratio(g, debias(nu, self.b2, at.t), self.eps), self.b1)
        return debias(mu, self.b1, at.t), Moments(mu, nu)

    def idle(self, s: Moments, at: IdleSteps) -> tuple[Array, Moments]:
        b1 = at.rate("b1", self.b1)
        total = at.sum(lambda j, t: at.power(b1, j) / at.correction(b1, j), b1)
        return s.mu * total, Moments(s.mu * at.power(b1), s.nu * at.power(at.number("b2", self.b2)))


@named(LaProp)
def laprop(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = LaProp.b1,
    b2: ScalarOrSchedule = LaProp.b2,
    eps: ScalarOrSchedule = LaProp.eps,
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
    """LaProp (arXiv:2002.04839): momentum of the rescaled gradient, Adam with its two steps in the other order.

    Hyperparameters are those of `adamx.LaProp`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.laprop(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = LaProp(b1, b2, eps)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
