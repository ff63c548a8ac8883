"""Averages of the iterates (arXiv:1412.6980, section 7.2)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._annotations import Array, Beta, Params, ScalarOrSchedule
from .._math import bias_correction
from .._rule import Modifier, Rule, Slot, StepContext, static
from .._transform import Optimizer, scale_by


class Iterates(NamedTuple):
    """The slot of an average of the iterates."""

    average: Any


class Lags(NamedTuple):
    """The slot of an average of the iterates, kept as its difference to the weights: how far it lags behind them."""

    lag: Any


class Trailed(NamedTuple):
    """The slots of a rule and, for each average of the weights that it moves, `Iterates` or `Lags`."""

    rule: Any
    averages: tuple[Any, ...]


class Trail(Modifier):
    r"""A rule whose steps averages of the weights follow: $\bar\theta \leftarrow \bar\theta + s(\theta - \bar\theta)$.

    The rule's direction is the whole change of a weight, and it changes nothing in it. An average is kept as it is, or
    as its difference to the weights, $d = \bar\theta - \theta$, for a change $\Delta$: $d \leftarrow (1-s)(d - \Delta)$.

    Attributes:
        rule: the rule.
        shares: the share $s$ of this step's weights in each average.
        lags: whether averages are kept as differences.
    """

    shares: tuple[Any, ...] = ()
    lags: bool = static(default=False)
    elementwise = property(lambda self: self.rule.elementwise)

    @property
    def slots(self) -> Trailed:
        """Those of the rule, and one for each average."""
        kept = Lags(Slot(trails=True)) if self.lags else Iterates(Slot(init=jnp.array, trails=True))
        return Trailed(self.rule.slots, (kept,) * len(self.shares))

    @property
    def measures(self) -> bool:
        """Whether the rule does."""
        return self.rule.measures

    def measure(self, g: Array, s: Any, at: StepContext) -> Any:
        return self.rule.measure(g, s.rule, at)

    def step(self, g: Array, s: Trailed, at: StepContext) -> tuple[Array, Trailed]:
        change, own = self.rule.step(g, s.rule, at)
        new = at.params_after(change)

        def follow(kept: Any, share: Array) -> Any:
            if self.lags:
                ahead = kept.lag - (new - at.p)
                return Lags(ahead - share * ahead)
            near = new + (1 - share) * (kept.average - new)  # all of a large average is forgotten by a share of 1
            return Iterates(jnp.where(share < 0.5, kept.average + share * (new - kept.average), near))

        return change, Trailed(own, tuple(map(follow, s.averages, self.shares)))


class ExponentialAverage(Rule[Iterates]):
    r"""The bias-corrected exponential average of the iterates; updates pass through.

    $$\bar\theta_t = \beta\bar\theta_{t-1} + (1-\beta)\theta_t,\ \hat\theta_t = \bar\theta_t/(1-\beta^t)
      \iff \hat\theta_t = \hat\theta_{t-1} + \tfrac{1-\beta}{1-\beta^t}(\theta_t - \hat\theta_{t-1})$$

    The second form keeps the corrected average itself: reading it needs no $\beta$, and its first value is $\theta_1$.
    Without the correction it starts there, $\bar\theta_1 = \theta_1$, and not at 0.

    Attributes:
        decay: $\beta$; as it goes to 1 the corrected average becomes `PolyakAverage`.
        debias: whether it is corrected: otherwise $\theta_1$ keeps the weight $\beta^{t-1}$ in it.

    Reference: Kingma & Ba, arXiv:1412.6980, section 7.2.
    """

    decay: Beta = 0.999
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
        An `Optimizer` that passes updates through; its `update` needs the parameters.

    Raises:
        ValueError: `decay` outside [0, 1), or `None` with `debias=False`; an update without parameters.

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


def averaged_params(state: Any) -> Params:
    """The averaged iterates that `averaging` keeps somewhere in `state`; the parameters themselves before any step.

    Returns:
        A tree like the parameters, of at least float32.

    Raises:
        ValueError: `state` holds no average, or several.
    """
    found = [x for x in jax.tree.leaves(state, is_leaf=_is_iterates) if _is_iterates(x)]
    if len(found) != 1:
        cure = "give the part of it that has one" if found else "chain adamx.averaging(...) last"
        raise ValueError(f"the state holds {len(found)} averages of iterates: {cure}")
    return found[0].average


def _is_iterates(x: Any) -> bool:
    return isinstance(x, Iterates)
