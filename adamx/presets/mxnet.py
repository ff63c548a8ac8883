"""Apache MXNet 1, `mxnet.optimizer`."""

from typing import Any

from ..rules.adadelta import AdaDelta
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.nadam import NAdam
from ._preset import Preset, Recipe


def _l2(rule: Any, o: Any) -> Recipe:
    return Recipe(rule, o.learning_rate, o.wd, "l2")


BETAS = {"beta1": 0.9, "beta2": 0.999}
EPSILON = {"epsilon": 1e-8}
WD = {"wd": 0.0}

PRESETS = (
    Preset(
        "mxnet",
        "adam",
        {"learning_rate": 1e-3, **BETAS, **EPSILON, **WD},
        lambda o: _l2(Adam(o.beta1, o.beta2, o.epsilon, eps_hat=True), o),
        "clips gradients before it adds the decay",
    ),
    Preset(
        "mxnet",
        "adamax",
        {"learning_rate": 2e-3, **BETAS, **WD},
        lambda o: _l2(AdaMax(o.beta1, o.beta2, 0.0), o),
        "0/0 there until a gradient is not zero; 0 here",
    ),
    Preset(
        "mxnet",
        "nadam",
        {"learning_rate": 1e-3, **BETAS, **EPSILON, "schedule_decay": 4e-3, **WD},
        lambda o: _l2(NAdam(o.beta1, o.beta2, o.epsilon, o.schedule_decay), o),
        "there all arrays of a model share one product of momenta, so that it is right for a single array only",
    ),
    Preset(
        "mxnet",
        "adagrad",
        {"learning_rate": 1e-2, "eps": 1e-7, **WD},
        lambda o: Recipe(AdaGrad(0.0, o.eps), o.learning_rate, o.wd),
    ),
    Preset(
        "mxnet",
        "adadelta",
        {"rho": 0.9, "epsilon": 1e-5, **WD},
        lambda o: Recipe(AdaDelta(o.rho, o.epsilon), 1.0, o.wd, "constant"),
        "no step size",
    ),
)
