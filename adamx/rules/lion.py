"""Lion (arXiv:2302.06675)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, Scalar, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import ema, sign
from .._optimizer import optimizer
from .._rule import Rule, Slot, StepContext, static
from .._transform import Optimizer, scale_by
from ..idle import IdleSteps


class Momentum(NamedTuple):
    """The slot of a rule that keeps a momentum only."""

    mu: Any


def hard(x: Array, beta: Scalar) -> Array:
    """The sign."""
    del beta
    return sign(x)


def smooth(x: Array, beta: Scalar) -> Array:
    r"""$\tanh(\beta |x|)$ in the direction of `x`."""
    return jnp.tanh(beta * jnp.abs(x)) * sign(x)


def refined(x: Array, beta: Scalar) -> Array:
    """`x` itself where it is shorter than 1, else its sign."""
    del beta
    return jnp.where(jnp.abs(x) < 1, x, sign(x))


SIGNS: Mapping[str, Callable[[Array, Scalar], Array]] = MappingProxyType(
    {"hard": hard, "smooth": smooth, "refined": refined}
)


class Lion(Rule[Momentum]):
    r"""The sign of an interpolated momentum.

    $$u_t = \mathrm{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t) \qquad m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t$$

    Attributes:
        b1: weight of the momentum in the step.
        b2: decay rate of the momentum.
        mode: "hard" takes the sign; "smooth" $\tanh(\beta x)$ and "refined" $\max(-1, \min(x, 1))$, Optax's, instead.
        smooth_beta: $\beta$ of "smooth".

    Reference: Chen et al., arXiv:2302.06675, Algorithm 2. Step sizes are 3 to 10 times smaller than Adam's, weight
    decay as many times larger.
    """

    b1: Beta = 0.9
    b2: Beta = 0.99
    mode: str = static(default="hard", choices=tuple(SIGNS))
    smooth_beta: NonNegative = 1.0
    elementwise = True
    eps_place = "none"
    corrected_averages = "none"
    slots = Momentum(mu=Slot())
    optax_slots = ("ScaleByLionState.mu",)

    def step(self, g: Array, s: Momentum, at: StepContext) -> tuple[Array, Momentum]:
        return SIGNS[self.mode](ema(s.mu, g, self.b1), self.smooth_beta), Momentum(ema(s.mu, g, self.b2))

    def idle(self, s: Momentum, at: IdleSteps) -> tuple[Array, Momentum]:
        if self.mode != "hard":
            raise ValueError(
                f"mode={self.mode!r} follows the size of the momentum, whose sum over idle steps is unknown"
            )
        momentum = s.mu * at.power(at.number("b2", self.b2))
        return sign(s.mu * at.number("b1", self.b1)) * at.total(), Momentum(momentum)


@named(Lion)
def lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Lion.b1,
    b2: ScalarOrSchedule = Lion.b2,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: Any = None,
    *,
    mode: str = Lion.mode,
    smooth_beta: ScalarOrSchedule = Lion.smooth_beta,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Lion (arXiv:2302.06675): the sign of an interpolated momentum; steps 3 to 10 times smaller than Adam's.

    Hyperparameters are those of `adamx.Lion`; the rest is described by `adamx.optimizer`. `mode` and `smooth_beta` are
    those of `optax.scale_by_lion`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.lion(0.5, weight_decay=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = Lion(b1, b2, mode, smooth_beta)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)


@described(Lion, scale_by)
def scale_by_lion(
    b1: ScalarOrSchedule = Lion.b1,
    b2: ScalarOrSchedule = Lion.b2,
    mu_dtype: Any = None,
    *,
    mode: str = Lion.mode,
    smooth_beta: ScalarOrSchedule = Lion.smooth_beta,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """Lion's direction, without step size and sign; see `adamx.Lion`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_lion()
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0]
        Array([ 1., -1.], dtype=float32)
    """
    return scale_by(Lion(b1, b2, mode, smooth_beta), mu_dtype=mu_dtype, moments=moments, seed=seed)
