"""TensorFlow 1, `tf.train`, and the optimizer that BERT was trained with in it."""

import dataclasses
from typing import Any

from ..rules.adadelta import AdaDelta
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.rmsprop import RMSProp
from ._preset import REQUIRED, Preset, Recipe, is_zero


def _rmsprop(o: Any) -> Recipe:
    rule = RMSProp(o.decay, o.epsilon, initial_scale=1.0, centered=o.centered)
    if is_zero(o.momentum):
        return Recipe(rule, o.learning_rate)
    rule = dataclasses.replace(rule, momentum=o.momentum, step_size=o.learning_rate)
    return Recipe(rule, o.learning_rate, step=1.0)


PRESETS = (
    Preset(
        "tf1",
        "adam",
        {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        lambda o: Recipe(Adam(o.beta1, o.beta2, o.epsilon, eps_hat=True), o.learning_rate),
        "its documentation advises ε of .1 to 1 for Inception",
    ),
    Preset(
        "tf1",
        "adagrad",
        {"learning_rate": REQUIRED, "initial_accumulator_value": 0.1},
        lambda o: Recipe(AdaGrad(o.initial_accumulator_value, 0.0), o.learning_rate),
    ),
    Preset(
        "tf1",
        "rmsprop",
        {"learning_rate": REQUIRED, "decay": 0.9, "momentum": 0.0, "epsilon": 1e-10, "centered": False},
        _rmsprop,
        "the mean square starts at 1; momentum gathers steps, step size included",
    ),
    Preset(
        "tf1",
        "adadelta",
        {"learning_rate": 1e-3, "rho": 0.95, "epsilon": 1e-8},
        lambda o: Recipe(AdaDelta(o.rho, o.epsilon), o.learning_rate),
        "a thousandth of the paper's step size",
    ),
    Preset(
        "bert",
        "adamw",
        {"learning_rate": REQUIRED, "weight_decay_rate": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6},
        lambda o: Recipe(
            Adam(o.beta_1, o.beta_2, o.epsilon, bias_correction=False), o.learning_rate, o.weight_decay_rate
        ),
        "without its gradient clipping (global norm 1), which is for `optax.chain`; "
        "biases and LayerNorm do not decay there: give `mask`",
    ),
)
