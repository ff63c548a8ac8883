r"""AdaGrad, RMSProp and SGD as Adam with particular hyperparameters: which hyperparameters, and how exact that is.

Each function returns an `adamx.adam` that takes the same steps as the optimizer it is named for, to rounding.
"""

import math

import jax.numpy as jnp

from .._annotations import Above, Array, Interval
from .._math import bias_correction
from .._rule import validate_value
from .._transform import Optimizer
from ..rules.adam import adam
from ..schedules import inverse_sqrt


def adam_as_adagrad(learning_rate: float, eps: float = 0.0, b2: float | None = None) -> Optimizer:
    r"""AdaGrad as Adam: $\alpha/\sqrt t$, $\beta_1 = 0$, $\beta_{2,t} = 1 - 1/t$, $\varepsilon/\sqrt t$.

    $\hat v_t = \frac1t\sum_{i \le t} g_i^2$, so that the two $\sqrt t$ cancel in
    $\alpha_t g_t / (\sqrt{\hat v_t} + \varepsilon/\sqrt t) = \alpha g_t / (\sqrt{\sum_i g_i^2} + \varepsilon)$.

    The paper takes a constant $\beta_2 \to 1$ instead; with `b2` given, the relative difference of the steps is up to
    about $(1-\beta_2) t/4$. Without bias correction there is no such limit: the steps grow like $1/\sqrt{1-\beta_2}$.

    Args:
        learning_rate: AdaGrad's step size.
        eps: AdaGrad's ε, outside the root.
        b2: a constant decay rate of the mean square near 1, for the limit that the paper takes; `None` for AdaGrad.

    Returns:
        An optimizer equal to `adamx.adagrad(learning_rate, 0.0, eps, eps_in_sqrt=False)`.

    Raises:
        ValueError: a number out of range.

    Reference: Kingma & Ba, arXiv:1412.6980, section 5; $1 - 1/t$: AdamNC, arXiv:1904.09237, section 4.

    Examples:
        >>> import jax.numpy as jnp
        >>> from adamx import theory
        >>> opt, params = theory.adam_as_adagrad(0.5), jnp.array([1.0])
        >>> params, state = opt.step(jnp.array([3.0]), opt.init(params), params)
        >>> opt.step(jnp.array([4.0]), state, params)[0].round(6)           # .5 - .5 * 4 / 5
        Array([0.1], dtype=float32)
    """
    validate_value("eps", eps, Interval(0.0, math.inf))

    def shrinking(count: Array) -> Array:
        return 1 - 1 / (jnp.asarray(count).astype(float) + 1)

    return adam(inverse_sqrt(learning_rate), b1=0.0, b2=shrinking if b2 is None else b2, eps=inverse_sqrt(eps))


def adam_as_rmsprop(learning_rate: float, decay: float = 0.9, eps: float = 1e-8) -> Optimizer:
    r"""RMSProp as Adam: $\beta_1 = 0$, $\beta_2$ = `decay`, $\alpha_t = \alpha/\sqrt{1-\beta_2^t}$, and ε as ε̂.

    The factor cancels Adam's bias correction, which RMSProp does not have:
    $\alpha_t g_t / (\sqrt{\hat v_t} + \varepsilon/\sqrt{1-\beta_2^t}) = \alpha g_t / (\sqrt{v_t} + \varepsilon)$.
    RMSProp *with momentum* is not Adam: it averages rescaled gradients, while Adam rescales an average.

    Args:
        learning_rate: RMSProp's step size.
        decay: its decay rate of the mean square, in [0, 1).
        eps: its ε, outside the root.

    Returns:
        An optimizer equal to `adamx.rmsprop(learning_rate, decay, eps, eps_in_sqrt=False)`.

    Raises:
        ValueError: a number out of range.

    Reference: Kingma & Ba, arXiv:1412.6980, section 5.

    Examples:
        >>> import jax.numpy as jnp
        >>> from adamx import theory
        >>> opt, params = theory.adam_as_rmsprop(0.5, decay=0.75), jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)          # 2 - .5 * 2 / sqrt(.25 * 4)
        Array([1.], dtype=float32)
    """
    validate_value("learning_rate", learning_rate, Interval(0.0, math.inf))
    validate_value("decay", decay, Interval(0.0, 1.0))

    def longer_at_first(count: Array) -> Array:
        return learning_rate / jnp.sqrt(bias_correction(decay, jnp.asarray(count).astype(float) + 1))

    return adam(longer_at_first, b1=0.0, b2=decay, eps=eps, eps_hat=True)


def adam_as_sgd(learning_rate: float, momentum: float = 0.0, eps: float = 1e12) -> Optimizer:
    r"""SGD with momentum as Adam: an ε that dwarfs $\sqrt{\hat v}$, and a step size that cancels ε.

    $\beta_1 = \mu$ and $\alpha_t = \alpha\,\varepsilon\,(1-\mu^t)/(1-\mu)$, as the momentum
    $b_t = \mu b_{t-1} + g_t$ is $m_t/(1-\mu)$. The relative difference to SGD's steps is at most
    $\max_i|g_i|/\varepsilon$.

    Args:
        learning_rate: SGD's step size α.
        momentum: μ, in [0, 1); 0 is plain SGD.
        eps: ε; far above the gradients.

    Returns:
        An optimizer equal to `optax.sgd(learning_rate, momentum)` for gradients far below `eps`.

    Raises:
        ValueError: a number out of range.

    Reference: Choi et al., arXiv:1910.05446, who show that Adam includes momentum in this limit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from adamx import theory
        >>> opt, params = theory.adam_as_sgd(0.25), jnp.array([2.0, -8.0])
        >>> opt.step(params, opt.init(params), params)[0]
        Array([ 1.5, -6. ], dtype=float32)
    """
    validate_value("learning_rate", learning_rate, Interval(0.0, math.inf))
    validate_value("momentum", momentum, Interval(0.0, 1.0))
    validate_value("eps", eps, Above(0.0, math.inf))

    def gathering(count: Array) -> Array:
        share = bias_correction(momentum, jnp.asarray(count).astype(float) + 1)
        return learning_rate * eps / (1 - momentum) * share

    return adam(gathering, b1=momentum, eps=eps)
