"""Claims of the paper that nothing here tests, and why: their verdicts are not drawn from numbers."""

from ..claims import UNTESTED, Claim
from .running import Found

REASONS = (("abstract", "Suited to problems with much data and many parameters", "No large problem was run."),)


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
