"""The official code of SOAP, nikhilvyas/SOAP, as of December 2024."""

from typing import Any

from ..modifiers.rotated import Rotated
from ..rules.adam import Adam
from ._preset import Preset, Recipe


def _soap(o: Any) -> Recipe:
    b1, b2 = o.betas
    rule = Adam(b1, b2, o.eps, bias_correction=o.correct_bias, eps_hat=True)
    own = isinstance(o.shampoo_beta, (int, float)) and o.shampoo_beta < 0
    rotated = Rotated(rule, b2 if own else o.shampoo_beta, o.precondition_frequency, o.max_precond_dim)
    return Recipe(rotated, o.lr, o.weight_decay, "after")


PRESETS = (
    Preset(
        "soap",
        "soap",
        {
            "lr": 3e-3,
            "betas": (0.95, 0.95),
            "shampoo_beta": -1,
            "eps": 1e-8,
            "weight_decay": 0.01,
            "precondition_frequency": 10,
            "max_precond_dim": 10_000,
            "correct_bias": True,
        },
        _soap,
        "the first call moves no weight; a `shampoo_beta` below 0 is β₂; without `merge_dims`, `precondition_1d` and "
        "`normalize_grads`, which are off there",
    ),
)
