"""PyTorch 2.13, `torch.optim`."""

from collections.abc import Callable, Mapping
from typing import Any

from .._names import validate_choice
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.amsgrad import AMSGrad
from ..rules.muon import Muon
from ..rules.nadam import NAdam
from ..rules.radam import RAdam
from ..rules.rmsprop import RMSProp
from ._preset import Preset, Recipe, at_most_inverse_sqrt, inverse_time, is_zero


def _betas(o: Any) -> dict[str, Any]:
    return {"b1": o.betas[0], "b2": o.betas[1], "eps": o.eps}


def _decayed(rule: Any, o: Any) -> Recipe:
    return Recipe(rule, o.lr, o.weight_decay, "decoupled" if o.decoupled_weight_decay else "l2")


def _adam_or_amsgrad(o: Any) -> Any:
    return AMSGrad(**_betas(o), max_of="raw") if o.amsgrad else Adam(**_betas(o))


def _adam(o: Any) -> Recipe:
    return _decayed(_adam_or_amsgrad(o), o)


def _rmsprop(o: Any) -> Recipe:
    momentum = None if is_zero(o.momentum) else o.momentum
    rule = RMSProp(o.alpha, o.eps, momentum=momentum, eps_in_sqrt=False, centered=o.centered)
    return Recipe(rule, o.lr, o.weight_decay, "l2")


def _adagrad(o: Any) -> Recipe:
    rule = AdaGrad(o.initial_accumulator_value, o.eps, eps_in_sqrt=False)
    return Recipe(rule, inverse_time(o.lr, o.lr_decay), o.weight_decay, "l2")


def _adafactor(o: Any) -> Recipe:
    eps, eps_scale = o.eps
    rule = Adafactor(
        decay_rate=-o.beta2_decay,
        clipping_threshold=o.d,
        eps=eps,
        eps_scale=eps_scale,
        min_dim_size_to_factor=1,
        last_axes=True,
        clamped=True,
    )
    return Recipe(rule, o.lr, o.weight_decay, step=at_most_inverse_sqrt(o.lr))


def _muon(o: Any) -> Recipe:
    scale = {"original": "original", "match_rms_adamw": "rms"}
    rule = Muon(
        o.momentum,
        o.nesterov,
        bias_correction=False,
        ns_coeffs=o.ns_coefficients,
        ns_steps=o.ns_steps,
        ns_dtype="bfloat16",
        scale=scale[validate_choice("adjust_lr_fn", o.adjust_lr_fn or "original", scale)],
        layout="out,in",
    )
    return Recipe(rule, o.lr, o.weight_decay)


def _preset(optimizer: str, defaults: Mapping[str, Any], build: Callable[[Any], Recipe], notes: str = "") -> Preset:
    """One of `torch.optim`'s: each can climb, and to each a complex number is two real ones."""

    def recipe(o: Any) -> Recipe:
        made = build(o)
        return made._replace(maximize=o.maximize, complex_parts="apart" if made.rule.elementwise else "together")

    return Preset("pytorch", optimizer, {**defaults, "maximize": False}, recipe, notes)


BETAS = {"betas": (0.9, 0.999), "eps": 1e-8}
COUPLED = {"weight_decay": 0.0, "decoupled_weight_decay": False}
ADAM = {"lr": 1e-3, **BETAS, "amsgrad": False, **COUPLED}

PRESETS = (
    _preset("adam", ADAM, _adam),
    _preset(
        "adamw",
        {"lr": 1e-3, **BETAS, "weight_decay": 1e-2, "amsgrad": False},
        lambda o: Recipe(_adam_or_amsgrad(o), o.lr, o.weight_decay),
        "λ is 100 times Optax's",
    ),
    _preset("amsgrad", {**ADAM, "amsgrad": True}, _adam, "`Adam(amsgrad=True)`"),
    _preset(
        "adamax",
        {"lr": 2e-3, **BETAS, "weight_decay": 0.0},
        lambda o: Recipe(AdaMax(**_betas(o)), o.lr, o.weight_decay, "l2"),
    ),
    _preset(
        "nadam",
        {"lr": 2e-3, **BETAS, "momentum_decay": 4e-3, **COUPLED},
        lambda o: _decayed(NAdam(**_betas(o), momentum_decay=o.momentum_decay), o),
        "keeps the product of its momenta in float32, also for float64 weights, unless the default dtype is float64",
    ),
    _preset(
        "radam",
        {"lr": 1e-3, **BETAS, **COUPLED},
        lambda o: _decayed(RAdam(**_betas(o), eps_hat=True), o),
        "until it is rectified, momentum without a denominator",
    ),
    _preset(
        "adagrad",
        {"lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
        _adagrad,
        "step size lr / (1 + t lr_decay), t from 0",
    ),
    _preset(
        "rmsprop",
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
        _rmsprop,
        "momentum gathers directions, which the step size then scales",
    ),
    _preset(
        "adadelta",
        {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0},
        lambda o: Recipe(AdaDelta(o.rho, o.eps), o.lr, o.weight_decay, "l2"),
    ),
    _preset(
        "adafactor",
        {"lr": 1e-2, "beta2_decay": -0.8, "eps": (None, 1e-3), "d": 1.0, "weight_decay": 0.0},
        _adafactor,
        "step size min(lr, 1/√t) in units of the weights, the decay's is lr; ε `None` is the dtype's machine epsilon; "
        "factors the last two axes of any size; PyTorch takes no complex weights",
    ),
    Preset(
        "pytorch",
        "muon",
        {
            "lr": 1e-3,
            "weight_decay": 0.1,
            "momentum": 0.95,
            "nesterov": True,
            "ns_coefficients": (3.4445, -4.7750, 2.0315),
            "ns_steps": 5,
            "adjust_lr_fn": None,
        },
        _muon,
        "of matrices (out, in) only, orthogonal in bfloat16; without `eps`, which shortens steps of tiny gradients",
    ),
)
