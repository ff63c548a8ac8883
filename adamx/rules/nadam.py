"""NAdam with Dozat's momentum schedule (ICLR 2016 workshop); `Adam(nesterov=True)` is the form without it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import Rule, Slot, StepContext
from ..estimates import MomentEstimates
from ..idle import IdleSteps, terms
from .adam import Adam, adam


class ScheduledMoments(NamedTuple):
    """The two moments, and the product of the scheduled momenta so far (a scalar)."""

    mu: Any
    nu: Any
    product: Any


class NAdam(Rule[ScheduledMoments]):
    r"""Adam with Nesterov momentum that warms up.

    $$\mu_t = \beta_1 (1 - \tfrac12\,.96^{t\psi}) \qquad
      \bar m_t = \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i} + \frac{(1-\mu_t) g_t}{1 - \prod_{i \le t} \mu_i}
      \qquad u_t = \bar m_t / (\sqrt{\hat v_t} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean, and the limit of the momentum.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        momentum_decay: $\psi$, how slowly the momentum warms up; 4e-3 in PyTorch, 1 in Keras.

    Reference: Dozat, ICLR 2016 workshop; the schedule as in PyTorch's NAdam.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    momentum_decay: NonNegative = 4e-3
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m by its schedule, v"
    slots = ScheduledMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
        nu=Slot(nonnegative=True),
        product=Slot(init=lambda p, dtype: jnp.ones([], dtype), nonnegative=True),
    )
    torch_slots = ("exp_avg", "exp_avg_sq", "mu_product")

    def step(self, g: Array, s: ScheduledMoments, at: StepContext) -> tuple[Array, ScheduledMoments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        here, ahead = (self.b1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (at.t, at.t + 1))
        product = s.product * here
        m_bar = mu * (ahead / (1 - product * ahead)) + g * ((1 - here) / (1 - product))
        return adam_ratio(m_bar, debias(nu, self.b2, at.t), self.eps), ScheduledMoments(mu, nu, product)

    def idle(self, s: ScheduledMoments, at: IdleSteps) -> tuple[Array, ScheduledMoments]:
        b1, b2, eps = at.rate("b1", self.b1), at.rate("b2", self.b2), at.number("eps", self.eps)
        decay = at.rate("momentum_decay", self.momentum_decay)
        momenta = b1 * (1 - 0.5 * 0.96 ** (np.arange(1, terms(b1, s.nu.dtype) + 2) * decay))
        products = jnp.asarray(np.cumprod(momenta), s.nu.dtype)  # of later steps they are below rounding

        def term(j: Array, t: Array) -> Array:
            product = products[jnp.minimum(t.astype(jnp.int32), len(momenta) - 1)]
            return at.power(b1, j) * b1 * (1 - 0.5 * 0.96 ** ((t + 1) * decay)) / (1 - product)

        element = lambda j, t: adam_ratio(s.mu, s.nu * (at.power(b2, j) / at.correction(b2, j)), eps)  # noqa: E731
        total = at.sum_beside_root(element, term, b1 / b2**0.5, b2)
        return total, ScheduledMoments(s.mu * at.power(b1), s.nu * at.power(b2), s.product)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)


@named(NAdam, Adam)
def nadam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: ScalarOrSchedule | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""NAdam (Dozat, ICLR 2016 workshop): Adam with Nesterov momentum, constant or with Dozat's schedule.

    Without `momentum_decay` it is Optax's form, `adam(nesterov=True)`; with it PyTorch's and Keras's, `adamx.NAdam`,
    which has no `eps_root` and looks ahead always. Hyperparameters are those of both;
    the rest is described by `adamx.optimizer`.

    Args:
        learning_rate: the step size; PyTorch's is .002.
        momentum_decay: how slowly the momentum warms up: 4e-3 in PyTorch, 1 in Keras; `None` for a constant one.

    Raises:
        ValueError: `momentum_decay` together with `eps_root` or without `nesterov`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.nadam(learning_rate=0.5, momentum_decay=4e-3)
        >>> params = jnp.array([1.0])
        >>> opt.step(params, opt.init(params), params)[0]
        Array([0.4717741], dtype=float32)
    """
    shared = common(moments, weights, seed, kernel, groups)
    if momentum_decay is None:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, **shared)
    if not nesterov or not isinstance(eps_root, (int, float)) or eps_root != 0:
        raise ValueError("momentum_decay selects Dozat's NAdam, which always looks ahead and has no eps_root")
    return optimizer(NAdam(b1, b2, eps, momentum_decay), learning_rate, mu_dtype=mu_dtype, **shared)


@named(Adam)
def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """NAdamW (Dozat, ICLR 2016 workshop): AdamW with Nesterov momentum, `adamw(nesterov=True)`.

    Hyperparameters are those of `adamx.Adam`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.nadamw(learning_rate=0.5, weight_decay=0.1)
        >>> params = jnp.array([1.0])
        >>> opt.step(jnp.zeros(1), opt.init(params), params)[0]
        Array([0.95], dtype=float32)
    """
    rule = Adam(b1, b2, eps, eps_root, nesterov)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)
