"""PaddlePaddle 3, `paddle.optimizer`."""

from typing import Any

from .._decay import Decay
from ..rules.adam import Adam
from ..rules.amsgrad import AMSGrad
from ._preset import Preset, Recipe


def _adam(o: Any, decay: Decay) -> Recipe:
    betas = (o.beta1, o.beta2, o.epsilon)
    rule = AMSGrad(*betas, max_of="raw") if o.amsgrad else Adam(*betas)
    return Recipe(rule, o.learning_rate, 0.0 if o.weight_decay is None else o.weight_decay, decay)


def _l2(o: Any) -> Recipe:
    return _adam(o, "l2")


BETAS = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
ADAM = {**BETAS, "weight_decay": None, "amsgrad": False}

PRESETS = (
    Preset("paddle", "adam", ADAM, _l2, "its documentation shows ε̂, its kernels compute ε"),
    Preset("paddle", "adamw", {**ADAM, "weight_decay": 1e-2}, lambda o: _adam(o, "decoupled")),
    Preset("paddle", "amsgrad", {**ADAM, "amsgrad": True}, _l2, "`Adam(amsgrad=True)`"),
)
