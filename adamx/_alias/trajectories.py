"""Optimizers that follow the iterates, or estimate their own step size, by name."""

from typing import Any

import jax.numpy as jnp

from .._optimizer import optimizer
from .._rule import refuse_traced
from .._transform import Optimizer, scale_by
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adam import Adam
from ..rules.rmsprop import RMSProp
from ..rules.sgd import SGD
from ..trajectories.dadapt_adam import DAdaptAdam
from ..trajectories.lookahead import Lookahead
from ..trajectories.prodigy import Prodigy
from ..trajectories.schedule_free import ScheduleFree


def schedule_free_adamw(
    learning_rate: ScalarOrSchedule = 0.0025,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = ScheduleFree.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: ScalarOrSchedule = ScheduleFree.weight_lr_power,
    *,
    r: ScalarOrSchedule = ScheduleFree.r,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Schedule-free AdamW (arXiv:2405.15682): averages as it steps, so that no schedule has to end.

    Evaluate at `schedule_free_eval_params`.

    Hyperparameters are those of `adamx.ScheduleFree` and `adamx.Adam`, whose mean it does without. `warmup_steps`
    raises the step size linearly at first; in Optax the step lags one behind the weights of the average meanwhile.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.schedule_free_adamw(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    rule = RMSProp(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True)  # Adam without a mean
    rate = _warmed_up(learning_rate, warmup_steps)
    return optimizer(
        ScheduleFree(rule, rate, b1, weight_decay, r, weight_lr_power),
        1.0,
        mask=mask,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def schedule_free_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = ScheduleFree.b1,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: ScalarOrSchedule = ScheduleFree.weight_lr_power,
    *,
    r: ScalarOrSchedule = ScheduleFree.r,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Schedule-free SGD (arXiv:2405.15682): averages as it steps, so that no schedule has to end.

    Evaluate at `schedule_free_eval_params`.

    Hyperparameters are those of `adamx.ScheduleFree`; `warmup_steps` raises the step size linearly at first.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.schedule_free_sgd(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.], dtype=float32)
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    return optimizer(
        ScheduleFree(SGD(), rate, b1, weight_decay, r, weight_lr_power),
        1.0,
        mask=mask,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def prodigy(
    learning_rate: ScalarOrSchedule = Prodigy.learning_rate,
    betas: tuple[Any, Any] = (Prodigy.b1, Prodigy.b2),
    beta3: ScalarOrSchedule | None = Prodigy.b3,
    eps: ScalarOrSchedule = Prodigy.eps,
    estim_lr0: ScalarOrSchedule = Prodigy.d0,
    estim_lr_coef: ScalarOrSchedule = Prodigy.d_coef,
    weight_decay: ScalarOrSchedule = Prodigy.weight_decay,
    *,
    bias_correction: bool = Prodigy.bias_correction,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Prodigy (arXiv:2306.06101): Adam that estimates its step size.

    Hyperparameters are those of `adamx.Prodigy`, under Optax's names: `estim_lr0` is d0, `estim_lr_coef` d_coef.
    Optax always corrects the bias; the official code, and so the default here, does not.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.prodigy(estim_lr0=0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.418861], dtype=float32)
    """
    rule = Prodigy(
        learning_rate, *betas, beta3, eps, estim_lr0, estim_lr_coef, weight_decay, bias_correction=bias_correction
    )
    return optimizer(rule, 1.0, mask=mask, moments=moments, weights=weights, seed=seed)


def dadapt_adamw(
    learning_rate: ScalarOrSchedule = DAdaptAdam.learning_rate,
    betas: tuple[Any, Any] = (DAdaptAdam.b1, DAdaptAdam.b2),
    eps: ScalarOrSchedule = DAdaptAdam.eps,
    estim_lr0: ScalarOrSchedule = DAdaptAdam.d0,
    weight_decay: ScalarOrSchedule = DAdaptAdam.weight_decay,
    *,
    growth_rate: ScalarOrSchedule | None = DAdaptAdam.growth_rate,
    bias_correction: bool = DAdaptAdam.bias_correction,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """D-Adapt Adam (arXiv:2301.07733): Adam that estimates its step size from below.

    Hyperparameters are those of `adamx.DAdaptAdam`, under Optax's names: `estim_lr0` is d0. Optax always corrects the
    bias; the official code, and so the default here, does not.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.dadapt_adamw(estim_lr0=0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.418861], dtype=float32)
    """
    rule = DAdaptAdam(learning_rate, *betas, eps, estim_lr0, growth_rate, weight_decay, bias_correction)
    return optimizer(rule, 1.0, mask=mask, moments=moments, weights=weights, seed=seed)


def lookahead(
    sync_period: int = Lookahead.sync_period, slow_step_size: ScalarOrSchedule = Lookahead.slow_step_size
) -> Optimizer:
    """Lookahead (arXiv:1907.08610): slow weights that follow fast ones. Chain it after any optimizer.

    Unlike Optax's, it wraps nothing, and the parameters stay one tree: the fast weights, and after a synchronisation
    the slow ones.

    Args:
        sync_period: steps between synchronisations.
        slow_step_size: how far the slow weights follow, 0 to 1.

    Raises:
        ValueError: `sync_period` not a positive whole number, a negative `slow_step_size`.

    >>> import adamx, jax.numpy as jnp, optax
    >>> opt = optax.chain(adamx.adam(0.5), adamx.lookahead(sync_period=1, slow_step_size=0.5))
    >>> params = jnp.array([2.0])
    >>> opt.update(params, opt.init(params), params)[0]
    Array([-0.25], dtype=float32)
    """
    if isinstance(sync_period, tuple):
        raise TypeError("lookahead wraps no optimizer: chain it, optax.chain(optimizer, adamx.lookahead(5, 0.5))")
    refuse_traced("sync_period", sync_period)
    if sync_period != int(sync_period) or sync_period < 1:
        raise ValueError(f"sync_period = {sync_period} should be a positive whole number of steps")
    return scale_by(Lookahead(slow_step_size, int(sync_period)))


def _warmed_up(learning_rate: ScalarOrSchedule, steps: int | None) -> ScalarOrSchedule:
    refuse_traced("warmup_steps", steps)
    if not steps:
        return learning_rate
    if callable(learning_rate):
        raise ValueError("give warmup_steps or a schedule as learning_rate, not both")
    return lambda count: learning_rate * jnp.minimum(1.0, (jnp.asarray(count).astype(float) + 1) / steps)
