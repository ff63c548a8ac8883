"""Lasagne, Blocks, Caffe, Torch7 and Chainer."""

from typing import Any

from ..rules.adadelta import AdaDelta
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.amsgrad import AMSGrad
from ..rules.rmsprop import RMSProp
from ._preset import REQUIRED, Preset, Recipe, inverse_time, times


def _raw_amsgrad(b1: Any, b2: Any, eps: Any) -> AMSGrad:
    return AMSGrad(b1, b2, eps, max_of="raw", eps_hat=True)


def _caffe(rule: Any, o: Any) -> Recipe:
    return Recipe(rule, o.base_lr, o.weight_decay, "l2")


def _torch7_adam(o: Any) -> Recipe:
    rule = Adam(o.beta1, o.beta2, o.epsilon, eps_hat=True)
    return Recipe(rule, inverse_time(o.learningRate, o.learningRateDecay), o.weightDecay, "l2")


def _torch7_adagrad(o: Any) -> Recipe:
    rule = AdaGrad(0.0, 1e-10, eps_in_sqrt=False)
    return Recipe(rule, inverse_time(o.learningRate, o.learningRateDecay))


def _chainer_adam(o: Any) -> Recipe:
    betas = (o.beta1, o.beta2, o.eps)
    rule = _raw_amsgrad(*betas) if o.amsgrad else Adam(*betas, eps_hat=True)
    return Recipe(rule, times(o.alpha, o.eta), times(o.eta, o.weight_decay_rate), "constant")


BETAS = {"beta1": 0.9, "beta2": 0.999}
EPSILON = {"epsilon": 1e-8}
LASAGNE = {"learning_rate": 1.0, "epsilon": 1e-6}
CAFFE = {"base_lr": REQUIRED, "delta": 1e-8, "weight_decay": 0.0}
CHAINER = {"alpha": 1e-3, **BETAS, "eps": 1e-8, "eta": 1.0, "weight_decay_rate": 0.0}

PRESETS = (
    Preset(
        "lasagne",
        "adam",
        {"learning_rate": 1e-3, **BETAS, **EPSILON},
        lambda o: Recipe(Adam(o.beta1, o.beta2, o.epsilon, eps_hat=True), o.learning_rate),
    ),
    Preset(
        "lasagne",
        "adamax",
        {"learning_rate": 2e-3, **BETAS, **EPSILON},
        lambda o: Recipe(AdaMax(o.beta1, o.beta2, o.epsilon, eps_outside=True), o.learning_rate),
    ),
    Preset(
        "lasagne",
        "amsgrad",
        {"learning_rate": 1e-3, **BETAS, **EPSILON},
        lambda o: Recipe(_raw_amsgrad(o.beta1, o.beta2, o.epsilon), o.learning_rate),
    ),
    Preset("lasagne", "adagrad", LASAGNE, lambda o: Recipe(AdaGrad(0.0, o.epsilon), o.learning_rate)),
    Preset("lasagne", "rmsprop", {**LASAGNE, "rho": 0.9}, lambda o: Recipe(RMSProp(o.rho, o.epsilon), o.learning_rate)),
    Preset(
        "lasagne", "adadelta", {**LASAGNE, "rho": 0.95}, lambda o: Recipe(AdaDelta(o.rho, o.epsilon), o.learning_rate)
    ),
    Preset(
        "blocks",
        "adam",
        {"learning_rate": 2e-3, **BETAS, **EPSILON},
        lambda o: Recipe(Adam(o.beta1, o.beta2, o.epsilon, eps_hat=True), o.learning_rate),
        "without its decay_factor λ, for which it corrects wrongly: see `adamx.schedules.decayed_beta`",
    ),
    Preset(
        "blocks",
        "adagrad",
        {"learning_rate": 2e-3, "epsilon": 1e-6},
        lambda o: Recipe(AdaGrad(0.0, o.epsilon, eps_in_sqrt=False), o.learning_rate),
    ),
    Preset(
        "blocks",
        "adadelta",
        {"decay_rate": 0.95, "epsilon": 1e-6},
        lambda o: Recipe(AdaDelta(o.decay_rate, o.epsilon), 1.0),
        "no step size",
    ),
    Preset(
        "caffe",
        "adam",
        {**CAFFE, "momentum": 0.0, "momentum2": 0.999},
        lambda o: _caffe(Adam(o.momentum, o.momentum2, o.delta, eps_hat=True), o),
        "momentum is 0 unless the solver file says otherwise; its examples say .9",
    ),
    Preset("caffe", "adagrad", CAFFE, lambda o: _caffe(AdaGrad(0.0, o.delta, eps_in_sqrt=False), o)),
    Preset(
        "caffe",
        "rmsprop",
        {**CAFFE, "rms_decay": 0.99},
        lambda o: _caffe(RMSProp(o.rms_decay, o.delta, eps_in_sqrt=False), o),
    ),
    Preset(
        "caffe",
        "adadelta",
        {**CAFFE, "momentum": 0.0},
        lambda o: _caffe(AdaDelta(o.momentum, o.delta), o),
        "momentum is the decay rate of both averages, 0 unless the solver file says otherwise",
    ),
    Preset(
        "torch7",
        "adam",
        {"learningRate": 1e-3, "learningRateDecay": 0.0, **BETAS, **EPSILON, "weightDecay": 0.0},
        _torch7_adam,
        "step size learningRate / (1 + t learningRateDecay), t from 0",
    ),
    Preset(
        "torch7",
        "adamax",
        {"learningRate": 2e-3, **BETAS, "epsilon": 1e-38},
        lambda o: Recipe(AdaMax(o.beta1, o.beta2, o.epsilon), o.learningRate),
    ),
    Preset(
        "torch7",
        "adagrad",
        {"learningRate": 1e-3, "learningRateDecay": 0.0},
        _torch7_adagrad,
        "ε is 1e-10; step size learningRate / (1 + t learningRateDecay), t from 0",
    ),
    Preset(
        "torch7",
        "rmsprop",
        {"learningRate": 1e-2, "alpha": 0.99, "epsilon": 1e-8},
        lambda o: Recipe(RMSProp(o.alpha, o.epsilon, eps_in_sqrt=False), o.learningRate),
    ),
    Preset(
        "torch7",
        "adadelta",
        {"decayRate": 0.9, "offset": 1e-6},
        lambda o: Recipe(AdaDelta(o.decayRate, o.offset), 1.0),
        "no step size",
    ),
    Preset("chainer", "adam", {**CHAINER, "amsgrad": False}, _chainer_adam, "eta scales the step and the decay"),
    Preset(
        "chainer",
        "amsgrad",
        {**CHAINER, "amsgrad": True},
        _chainer_adam,
        "`Adam(amsgrad=True)`; early releases forget the maximum on CPU",
    ),
    Preset(
        "chainer",
        "adagrad",
        {"lr": 1e-3, "eps": 1e-8},
        lambda o: Recipe(AdaGrad(0.0, o.eps, eps_in_sqrt=False), o.lr),
    ),
    Preset(
        "chainer",
        "rmsprop",
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "eps_inside_sqrt": False},
        lambda o: Recipe(RMSProp(o.alpha, o.eps, eps_in_sqrt=o.eps_inside_sqrt), o.lr),
    ),
    Preset(
        "chainer",
        "adadelta",
        {"rho": 0.95, "eps": 1e-6},
        lambda o: Recipe(AdaDelta(o.rho, o.eps), 1.0),
        "no step size",
    ),
)
