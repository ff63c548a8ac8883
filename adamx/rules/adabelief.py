"""AdaBelief (arXiv:2010.07468)."""

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema, nesterov_mean
from .._rule import Moments, Rule, Slot, StepContext, static
from ..estimates import MomentEstimates


class AdaBelief(Rule[Moments]):
    r"""Adam in units of the gradient's surprise: its distance from its own mean.

    $$s_t = \beta_2 s_{t-1} + (1-\beta_2)(g_t - m_t)^2 + \bar\varepsilon \qquad
      u_t = \hat m_t / (\sqrt{\hat s_t} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean squared surprise.
        eps: added to the root, in units of the gradient.
        eps_root: $\bar\varepsilon$, added to the average at every step, where it *accumulates* to
            $\bar\varepsilon / (1-\beta_2)$.
        nesterov: look one step ahead with the mean, as `Adam` does.

    Reference: Zhuang et al., arXiv:2010.07468, Algorithm 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-16
    eps_root: NonNegative = 1e-16
    nesterov: bool = static(default=False)
    elementwise = True
    eps_place = "√v̂ + ε, v + ε"
    corrected_averages = "m, v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleByBeliefState.mu", "ScaleByBeliefState.nu")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g - mu), self.b2) + self.eps_root
        m_hat = debias(mu, self.b1, at.t)
        if self.nesterov:
            m_hat = nesterov_mean(mu, g, self.b1, at.t)
        return adam_ratio(m_hat, debias(nu, self.b2, at.t), self.eps), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)


@named(AdaBelief)
def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaBelief.b1,
    b2: ScalarOrSchedule = AdaBelief.b2,
    eps: ScalarOrSchedule = AdaBelief.eps,
    eps_root: ScalarOrSchedule = AdaBelief.eps_root,
    *,
    nesterov: bool = AdaBelief.nesterov,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """AdaBelief (arXiv:2010.07468): Adam in units of the distance of the gradient from its mean.

    Hyperparameters are those of `adamx.AdaBelief`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adabelief(0.9)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.], dtype=float32)
    """
    rule = AdaBelief(b1, b2, eps, eps_root, nesterov)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@described(AdaBelief, scale_by)
def scale_by_belief(
    b1: ScalarOrSchedule = AdaBelief.b1,
    b2: ScalarOrSchedule = AdaBelief.b2,
    eps: ScalarOrSchedule = AdaBelief.eps,
    eps_root: ScalarOrSchedule = AdaBelief.eps_root,
    *,
    nesterov: bool = AdaBelief.nesterov,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaBelief's direction, without step size and sign; see `adamx.AdaBelief`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_belief()
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)  # the gradient is b1 g from its mean
        Array([ 1.1111, -1.1111], dtype=float32)
    """
    return scale_by(AdaBelief(b1, b2, eps, eps_root, nesterov), moments=moments, seed=seed)
