"""AdEMAMix (arXiv:2409.03137)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._optimizer import optimizer
from .._rule import Rule, Slot, StepContext
from .._transform import Optimizer, scale_by
from ..estimates import MomentEstimates


class MixedMoments(NamedTuple):
    """A fast and a slow mean of the gradient, and its mean square."""

    mu: Any
    mu_slow: Any
    nu: Any


class AdEMAMix(Rule[MixedMoments]):
    r"""Adam with a second, much slower mean added to its own.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad s_t = \beta_3 s_{t-1} + (1-\beta_3) g_t \qquad
      u_t = (\hat m_t + \alpha s_t) / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    The slow mean is not corrected for bias. From the start it would lead astray: warm $\alpha$ and $\beta_3$ up with
    `schedules.ademamix_alpha` and `schedules.ademamix_b3`.

    Attributes:
        b1: decay rate of the fast mean.
        b2: decay rate of the mean square.
        b3: decay rate of the slow mean.
        alpha: weight of the slow mean; 2 to 10 (8 in the readme of the official code).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root, in units of the squared gradient.

    Reference: Pagliardini, Ablin & Grangier, arXiv:2409.03137, Algorithm 1.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    b3: Beta = 0.9999
    alpha: NonNegative = 5.0
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "fast m, v"
    slots = MixedMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), mu_slow=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True)
    )
    optax_slots = ("ScaleByAdemamixState.m1", "ScaleByAdemamixState.m2", "ScaleByAdemamixState.nu")

    def step(self, g: Array, s: MixedMoments, at: StepContext) -> tuple[Array, MixedMoments]:
        mu, mu_slow = ema(s.mu, g, self.b1), ema(s.mu_slow, g, self.b3)
        nu = ema(s.nu, abs_sq(g), self.b2)
        mixed = debias(mu, self.b1, at.t) + self.alpha * mu_slow
        u = adam_ratio(mixed, debias(nu, self.b2, at.t), self.eps, self.eps_root)
        return u, MixedMoments(mu, mu_slow, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)


@named(AdEMAMix)
def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdEMAMix.b1,
    b2: ScalarOrSchedule = AdEMAMix.b2,
    b3: ScalarOrSchedule = AdEMAMix.b3,
    alpha: ScalarOrSchedule = AdEMAMix.alpha,
    eps: ScalarOrSchedule = AdEMAMix.eps,
    eps_root: ScalarOrSchedule = AdEMAMix.eps_root,
    mu_dtype: Any = None,
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
    """AdEMAMix (arXiv:2409.03137): AdamW with a second, much slower mean of the gradient.

    Hyperparameters are those of `adamx.AdEMAMix`; the rest is described by `adamx.optimizer`.

    Warm the slow mean up with `schedules.ademamix_alpha` and `schedules.ademamix_b3`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.ademamix(0.5, alpha=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = AdEMAMix(b1, b2, b3, alpha, eps, eps_root)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)


@described(AdEMAMix, scale_by)
def scale_by_ademamix(
    b1: ScalarOrSchedule = AdEMAMix.b1,
    b2: ScalarOrSchedule = AdEMAMix.b2,
    b3: ScalarOrSchedule = AdEMAMix.b3,
    alpha: ScalarOrSchedule = AdEMAMix.alpha,
    eps: ScalarOrSchedule = AdEMAMix.eps,
    eps_root: ScalarOrSchedule = AdEMAMix.eps_root,
    mu_dtype: Any = None,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdEMAMix's direction, without step size and sign; see `adamx.AdEMAMix`.

    `alpha` is 5, as in `ademamix` here and in Optax, whose `scale_by_ademamix` has 6.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> alpha = adamx.schedules.ademamix_alpha(5.0, steps=1000)
        >>> tx = adamx.scale_by_ademamix(alpha=alpha)
        >>> tx.init(jnp.zeros(2)).slots
        MixedMoments(mu=Array([0., 0.], dtype=float32), mu_slow=Array([0., 0.], dtype=float32),
                     nu=Array([0., 0.], dtype=float32))
    """
    return scale_by(AdEMAMix(b1, b2, b3, alpha, eps, eps_root), mu_dtype=mu_dtype, moments=moments, seed=seed)
