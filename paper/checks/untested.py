"""Claims of the paper that nothing here tests, and why: their verdicts are not drawn from numbers."""

from ..claims import UNTESTED, Claim
from .running import Found

REASONS = (
    ("abstract", "Suited to problems with much data and many parameters", "No large problem was run."),
    ("§6.2", "An iteration of SFO takes 5 to 10 times as long as one of Adam", "SFO is not implemented here."),
    ("§6.2", "SFO's memory grows linearly with the number of minibatches", "SFO is not implemented here."),
    ("§6.2", "SFO fails with dropout, as on other stochastic objectives", "SFO is not implemented here."),
    (
        "§6.3",
        "In convolutional networks the first moment's smaller variance matters more than the adaptive step",
        "Figure 3 was not run without the first moment, nor without the second.",
    ),
    (
        "§6.3",
        "Adam adapts the scale of the step layer by layer, where with SGD that is set by hand",
        "No step sizes were set layer by layer.",
    ),
)


def untested(quick: bool) -> Found:
    """All of them."""
    del quick
    return Found(
        [
            Claim(source, claim, UNTESTED, "could not be shown here", "none", reason)
            for source, claim, reason in REASONS
        ],
        {},
    )
