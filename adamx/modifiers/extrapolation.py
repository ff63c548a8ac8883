"""Feeding a rule a gradient looked ahead along its own change: MARS (arXiv:2411.10438) and Nesterov momentum."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._rule import Modifier, Rule, Slot, StepContext, static
from ..rules.adam import Adam


class WithPrevious(NamedTuple):
    """The wrapped rule's slots, and the gradient of the step before."""

    inner: Any
    previous: Any


def _with_previous(rule: Rule[Any]) -> WithPrevious:
    """The gradient is kept in units of the inner rule's root mean square, where it has one."""
    unit = (lambda s: jnp.sqrt(s.inner.nu)) if hasattr(rule.slots, "nu") else None
    return WithPrevious(inner=rule.slots, previous=Slot(unit=unit))


class MARS(Modifier):
    r"""Variance reduction: the gradient plus a share of its change, no longer than 1 for each leaf.

    $$c_t = g_t + \gamma \frac{\beta_1}{1-\beta_1} (g_t - g_{t-1}) \qquad \tilde c_t = c_t / \max(1, \|c_t\|_2)$$

    The rule sees $\tilde c_t$. The official code leaves vectors to plain AdamW: use `optax.partition`.

    Attributes:
        rule: the rule.
        b1: decay rate of the rule's mean.
        gamma: $\gamma$, the share of the change; 1 is full variance reduction.
        clip: whether the corrected gradient $c_t$ of a leaf is shortened to length 1.

    Reference: Yuan et al., arXiv:2411.10438, Algorithm 1; its approximate form, with the last minibatch's gradient.
    """

    b1: Beta = 0.95
    gamma: NonNegative = 0.025
    clip: bool = static(default=True)
    elementwise = False
    slots = property(lambda self: _with_previous(self.rule))

    def measure(self, g: Array, s: WithPrevious, at: StepContext) -> Any:
        return self.rule.measure(self._corrected(g, s, at), s.inner, at)

    def step(self, g: Array, s: WithPrevious, at: StepContext) -> tuple[Array, WithPrevious]:
        u, inner = self.rule.step(self._corrected(g, s, at), s.inner, at)
        return u, WithPrevious(inner, g)

    def _corrected(self, g: Array, s: WithPrevious, at: StepContext) -> Array:
        c = g + self.gamma * self.b1 / (1 - self.b1) * (g - s.previous)
        return c / jnp.maximum(1, at.norm(c)) if self.clip else c


class Nesterov(Modifier):
    r"""Nesterov momentum for any rule whose first moment has decay rate $\beta_1$.

    The rule sees $g_t + \beta_1 (g_t - g_{t-1})$, whose average is the average of $g$ looked one step ahead:
    $$m_t[g + \beta_1(g - g_{-1})] = \beta_1 m_t[g] + (1-\beta_1) g_t$$

    Adam's second moment then measures the looked-ahead gradient, too, as Adan's does; `Adam(nesterov=True)` leaves it
    alone and needs no third buffer.

    Attributes:
        rule: the rule.
        b1: decay rate of the rule's mean.

    Reference: the reformulation of Nesterov momentum in Xie et al., arXiv:2208.06677, section 3.1.

    Examples:
        >>> import adamx
        >>> opt = adamx.optimizer(adamx.Nesterov(adamx.AdaMax(b1=0.95), b1=0.95), learning_rate=1e-3)
    """

    b1: Beta = 0.9
    elementwise = property(lambda self: self.rule.elementwise)
    slots = property(lambda self: _with_previous(self.rule))

    def measure(self, g: Array, s: WithPrevious, at: StepContext) -> Any:
        return self.rule.measure(g + self.b1 * (g - s.previous), s.inner, at)

    def step(self, g: Array, s: WithPrevious, at: StepContext) -> tuple[Array, WithPrevious]:
        u, inner = self.rule.step(g + self.b1 * (g - s.previous), s.inner, at)
        return u, WithPrevious(inner, g)


@named(MARS, Adam)
def mars_adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = MARS.b1,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    gamma: ScalarOrSchedule = MARS.gamma,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    clip: bool = MARS.clip,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """MARS-AdamW (arXiv:2411.10438): AdamW of gradients with their variance reduced.

    It is `MARS(Adam(...))`; hyperparameters are those of `adamx.Adam` and `adamx.MARS`, the rest is described by
    `adamx.optimizer`. The paper leaves vectors to plain AdamW: use `optax.partition`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.mars_adamw(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = MARS(Adam(b1, b2, eps, eps_root), b1, gamma, clip)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
