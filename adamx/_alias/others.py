"""Rules of Adam's family that keep other statistics, by name."""

import dataclasses
from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.came import CAME
from ..rules.lion import Lion
from ..rules.novograd import NovoGrad
from ..rules.rmsprop import RMSProp


def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: ScalarOrSchedule = AdaGrad.initial_accumulator_value,
    eps: ScalarOrSchedule = AdaGrad.eps,
    *,
    eps_in_sqrt: bool = AdaGrad.eps_in_sqrt,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    """AdaGrad (Duchi, Hazan & Singer, JMLR 2011): the gradient in units of the root of the sum of its squares.

    Hyperparameters are those of `adamx.AdaGrad`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adagrad(0.5, initial_accumulator_value=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        AdaGrad(initial_accumulator_value, eps, eps_in_sqrt),
        learning_rate,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    centered: bool = RMSProp.centered,
    momentum: ScalarOrSchedule | None = RMSProp.momentum,
    nesterov: bool = RMSProp.nesterov,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    """RMSProp (Tieleman & Hinton, 2012): the gradient in units of its root mean square.

    Hyperparameters are those of `adamx.RMSProp`; the rest is described by `adamx.optimizer`.

    The momentum adds up scaled steps, as in Optax; PyTorch's adds up directions (`adamx.preset`).

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.rmsprop(0.5, decay=0.75)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.], dtype=float32)
    """
    rule = RMSProp(decay, eps, initial_scale, momentum, eps_in_sqrt, centered, nesterov, bias_correction)
    if momentum is None:
        return optimizer(rule, learning_rate, moments=moments, weights=weights, seed=seed, kernel=kernel)
    return optimizer(
        dataclasses.replace(rule, step_size=learning_rate),
        1.0,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def adadelta(
    learning_rate: ScalarOrSchedule = 1.0,
    rho: ScalarOrSchedule = AdaDelta.rho,
    eps: ScalarOrSchedule = AdaDelta.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """AdaDelta (arXiv:1212.5701): the gradient in units of its root mean square, times that of the updates.

    Hyperparameters are those of `adamx.AdaDelta`; the rest is described by `adamx.optimizer`.

    Decay is added to the gradient, as in Optax and PyTorch. `learning_rate` is 1 if left out, the paper's: Optax's
    `None` leaves out the sign together with the factor, and climbs.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adadelta(1.0, rho=0.75, eps=1.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([0.585786], dtype=float32)
    """
    return optimizer(
        AdaDelta(rho, eps),
        learning_rate,
        weight_decay=weight_decay,
        mask=weight_decay_mask,
        decay="l2",
        moments=moments,
        weights=weights,
        seed=seed,
    )


def lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Lion.b1,
    b2: ScalarOrSchedule = Lion.b2,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: Any = None,
    *,
    mode: str = Lion.mode,
    smooth_beta: ScalarOrSchedule = Lion.smooth_beta,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
    kernel: str = "auto",
) -> Optimizer:
    """Lion (arXiv:2302.06675): the sign of an interpolated momentum; steps 3 to 10 times smaller than Adam's.

    Hyperparameters are those of `adamx.Lion`; the rest is described by `adamx.optimizer`. `mode` and `smooth_beta` are
    those of `optax.scale_by_lion`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.lion(0.5, weight_decay=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        Lion(b1, b2, mode, smooth_beta),
        learning_rate,
        mu_dtype=mu_dtype,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
        kernel=kernel,
    )


def novograd(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = NovoGrad.b1,
    b2: ScalarOrSchedule = NovoGrad.b2,
    eps: ScalarOrSchedule = NovoGrad.eps,
    eps_root: ScalarOrSchedule = NovoGrad.eps_root,
    weight_decay: ScalarOrSchedule = NovoGrad.weight_decay,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """NovoGrad (arXiv:1905.11286): momentum of gradients of unit length, one second moment for each leaf.

    Hyperparameters are those of `adamx.NovoGrad`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.novograd(5.0)
    >>> params = jnp.array([3.0, 4.0])
    >>> opt.step(params, opt.init(params), params)[0].round(5)
    Array([0., 0.], dtype=float32)
    """
    return optimizer(
        NovoGrad(b1, b2, eps, eps_root, weight_decay), learning_rate, moments=moments, weights=weights, seed=seed
    )


def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = Adafactor.min_dim_size_to_factor,
    decay_rate: ScalarOrSchedule = Adafactor.decay_rate,
    decay_offset: ScalarOrSchedule = Adafactor.decay_offset,
    multiply_by_parameter_scale: bool = Adafactor.multiply_by_parameter_scale,
    clipping_threshold: ScalarOrSchedule | None = Adafactor.clipping_threshold,
    momentum: ScalarOrSchedule | None = Adafactor.momentum,
    dtype_momentum: Any = None,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule | None = Adafactor.eps,
    factored: bool = Adafactor.factored,
    weight_decay_mask: Any = None,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Adafactor (arXiv:1804.04235): a second moment kept as row and column means, steps in units of the weights.

    Hyperparameters are those of `adamx.Adafactor`; the rest is described by `adamx.optimizer`.

    `learning_rate=None` is 1; the paper's is min(.01, 1/sqrt(t)), `schedules.relative_step()`. `weight_decay_rate` is
    taken of the weights at every step, whatever the step size, as in Optax. `dtype_momentum=None` is at least float32:
    Optax's default, float32, would narrow the momentum of float64 weights.

    >>> import adamx, jax.numpy as jnp
    >>> params = jnp.ones((512, 256))
    >>> nu = adamx.adafactor().init(params).slots.nu
    >>> nu.row.shape, nu.col.shape
    ((256,), (512,))
    """
    rule = Adafactor(
        decay_rate=decay_rate,
        decay_offset=decay_offset,
        clipping_threshold=clipping_threshold,
        momentum=momentum,
        eps=eps,
        multiply_by_parameter_scale=multiply_by_parameter_scale,
        min_dim_size_to_factor=min_dim_size_to_factor,
        factored=factored,
    )
    rate = 1.0 if learning_rate is None else learning_rate
    if momentum is not None:
        rule, rate = dataclasses.replace(rule, step_size=rate), 1.0
    return optimizer(
        rule,
        rate,
        weight_decay=0.0 if weight_decay_rate is None else weight_decay_rate,
        mask=weight_decay_mask,
        decay="constant",
        mu_dtype=None if momentum is None else dtype_momentum,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def came(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = CAME.b1,
    b2: ScalarOrSchedule = CAME.b2,
    b3: ScalarOrSchedule = CAME.b3,
    eps: ScalarOrSchedule = CAME.eps,
    eps_instability: ScalarOrSchedule = CAME.eps_instability,
    clipping_threshold: ScalarOrSchedule = CAME.clipping_threshold,
    min_dim_size_to_factor: int = CAME.min_dim_size_to_factor,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """CAME (arXiv:2307.02047): Adafactor whose momentum is trusted where it agrees with the steps it averages.

    Hyperparameters are those of `adamx.CAME`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.came(0.5, b1=0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.75], dtype=float32)
    """
    rule = CAME(b1, b2, b3, eps, eps_instability, clipping_threshold, min_dim_size_to_factor)
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
    )
