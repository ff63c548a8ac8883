"""The papers' boxes in NumPy's extended precision, written from the equations; no code of the library is used.

Most are generator functions: send gradients in by iterating, get the directions `u` (to be subtracted, times the
step size) out, and read nothing else. Those that take `p` yield the parameters after each step instead: their steps
depend on them. Gradients are a given stream, never a function of the parameters. `reddi` has gradients to send.
"""

from tests.reference import reddi
from tests.reference.adam import adam, adamax
from tests.reference.adaptive import adabelief, adam_atan2, adam_mini, laprop, nadam, radam, yogi
from tests.reference.amended import cautious, grams, lookahead, mars
from tests.reference.amsgrad import adamx, amsgrad
from tests.reference.factored import adafactor, came
from tests.reference.learning_rate_free import dadapt_adam, prodigy
from tests.reference.momenta import adan, ademamix, adopt, lion, simplified_ademamix
from tests.reference.rescaled import adadelta, adagrad, rmsprop
from tests.reference.schedule_free import schedule_free_adamw, schedule_free_sgd
from tests.reference.tensors import lamb, novograd, stable_adamw

__all__ = [
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_atan2",
    "adam_mini",
    "adamax",
    "adamx",
    "adan",
    "ademamix",
    "adopt",
    "amsgrad",
    "came",
    "cautious",
    "dadapt_adam",
    "grams",
    "lamb",
    "laprop",
    "lion",
    "lookahead",
    "mars",
    "nadam",
    "novograd",
    "prodigy",
    "radam",
    "reddi",
    "rmsprop",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "simplified_ademamix",
    "stable_adamw",
    "yogi",
]
