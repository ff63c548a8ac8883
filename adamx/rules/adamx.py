"""AdamX (arXiv:1904.03590), the repair of AMSGrad's proof; not this library, which is named for its subject."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._math import abs_sq, adam_ratio, ema
from .._rule import Rule, Slot, StepContext
from ..estimates import MomentEstimates
from ..schedules import decayed_beta


class RepairedMoments(NamedTuple):
    """The moments, the largest second moment so far, and the share of new gradients in the mean one step ago."""

    mu: Any
    nu: Any
    nu_max: Any
    share: Any


class AdamX(Rule[RepairedMoments]):
    r"""AMSGrad whose maximum is rescaled as the momentum fades, which its proof of convergence needs.

    $$v^{\max}_t = \max\Big(\frac{(1-\beta_{1,t})^2}{(1-\beta_{1,t-1})^2} v^{\max}_{t-1},\ v_t\Big) \qquad
      u_t = m_t / (\sqrt{v^{\max}_t} + \varepsilon)$$

    With a constant $\beta_1$ it is AMSGrad's paper form.

    Attributes:
        b1: decay rate of the mean; `schedules.decayed_beta` in the paper.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.

    Reference: Phuong & Phong, arXiv:1904.03590, Algorithm 3 (no bias correction).
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    elementwise = True
    eps_place = "√v + ε"
    corrected_averages = "none"
    slots = RepairedMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
        nu=Slot(nonnegative=True),
        nu_max=Slot(nonnegative=True),
        share=Slot(init=lambda p, dtype: jnp.ones([], dtype), nonnegative=True),
    )

    def step(self, g: Array, s: RepairedMoments, at: StepContext) -> tuple[Array, RepairedMoments]:
        share = jnp.asarray(1 - self.b1, s.share.dtype)
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        nu_max = jnp.maximum(jnp.square(share / s.share) * s.nu_max, nu)
        return adam_ratio(mu, nu_max, self.eps), RepairedMoments(mu, nu, nu_max, share)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(eps=self.eps, square="nu_max")


@named(AdamX)
def adamx(
    learning_rate: ScalarOrSchedule,
    b1: float = AdamX.b1,
    b2: ScalarOrSchedule = AdamX.b2,
    eps: ScalarOrSchedule = AdamX.eps,
    *,
    b1_decay: float = 1 - 1e-8,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""AdamX (arXiv:1904.03590): AMSGrad repaired for momentum that fades.

    An algorithm that happens to bear this library's name. Hyperparameters are those of `adamx.AdamX`; the rest is
    described by `adamx.optimizer`.

    Args:
        learning_rate: the step size; $\alpha/\sqrt t$ in the paper, `schedules.inverse_sqrt`.
        b1: first decay rate of the mean, in [0, 1).
        b1_decay: $\lambda$, in (0, 1]; 1 - 1e-8 is what Adam's paper suggests for it, 1 makes it AMSGrad.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adamx(adamx.schedules.inverse_sqrt(0.5))
        >>> params = jnp.array([1.0])
        >>> opt.step(params, opt.init(params), params)[0] < params
        Array([ True], dtype=bool)
    """
    rule = AdamX(decayed_beta(b1, b1_decay), b2, eps)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))
