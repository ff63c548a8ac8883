"""Simplified AdEMAMix (arXiv:2502.02431)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import abs_sq, adam_ratio, debias, ema
from .._optimizer import optimizer
from .._rule import Moments, Rule, Slot, StepContext
from .._transform import Optimizer, scale_by


class SimplifiedAdEMAMix(Rule[Moments]):
    r"""AdEMAMix with one slow momentum, and the gradient itself in place of the fast mean.

    $$m_t = \beta_1 m_{t-1} + g_t \qquad u_t = (m_t + \alpha g_t) / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    The momentum is a sum, not a mean: about $1/(1-\beta_1)$ times larger, so step sizes are as many times smaller.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        alpha: weight of the gradient; larger for small batches.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root, in units of the squared gradient.

    Reference: Morwani et al., arXiv:2502.02431.
    """

    b1: Beta = 0.99
    b2: Beta = 0.95
    alpha: NonNegative = 0.0
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "v"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleBySimplifiedAdEMAMixState.m", "ScaleBySimplifiedAdEMAMixState.n")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = self.b1 * s.mu + g
        nu = ema(s.nu, abs_sq(g), self.b2)
        u = adam_ratio(mu + self.alpha * g, debias(nu, self.b2, at.t), self.eps, self.eps_root)
        return u, Moments(mu, nu)


@named(SimplifiedAdEMAMix)
def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = SimplifiedAdEMAMix.b1,
    b2: ScalarOrSchedule = SimplifiedAdEMAMix.b2,
    alpha: ScalarOrSchedule = SimplifiedAdEMAMix.alpha,
    eps: ScalarOrSchedule = SimplifiedAdEMAMix.eps,
    eps_root: ScalarOrSchedule = SimplifiedAdEMAMix.eps_root,
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
    """Simplified AdEMAMix (arXiv:2502.02431): one slow momentum, and the gradient in place of the fast mean.

    Hyperparameters are those of `adamx.SimplifiedAdEMAMix`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.simplified_ademamix(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = SimplifiedAdEMAMix(b1, b2, alpha, eps, eps_root)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)


@described(SimplifiedAdEMAMix, scale_by)
def scale_by_simplified_ademamix(
    b1: ScalarOrSchedule = SimplifiedAdEMAMix.b1,
    b2: ScalarOrSchedule = SimplifiedAdEMAMix.b2,
    alpha: ScalarOrSchedule = SimplifiedAdEMAMix.alpha,
    eps: ScalarOrSchedule = SimplifiedAdEMAMix.eps,
    eps_root: ScalarOrSchedule = SimplifiedAdEMAMix.eps_root,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """Simplified AdEMAMix's direction, without step size and sign; see `adamx.SimplifiedAdEMAMix`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_simplified_ademamix(alpha=1.0)
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)  # the momentum, and the gradient
        Array([ 2., -2.], dtype=float32)
    """
    return scale_by(SimplifiedAdEMAMix(b1, b2, alpha, eps, eps_root), moments=moments, seed=seed)
