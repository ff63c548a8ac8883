"""Optax 0.2.8."""

import dataclasses
from typing import Any

from ..modifiers.trust_ratio import Decayed, TrustRatio
from ..rules.adabelief import AdaBelief
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.amsgrad import AMSGrad
from ..rules.lion import Lion
from ..rules.muon import Muon
from ..rules.radam import RAdam
from ..rules.rmsprop import RMSProp
from ._preset import REQUIRED, Preset, Recipe


def _adam(o: Any) -> Recipe:
    rule = Adam(o.b1, o.b2, o.eps, o.eps_root, nesterov=o.nesterov)
    return Recipe(rule, o.learning_rate, getattr(o, "weight_decay", None))


def _adamax(o: Any) -> Recipe:
    return Recipe(AdaMax(o.b1, o.b2, o.eps), o.learning_rate, getattr(o, "weight_decay", None))


def _amsgrad(o: Any) -> Recipe:
    rule = AMSGrad(
        o.b1,
        o.b2,
        o.eps,
        o.eps_root,
        bias_correction_mu=o.bias_correction_mu,
        bias_correction_nu=o.bias_correction_nu,
    )
    return Recipe(rule, o.learning_rate)


def _rmsprop(o: Any) -> Recipe:
    rule = RMSProp(
        o.decay,
        o.eps,
        o.initial_scale,
        eps_in_sqrt=o.eps_in_sqrt,
        centered=o.centered,
        bias_correction=o.bias_correction,
    )
    if o.momentum is None:
        return Recipe(rule, o.learning_rate)
    rule = dataclasses.replace(rule, momentum=o.momentum, nesterov=o.nesterov, step_size=o.learning_rate)
    return Recipe(rule, o.learning_rate, step=1.0)


def _adafactor(o: Any) -> Recipe:
    learning_rate = 1.0 if o.learning_rate is None else o.learning_rate
    rule = Adafactor(
        decay_rate=o.decay_rate,
        decay_offset=o.decay_offset,
        clipping_threshold=o.clipping_threshold,
        momentum=o.momentum,
        eps=o.eps,
        multiply_by_parameter_scale=o.multiply_by_parameter_scale,
        min_dim_size_to_factor=o.min_dim_size_to_factor,
        factored=o.factored,
        step_size=learning_rate,
    )
    return Recipe(rule, 1.0, 0.0 if o.weight_decay_rate is None else o.weight_decay_rate, "constant")


def _lamb(o: Any) -> Recipe:
    rule = TrustRatio(Decayed(Adam(o.b1, o.b2, o.eps, o.eps_root), o.weight_decay))
    return Recipe(rule, o.learning_rate)


def _muon(o: Any) -> Recipe:
    rule = Muon(o.beta, o.nesterov, ns_coeffs=o.ns_coeffs, ns_steps=o.ns_steps, eps=o.eps)
    if o.consistent_rms is not None:
        rule = dataclasses.replace(rule, scale="rms", rms=o.consistent_rms)
    return Recipe(rule, o.learning_rate, o.weight_decay)


RATE = {"learning_rate": REQUIRED}
BETAS = {**RATE, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
ROOT = {**BETAS, "eps_root": 0.0}
NESTEROV_OFF = {**ROOT, "nesterov": False}

PRESETS = (
    Preset("optax", "adam", NESTEROV_OFF, _adam),
    Preset("optax", "adamw", {**NESTEROV_OFF, "weight_decay": 1e-4}, _adam),
    Preset("optax", "adamax", BETAS, _adamax),
    Preset("optax", "adamaxw", {**BETAS, "weight_decay": 1e-4}, _adamax),
    Preset(
        "optax",
        "amsgrad",
        {**ROOT, "bias_correction_mu": True, "bias_correction_nu": True},
        _amsgrad,
        "keeps the spike of the first steps",
    ),
    Preset("optax", "nadam", {**ROOT, "nesterov": True}, _adam, "constant momentum"),
    Preset("optax", "nadamw", {**ROOT, "nesterov": True, "weight_decay": 1e-4}, _adam, "constant momentum"),
    Preset(
        "optax",
        "radam",
        {**ROOT, "threshold": 5.0, "nesterov": False},
        lambda o: Recipe(RAdam(o.b1, o.b2, o.eps, o.eps_root, o.threshold, o.nesterov), o.learning_rate),
        "until it is rectified, momentum without a denominator",
    ),
    Preset(
        "optax",
        "adabelief",
        {**RATE, "b1": 0.9, "b2": 0.999, "eps": 1e-16, "eps_root": 1e-16, "nesterov": False},
        lambda o: Recipe(AdaBelief(o.b1, o.b2, o.eps, o.eps_root, nesterov=o.nesterov), o.learning_rate),
        "eps_root adds up in the state",
    ),
    Preset(
        "optax",
        "adagrad",
        {**RATE, "initial_accumulator_value": 0.1, "eps": 1e-7},
        lambda o: Recipe(AdaGrad(o.initial_accumulator_value, o.eps), o.learning_rate),
    ),
    Preset(
        "optax",
        "rmsprop",
        {
            **RATE,
            "decay": 0.9,
            "eps": 1e-8,
            "initial_scale": 0.0,
            "eps_in_sqrt": True,
            "centered": False,
            "momentum": None,
            "nesterov": False,
            "bias_correction": False,
        },
        _rmsprop,
        "momentum gathers steps, step size included",
    ),
    Preset(
        "optax",
        "adadelta",
        {**RATE, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0},
        lambda o: Recipe(AdaDelta(o.rho, o.eps), o.learning_rate, o.weight_decay, "l2"),
        "climbs there if no learning rate is given",
    ),
    Preset(
        "optax",
        "adafactor",
        {
            "learning_rate": None,
            "min_dim_size_to_factor": 128,
            "decay_rate": 0.8,
            "decay_offset": 0,
            "multiply_by_parameter_scale": True,
            "clipping_threshold": 1.0,
            "momentum": None,
            "weight_decay_rate": None,
            "eps": 1e-30,
            "factored": True,
        },
        _adafactor,
        "step size in units of the weights, 1 if `None`; factors the two largest axes",
    ),
    Preset("optax", "lamb", {**ROOT, "eps": 1e-6, "weight_decay": 0.0}, _lamb),
    Preset(
        "optax",
        "lion",
        {**RATE, "b1": 0.9, "b2": 0.99, "weight_decay": 1e-3},
        lambda o: Recipe(Lion(o.b1, o.b2), o.learning_rate, o.weight_decay),
    ),
    Preset(
        "optax",
        "muon",
        {
            **RATE,
            "ns_coeffs": "standard",
            "ns_steps": 5,
            "beta": 0.95,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "nesterov": True,
            "consistent_rms": None,
        },
        _muon,
        "of matrices (in, out) only, orthogonal in their own dtype; Optax leaves others to AdamW",
    ),
)
