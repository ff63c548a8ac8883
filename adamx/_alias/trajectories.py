"""Optimizers that follow the iterates, or estimate their own step size, by name."""

from typing import Any

import jax.numpy as jnp
import optax

from .._optimizer import optimizer
from .._rule import refuse_traced
from .._transform import Optimizer, scale_by
from .._typing import ScalarOrSchedule
from .._weights import keeps_residuals
from ..moments import Moments
from ..rules.adam import Adam
from ..rules.rmsprop import RMSProp
from ..rules.sgd import SGD
from ..trajectories.dadapt_adam import DAdaptAdam
from ..trajectories.lookahead import Ahead, Lookahead, Wrapped
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
    state_dtype: Any = ScheduleFree.state_dtype,
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
    `state_dtype` is what z is kept in, in bfloat16 two bytes a number less.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.schedule_free_adamw(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    rule = RMSProp(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True)  # Adam without a mean
    rate = _warmed_up(learning_rate, warmup_steps)
    return optimizer(
        ScheduleFree(rule, rate, b1, weight_decay, r, weight_lr_power, state_dtype),
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
    weight_decay: ScalarOrSchedule | None = None,
    weight_lr_power: ScalarOrSchedule = ScheduleFree.weight_lr_power,
    state_dtype: Any = ScheduleFree.state_dtype,
    *,
    r: ScalarOrSchedule = ScheduleFree.r,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Schedule-free SGD (arXiv:2405.15682): averages as it steps, so that no schedule has to end.

    Evaluate at `schedule_free_eval_params`.

    Hyperparameters are those of `adamx.ScheduleFree`; `warmup_steps` raises the step size linearly at first,
    `state_dtype` is what z is kept in.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.schedule_free_sgd(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.], dtype=float32)
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    return optimizer(
        ScheduleFree(SGD(), rate, b1, 0.0 if weight_decay is None else weight_decay, r, weight_lr_power, state_dtype),
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
    safeguard_warmup: bool = Prodigy.safeguard_warmup,
    *,
    bias_correction: bool = Prodigy.bias_correction,
    mask: Any = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Prodigy (arXiv:2306.06101): Adam that estimates its step size.

    Hyperparameters are those of `adamx.Prodigy`, under Optax's names: `estim_lr0` is d0, `estim_lr_coef` d_coef. With a
    `learning_rate` that warms up take `safeguard_warmup`.
    Optax always corrects the bias; the official code, and so the default here, does not.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.prodigy(estim_lr0=0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.418861], dtype=float32)
    """
    rule = Prodigy(
        learning_rate, *betas, beta3, eps, estim_lr0, estim_lr_coef, weight_decay, bias_correction, safeguard_warmup
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
    fast_optimizer: optax.GradientTransformation | None = None,
    sync_period: int = Lookahead.sync_period,
    slow_step_size: ScalarOrSchedule = Lookahead.slow_step_size,
    reset_state: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Lookahead (arXiv:1907.08610): slow weights that follow fast ones, around an optimizer or chained after it.

    The arguments are Optax's. The parameters stay one tree, that of the fast weights, where Optax wants
    `LookaheadParams`: the slow ones are in the state, `optax.tree.get(state, "slow")`.

    Args:
        fast_optimizer: the optimizer of the fast weights, any of Optax's or adamx's; `None` for a transformation to be
            chained after one.
        sync_period: steps between synchronisations.
        slow_step_size: how far the slow weights follow, 0 to 1.
        reset_state: whether the fast optimizer begins anew after each synchronisation, at the weights it is given
            then (in Optax at those before it: the same for moments, but not for a state that holds weights).

    Returns:
        An `Optimizer` with a `step` if `fast_optimizer` is one or `None`; else a transformation.

    Raises:
        ValueError: `sync_period` not a positive whole number, a negative `slow_step_size`, `reset_state` without a
            `fast_optimizer`, one that keeps residuals beside weights, which a synchronisation would make wrong.
        TypeError: `fast_optimizer` is no transformation; parameters that are `optax.LookaheadParams`.

    >>> import adamx, jax.numpy as jnp, optax
    >>> params = jnp.array([2.0])
    >>> opt = adamx.lookahead(adamx.adam(0.5), sync_period=1, slow_step_size=0.5)
    >>> opt.update(params, opt.init(params), params)[0]
    Array([-0.25], dtype=float32)
    >>> opt = optax.chain(adamx.adam(0.5), adamx.lookahead(sync_period=1, slow_step_size=0.5))
    >>> opt.update(params, opt.init(params), params)[0]
    Array([-0.25], dtype=float32)
    """
    functions = [getattr(fast_optimizer, name, None) for name in ("init", "update")]
    if fast_optimizer is not None and not all(map(callable, functions)):
        raise TypeError(
            f"fast_optimizer = {fast_optimizer!r} is no gradient transformation: give an optimizer, or name the other "
            "arguments, lookahead(sync_period=5, slow_step_size=0.5), for a transformation to chain after one"
        )
    refuse_traced("sync_period", sync_period)
    if isinstance(sync_period, bool) or sync_period != int(sync_period) or sync_period < 1:
        raise ValueError(f"sync_period = {sync_period} should be a positive whole number of steps")
    sync = scale_by(Lookahead(slow_step_size, int(sync_period)))
    if fast_optimizer is None:
        if reset_state:
            raise ValueError("reset_state begins the fast optimizer anew: give it, lookahead(optimizer, ...)")
        return sync
    if isinstance(fast_optimizer, Optimizer) and keeps_residuals(fast_optimizer.engine.rounding):
        raise ValueError(
            f"weights={fast_optimizer.engine.weights!r} keeps what rounding took beside the weights, which are others "
            "after a synchronisation: take weights='stochastic' or 'nearest' in the fast optimizer"
        )
    wrapper = Ahead(fast_optimizer, sync, int(sync_period), bool(reset_state))
    kind = Wrapped if isinstance(fast_optimizer, Optimizer) else optax.GradientTransformationExtraArgs
    return kind(wrapper.init, wrapper.update)


def _warmed_up(learning_rate: ScalarOrSchedule, steps: int | None) -> ScalarOrSchedule:
    refuse_traced("warmup_steps", steps)
    if isinstance(steps, bool):
        raise ValueError(f"warmup_steps = {steps} should be a number of steps, or None")
    if not steps:
        return learning_rate
    if callable(learning_rate):
        raise ValueError("give warmup_steps or a schedule as learning_rate, not both")
    return lambda count: learning_rate * jnp.minimum(1.0, (jnp.asarray(count).astype(float) + 1) / steps)
