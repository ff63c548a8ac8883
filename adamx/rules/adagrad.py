"""AdaGrad (JMLR 12, 2011)."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Initial, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, div_no_nan
from .._rule import Rule, Slot, StepContext, static
from ..idle import IdleSteps


class SecondMoment(NamedTuple):
    """The slot of a rule that keeps a second moment only."""

    nu: Any


class AdaGrad(Rule[SecondMoment]):
    r"""The gradient in units of the root of the sum of its squares so far.

    $$S_t = S_{t-1} + g_t^2 \qquad u_t = g_t / \sqrt{S_t + \varepsilon}$$

    Attributes:
        initial_accumulator_value: $S_0$, in units of the squared gradient; .1 in Optax, Keras and TensorFlow, 0 in
            PyTorch.
        eps: $\varepsilon$, in units of the squared gradient.
        eps_in_sqrt: whether `eps` stands inside the root, as in Optax and Keras; outside, as in PyTorch, it is in units
            of the gradient.

    Reference: Duchi, Hazan & Singer, JMLR 12, 2011.
    """

    initial_accumulator_value: Initial = 0.1
    eps: NonNegative = 1e-7
    eps_in_sqrt: bool = static(default=True)
    elementwise = True
    eps_place = property(lambda self: "√(v + ε)" if self.eps_in_sqrt else "√v + ε")
    corrected_averages = "none"
    optax_slots = ("ScaleByRssState.sum_of_squares",)
    torch_slots = ("sum",)

    def _slots(self) -> SecondMoment:
        start = functools.partial(jnp.full_like, fill_value=self.initial_accumulator_value)
        return SecondMoment(nu=Slot(init=start, nonnegative=True))

    slots = property(_slots)

    def step(self, g: Array, s: SecondMoment, at: StepContext) -> tuple[Array, SecondMoment]:
        nu = s.nu + abs_sq(g)
        root = jnp.sqrt(nu + self.eps) if self.eps_in_sqrt else jnp.sqrt(nu) + self.eps
        return div_no_nan(g, root), SecondMoment(nu)

    def idle(self, s: SecondMoment, at: IdleSteps) -> tuple[Array, SecondMoment]:
        return jnp.zeros_like(at.params), s


@named(AdaGrad)
def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: ScalarOrSchedule = AdaGrad.initial_accumulator_value,
    eps: ScalarOrSchedule = AdaGrad.eps,
    *,
    eps_in_sqrt: bool = AdaGrad.eps_in_sqrt,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """AdaGrad (Duchi, Hazan & Singer, JMLR 2011): the gradient in units of the root of the sum of its squares.

    Hyperparameters are those of `adamx.AdaGrad`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adagrad(0.5, initial_accumulator_value=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = AdaGrad(initial_accumulator_value, eps, eps_in_sqrt)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@described(AdaGrad, scale_by)
def scale_by_rss(
    initial_accumulator_value: ScalarOrSchedule = AdaGrad.initial_accumulator_value,
    eps: ScalarOrSchedule = AdaGrad.eps,
    *,
    eps_in_sqrt: bool = AdaGrad.eps_in_sqrt,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaGrad's direction, without step size and sign; see `adamx.AdaGrad`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_rss(initial_accumulator_value=0.0)
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)
        Array([ 1., -1.], dtype=float32)
    """
    return scale_by(AdaGrad(initial_accumulator_value, eps, eps_in_sqrt), moments=moments, seed=seed)
