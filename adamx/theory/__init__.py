"""Theorems about Adam as functions: exact bounds, regret, counterexamples, limiting cases, bias.

They take plain numbers and return float64 NumPy arrays, except those that run inside a scan: `regret`,
`regret_in_hindsight` and `play`. In the repository, `python -m paper theory` puts the paper's claims to the test with
them.
"""

from .bias import BiasCurves as BiasCurves
from .bias import bias_curves as bias_curves
from .bounds import ADAMAX_PAPER_BOUND as ADAMAX_PAPER_BOUND
from .bounds import adamax_update_bound as adamax_update_bound
from .bounds import adamax_worst_case_gradients as adamax_worst_case_gradients
from .bounds import paper_bound as paper_bound
from .bounds import update_bound as update_bound
from .bounds import worst_case_gradients as worst_case_gradients
from .convergence import RegretBound as RegretBound
from .convergence import amsgrad_regret_bound as amsgrad_regret_bound
from .convergence import theorem_4_1 as theorem_4_1
from .counterexamples import Game as Game
from .counterexamples import Problem as Problem
from .counterexamples import play as play
from .counterexamples import reddi_a as reddi_a
from .counterexamples import reddi_b as reddi_b
from .counterexamples import reddi_c as reddi_c
from .limits import adam_as_adagrad as adam_as_adagrad
from .limits import adam_as_rmsprop as adam_as_rmsprop
from .limits import adam_as_sgd as adam_as_sgd
from .meters import RegretMeter as RegretMeter
from .meters import regret as regret
from .meters import regret_in_hindsight as regret_in_hindsight
