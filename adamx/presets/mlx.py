"""Apple's MLX, `mlx.optimizers`."""

from typing import Any

import jax.numpy as jnp

from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.lion import Lion
from ..rules.rmsprop import RMSProp
from ._preset import REQUIRED, Preset, Recipe, derived


def _betas(o: Any) -> dict[str, Any]:
    return {"b1": o.betas[0], "b2": o.betas[1], "eps": o.eps}


def _adam(o: Any) -> Recipe:
    rule = Adam(**_betas(o), bias_correction=o.bias_correction)
    return Recipe(rule, o.learning_rate, getattr(o, "weight_decay", None))


def _adafactor(o: Any) -> Recipe:
    if o.relative_step:
        rate, largest = (1e-6, 1.0) if o.warmup_init else (0.0, 1e-2)
        step = derived(lambda t: jnp.minimum(rate * (t + 1) if rate else largest, 1 / jnp.sqrt(t + 1)))
    elif o.learning_rate is None:
        raise ValueError("mlx adafactor with relative_step=False needs a learning_rate")
    else:
        step = o.learning_rate
    eps, eps_scale = o.eps
    rule = Adafactor(
        decay_rate=-o.decay_rate,
        clipping_threshold=o.clip_threshold,
        momentum=o.beta_1,
        eps=eps,
        eps_scale=eps_scale,
        multiply_by_parameter_scale=o.scale_parameter,
        min_dim_size_to_factor=1,
        last_axes=True,
        step_size=step,
    )
    return Recipe(rule, 1.0)


RATE = {"learning_rate": REQUIRED}
BETAS = {**RATE, "betas": (0.9, 0.999), "eps": 1e-8}
UNCORRECTED = "the first step is 3.16 and the largest 6.57 step sizes for a constant gradient"

PRESETS = (
    Preset("mlx", "adam", {**BETAS, "bias_correction": False}, _adam, UNCORRECTED),
    Preset("mlx", "adamw", {**BETAS, "weight_decay": 1e-2, "bias_correction": False}, _adam, UNCORRECTED),
    Preset(
        "mlx",
        "adamax",
        BETAS,
        lambda o: Recipe(AdaMax(**_betas(o), eps_outside=True, bias_correction=False), o.learning_rate),
        "the first step is a tenth of the step size",
    ),
    Preset(
        "mlx",
        "adagrad",
        {**RATE, "eps": 1e-8},
        lambda o: Recipe(AdaGrad(0.0, o.eps, eps_in_sqrt=False), o.learning_rate),
    ),
    Preset(
        "mlx",
        "rmsprop",
        {**RATE, "alpha": 0.99, "eps": 1e-8},
        lambda o: Recipe(RMSProp(o.alpha, o.eps, eps_in_sqrt=False), o.learning_rate),
    ),
    Preset(
        "mlx",
        "adadelta",
        {**RATE, "rho": 0.9, "eps": 1e-6},
        lambda o: Recipe(AdaDelta(o.rho, o.eps), o.learning_rate),
    ),
    Preset(
        "mlx",
        "adafactor",
        {
            "learning_rate": None,
            "eps": (1e-30, 1e-3),
            "clip_threshold": 1.0,
            "decay_rate": -0.8,
            "beta_1": None,
            "scale_parameter": True,
            "relative_step": True,
            "warmup_init": False,
        },
        _adafactor,
        "`relative_step` ignores the learning rate: min(.01, 1/√t); without its weight_decay",
    ),
    Preset(
        "mlx",
        "lion",
        {**RATE, "betas": (0.9, 0.99), "weight_decay": 0.0},
        lambda o: Recipe(Lion(o.betas[0], o.betas[1]), o.learning_rate, o.weight_decay),
    ),
)
