"""D-Adapt Adam (arXiv:2301.07733), Adam with an estimated distance to the solution as its step size."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, Initial, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._math import abs_sq, adam_ratio, div_no_nan, ema, step_size_correction
from .._rule import Rule, Slot, StepContext, static


class DAdaptSlots(NamedTuple):
    """The moments, the average of gradients, and the two numbers of the estimate."""

    mu: Any
    nu: Any
    grad_sum: Any
    numerator: Any
    d: Any


class DAdaptAdam(Rule[DAdaptSlots]):
    r"""Adam whose step size is a lower bound $d$ of how far the solution is, raised as gradients agree.

    With $\alpha_t = d_t \alpha$ (times Adam's bias correction, if asked for), $\beta_3 = \sqrt{\beta_2}$, inner product
    and norm over all leaves:
    $$r_{t+1} = \beta_3 r_t + (1-\beta_3) \alpha_t \Big\langle g_t, \frac{s_t}{\sqrt{v_t} + \varepsilon} \Big\rangle
      \qquad s_{t+1} = \beta_3 s_t + (1-\beta_3) \alpha_t g_t \qquad
      d_{t+1} = \max\Big(d_t, \frac{r_{t+1}}{(1-\beta_3) \|s_{t+1}\|_1}\Big)$$
    $$m_{t+1} = \beta_1 m_t + (1-\beta_1) \alpha_t g_t \qquad v_{t+1} = \beta_2 v_t + (1-\beta_2) g_t^2 \qquad
      u_t = \frac{m_{t+1}}{\sqrt{v_{t+1}} + \varepsilon} + \alpha_t \lambda p_t$$

    Every leaf takes part in the estimate, and should have a gradient at every step.

    Attributes:
        learning_rate: the factor $\alpha$ of the estimated step size; leave it at 1, or give a schedule around 1.
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        d0: the first estimate, in units of the weights.
        growth_rate: the most that $d$ grows by in a step, as a factor; `None` for no limit.
        weight_decay: strength $\lambda$ of the decay.
        bias_correction: whether the step size has Adam's bias correction: off in the official code, on in Optax.

    Reference: Defazio & Mishchenko, arXiv:2301.07733, Algorithm 5, and the official code.
    """

    learning_rate: NonNegative = 1.0
    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    d0: Initial = 1e-6
    growth_rate: NonNegative | None = None
    weight_decay: NonNegative = 0.0
    bias_correction: bool = static(default=False)
    optax_slots = tuple(
        f"DAdaptAdamWState.{name}" for name in ("exp_avg", "exp_avg_sq", "grad_sum", "numerator_weighted", "estim_lr")
    )
    elementwise = False

    def _slots(self) -> DAdaptSlots:
        return DAdaptSlots(
            mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
            nu=Slot(nonnegative=True),
            grad_sum=Slot(),
            numerator=Slot(init=lambda p, dtype: jnp.zeros([], dtype)),
            d=Slot(init=lambda p, dtype: jnp.full([], self.d0, dtype), nonnegative=True),
        )

    slots = property(_slots)

    def measure(self, g: Array, s: DAdaptSlots, at: StepContext) -> tuple[Array, Array]:
        direction = adam_ratio(s.grad_sum, s.nu, self.eps)
        product = self._step_size(s, at) * jnp.sum((g.conj() * direction).real)
        return product, jnp.sum(jnp.abs(self._grad_sum(g, s, at)))

    def step(self, g: Array, s: DAdaptSlots, at: StepContext) -> tuple[Array, DAdaptSlots]:
        step_size, b3 = self._step_size(s, at), self.b2**0.5
        numerator = b3 * s.numerator.real + (1 - b3) * at.total[0]
        d_hat = div_no_nan(numerator, (1 - b3) * at.total[1])
        if self.growth_rate is not None:
            d_hat = jnp.minimum(d_hat, s.d * self.growth_rate)
        mu, nu = ema(s.mu, step_size * g, self.b1), ema(s.nu, abs_sq(g), self.b2)
        u = adam_ratio(mu, nu, self.eps) + step_size * at.decay(self.weight_decay)
        return u, DAdaptSlots(mu, nu, self._grad_sum(g, s, at), numerator, jnp.maximum(s.d, d_hat))

    def _step_size(self, s: DAdaptSlots, at: StepContext) -> Array:
        return s.d * self.learning_rate * (step_size_correction(self.b1, self.b2, at.t) if self.bias_correction else 1)

    def _grad_sum(self, g: Array, s: DAdaptSlots, at: StepContext) -> Array:
        return ema(s.grad_sum, self._step_size(s, at) * g, self.b2**0.5)


@named(DAdaptAdam)
def dadapt_adamw(
    learning_rate: ScalarOrSchedule = DAdaptAdam.learning_rate,
    betas: tuple[Any, Any] = (DAdaptAdam.b1, DAdaptAdam.b2),
    eps: ScalarOrSchedule = DAdaptAdam.eps,
    estim_lr0: ScalarOrSchedule = DAdaptAdam.d0,
    weight_decay: ScalarOrSchedule = DAdaptAdam.weight_decay,
    *,
    growth_rate: ScalarOrSchedule | None = DAdaptAdam.growth_rate,
    bias_correction: bool = DAdaptAdam.bias_correction,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """D-Adapt Adam (arXiv:2301.07733): Adam that estimates its step size from below.

    Hyperparameters are those of `adamx.DAdaptAdam`, under Optax's names; the rest is described by `adamx.optimizer`.
    Optax always corrects the bias; the official code, and so the default here, does not.

    Args:
        betas: `b1` and `b2`, the decay rates of the mean and of the mean square.
        estim_lr0: `d0`, the first estimate of the distance to the solution, in units of the weights.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.dadapt_adamw(estim_lr0=0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([0.418861], dtype=float32)
    """
    rule = DAdaptAdam(learning_rate, *betas, eps, estim_lr0, growth_rate, weight_decay, bias_correction)
    return optimizer(rule, 1.0, mask=mask, **common(moments, weights, seed, kernel, groups))
