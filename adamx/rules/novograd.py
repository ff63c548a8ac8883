"""NovoGrad (arXiv:1905.11286)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, adam_ratio, ema
from .._rule import Moments, Rule, Slot, StepContext


class NovoGrad(Rule[Moments]):
    r"""Momentum of gradients of unit length: one second moment for each leaf.

    $$v_t = \beta_2 v_{t-1} + (1-\beta_2) \|g_t\|^2,\ v_1 = \|g_1\|^2 \qquad
      u_t = m_t = \beta_1 m_{t-1} + \frac{g_t}{\sqrt{v_t + \bar\varepsilon} + \varepsilon} + \lambda p$$

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the squared length.
        eps: added to the root, in units of the gradient's length.
        eps_root: added inside the root, in units of the squared length.
        weight_decay: strength $\lambda$ of the decay, which enters the momentum, as the paper has it.

    Reference: Ginsburg et al., arXiv:1905.11286, Algorithm 1 (b1=.95, b2=.98).
    """

    b1: Beta = 0.9
    b2: Beta = 0.25
    eps: NonNegative = 1e-6
    eps_root: NonNegative = 0.0
    weight_decay: NonNegative = 0.0
    eps_place = "√v + ε"
    corrected_averages = "none"
    slots = Moments(mu=Slot(), nu=Slot(init=lambda p, dtype: jnp.zeros([], dtype), nonnegative=True))
    optax_slots = ("ScaleByNovogradState.mu", "ScaleByNovogradState.nu")
    elementwise = False

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        square = at.sum(abs_sq(g))
        nu = jnp.where(at.t == 1, square, ema(s.nu, square, self.b2))
        n = adam_ratio(g, nu, self.eps, self.eps_root) + at.decay(self.weight_decay)
        mu = self.b1 * s.mu + n
        return mu, Moments(mu, nu)


@named(NovoGrad)
def novograd(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = NovoGrad.b1,
    b2: ScalarOrSchedule = NovoGrad.b2,
    eps: ScalarOrSchedule = NovoGrad.eps,
    eps_root: ScalarOrSchedule = NovoGrad.eps_root,
    weight_decay: ScalarOrSchedule = NovoGrad.weight_decay,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """NovoGrad (arXiv:1905.11286): momentum of gradients of unit length, one second moment for each leaf.

    Hyperparameters are those of `adamx.NovoGrad`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.novograd(5.0)
        >>> params = jnp.array([3.0, 4.0])
        >>> opt.step(params, opt.init(params), params)[0].round(5)
        Array([0., 0.], dtype=float32)
    """
    rule = NovoGrad(b1, b2, eps, eps_root, weight_decay)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@described(NovoGrad, scale_by)
def scale_by_novograd(
    b1: ScalarOrSchedule = NovoGrad.b1,
    b2: ScalarOrSchedule = NovoGrad.b2,
    eps: ScalarOrSchedule = NovoGrad.eps,
    eps_root: ScalarOrSchedule = NovoGrad.eps_root,
    weight_decay: ScalarOrSchedule = NovoGrad.weight_decay,
    mu_dtype: Any = None,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """NovoGrad's direction, without step size and sign; see `adamx.NovoGrad`.

    `eps` is 1e-6, as in `novograd` here and in Optax, whose `scale_by_novograd` has 1e-8.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_novograd(eps=0.0)
        >>> grads = jnp.array([3.0, -4.0])
        >>> tx.update(grads, tx.init(grads))[0]  # of length 1
        Array([ 0.6, -0.8], dtype=float32)
    """
    return scale_by(NovoGrad(b1, b2, eps, eps_root, weight_decay), mu_dtype=mu_dtype, moments=moments, seed=seed)
