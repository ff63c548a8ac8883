r"""Step-size and decay-rate schedules of the paper that Optax does not name.

A schedule maps the number of finished steps (int32, from 0) to a value, as Optax's do, and goes wherever a
hyperparameter goes. A decay rate that follows a schedule is corrected for bias by $1 - \prod_i \beta_{1,i}$, not by
$1 - \beta_{1,t}^t$.
"""

import jax.numpy as jnp

from ._math import log_beta
from ._rule import check_value
from ._typing import Array, Interval, Schedule


def inverse_sqrt(alpha: float, every: int = 1) -> Schedule:
    r"""$\alpha/\sqrt{t}$, the step size of the paper's regret bound and of its logistic regression.

    Args:
        alpha: the first step size.
        every: steps that share one `t`: 1 for a decay per step, the steps per epoch for one per epoch.

    Raises:
        ValueError: `alpha` negative, or `every` not a positive whole number.

    Reference: Kingma & Ba, arXiv:1412.6980, section 4 and section 6.1.

    >>> import adamx
    >>> lr = adamx.schedules.inverse_sqrt(0.5, every=10)
    >>> float(lr(0)), float(lr(9)), float(lr(30))
    (0.5, 0.5, 0.25)
    """
    check_value("alpha", alpha, Interval(0.0, float("inf")))
    if every != int(every) or every < 1:
        raise ValueError(f"every = {every} should be a positive whole number of steps")

    def schedule(count: Array) -> Array:
        t = jnp.asarray(count) // int(every) + 1
        return alpha / jnp.sqrt(t.astype(float))

    return schedule


def decayed_beta(b1: float, decay: float) -> Schedule:
    r"""$\beta_{1,t} = \beta_1 \lambda^{t-1}$, the fading momentum of the paper's Theorem 4.1.

    Args:
        b1: the first decay rate, $\beta_1$.
        decay: $\lambda$, in (0, 1]; the paper suggests 1 - 1e-8.

    Raises:
        ValueError: `b1` outside [0, 1), or `decay` outside (0, 1].

    Reference: Kingma & Ba, arXiv:1412.6980, section 4.

    >>> import adamx
    >>> opt = adamx.adam(1e-3, b1=adamx.schedules.decayed_beta(0.9, decay=0.5))
    >>> round(float(adamx.schedules.decayed_beta(0.8, decay=0.5)(1)), 6)
    0.4
    """
    check_value("b1", b1, Interval(0.0, 1.0))
    if not 0 < decay <= 1:
        raise ValueError(f"decay = {decay} is outside (0, 1]")

    def schedule(count: Array) -> Array:
        return b1 * jnp.exp(jnp.asarray(count).astype(float) * log_beta(decay))

    return schedule
