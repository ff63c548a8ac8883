"""AdaMax (arXiv:1412.6980, Algorithm 2)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import bias_correction, biased, debias, div_no_nan, ema, log_beta
from .._optimizer import optimizer
from .._rule import Moments, Rule, Slot, StepContext, static
from .._transform import Optimizer, scale_by
from ..estimates import MomentEstimates
from ..idle import IdleSteps


class AdaMax(Rule[Moments]):
    r"""AdaMax: the mean of the gradient, in units of its exponentially forgotten maximum.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad \nu_t = \max(\beta_2 \nu_{t-1}, |g_t| + \varepsilon) \qquad
      u_t = \frac{m_t}{(1-\beta_1^t)\,\nu_t}$$

    $\nu$, which the paper calls $u$, is the limit of Adam's for an $L^p$ norm with $p \to \infty$ and needs no
    correction.

    Attributes:
        b1: decay rate of the mean, $\beta_1$.
        b2: decay rate of the maximum, $\beta_2$.
        eps: $\varepsilon$, in units of the gradient. The paper has none, and so divides 0 by 0 until the first
            gradient that is not zero; with `eps=0` the step is its formula, and zero there.
        eps_outside: add `eps` to $\nu_t$ where it divides instead, as Keras and Lasagne do.
        bias_correction: whether the mean is corrected; MLX does not.

    Reference: Kingma & Ba, arXiv:1412.6980, Algorithm 2 (there with step size .002).
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_outside: bool = static(default=False)
    bias_correction: bool = static(default=True)
    elementwise = True
    eps_place = property(lambda self: "ν + ε" if self.eps_outside else "max(β₂ν, abs(g) + ε)")
    corrected_averages = property(lambda self: "m" if self.bias_correction else "none")
    slots = Moments(mu=Slot(unit=lambda s: s.nu), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleByAdamState.mu", "ScaleByAdamState.nu")
    torch_slots = ("exp_avg", "exp_inf")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        inside, outside = (0.0, self.eps) if self.eps_outside else (self.eps, 0.0)
        nu = jnp.maximum(self.b2 * s.nu, jnp.abs(g) + inside)
        m_hat = (debias if self.bias_correction else biased)(mu, self.b1, at.t)
        return div_no_nan(m_hat, nu + outside), Moments(mu, nu)

    def idle(self, s: Moments, at: IdleSteps) -> tuple[Array, Moments]:
        b1, b2, eps = at.rate("b1", self.b1), at.rate("b2", self.b2), at.number("eps", self.eps)
        inside, mu, nu = 0.0 if self.eps_outside else eps, s.mu * at.power(b1), s.nu * at.power(b2)

        def term(j: Array, t: Array) -> Array:
            return at.power(b1, j) / (at.correction(b1, j) if self.bias_correction else 1.0)

        if self.eps_outside:
            near = at.sum_beside_root(lambda j, t: div_no_nan(s.mu, s.nu * at.power(b2, j) + eps), term, b1 / b2, b2**2)
            return near, Moments(mu, nu)
        large = s.nu > inside  # until the maximum has shrunk to eps
        steps = jnp.where(large, jnp.log(inside / jnp.where(large, s.nu, 1)) / log_beta(b2), 0)
        shrinking, after = at.sum_until(steps, lambda j, t: term(j, t) * at.power(b2, -j), term, b1 / b2)
        direction = div_no_nan(s.mu * shrinking, s.nu) + div_no_nan(s.mu * after, jnp.full_like(s.mu, inside))
        return direction, Moments(mu, jnp.maximum(nu, inside))

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t) if self.bias_correction else 1.0, is_root=True)


@named(AdaMax)
def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""AdaMax (arXiv:1412.6980): Adam with the largest gradient in place of the mean square.

    Hyperparameters are those of `adamx.AdaMax`; the rest is described by `adamx.optimizer`.

    Args:
        learning_rate: the step size $\alpha$, .002 in the paper; a number, a traced scalar or a schedule of the
            finished steps.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adamax(learning_rate=0.25, eps=0.0)
        >>> params = jnp.array([1.0, 2.0])
        >>> opt.step(jnp.array([0.0, -1e-9]), opt.init(params), params)[0]
        Array([1.  , 2.25], dtype=float32)
    """
    rule = AdaMax(b1, b2, eps)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@named(AdaMax)
def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    weight_decay: ScalarOrSchedule = 1e-4,
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
    r"""AdaMaxW (arXiv:1711.05101): AdaMax with decoupled weight decay.

    Hyperparameters are those of `adamx.AdaMax`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adamaxw(learning_rate=0.5, weight_decay=0.5, decay="cautious")
        >>> params = jnp.array([1.0, 1.0])
        >>> opt.step(jnp.array([1.0, -1.0]), opt.init(params), params)[0]
        Array([0.25, 1.5 ], dtype=float32)
    """
    rule = AdaMax(b1, b2, eps)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)


@described(AdaMax, scale_by)
def scale_by_adamax(
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaMax's direction, without step size and sign, to chain by hand.

    Hyperparameters are those of `adamx.AdaMax`; `adamx.scale_by` describes the other arguments.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> opt = optax.chain(optax.clip_by_global_norm(1.0), adamx.scale_by_adamax(), optax.scale(-0.002))
        >>> params = jnp.array([3.0, -4.0])
        >>> opt.update(params, opt.init(params), params)[0]
        Array([-0.002,  0.002], dtype=float32)
    """
    return scale_by(AdaMax(b1, b2, eps), moments=moments, seed=seed)
