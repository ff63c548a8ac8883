"""StableAdamW (arXiv:2304.13013, Algorithm 2)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import Moments, Rule, Slot, StepContext
from ..estimates import MomentEstimates


class StableAdamW(Rule[Moments]):
    r"""AdamW that shortens a leaf's step while its second moment lags behind its gradients.

    $$\mathrm{RMS}_t = \sqrt{\mathrm{mean}\big(g_t^2 / \max(\hat v_t, \varepsilon^2)\big)} \qquad
      u_t = \frac{1}{\max(1, \mathrm{RMS}_t)} \Big(\frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon} + \lambda p\Big)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        weight_decay: strength $\lambda$ of the decay; part of the rule, because it is shortened, too.

    Reference: Wortsman et al., arXiv:2304.13013, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    elementwise = False

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        v_hat = debias(nu, self.b2, at.t)
        u = adam_ratio(debias(mu, self.b1, at.t), v_hat, self.eps) + at.decay(self.weight_decay)
        lag = at.rms(adam_ratio(g, jnp.maximum(v_hat, self.eps**2), 0.0))
        return u / jnp.maximum(1, lag), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps, (self.b1, self.b2))


@named(StableAdamW)
def stable_adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = StableAdamW.b1,
    b2: ScalarOrSchedule = StableAdamW.b2,
    eps: ScalarOrSchedule = StableAdamW.eps,
    weight_decay: ScalarOrSchedule = 1e-2,
    mask: Any = None,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """StableAdamW (arXiv:2304.13013): AdamW that shortens a leaf's step while its second moment lags behind.

    Hyperparameters are those of `adamx.StableAdamW`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.stable_adamw(0.5, weight_decay=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = StableAdamW(b1, b2, eps, weight_decay)
    return optimizer(rule, learning_rate, mask=mask, **common(moments, weights, seed, kernel, groups))
