"""Adan (arXiv:2208.06677), as the official code has it."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._optimizer import optimizer
from .._rule import Rule, Slot, StepContext
from .._transform import Optimizer, scale_by
from ..estimates import MomentEstimates


class AdanMoments(NamedTuple):
    """The mean of the gradient, of its change, and of the square of the gradient looked ahead; the last gradient."""

    mu: Any
    delta: Any
    nu: Any
    previous: Any


class Adan(Rule[AdanMoments]):
    r"""Adam with Nesterov momentum built from the change of the gradient.

    $d_t = g_t - g_{t-1}$, $d_1 = 0$:
    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) d_t \qquad
      n_t = \beta_3 n_{t-1} + (1-\beta_3)(g_t + \beta_2 d_t)^2$$
    $$u_t = (\hat m_t + \beta_2 \hat v_t) / (\sqrt{\hat n_t + \bar\varepsilon} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean; the paper's letters are one minus the code's, which are meant here.
        b2: decay rate of the change, and how far to look ahead. Optax looks ahead by 1 - b2 instead (optax#1715).
        b3: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root (the paper's place for eps), in units of the squared gradient.

    Reference: Xie et al., arXiv:2208.06677, Algorithm 1, and the official code (sail-sg/Adan).
    """

    b1: Beta = 0.98
    b2: Beta = 0.92
    b3: Beta = 0.99
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    elementwise = True
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v, n"
    slots = AdanMoments(
        mu=Slot(unit=lambda s: jnp.sqrt(s.nu)),
        delta=Slot(unit=lambda s: jnp.sqrt(s.nu)),
        nu=Slot(nonnegative=True),
        previous=Slot(unit=lambda s: jnp.sqrt(s.nu)),
    )
    optax_slots = ("ScaleByAdanState.m", "ScaleByAdanState.v", "ScaleByAdanState.n", "ScaleByAdanState.g")

    def step(self, g: Array, s: AdanMoments, at: StepContext) -> tuple[Array, AdanMoments]:
        d = jnp.where(at.t == 1, 0, g - s.previous)
        mu = ema(s.mu, g, self.b1)
        delta = ema(s.delta, d, self.b2)
        nu = ema(s.nu, abs_sq(g + self.b2 * d), self.b3)
        ahead = debias(mu, self.b1, at.t) + self.b2 * debias(delta, self.b2, at.t)
        u = adam_ratio(ahead, debias(nu, self.b3, at.t), self.eps, self.eps_root)
        return u, AdanMoments(mu, delta, nu, g)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b3, t), self.eps)


@named(Adan)
def adan(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adan.b1,
    b2: ScalarOrSchedule = Adan.b2,
    b3: ScalarOrSchedule = Adan.b3,
    eps: ScalarOrSchedule = Adan.eps,
    eps_root: ScalarOrSchedule = Adan.eps_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: Decay = "proximal",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Adan (arXiv:2208.06677): Adam with Nesterov momentum built from the change of the gradient.

    Hyperparameters are those of `adamx.Adan`; the rest is described by `adamx.optimizer`.

    Decay is the official code's, $p / (1 + \alpha\lambda)$ after the step. Optax has another rule under this name,
    with 1 - b2 for b2 (optax#1715), `eps_root=1e-8` and decoupled decay. The official code has no `eps_root`, and so it
    is 0 here, as in `optax.scale_by_adan`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adan(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = Adan(b1, b2, b3, eps, eps_root)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)


@described(Adan, scale_by)
def scale_by_adan(
    b1: ScalarOrSchedule = Adan.b1,
    b2: ScalarOrSchedule = Adan.b2,
    b3: ScalarOrSchedule = Adan.b3,
    eps: ScalarOrSchedule = Adan.eps,
    eps_root: ScalarOrSchedule = Adan.eps_root,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adan's direction, without step size and sign; see `adamx.Adan`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_adan()
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)
        Array([ 1., -1.], dtype=float32)
    """
    return scale_by(Adan(b1, b2, b3, eps, eps_root), moments=moments, seed=seed)
