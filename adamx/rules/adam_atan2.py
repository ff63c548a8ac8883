"""Adam-atan2 (arXiv:2407.05872)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, bias_correction, debias, ema, sign
from .._rule import Moments, Rule, Slot, StepContext
from ..estimates import MomentEstimates


class AdamAtan2(Rule[Moments]):
    r"""Adam without an epsilon: the quotient goes through the arc tangent, which needs none.

    $$u_t = a\,\mathrm{atan2}(\hat m_t,\ b \sqrt{\hat v_t})$$

    Invariant to the gradient's scale as far as its square is a number (1e-19 to 1e19 in float32), and at most $a\pi/2$
    long. A complex step has the phase of $\hat m_t$.

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        a: scale of the step; 1.27, about $4/\pi$, makes $u_t = 1$ where $\hat m_t = \sqrt{\hat v_t}$.
        b: scale of the root.

    Reference: Everett et al., arXiv:2407.05872; a and b as in the adam-atan2-pytorch package.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    a: NonNegative = 1.27
    b: NonNegative = 1.0
    elementwise = True
    eps_place = "none"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        m_hat, root = debias(mu, self.b1, at.t), jnp.sqrt(debias(nu, self.b2, at.t))
        return self.a * jnp.arctan2(jnp.abs(m_hat), self.b * root) * sign(m_hat), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t))


@named(AdamAtan2)
def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdamAtan2.b1,
    b2: ScalarOrSchedule = AdamAtan2.b2,
    a: ScalarOrSchedule = AdamAtan2.a,
    b: ScalarOrSchedule = AdamAtan2.b,
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
    """Adam-atan2 (arXiv:2407.05872): Adam through the arc tangent, without an epsilon.

    Hyperparameters are those of `adamx.AdamAtan2`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam_atan2(0.5, a=4.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([0.429204], dtype=float32)
    """
    rule = AdamAtan2(b1, b2, a, b)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
