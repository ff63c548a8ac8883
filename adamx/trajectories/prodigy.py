"""Prodigy (arXiv:2306.06101), Adam with an estimated distance to the solution as its step size."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, Initial, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._math import abs_sq, adam_ratio, div_no_nan, ema, step_size_correction
from .._rule import Rule, Slot, StepContext, static


class ProdigySlots(NamedTuple):
    """The moments, the weighted sum of gradients, the parameters at the start, and the two numbers of the estimate."""

    mu: Any
    nu: Any
    grad_sum: Any
    start: Any
    numerator: Any
    d: Any


class Prodigy(Rule[ProdigySlots]):
    r"""Adam whose step size is its own estimate $d$ of how far the solution is.

    With $\alpha_t = d_t \alpha$ (times Adam's bias correction, if asked for), inner product and norm over all leaves:
    $$r_{t+1} = \beta_3 r_t + \tfrac{d_t}{d_0} \alpha_t \langle g_t, p_0 - p_t \rangle \qquad
      s_{t+1} = \beta_3 s_t + \tfrac{d_t}{d_0} \alpha_t g_t \qquad
      d_{t+1} = \max(d_t,\ c\, r_{t+1} / \|s_{t+1}\|_1)$$
    $$m_{t+1} = \beta_1 m_t + (1-\beta_1) d_t g_t \qquad v_{t+1} = \beta_2 v_t + (1-\beta_2) d_t^2 g_t^2 \qquad
      u_t = \alpha_t \Big(\frac{m_{t+1}}{\sqrt{v_{t+1}} + d_{t+1} \varepsilon} + \lambda p_t\Big)$$

    `safeguard_warmup` takes $d_t$ for $\alpha_t$ in $s_{t+1}$.

    Every leaf takes part in the estimate, and should have a gradient at every step. Weights in bfloat16 near 1 do not
    move by the first estimate's steps of 1e-6, and the estimate then never grows: train float32 weights.

    Attributes:
        learning_rate: the factor $\alpha$ of the estimated step size; leave it at 1, or give a schedule around 1.
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        b3: decay rate of the estimate; `None` for the root of b2.
        eps: added to the root, in units of the gradient.
        d0: the first estimate, in units of the weights.
        d_coef: $c$, a factor of the estimate.
        weight_decay: strength $\lambda$ of the decay.
        bias_correction: whether the step size has Adam's bias correction: off in the official code, on in Optax.
        safeguard_warmup: keep the step size out of the sum that $d$ is divided by, so that a warm-up does not make $d$
            too large.

    Reference: Mishchenko & Defazio, arXiv:2306.06101, Algorithm 4, and the official code.
    """

    learning_rate: NonNegative = 1.0
    b1: Beta = 0.9
    b2: Beta = 0.999
    b3: Beta | None = None
    eps: NonNegative = 1e-8
    d0: Initial = 1e-6
    d_coef: NonNegative = 1.0
    weight_decay: NonNegative = 0.0
    bias_correction: bool = static(default=False)
    safeguard_warmup: bool = static(default=False)
    optax_slots = tuple(
        f"ProdigyState.{name}"
        for name in ("exp_avg", "exp_avg_sq", "grad_sum", "params0", "numerator_weighted", "estim_lr")
    )
    elementwise = False

    def _slots(self) -> ProdigySlots:
        return ProdigySlots(
            mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
            nu=Slot(nonnegative=True),
            grad_sum=Slot(),
            start=Slot(init=jnp.array),
            numerator=Slot(init=lambda p, dtype: jnp.zeros([], dtype)),
            d=Slot(init=lambda p, dtype: jnp.full([], self.d0, dtype), nonnegative=True),
        )

    slots = property(_slots)

    def measure(self, g: Array, s: ProdigySlots, at: StepContext) -> tuple[Array, Array]:
        product = jnp.sum((g.conj() * (s.start - at.p)).real)
        return s.d / self.d0 * self._step_size(s, at) * product, jnp.sum(jnp.abs(self._grad_sum(g, s, at)))

    def step(self, g: Array, s: ProdigySlots, at: StepContext) -> tuple[Array, ProdigySlots]:
        numerator = self._b3 * s.numerator.real + at.total[0]
        d = jnp.maximum(s.d, self.d_coef * div_no_nan(numerator, at.total[1]))
        mu = ema(s.mu, s.d * g, self.b1)
        nu = ema(s.nu, s.d**2 * abs_sq(g), self.b2)
        u = self._step_size(s, at) * (adam_ratio(mu, nu, d * self.eps) + at.decay(self.weight_decay))
        return u, ProdigySlots(mu, nu, self._grad_sum(g, s, at), s.start, numerator, d)

    @property
    def _b3(self) -> Any:
        return self.b2**0.5 if self.b3 is None else self.b3

    def _step_size(self, s: ProdigySlots, at: StepContext) -> Array:
        return s.d * self.learning_rate * (step_size_correction(self.b1, self.b2, at.t) if self.bias_correction else 1)

    def _grad_sum(self, g: Array, s: ProdigySlots, at: StepContext) -> Array:
        weight = s.d if self.safeguard_warmup else self._step_size(s, at)
        return self._b3 * s.grad_sum + s.d / self.d0 * weight * g


@named(Prodigy)
def prodigy(
    learning_rate: ScalarOrSchedule = Prodigy.learning_rate,
    betas: tuple[Any, Any] = (Prodigy.b1, Prodigy.b2),
    beta3: ScalarOrSchedule | None = Prodigy.b3,
    eps: ScalarOrSchedule = Prodigy.eps,
    estim_lr0: ScalarOrSchedule = Prodigy.d0,
    estim_lr_coef: ScalarOrSchedule = Prodigy.d_coef,
    weight_decay: ScalarOrSchedule = Prodigy.weight_decay,
    safeguard_warmup: bool = Prodigy.safeguard_warmup,
    *,
    bias_correction: bool = Prodigy.bias_correction,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Prodigy (arXiv:2306.06101): Adam that estimates its step size.

    Hyperparameters are those of `adamx.Prodigy`, under Optax's names; the rest is described by `adamx.optimizer`. Optax
    always corrects the bias; the official code, and so the default here, does not.

    Args:
        betas: `b1` and `b2`, the decay rates of the mean and of the mean square.
        beta3: `b3`, the decay rate of the estimate; `None` for the root of `b2`.
        estim_lr0: `d0`, the first estimate of the distance to the solution, in units of the weights.
        estim_lr_coef: `d_coef`, a factor of the estimate.
        safeguard_warmup: keep the step size out of the sum that the estimate is divided by; for a `learning_rate` that
            warms up.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.prodigy(estim_lr0=0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([0.418861], dtype=float32)
    """
    rule = Prodigy(
        learning_rate, *betas, beta3, eps, estim_lr0, estim_lr_coef, weight_decay, bias_correction, safeguard_warmup
    )
    return optimizer(rule, 1.0, mask=mask, **common(moments, weights, seed, kernel, groups))
