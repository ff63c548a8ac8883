"""Rules that keep other statistics than Adam's, by name as directions: without step size and sign, to chain by hand."""

from typing import Any

from .._transform import Optimizer, scale_by
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.came import CAME
from ..rules.lion import Lion
from ..rules.novograd import NovoGrad
from ..rules.rmsprop import RMSProp


def scale_by_rss(
    initial_accumulator_value: ScalarOrSchedule = AdaGrad.initial_accumulator_value,
    eps: ScalarOrSchedule = AdaGrad.eps,
    *,
    eps_in_sqrt: bool = AdaGrad.eps_in_sqrt,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaGrad's direction; see `adamx.AdaGrad`."""
    return scale_by(AdaGrad(initial_accumulator_value, eps, eps_in_sqrt), moments=moments, seed=seed)


def scale_by_rms(
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """RMSProp's direction; see `adamx.RMSProp`."""
    return scale_by(
        RMSProp(decay, eps, initial_scale, eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction),
        moments=moments,
        seed=seed,
    )


def scale_by_stddev(
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """The direction of centred RMSProp; see `adamx.RMSProp`."""
    return scale_by(
        RMSProp(decay, eps, initial_scale, eps_in_sqrt=eps_in_sqrt, centered=True, bias_correction=bias_correction),
        moments=moments,
        seed=seed,
    )


def scale_by_adadelta(
    rho: ScalarOrSchedule = AdaDelta.rho,
    eps: ScalarOrSchedule = AdaDelta.eps,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaDelta's direction; see `adamx.AdaDelta`."""
    return scale_by(AdaDelta(rho, eps), moments=moments, seed=seed)


def scale_by_lion(
    b1: ScalarOrSchedule = Lion.b1,
    b2: ScalarOrSchedule = Lion.b2,
    mu_dtype: Any = None,
    *,
    mode: str = Lion.mode,
    smooth_beta: ScalarOrSchedule = Lion.smooth_beta,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Lion's direction; see `adamx.Lion`, also for `mode`."""
    return scale_by(Lion(b1, b2, mode, smooth_beta), mu_dtype=mu_dtype, moments=moments, seed=seed)


def scale_by_novograd(
    b1: ScalarOrSchedule = NovoGrad.b1,
    b2: ScalarOrSchedule = NovoGrad.b2,
    eps: ScalarOrSchedule = NovoGrad.eps,
    eps_root: ScalarOrSchedule = NovoGrad.eps_root,
    weight_decay: ScalarOrSchedule = NovoGrad.weight_decay,
    mu_dtype: Any = None,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """NovoGrad's direction; see `adamx.NovoGrad`.

    `eps` is 1e-6, as in `novograd` here and in Optax, whose `scale_by_novograd` has 1e-8.
    """
    return scale_by(NovoGrad(b1, b2, eps, eps_root, weight_decay), mu_dtype=mu_dtype, moments=moments, seed=seed)


def scale_by_came(
    b1: ScalarOrSchedule = CAME.b1,
    b2: ScalarOrSchedule = CAME.b2,
    b3: ScalarOrSchedule = CAME.b3,
    eps: ScalarOrSchedule = CAME.eps,
    eps_instability: ScalarOrSchedule = CAME.eps_instability,
    clipping_threshold: ScalarOrSchedule = CAME.clipping_threshold,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """CAME's direction; see `adamx.CAME`."""
    return scale_by(CAME(b1, b2, b3, eps, eps_instability, clipping_threshold), moments=moments, seed=seed)


def scale_by_adafactor(
    min_dim_size_to_factor: int = Adafactor.min_dim_size_to_factor,
    decay_rate: ScalarOrSchedule = Adafactor.decay_rate,
    clipping_threshold: ScalarOrSchedule | None = Adafactor.clipping_threshold,
    eps: ScalarOrSchedule | None = Adafactor.eps,
    *,
    multiply_by_parameter_scale: bool = Adafactor.multiply_by_parameter_scale,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adafactor's direction, clipped and in units of the weights; see `adamx.Adafactor`."""
    return scale_by(
        Adafactor(
            decay_rate,
            clipping_threshold=clipping_threshold,
            eps=eps,
            multiply_by_parameter_scale=multiply_by_parameter_scale,
            min_dim_size_to_factor=min_dim_size_to_factor,
        ),
        moments=moments,
        seed=seed,
    )
