"""The paper's claims about Adam that need no training run, each put to the test by a computation with adamx."""

from collections.abc import Callable

from . import (
    appendix,
    convergence,
    correction,
    extensions,
    introduction,
    races,
    relatives,
    steps,
    tuning,
    untested,
)
from .running import Found

CHECKS: dict[str, Callable[[bool], Found]] = {
    "implementation and memory": introduction.implementation,
    "rescaled gradients": steps.scale,
    "sparse gradients": races.sparse,
    "a moving optimum": races.moving,
    "heavy-tailed noise": races.noisy,
    "step sizes that do": tuning.tuning,
    "windows, ε, introductions": introduction.introductions,
    "bounds of the step": steps.bounds,
    "ordinary steps": steps.typical,
    "signal to noise": steps.signal_to_noise,
    "the efficient form": correction.efficient_form,
    "second moment, remainder": correction.second_moment,
    "first steps": correction.first_steps,
    "Theorem 4.1 on problem A": convergence.theorem,
    "problems B and C": convergence.other_problems,
    "average regret": convergence.average_regret,
    "a fading β₁": convergence.fading,
    "Lemmas 10.3 and 10.4": appendix.lemmas,
    "rare features": appendix.sparse_bound,
    "AdaGrad": relatives.adagrad,
    "RMSProp and SGD": relatives.rmsprop,
    "Fisher matrix": relatives.fisher,
    "natural gradient": relatives.natural_gradient,
    "AdaMax": extensions.adamax,
    "averaged iterates": extensions.averaging,
    "not tested": untested.untested,
}
"""By name, in the order in which they run; each takes whether it should be quick."""
