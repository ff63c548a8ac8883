"""Schedule-free learning (arXiv:2405.15682)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._math import div_no_nan
from .._rule import At, Modifier, Slot
from .._typing import Array, Beta, NonNegative, Params


class ScheduleFreeSlots(NamedTuple):
    """The rule's slots, the iterate z that takes its steps, and three numbers: the weights of x, and of x in y."""

    inner: Any
    z: Any
    weight_sum: Any
    lr_max: Any
    b1: Any


class ScheduleFree(Modifier):
    r"""A rule's steps averaged as they are taken, so that no schedule has to end.

    $$z_{t+1} = z_t - \alpha_t (u_t + \lambda y_t) \qquad x_{t+1} = (1-c_t) x_t + c_t z_{t+1} \qquad
      y_{t+1} = (1-\beta_1) z_{t+1} + \beta_1 x_{t+1}$$

    with $c_t = w_t / \sum_{i \le t} w_i$ and $w_t = t^r \alpha_{\max}^q$. The parameters are $y$, where gradients are
    taken; evaluate at $x$ (`schedule_free_eval_params`). With $e = y_t - z_t$ and $\delta = z_t - z_{t+1}$ the step is
    $y_t - y_{t+1} = c_t e + (1 - \beta_1(1-c_t))\,\delta$, which never divides by $\beta_1$.

    Attributes:
        rule: the rule, without a momentum of its own.
        learning_rate: $\alpha_t$, warmed up by a schedule.
        b1: how near the average gradients are taken.
        weight_decay: $\lambda$, acting at $y$.
        r: power of the step's number in its weight.
        weight_lr_power: $q$.

    Reference: Defazio et al., arXiv:2405.15682, Algorithm 1, and the official code.
    """

    learning_rate: NonNegative
    b1: Beta = 0.9
    weight_decay: NonNegative = 0.0
    r: NonNegative = 0.0
    weight_lr_power: NonNegative = 2.0

    def _slots(self) -> ScheduleFreeSlots:
        number = Slot(init=lambda p, dtype: jnp.zeros([], dtype), nonnegative=True)
        b1 = Slot(init=lambda p, dtype: jnp.zeros([], dtype), nonnegative=True)
        return ScheduleFreeSlots(self.rule.slots, Slot(init=jnp.array), number, number, b1)

    slots = property(_slots)

    def measure(self, g: Array, s: ScheduleFreeSlots, at: At) -> Any:
        return self.rule.measure(g, s.inner, at)

    def step(self, g: Array, s: ScheduleFreeSlots, at: At) -> tuple[Array, ScheduleFreeSlots]:
        u, inner = self.rule.step(g, s.inner, at)
        delta = self.learning_rate * (u + at.decay(self.weight_decay))
        lr_max = jnp.maximum(s.lr_max, self.learning_rate)
        weight = at.t**self.r * lr_max**self.weight_lr_power
        weight_sum = s.weight_sum + weight
        c = div_no_nan(weight, weight_sum)
        step = c * (at.p - s.z) + (1 - self.b1 * (1 - c)) * delta
        return step, ScheduleFreeSlots(inner, s.z - delta, weight_sum, lr_max, jnp.full_like(s.b1, self.b1))


def schedule_free_eval_params(state: Any, params: Params) -> Params:
    """The averaged iterate x, at which a model trained schedule-free is evaluated.

    Args:
        state: the optimizer's state, or one that holds it.
        params: the parameters y that were trained.

    Returns:
        A tree like `params`, in their dtypes; `params` themselves before the first step.

    Raises:
        KeyError: `state` holds no schedule-free optimizer, or several.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.schedule_free_sgd(learning_rate=0.5, b1=0.5)
    >>> y = jnp.array([1.0])
    >>> y, state = opt.step(jnp.array([1.0]), opt.init(y), y)
    >>> adamx.schedule_free_eval_params(state, y)
    Array([0.5], dtype=float32)
    """
    slots = optax.tree.get(state, "ScheduleFreeSlots")
    if slots is None:
        raise KeyError("the state holds no schedule-free optimizer")

    def x(y: Array, z: Array, b1: Array) -> Array:
        return (z + div_no_nan(y.astype(z.dtype) - z, b1)).astype(y.dtype)

    return jax.tree.map(x, params, slots.z, slots.b1)
