"""A claim of the paper and the verdict of a run. Every run writes its claims into its JSON, for `paper.md`."""

from typing import Literal, NamedTuple, get_args

Verdict = Literal["holds", "holds with a correction", "false", "could not be shown here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNTESTED = "none"
"""The evidence of a claim that no run has tested."""


class Claim(NamedTuple):
    """A claim, and what a run found.

    Attributes:
        source: where it is made, as "§2.1" or "abstract".
        claim: in our words.
        evidence: the test or command behind the verdict.
        verdict: the finding.
        number: the finding's number with its unit, and where it differs from the paper, how.
    """

    source: str
    claim: str
    evidence: str
    verdict: Verdict
    number: str


def least(*verdicts: Verdict) -> Verdict:
    """The verdict on a claim that has to hold in several places: the one that says least for it.

    >>> least("holds", "could not be shown here", "holds with a correction")
    'could not be shown here'
    """
    order: tuple[Verdict, ...] = ("false", "could not be shown here", "holds with a correction", "holds")
    return min(verdicts, key=order.index)
