"""Schedule-free learning (arXiv:2405.15682)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._annotations import Array, NonNegative, Params, ScalarOrSchedule, Weight
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, named, optimizer
from .._layout import wide_dtype
from .._leaves import is_none
from .._math import div_no_nan
from .._rule import Modifier, Slot, StepContext, refuse_traced, static, validate_dtype
from ..rules.adam import Adam
from ..rules.rmsprop import RMSProp
from ..rules.sgd import SGD


class ScheduleFreeSlots(NamedTuple):
    """The rule's slots, the iterate z, the average x of weights narrower than float32, and three numbers."""

    inner: Any
    z: Any
    x: Any
    weight_sum: Any
    lr_max: Any
    b1: Any


class ScheduleFree(Modifier):
    r"""A rule's steps averaged as they are taken, so that no schedule has to end.

    $$z_{t+1} = z_t - \alpha_t (u_t + \lambda y_t) \qquad x_{t+1} = (1-c_t) x_t + c_t z_{t+1} \qquad
      y_{t+1} = (1-\beta_1) z_{t+1} + \beta_1 x_{t+1}$$

    with $c_t = w_t / \sum_{i \le t} w_i$ and $w_t = t^r \alpha_{\max}^q$. The parameters are $y$, where gradients are
    taken; evaluate at $x$ (`schedule_free_eval_params`). With $e = y_t - z_t$ and $\delta = z_t - z_{t+1}$ the step is
    $y_t - y_{t+1} = c_t e + (1 - \beta_1(1-c_t))\,\delta$, and $x$ is $z + (y - z)/\beta_1$. Where $y$ is rounded
    to less than float32, $x$ is kept besides.

    Attributes:
        rule: the rule, without a momentum of its own.
        learning_rate: $\alpha_t$, warmed up by a schedule.
        b1: how near the average gradients are taken; a constant above 0.
        weight_decay: strength $\lambda$ of the decay, acting at $y$.
        r: power of the step's number in its weight.
        weight_lr_power: power $q$ of the largest step size so far in the same weight.
        state_dtype: what $z$ of a real leaf is kept in, and rounded to at every step; `None` for at least float32.

    Reference: Defazio et al., arXiv:2405.15682, Algorithm 1, and the official code.
    """

    learning_rate: NonNegative
    b1: Weight = 0.9
    weight_decay: NonNegative = 0.0
    r: NonNegative = 0.0
    weight_lr_power: NonNegative = 2.0
    state_dtype: Any = static(default=None)
    elementwise = property(lambda self: self.rule.elementwise)

    def _slots(self) -> ScheduleFreeSlots:
        validate_dtype("state_dtype", self.state_dtype)
        number = Slot(init=lambda p, dtype: jnp.zeros([], dtype), nonnegative=True)
        b1 = Slot(init=lambda p, dtype: jnp.full([], self.b1, dtype), nonnegative=True)
        z = Slot(init=jnp.array, dtype=self.state_dtype)
        return ScheduleFreeSlots(self.rule.slots, z, Slot(init=_narrow), number, number, b1)

    slots = property(_slots)

    def _optax_slots(self) -> Any:
        own = ("ScheduleFreeState.z", None, *(f"ScheduleFreeState.{name}" for name in ("weight_sum", "max_lr", "b1")))
        return None if self.rule.optax_slots is None else (*self.rule.optax_slots, *own)

    optax_slots = property(_optax_slots)

    def measure(self, g: Array, s: ScheduleFreeSlots, at: StepContext) -> Any:
        return self.rule.measure(g, s.inner, at)

    def step(self, g: Array, s: ScheduleFreeSlots, at: StepContext) -> tuple[Array, ScheduleFreeSlots]:
        u, inner = self.rule.step(g, s.inner, at)
        delta = self.learning_rate * (u + at.decay(self.weight_decay))
        lr_max = jnp.maximum(s.lr_max, self.learning_rate)
        weight = at.t**self.r * lr_max**self.weight_lr_power
        weight_sum = s.weight_sum + weight
        c, z = div_no_nan(weight, weight_sum), s.z - delta
        if self.state_dtype is not None and not jnp.iscomplexobj(z):
            # By the z that is kept: x is found again from it and y. XLA would leave out a cast there and back.
            kept = jnp.finfo(self.state_dtype)
            z = jax.lax.reduce_precision(z, kept.nexp, kept.nmant)
            delta = s.z - z
        if s.x is None:
            x, step = None, c * (at.p - s.z) + (1 - self.b1 * (1 - c)) * delta
        else:
            x = s.x + c * (z - s.x)
            step = at.p - (z + self.b1 * (x - z))
        return step, ScheduleFreeSlots(inner, z, x, weight_sum, lr_max, s.b1)


def _narrow(p: Array, dtype: Any) -> Array | None:
    return jnp.array(p, dtype=dtype) if jnp.finfo(p.dtype).bits < 32 else None


