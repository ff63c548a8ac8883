"""What a recipe does, in a few words: what its rule declares."""

from .._rule import hyperparameters
from ._preset import Recipe, is_zero

COUPLINGS = {
    "l2": "λp into the gradient (L2)",
    "decoupled": "αλp",
    "constant": "λp, whatever α is",
    "after": "αλp of the stepped p",
}
UNKNOWN = "unknown"


def eps_place(recipe: Recipe) -> str:
    """Where ε enters; ε̂ stands beside the uncorrected root of a corrected rule."""
    if any(is_zero(h.value) for h in hyperparameters(recipe.rule) if h.path.rpartition(".")[2] == "eps"):
        return "none"
    return recipe.rule.eps_place or UNKNOWN


def bias_corrections(recipe: Recipe) -> str:
    """Which averages are corrected for their bias towards 0, and what AMSGrad takes the maximum of."""
    return recipe.rule.corrected_averages or UNKNOWN


def decay_coupling(recipe: Recipe) -> str:
    """What weight decay λ does with a weight p at step size α."""
    if recipe.rule.decay_coupling is not None:
        return recipe.rule.decay_coupling
    return "–" if recipe.weight_decay is None else COUPLINGS[recipe.decay]
