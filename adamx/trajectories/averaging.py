"""Averages of the iterates (arXiv:1412.6980, section 7.2)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, ScalarOrSchedule
from .._math import bias_correction, one_minus_exp
from .._rule import Modifier, Rule, Slot, StepContext, static
from .._transform import Optimizer, scale_by
from ..moments import MomentFormats

DECAY = 0.999
"""How much of an exponential average a step keeps if nothing is said."""


class Iterates(NamedTuple):
    """The slot of an average of the iterates."""

    average: Any


class Trailed(NamedTuple):
    """The slots of a rule, and averages of the weights that it moves."""

    rule: Any
    averages: tuple[Iterates, ...]


class Trail(Modifier):
    r"""A rule whose steps averages of the weights follow: $\bar\theta \leftarrow \bar\theta + s(\theta - \bar\theta)$.

    The rule's direction is the whole change of a weight, and nothing in it is changed.

    Attributes:
        rule: the rule.
        shares: the share $s$ of this step's weights in each average.
    """

    shares: tuple[Any, ...] = ()
    elementwise = property(lambda self: self.rule.elementwise)

    @property
    def slots(self) -> Trailed:
        """Those of the rule, and the averages."""
        return Trailed(self.rule.slots, (Iterates(Slot(init=jnp.array, trails=True)),) * len(self.shares))

    @property
    def measures(self) -> bool:
        """Whether the rule does."""
        return self.rule.measures

    def measure(self, g: Array, s: Any, at: StepContext) -> Any:
        return self.rule.measure(g, s.rule, at)

    def step(self, g: Array, s: Trailed, at: StepContext) -> tuple[Array, Trailed]:
        change, own = self.rule.step(g, s.rule, at)
        new = at.params_after(change)

        def follow(kept: Iterates, share: Array) -> Iterates:
            near = new + (1 - share) * (kept.average - new)  # which forgets a large average exactly
            return Iterates(jnp.where(share < 0.5, kept.average + share * (new - kept.average), near))

        return change, Trailed(own, tuple(map(follow, s.averages, self.shares)))


class Given(Rule[tuple[()]]):
    """A rule whose direction is what it is given."""

    elementwise = True

    def step(self, g: Array, s: tuple[()], at: StepContext) -> tuple[Array, tuple[()]]:
        del at
        return g, s


def trail(count: int, moments: MomentFormats) -> Optimizer:
    """So many averages of the weights, after updates that are given."""
    return scale_by(Trail(Given(), (1.0,) * count), moments=moments)


class Profile(NamedTuple):
    """How much the weights of each move weigh in an average; of all the defaults, alike.

    Attributes:
        decay: that of an exponential average; `None` for others.
        debias: whether the first weights weigh no more than their share in it.
        gamma: the exponent of the power of the move's number that they weigh like, in other averages.
    """

    decay: float | None = None
    debias: bool = True
    gamma: float = 0.0

    def share(self, t: Array) -> Array:
        """The share of the weights of move `t`, from 1, in the average after it."""
        if self.decay is not None:
            return ExponentialAverage(self.decay, self.debias).share(t)
        return one_minus_exp((self.gamma + 1) * jnp.log1p(-1 / t)) if self.gamma else 1 / t


class ExponentialAverage(Rule[Iterates]):
    r"""The bias-corrected exponential average of the iterates; updates pass through.

    $$\bar\theta_t = \beta\bar\theta_{t-1} + (1-\beta)\theta_t,\ \hat\theta_t = \bar\theta_t/(1-\beta^t)
      \iff \hat\theta_t = \hat\theta_{t-1} + \tfrac{1-\beta}{1-\beta^t}(\theta_t - \hat\theta_{t-1})$$

    The second form keeps the corrected average itself: reading it needs no $\beta$, and its first value is $\theta_1$.
    Without the correction it starts there, $\bar\theta_1 = \theta_1$, and not at 0.

    Attributes:
        decay: decay rate $\beta$; as it goes to 1 the corrected average becomes `PolyakAverage`.
        debias: whether it is corrected: otherwise $\theta_1$ keeps the weight $\beta^{t-1}$ in it.

    Reference: Kingma & Ba, arXiv:1412.6980, section 7.2.
    """

    decay: Beta = DECAY
    debias: bool = static(default=True)
    elementwise = True
    slots = Iterates(average=Slot(init=jnp.array))

    def share(self, t: Array) -> Array:
        """The share of step t, from 1, in the average after it."""
        if self.debias:
            return (1 - self.decay) / bias_correction(self.decay, t)
        return jnp.where(t == 1, 1, 1 - self.decay)

    def step(self, g: Array, s: Iterates, at: StepContext) -> tuple[Array, Iterates]:
        return g, Iterates(s.average + self.share(at.t) * (at.params_after(g) - s.average))


class PolyakAverage(Rule[Iterates]):
    r"""The plain mean of the iterates, $\bar\theta_t = \frac1t \sum_{k \le t} \theta_k$; updates pass through.

    Reference: Polyak & Juditsky 1992, as in Kingma & Ba, arXiv:1412.6980, section 7.2.
    """

    elementwise = True
    slots = Iterates(average=Slot(init=jnp.array))

    def step(self, g: Array, s: Iterates, at: StepContext) -> tuple[Array, Iterates]:
        return g, Iterates(s.average + (at.params_after(g) - s.average) / at.t)


def averaging(decay: ScalarOrSchedule | None = ExponentialAverage.decay, *, debias: bool = True) -> Optimizer:
    """Keep an average of the iterates: chain it last, read it with `averaged_params`.

    Args:
        decay: how much of the average a step keeps (the paper takes Adam's `b2`); `None` for the plain mean of all.
        debias: whether the first iterate weighs no more than its share, as in the paper; `False` for Keras's `use_ema`
            with `ema_momentum=decay`, in which it weighs decay^(t-1).

    Returns:
        An `Optimizer` that passes updates through, of the rule `adamx.ExponentialAverage`, or of `adamx.PolyakAverage`
        for the plain mean; its `update` needs the parameters.

    Raises:
        ValueError: `decay` outside [0, 1), or `None` with `debias=False`; an update without parameters.

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> opt = optax.chain(optax.sgd(0.5), adamx.averaging(decay=None))
        >>> params = jnp.array([0.0])
        >>> state = opt.init(params)
        >>> for _ in range(3):
        ...     updates, state = opt.update(jnp.array([-2.0]), state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> params, adamx.averaged_params(state)
        (Array([3.], dtype=float32), Array([2.], dtype=float32))
    """
    if decay is not None:
        return scale_by(ExponentialAverage(decay, debias))
    if not debias:
        raise ValueError("debias=False is of an exponential average: give its decay")
    return scale_by(PolyakAverage())