def schedule_free_eval_params(state: Any, params: Params) -> Params:
    """The averaged iterate x, at which a model trained schedule-free is evaluated.

    Args:
        state: the optimizer's state, or one that holds it.
        params: the parameters y that were trained.

    Returns:
        A tree like `params`, in their dtypes; `params` themselves before the first step. Leaves that no schedule-free
        optimizer in `state` trains (under `optax.masked` or `optax.partition`) stay.

    Raises:
        ValueError: `state` holds no schedule-free optimizer.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.schedule_free_sgd(learning_rate=0.5, b1=0.5)
        >>> y = jnp.array([1.0])
        >>> y, state = opt.step(jnp.array([1.0]), opt.init(y), y)
        >>> adamx.schedule_free_eval_params(state, y)
        Array([0.5], dtype=float32)
    """
    found = [x for x in jax.tree.leaves(state, is_leaf=_is_slots) if _is_slots(x)]
    if not found:
        raise ValueError("the state holds no schedule-free optimizer: train with adamx.schedule_free_adamw or _sgd")
    averages: dict[Any, Any] = {}
    for slots in found:
        paths, z = zip(*jax.tree_util.tree_flatten_with_path(slots.z, is_leaf=is_none)[0], strict=True)
        x, b1 = (jax.tree.leaves(tree, is_leaf=is_none) for tree in (slots.x, slots.b1))
        averages |= dict(zip(paths, zip(z, x, b1, strict=True), strict=True))

    def evaluate(path: Any, y: Array) -> Array:
        z, x, b1 = averages.get(path, (None, None, None))
        if z is None or b1 is None:
            return y
        if x is None:
            wide = wide_dtype(y, z)
            x = z.astype(wide) + (y.astype(wide) - z.astype(wide)) / b1.astype(wide)
        return x.astype(y.dtype)

    return jax.tree_util.tree_map_with_path(evaluate, params)


def _is_slots(x: Any) -> bool:
    return isinstance(x, ScheduleFreeSlots)


@named(ScheduleFree, Adam)
def schedule_free_adamw(
    learning_rate: ScalarOrSchedule = 0.0025,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = ScheduleFree.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: ScalarOrSchedule = ScheduleFree.weight_lr_power,
    state_dtype: Any = ScheduleFree.state_dtype,
    *,
    r: ScalarOrSchedule = ScheduleFree.r,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Schedule-free AdamW (arXiv:2405.15682): averages as it steps, so that no schedule has to end.

    Evaluate at `schedule_free_eval_params`.

    Hyperparameters are those of `adamx.ScheduleFree` and `adamx.Adam`, whose mean it does without; the rest is
    described by `adamx.optimizer`. While the step size warms up in Optax, the step lags one behind the weights of the
    average.

    Args:
        learning_rate: the step size $\alpha$; with `warmup_steps` not a schedule.
        warmup_steps: the steps in which the step size rises linearly to `learning_rate`; `None` for a constant one.
        b1: how near the average gradients are taken; a constant in (0, 1).
        state_dtype: the dtype that $z$ is kept in; `None` for at least float32, bfloat16 takes two bytes a number less.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.schedule_free_adamw(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    inner = RMSProp(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True)  # Adam without a mean
    rate = _warmed_up(learning_rate, warmup_steps)
    rule = ScheduleFree(inner, rate, b1, weight_decay, r, weight_lr_power, state_dtype)
    return optimizer(rule, 1.0, mask=mask, **common(moments, weights, seed, kernel, groups))


@named(ScheduleFree)
def schedule_free_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = ScheduleFree.b1,
    weight_decay: ScalarOrSchedule | None = None,
    weight_lr_power: ScalarOrSchedule = ScheduleFree.weight_lr_power,
    state_dtype: Any = ScheduleFree.state_dtype,
    *,
    r: ScalarOrSchedule = ScheduleFree.r,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Schedule-free SGD (arXiv:2405.15682): averages as it steps, so that no schedule has to end.

    Evaluate at `schedule_free_eval_params`.

    Hyperparameters are those of `adamx.ScheduleFree`; the rest is described by `adamx.optimizer`.

    Args:
        learning_rate: the step size $\alpha$; with `warmup_steps` not a schedule.
        warmup_steps: the steps in which the step size rises linearly to `learning_rate`; `None` for a constant one.
        weight_decay: its strength $\lambda$, acting at $y$; `None` for 0.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.schedule_free_sgd(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.], dtype=float32)
    """
    rate, strength = _warmed_up(learning_rate, warmup_steps), 0.0 if weight_decay is None else weight_decay
    rule = ScheduleFree(SGD(), rate, b1, strength, r, weight_lr_power, state_dtype)
    return optimizer(rule, 1.0, mask=mask, **common(moments, weights, seed, kernel, groups))


def _warmed_up(learning_rate: ScalarOrSchedule, steps: int | None) -> ScalarOrSchedule:
    refuse_traced("warmup_steps", steps)
    if isinstance(steps, bool):
        raise ValueError(f"warmup_steps = {steps} should be a number of steps, or None")
    if not steps:
        return learning_rate
    if callable(learning_rate):
        raise ValueError("give warmup_steps or a schedule as learning_rate, not both")
    return lambda count: learning_rate * jnp.minimum(1.0, (jnp.asarray(count).astype(float) + 1) / steps)
