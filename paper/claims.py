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
        number: the finding's number, with its unit.
        sentence: what the number means for the claim, where the number does not say it.
    """

    source: str
    claim: str
    evidence: str
    verdict: Verdict
    number: str
    sentence: str = ""

    @property
    def told(self) -> str:
        """Number and sentence."""
        return f"{self.number}. {self.sentence}" if self.sentence else self.number


def shown(agrees: bool, real: bool) -> Verdict:
    """The verdict on what an experiment of the paper showed: on other data than the paper's, ours refutes nothing.

    >>> shown(False, real=True), shown(False, real=False)
    ('false', 'could not be shown here')
    """
    return "holds" if agrees else "false" if real else "could not be shown here"


def least(*verdicts: Verdict) -> Verdict:
    """The verdict on a claim that has to hold in several places: the one that says least for it.

    >>> least("holds", "could not be shown here", "holds with a correction")
    'could not be shown here'
    """
    order: tuple[Verdict, ...] = ("false", "could not be shown here", "holds with a correction", "holds")
    return min(verdicts, key=order.index)
