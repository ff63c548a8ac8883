"""What a recipe does, in a few words, read from the rule itself."""

from .._rule import Modifier
from ..modifiers.trust_ratio import Decayed
from ..rules.adabelief import AdaBelief
from ..rules.adadelta import AdaDelta
from ..rules.adafactor import Adafactor
from ..rules.adagrad import AdaGrad
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.amsgrad import AMSGrad
from ..rules.lion import Lion
from ..rules.nadam import NAdam
from ..rules.radam import RAdam
from ..rules.rmsprop import RMSProp
from ._preset import Recipe, is_zero

COUPLINGS = {"l2": "λp into the gradient (L2)", "decoupled": "αλp", "constant": "λp, whatever α is"}


def eps_place(recipe: Recipe) -> str:
    """Where ε enters; ε̂ stands beside the uncorrected root of a corrected rule."""
    rule = _innermost(recipe)
    if is_zero(getattr(rule, "eps", 0.0)) and not isinstance(rule, Adafactor):
        return "none"
    match rule:
        case AdaMax(eps_outside=outside):
            return "ν + ε" if outside else "max(β₂ν, abs(g) + ε)"
        case AdaDelta() | AdaGrad(eps_in_sqrt=True) | RMSProp(eps_in_sqrt=True):
            return "√(v + ε)"
        case AdaGrad() | RMSProp() | Adam(bias_correction=False):
            return "√v + ε"
        case Adafactor(clamped=clamped):
            return "max(√v, ε)" if clamped else "g² + ε"
        case AdaBelief():
            return "√v̂ + ε, v + ε"
        case Adam(eps_hat=True) | AMSGrad(eps_hat=True) | RAdam(eps_hat=True):
            return "√v + ε̂"
        case _:
            return "√v̂ + ε"


def bias_corrections(recipe: Recipe) -> str:
    """Which averages are corrected for their bias towards 0, and what AMSGrad takes the maximum of."""
    match _innermost(recipe):
        case Adam(bias_correction=False) | AdaMax(bias_correction=False) | RMSProp(bias_correction=False):
            return "none"
        case AdaMax():
            return "m"
        case RMSProp():
            return "v"
        case AdaGrad() | AdaDelta() | Adafactor() | Lion():
            return "none"
        case AMSGrad(max_of=max_of):
            return "m, v after max v" if max_of == "raw" else "m, v before max v̂"
        case NAdam():
            return "m by its schedule, v"
        case RAdam():
            return "m, v, variance"
        case _:
            return "m, v"


def decay_coupling(recipe: Recipe) -> str:
    """What weight decay λ does with a weight p at step size α."""
    rule = recipe.rule
    while isinstance(rule, Modifier):
        if isinstance(rule, Decayed):
            return "λp before the trust ratio"
        rule = rule.rule
    return "–" if recipe.weight_decay is None else COUPLINGS[recipe.decay]


def _innermost(recipe: Recipe):
    rule = recipe.rule
    while isinstance(rule, Modifier):
        rule = rule.rule
    return rule
