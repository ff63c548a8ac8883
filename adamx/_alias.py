"""The optimizers by name: explicit keywords, Optax's first and with Optax's meaning."""

from typing import Any

from ._engine import Optimizer, scale_by
from ._optimizer import optimizer
from ._typing import ScalarOrSchedule
from .rules.adam import Adam
from .rules.adamax import AdaMax
from .rules.bias_correction import BiasCorrection


def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
) -> Optimizer:
    r"""Adam (arXiv:1412.6980, Algorithm 1): $p \leftarrow p - \alpha\,\hat m_t / (\sqrt{\hat v_t} + \varepsilon)$.

    Unlike `optax.adam`, the state is at least float32 whatever the parameters are, and the bias correction is exact
    to rounding. See `adamx.Adam` for the equations.

    Args:
        learning_rate: the step size $\alpha$, the paper's being .001; like every number here a Python number, a traced
            scalar or a schedule of the finished steps.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        nesterov: look one step ahead with the mean.
        eps_hat: read `eps` as the paper's ε̂, which stands beside the uncorrected root (TensorFlow 1, Keras).

    Returns:
        An `Optimizer`; its state is two arrays for each leaf.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits; integer leaves.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adam(learning_rate=0.1)
    >>> params = jnp.array([1.0, 2.0])
    >>> updates, state = opt.update(jnp.array([5.0, -1e-4]), opt.init(params), params)
    >>> updates
    Array([-0.1    ,  0.09999], dtype=float32)
    """
    rule = Adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root, nesterov=nesterov, eps_hat=eps_hat)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype)


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
    decay: str = "decoupled",
    lr_max: float | None = None,
) -> Optimizer:
    r"""Adam with decoupled weight decay (arXiv:1711.05101): $p \leftarrow p - \alpha_t (u_t + \lambda p)$.

    Args:
        learning_rate: the step size $\alpha$, also of the decay; a number or a schedule.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        weight_decay: $\lambda$; PyTorch's default is 1e-2, Optax's and ours 1e-4. A number or a schedule.
        mask: which leaves decay; see `adamx.optimizer`.
        nesterov: look one step ahead with the mean.
        eps_hat: read `eps` as the paper's ε̂.
        decay: "decoupled", "independent", "cautious" or "l2"; see `adamx.optimizer`.
        lr_max: the largest step size, for "independent".

    Returns:
        An `Optimizer`; its state is two arrays for each leaf.

    Raises:
        ValueError: a number out of range, an unknown `decay`, a mask that covers nothing or misses a leaf.
        TypeError: a number that arrives in too few digits; integer leaves.

    >>> import adamx, jax, jax.numpy as jnp
    >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    >>> opt = adamx.adamw(0.1, weight_decay=1.0, mask={"kernel": True, "bias": False})
    >>> params, state = opt.step(jax.tree.map(jnp.zeros_like, params), opt.init(params), params)
    >>> params["kernel"][0], params["bias"]
    (Array([0.9, 0.9], dtype=float32), Array([1., 1.], dtype=float32))
    """
    rule = Adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root, nesterov=nesterov, eps_hat=eps_hat)
    return optimizer(
        rule, learning_rate, weight_decay=weight_decay, mask=mask, decay=decay, lr_max=lr_max, mu_dtype=mu_dtype
    )


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
) -> Optimizer:
    r"""AdaMax (arXiv:1412.6980, Algorithm 2): Adam with the largest gradient in place of the mean square.

    See `adamx.AdaMax` for the equations.

    Args:
        learning_rate: the step size $\alpha$, the paper's being .002; a number or a schedule.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$; 0 for the paper's formula, with zero steps where it divides 0 by 0.

    Returns:
        An `Optimizer`; its state is two arrays for each leaf.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits; integer leaves.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adamax(learning_rate=0.25, eps=0.0)
    >>> params = jnp.array([1.0, 2.0])
    >>> opt.step(jnp.array([0.0, -1e-9]), opt.init(params), params)[0]
    Array([1.  , 2.25], dtype=float32)
    """
    return optimizer(AdaMax(b1=b1, b2=b2, eps=eps), learning_rate)


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
) -> Optimizer:
    r"""AdaMax with decoupled weight decay: $p \leftarrow p - \alpha_t (u_t + \lambda p)$.

    Args:
        learning_rate: the step size $\alpha$, also of the decay; a number or a schedule.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$.
        weight_decay: $\lambda$; a number or a schedule.
        mask: which leaves decay; see `adamx.optimizer`.
        decay: "decoupled", "independent", "cautious" or "l2"; see `adamx.optimizer`.
        lr_max: the largest step size, for "independent".

    Returns:
        An `Optimizer`; its state is two arrays for each leaf.

    Raises:
        ValueError: a number out of range, an unknown `decay`, a mask that covers nothing or misses a leaf.
        TypeError: a number that arrives in too few digits; integer leaves.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adamaxw(learning_rate=0.5, weight_decay=0.5, decay="cautious")
    >>> params = jnp.array([1.0, 1.0])
    >>> opt.step(jnp.array([1.0, -1.0]), opt.init(params), params)[0]
    Array([0.25, 1.5 ], dtype=float32)
    """
    rule = AdaMax(b1=b1, b2=b2, eps=eps)
    return optimizer(rule, learning_rate, weight_decay=weight_decay, mask=mask, decay=decay, lr_max=lr_max)


