"""AdaDelta (arXiv:1212.5701, Algorithm 1)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import (
    Groups,
    Kernel,
    MomentFormats,
    Optimizer,
    Weights,
    common,
    decaying,
    described,
    named,
    optimizer,
    scale_by,
)
from .._math import abs_sq, div_no_nan, ema
from .._rule import Rule, Slot, StepContext


class Accumulators(NamedTuple):
    """The mean square of the gradient, and of the updates."""

    nu: Any
    nu_delta: Any


class AdaDelta(Rule[Accumulators]):
    r"""The gradient in units of its own root mean square, times that of the updates so far.

    $$v_t = \rho v_{t-1} + (1-\rho) g_t^2 \qquad
      u_t = \frac{\sqrt{w_{t-1} + \varepsilon}}{\sqrt{v_t + \varepsilon}} g_t \qquad
      w_t = \rho w_{t-1} + (1-\rho) u_t^2$$

    Attributes:
        rho: decay rate of both averages.
        eps: $\varepsilon$, in units of the squared gradient, and of the squared weight.

    Reference: Zeiler, arXiv:1212.5701, Algorithm 1 (no step size there: 1).
    """

    rho: Beta = 0.9
    eps: NonNegative = 1e-6
    elementwise = True
    eps_place = "√(v + ε)"
    corrected_averages = "none"
    optax_slots = ("ScaleByAdaDeltaState.e_g", "ScaleByAdaDeltaState.e_x")
    torch_slots = ("square_avg", "acc_delta")
    slots = Accumulators(nu=Slot(nonnegative=True), nu_delta=Slot(nonnegative=True))

    def step(self, g: Array, s: Accumulators, at: StepContext) -> tuple[Array, Accumulators]:
        nu = ema(s.nu, abs_sq(g), self.rho)
        u = div_no_nan(jnp.sqrt(s.nu_delta + self.eps) * g, jnp.sqrt(nu + self.eps))
        return u, Accumulators(nu, ema(s.nu_delta, abs_sq(u), self.rho))


@named(AdaDelta)
def adadelta(
    learning_rate: ScalarOrSchedule = 1.0,
    rho: ScalarOrSchedule = AdaDelta.rho,
    eps: ScalarOrSchedule = AdaDelta.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""AdaDelta (arXiv:1212.5701): the gradient in units of its root mean square, times that of the updates.

    Hyperparameters are those of `adamx.AdaDelta`; the rest is described by `adamx.optimizer`.

    `learning_rate` is 1 if left out, the paper's: Optax's `None` leaves out the sign together with the factor, and
    climbs.

    Args:
        weight_decay: its strength $\lambda$; $\lambda p$ is added to the gradient, as in Optax and PyTorch.
        weight_decay_mask: which leaves decay, `mask` of `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adadelta(1.0, rho=0.75, eps=1.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([0.585786], dtype=float32)
    """
    rule = AdaDelta(rho, eps)
    decays, shared = (
        decaying(weight_decay, weight_decay_mask, "l2", None),
        common(moments, weights, seed, kernel, groups),
    )
    return optimizer(rule, learning_rate, **decays, **shared)


@described(AdaDelta, scale_by)
def scale_by_adadelta(
    rho: ScalarOrSchedule = AdaDelta.rho,
    eps: ScalarOrSchedule = AdaDelta.eps,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaDelta's direction, without step size and sign; see `adamx.AdaDelta`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_adadelta(eps=1.0)
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)
        Array([ 2.1764, -0.1996], dtype=float32)
    """
    return scale_by(AdaDelta(rho, eps), moments=moments, seed=seed)
