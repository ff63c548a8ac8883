"""Adam's variants by name."""

from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adabelief import AdaBelief
from ..rules.adam_atan2 import AdamAtan2
from ..rules.laprop import LaProp
from ..rules.radam import RAdam
from ..rules.yogi import Yogi


def radam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = RAdam.b1,
    b2: ScalarOrSchedule = RAdam.b2,
    eps: ScalarOrSchedule = RAdam.eps,
    eps_root: ScalarOrSchedule = RAdam.eps_root,
    threshold: ScalarOrSchedule = RAdam.threshold,
    *,
    nesterov: bool = RAdam.nesterov,
    unrectified: str = RAdam.unrectified,
    eps_hat: bool = RAdam.eps_hat,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """RAdam (arXiv:1908.03265): Adam whose first steps wait until the second moment has seen enough gradients.

    Hyperparameters are those of `adamx.RAdam`; the rest is described by `adamx.optimizer`.

    Raises:
        ValueError: a number out of range, an unknown `unrectified`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.radam(0.25)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        RAdam(b1, b2, eps, eps_root, threshold, nesterov, unrectified, eps_hat),
        learning_rate,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaBelief.b1,
    b2: ScalarOrSchedule = AdaBelief.b2,
    eps: ScalarOrSchedule = AdaBelief.eps,
    eps_root: ScalarOrSchedule = AdaBelief.eps_root,
    *,
    nesterov: bool = AdaBelief.nesterov,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """AdaBelief (arXiv:2010.07468): Adam in units of the distance of the gradient from its mean.

    Hyperparameters are those of `adamx.AdaBelief`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adabelief(0.9)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.], dtype=float32)
    """
    return optimizer(
        AdaBelief(b1, b2, eps, eps_root, nesterov), learning_rate, moments=moments, weights=weights, seed=seed
    )


def yogi(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Yogi.b1,
    b2: ScalarOrSchedule = Yogi.b2,
    eps: ScalarOrSchedule = Yogi.eps,
    eps_root: ScalarOrSchedule = Yogi.eps_root,
    initial_accumulator_value: ScalarOrSchedule = Yogi.initial_accumulator_value,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Yogi (NeurIPS 2018): Adam whose second moment moves by steps of its own size.

    Hyperparameters are those of `adamx.Yogi`; the rest is described by `adamx.optimizer`.

    The mean starts at 0; Optax starts it at 1e-6, with the second moment.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.yogi(0.5, eps=0.0, initial_accumulator_value=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        Yogi(b1, b2, eps, eps_root, initial_accumulator_value),
        learning_rate,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def laprop(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = LaProp.b1,
    b2: ScalarOrSchedule = LaProp.b2,
    eps: ScalarOrSchedule = LaProp.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """LaProp (arXiv:2002.04839): momentum of the rescaled gradient, Adam with its two steps in the other order.

    Hyperparameters are those of `adamx.LaProp`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.laprop(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        LaProp(b1, b2, eps),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdamAtan2.b1,
    b2: ScalarOrSchedule = AdamAtan2.b2,
    a: ScalarOrSchedule = AdamAtan2.a,
    b: ScalarOrSchedule = AdamAtan2.b,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Adam-atan2 (arXiv:2407.05872): Adam through the arc tangent, without an epsilon.

    Hyperparameters are those of `adamx.AdamAtan2`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adam_atan2(0.5, a=4.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.429204], dtype=float32)
    """
    return optimizer(
        AdamAtan2(b1, b2, a, b),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )
