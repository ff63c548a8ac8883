"""What a run says about a claim of the paper. Every experiment writes its own into its JSON for `paper.md`."""

from typing import Literal, NamedTuple

Verdict = Literal["holds", "holds with a correction", "false", "could not be shown here"]


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
