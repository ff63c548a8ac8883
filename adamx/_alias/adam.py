"""Adam, AdaMax and their nearest kin by name: explicit keywords, Optax's first and with Optax's meaning."""

from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adam import Adam
from ..rules.adamax import AdaMax


def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    r"""Adam (arXiv:1412.6980): the mean of the gradient, in units of the root of its mean square.

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
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

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
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, moments=moments, weights=weights, seed=seed, kernel=kernel)


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    r"""AdamW (arXiv:1711.05101): Adam with decoupled weight decay.

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
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

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
        rule,
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        mu_dtype=mu_dtype,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    r"""AdaMax (arXiv:1412.6980): Adam with the largest gradient in place of the mean square.

    See `adamx.AdaMax` for the equations.

    Args:
        learning_rate: the step size $\alpha$, the paper's being .002; a number or a schedule.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$; 0 for the paper's formula, with zero steps where it divides 0 by 0.
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

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
    return optimizer(
        AdaMax(b1=b1, b2=b2, eps=eps), learning_rate, moments=moments, weights=weights, seed=seed, kernel=kernel
    )


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    r"""AdaMaxW (arXiv:1711.05101): AdaMax with decoupled weight decay.

    Args:
        learning_rate: the step size $\alpha$, also of the decay; a number or a schedule.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$.
        weight_decay: $\lambda$; a number or a schedule.
        mask: which leaves decay; see `adamx.optimizer`.
        decay: "decoupled", "independent", "cautious" or "l2"; see `adamx.optimizer`.
        lr_max: the largest step size, for "independent".
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

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
    return optimizer(
        rule,
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )
