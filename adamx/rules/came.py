"""CAME (arXiv:2307.02047)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, Positive, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, div_no_nan, ema
from .._rule import Rule, Slot, StepContext, static
from .factored import Axes, factor_slots, factored_axes


class CAMEMoments(NamedTuple):
    """The factored second moment, the momentum of the steps, and their factored instability."""

    nu: Any
    mu: Any
    instability: Any


class CAME(Rule[CAMEMoments]):
    r"""Adafactor whose momentum is trusted where it agrees with the steps it averages.

    With $U_t$ as Adafactor's clipped step, and both second moments kept as row and column means:
    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) U_t \qquad
      S_t = \beta_3 S_{t-1} + (1-\beta_3)\big((U_t - m_t)^2 + \varepsilon_2\big) \qquad u_t = m_t / \sqrt{S_t}$$

    Leaves of fewer than two axes are not factored and step by $m_t$.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        b3: decay rate of the instability.
        eps: $\varepsilon$, added to the squared gradient, in its units.
        eps_instability: $\varepsilon_2$, added to the squared distance between step and momentum.
        clipping_threshold: the largest root mean square of $U_t$ in a leaf.
        min_dim_size_to_factor: the least length of the last two axes of a leaf that is factored.

    Reference: Luo et al., arXiv:2307.02047, Algorithm 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    b3: Beta = 0.9999
    eps: NonNegative = 1e-30
    eps_instability: NonNegative = 1e-16
    clipping_threshold: Positive = 1.0
    min_dim_size_to_factor: int = static(default=1)
    elementwise = False
    eps_place = "g² + ε"
    corrected_averages = "none"

    def _slots(self) -> CAMEMoments:
        factored_only = factor_slots(self._axes)._replace(full=Slot(init=lambda p, dtype: None))
        return CAMEMoments(nu=factor_slots(self._axes), mu=Slot(), instability=factored_only)

    slots = property(_slots)

    def step(self, g: Array, s: CAMEMoments, at: StepContext) -> tuple[Array, CAMEMoments]:
        axes = self._axes(g.shape)
        nu, whole = s.nu.towards(abs_sq(g) + self.eps, self.b2, axes, at)
        u = div_no_nan(g, jnp.sqrt(whole))
        u = u / jnp.maximum(1, at.rms(u) / self.clipping_threshold)
        mu = ema(s.mu, u, self.b1)
        if axes is None:
            return mu, CAMEMoments(nu, mu, s.instability)
        instability, whole = s.instability.towards(abs_sq(u - mu) + self.eps_instability, self.b3, axes, at)
        return div_no_nan(mu, jnp.sqrt(whole)), CAMEMoments(nu, mu, instability)

    def _axes(self, shape: tuple[int, ...]) -> Axes:
        return factored_axes(shape, self.min_dim_size_to_factor, last=True)


@named(CAME)
def came(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = CAME.b1,
    b2: ScalarOrSchedule = CAME.b2,
    b3: ScalarOrSchedule = CAME.b3,
    eps: ScalarOrSchedule = CAME.eps,
    eps_instability: ScalarOrSchedule = CAME.eps_instability,
    clipping_threshold: ScalarOrSchedule = CAME.clipping_threshold,
    min_dim_size_to_factor: int = CAME.min_dim_size_to_factor,
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
    """CAME (arXiv:2307.02047): Adafactor whose momentum is trusted where it agrees with the steps it averages.

    Hyperparameters are those of `adamx.CAME`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.came(0.5, b1=0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.75], dtype=float32)
    """
    rule = CAME(b1, b2, b3, eps, eps_instability, clipping_threshold, min_dim_size_to_factor)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
