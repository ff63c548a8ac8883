"""Yogi (NeurIPS 2018)."""

import functools

import jax.numpy as jnp

from .._annotations import Array, Beta, Initial, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import Moments, Rule, Slot, StepContext
from ..estimates import MomentEstimates


class Yogi(Rule[Moments]):
    r"""Adam whose second moment moves by steps of its own size instead of a share of its distance.

    $$v_t = v_{t-1} - (1-\beta_2)\,\mathrm{sign}(v_{t-1} - g_t^2)\,g_t^2 \qquad
      u_t = \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the second moment.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root, in units of the squared gradient.
        initial_accumulator_value: $v_0$, in units of the squared gradient. Optax starts the mean there, too, which
            pushes every weight at first.

    The correction for bias is Optax's; the paper has none.

    Reference: Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-3
    eps_root: NonNegative = 0.0
    initial_accumulator_value: Initial = 1e-6
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"
    optax_slots = ("ScaleByAdamState.mu", "ScaleByAdamState.nu")

    def _slots(self) -> Moments:
        start = functools.partial(jnp.full_like, fill_value=self.initial_accumulator_value)
        return Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(init=start, nonnegative=True))

    slots = property(_slots)

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        square = abs_sq(g)
        nu = s.nu - (1 - self.b2) * jnp.sign(s.nu - square) * square
        m_hat, v_hat = debias(mu, self.b1, at.t), debias(nu, self.b2, at.t)
        return adam_ratio(m_hat, v_hat, self.eps, self.eps_root), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)


@named(Yogi)
def yogi(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Yogi.b1,
    b2: ScalarOrSchedule = Yogi.b2,
    eps: ScalarOrSchedule = Yogi.eps,
    eps_root: ScalarOrSchedule = Yogi.eps_root,
    initial_accumulator_value: ScalarOrSchedule = Yogi.initial_accumulator_value,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Yogi (NeurIPS 2018): Adam whose second moment moves by steps of its own size.

    Hyperparameters are those of `adamx.Yogi`; the rest is described by `adamx.optimizer`.

    The mean starts at 0; Optax starts it at 1e-6, with the second moment.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.yogi(0.5, eps=0.0, initial_accumulator_value=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = Yogi(b1, b2, eps, eps_root, initial_accumulator_value)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@described(Yogi, scale_by)
def scale_by_yogi(
    b1: ScalarOrSchedule = Yogi.b1,
    b2: ScalarOrSchedule = Yogi.b2,
    eps: ScalarOrSchedule = Yogi.eps,
    eps_root: ScalarOrSchedule = Yogi.eps_root,
    initial_accumulator_value: ScalarOrSchedule = Yogi.initial_accumulator_value,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """Yogi's direction, without step size and sign; see `adamx.Yogi`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_yogi(initial_accumulator_value=0.25)
        >>> tx.init(jnp.zeros(2)).slots.nu
        Array([0.25, 0.25], dtype=float32)
    """
    return scale_by(Yogi(b1, b2, eps, eps_root, initial_accumulator_value), moments=moments, seed=seed)