def scale_by_adam(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    eps_hat: bool = False,
) -> Optimizer:
    """Adam's direction, without step size and sign, to chain by hand.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        nesterov: look one step ahead with the mean.
        bias_correction: whether the moments are corrected; `scale_by_bias_correction` can do it afterwards.
        eps_hat: read `eps` as the paper's ε̂.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    The paper's efficient form, with a constant ε̂ (arXiv:1412.6980, end of section 2):

    >>> import adamx, jax.numpy as jnp, optax
    >>> by_hand = optax.chain(
    ...     adamx.scale_by_adam(b1=0.9, b2=0.99, bias_correction=False),
    ...     adamx.scale_by_bias_correction(b1=0.9, b2=0.99),
    ...     optax.scale_by_learning_rate(0.5),
    ... )
    >>> params = jnp.array([3.0, -4.0])
    >>> by_hand.update(params, by_hand.init(params), params)[0].round(6)
    Array([-0.5,  0.5], dtype=float32)
    """
    rule = Adam(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, nesterov=nesterov, bias_correction=bias_correction, eps_hat=eps_hat
    )
    return scale_by(rule, mu_dtype=mu_dtype)


def scale_by_adamax(
    b1: ScalarOrSchedule = 0.9, b2: ScalarOrSchedule = 0.999, eps: ScalarOrSchedule = 1e-8
) -> Optimizer:
    """AdaMax's direction, without step size and sign, to chain by hand.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    >>> import adamx, jax.numpy as jnp, optax
    >>> opt = optax.chain(optax.clip_by_global_norm(1.0), adamx.scale_by_adamax(), optax.scale(-0.002))
    >>> params = jnp.array([3.0, -4.0])
    >>> opt.update(params, opt.init(params), params)[0]
    Array([-0.002,  0.002], dtype=float32)
    """
    return scale_by(AdaMax(b1=b1, b2=b2, eps=eps))


def scale_by_bias_correction(b1: ScalarOrSchedule = 0.9, b2: ScalarOrSchedule | None = 0.999) -> Optimizer:
    r"""Multiply by $\alpha_t/\alpha = \sqrt{1-\beta_2^t}/(1-\beta_1^t)$, the paper's correction of the step size.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1); `None` for AdaMax's factor $1/(1-\beta_1^t)$.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    Reference: arXiv:1412.6980, end of section 2, and Algorithm 2.

    >>> import adamx, jax.numpy as jnp
    >>> tx = adamx.scale_by_bias_correction(b1=0.5, b2=0.75)
    >>> tx.update(jnp.ones(1), tx.init(jnp.ones(1)))[0]
    Array([1.], dtype=float32)
    """
    return scale_by(BiasCorrection(b1=b1, b2=b2))
