"""Keras 3, `keras.optimizers`."""

import dataclasses
from typing import Any

from .._annotations import Array, NonNegative
from .._rule import Modifier, StepContext
from ..modifiers.trust_ratio import TrustRatio
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.amsgrad import AMSGrad
from ..rules.lion import Lion
from ..rules.nadam import NAdam
from ..rules.rmsprop import RMSProp
from ._preset import Preset, Recipe, at_most_inverse_sqrt, is_zero


class AfterDecay(Modifier):
    r"""A rule that sees the weights already decayed, $(1 - \alpha\lambda) p$; the decay itself happens outside.

    Attributes:
        rule: the rule, one that reads the weights.
        learning_rate: $\alpha$.
        weight_decay: $\lambda$.
    """

    learning_rate: NonNegative
    weight_decay: NonNegative

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        """The rule's, at the decayed weights."""
        decayed = at.p - self.learning_rate * at.decay(self.weight_decay)
        return self.rule.step(g, s, dataclasses.replace(at, params=decayed))


def _strength(o: Any) -> Any:
    return 0.0 if o.weight_decay is None else o.weight_decay


def _decayed(rule: Any, o: Any) -> Recipe:
    return Recipe(rule, o.learning_rate, _strength(o))


def _after_decay(rule: Any, o: Any) -> Recipe:
    return _decayed(AfterDecay(rule, o.learning_rate, _strength(o)), o)


def _adam(o: Any) -> Recipe:
    if o.amsgrad:
        return _decayed(AMSGrad(o.beta_1, o.beta_2, o.epsilon, max_of="raw", eps_hat=True), o)
    return _decayed(Adam(o.beta_1, o.beta_2, o.epsilon, eps_hat=True), o)


def _rmsprop(o: Any) -> Recipe:
    rule = RMSProp(o.rho, o.epsilon, centered=o.centered)
    if is_zero(o.momentum):
        return _decayed(rule, o)
    rule = dataclasses.replace(rule, momentum=o.momentum, step_size=o.learning_rate)
    return _decayed(rule, o)._replace(step=1.0)


def _adafactor(o: Any) -> Recipe:
    rule = Adafactor(
        decay_rate=-o.beta_2_decay,
        clipping_threshold=o.clip_threshold,
        eps=o.epsilon_1,
        eps_scale=o.epsilon_2,
        min_dim_size_to_factor=1,
        last_axes=True,
    )
    return _after_decay(rule, o)._replace(step=at_most_inverse_sqrt(o.learning_rate))


RATE = {"learning_rate": 1e-3}
BETAS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
DECAY = {"weight_decay": None}
ADAM = {**RATE, **BETAS, "amsgrad": False, **DECAY}
DECAYS_FIRST = "sees the weights after their decay"

PRESETS = (
    Preset("keras", "adam", ADAM, _adam, "ε = 1e-7 beside the uncorrected root weighs 316 times PyTorch's at t = 1"),
    Preset("keras", "adamw", {**ADAM, "weight_decay": 4e-3}, _adam),
    Preset("keras", "amsgrad", {**ADAM, "amsgrad": True}, _adam, "`Adam(amsgrad=True)`"),
    Preset(
        "keras",
        "adamax",
        {**RATE, **BETAS, **DECAY},
        lambda o: _decayed(AdaMax(o.beta_1, o.beta_2, o.epsilon, eps_outside=True), o),
        "half the paper's step size",
    ),
    Preset(
        "keras",
        "nadam",
        {**RATE, **BETAS, **DECAY},
        lambda o: _decayed(NAdam(o.beta_1, o.beta_2, o.epsilon, momentum_decay=1.0), o),
        "momentum warms up 250 times faster than PyTorch's",
    ),
    Preset(
        "keras",
        "adagrad",
        {**RATE, "initial_accumulator_value": 0.1, "epsilon": 1e-7, **DECAY},
        lambda o: _decayed(AdaGrad(o.initial_accumulator_value, o.epsilon), o),
    ),
    Preset(
        "keras",
        "rmsprop",
        {**RATE, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False, **DECAY},
        _rmsprop,
        "momentum gathers steps, step size included",
    ),
    Preset(
        "keras",
        "adadelta",
        {**RATE, "rho": 0.95, "epsilon": 1e-7, **DECAY},
        lambda o: _decayed(AdaDelta(o.rho, o.epsilon), o),
        "a thousandth of the paper's step size",
    ),
    Preset(
        "keras",
        "adafactor",
        {
            **RATE,
            "beta_2_decay": -0.8,
            "epsilon_1": 1e-30,
            "epsilon_2": 1e-3,
            "clip_threshold": 1.0,
            "relative_step": True,
            **DECAY,
        },
        _adafactor,
        "step size min(learning_rate, 1/√t) in units of the weights, also with `relative_step=False`; " + DECAYS_FIRST,
    ),
    Preset(
        "keras",
        "lamb",
        {**RATE, **BETAS, **DECAY},
        lambda o: _after_decay(TrustRatio(Adam(o.beta_1, o.beta_2, o.epsilon)), o),
        "the paper's decay is inside the trust ratio; " + DECAYS_FIRST,
    ),
    Preset(
        "keras",
        "lion",
        {**RATE, "beta_1": 0.9, "beta_2": 0.99, **DECAY},
        lambda o: _decayed(Lion(o.beta_1, o.beta_2), o),
        "the step size is Adam's; 3 to 10 times smaller is usual",
    ),
)
