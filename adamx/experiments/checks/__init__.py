"""The paper's claims about Adam that need no training run, each put to the test by a computation with adamx."""

from collections.abc import Callable

from . import convergence, correction, introduction, races, relatives, steps
from .running import Found

CHECKS: dict[str, Callable[[bool], Found]] = {
    "implementation and memory": introduction.implementation,
    "rescaled gradients": steps.scale,
    "sparse gradients": races.sparse,
    "a moving optimum": races.moving,
    "heavy-tailed noise": races.noisy,
    "step sizes that do": races.tuning,
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
    "Lemma 10.3": convergence.lemma,
    "AdaGrad": relatives.adagrad,
    "RMSProp and SGD": relatives.rmsprop,
    "Fisher matrix": relatives.fisher,
    "AdaMax": relatives.adamax,
    "averaged iterates": relatives.averaging,
}
"""By name, in the order in which they run; each takes whether it should be quick."""
