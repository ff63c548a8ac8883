"""NAdam, AMSGrad and AdamX by name."""

from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adam import Adam
from ..rules.adamx import AdamX
from ..rules.amsgrad import AMSGrad
from ..rules.nadam import NAdam
from ..schedules import decayed_beta
from .adam import adam, adamw


def nadam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: ScalarOrSchedule | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    r"""NAdam (Dozat, ICLR 2016 workshop): Adam with Nesterov momentum, constant or with Dozat's schedule.

    Without `momentum_decay` it is Optax's form, `adam(nesterov=True)`; with it PyTorch's and Keras's, `adamx.NAdam`,
    which has no `eps_root` and looks ahead always.

    Args:
        learning_rate: the step size; PyTorch's is .002.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        nesterov: look one step ahead with the mean.
        momentum_decay: how slowly the momentum warms up: 4e-3 in PyTorch, 1 in Keras; `None` for a constant one.
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

    Raises:
        ValueError: a number out of range; `momentum_decay` together with `eps_root` or without `nesterov`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.nadam(learning_rate=0.5, momentum_decay=4e-3)
    >>> params = jnp.array([1.0])
    >>> opt.step(params, opt.init(params), params)[0]
    Array([0.4717741], dtype=float32)
    """
    if momentum_decay is None:
        return adam(
            learning_rate,
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype,
            nesterov=nesterov,
            moments=moments,
            weights=weights,
            seed=seed,
            kernel=kernel,
        )
    if not nesterov or not isinstance(eps_root, (int, float)) or eps_root != 0:
        raise ValueError("momentum_decay selects Dozat's NAdam, which always looks ahead and has no eps_root")
    return optimizer(
        NAdam(b1, b2, eps, momentum_decay),
        learning_rate,
        mu_dtype=mu_dtype,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    """NAdamW (Dozat, ICLR 2016 workshop): AdamW with Nesterov momentum, `adamw(nesterov=True)`.

    The arguments are those of `adamx.adamw`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.nadamw(learning_rate=0.5, weight_decay=0.1)
    >>> params = jnp.array([1.0])
    >>> opt.step(jnp.zeros(1), opt.init(params), params)[0]
    Array([0.95], dtype=float32)
    """
    return adamw(
        learning_rate,
        b1,
        b2,
        eps,
        eps_root,
        mu_dtype,
        weight_decay,
        mask,
        nesterov=nesterov,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AMSGrad.b1,
    b2: ScalarOrSchedule = AMSGrad.b2,
    eps: ScalarOrSchedule = AMSGrad.eps,
    eps_root: ScalarOrSchedule = AMSGrad.eps_root,
    mu_dtype: Any = None,
    bias_correction_mu: bool = AMSGrad.bias_correction_mu,
    bias_correction_nu: bool = AMSGrad.bias_correction_nu,
    *,
    max_of: str = AMSGrad.max_of,
    eps_hat: bool = AMSGrad.eps_hat,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    """AMSGrad (arXiv:1904.09237): Adam whose second moment never shrinks, in its three forms.

    See `adamx.AMSGrad` for the forms.

    Args:
        learning_rate: the step size.
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        bias_correction_mu: whether the mean is corrected; not so in the paper.
        bias_correction_nu: whether the second moment is corrected; not so in the paper.
        max_of: "corrected" (Optax) or "raw" (PyTorch, the paper): of which second moment the maximum is kept.
        eps_hat: read `eps` as ε̂ (Keras).
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.
        kernel: who takes the step in `Optimizer.step`; see `adamx.optimizer`.

    Raises:
        ValueError: a number out of range, an unknown `max_of`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.amsgrad(learning_rate=0.5, max_of="raw")
    >>> params = jnp.array([1.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.5], dtype=float32)
    """
    rule = AMSGrad(b1, b2, eps, eps_root, bias_correction_mu, bias_correction_nu, max_of, eps_hat)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, moments=moments, weights=weights, seed=seed, kernel=kernel)


def adamx(
    learning_rate: ScalarOrSchedule,
    b1: float = AdamX.b1,
    b2: ScalarOrSchedule = AdamX.b2,
    eps: ScalarOrSchedule = AdamX.eps,
    *,
    b1_decay: float = 1 - 1e-8,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    r"""AdamX (arXiv:1904.03590): AMSGrad repaired for momentum that fades.

    An algorithm that happens to bear this library's name; see `adamx.AdamX` for the equations.

    Args:
        learning_rate: the step size; $\alpha/\sqrt t$ in the paper, `schedules.inverse_sqrt`.
        b1: first decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        b1_decay: $\lambda$, in (0, 1]; 1 - 1e-8 is what Adam's paper suggests for it, 1 makes it AMSGrad.
        moments: how slots are stored; see `adamx.optimizer`.
        weights: how parameters narrower than float32 take the step; see `adamx.optimizer`.
        seed: of the random bits of both.

    Raises:
        ValueError: a number out of range.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adamx(adamx.schedules.inverse_sqrt(0.5))
    >>> params = jnp.array([1.0])
    >>> opt.step(params, opt.init(params), params)[0] < params
    Array([ True], dtype=bool)
    """
    return optimizer(
        AdamX(decayed_beta(b1, b1_decay), b2, eps), learning_rate, moments=moments, weights=weights, seed=seed
    )
