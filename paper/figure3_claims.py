"""What the runs of figure 3 say about the paper's claims on convolutional networks."""

from collections.abc import Sequence

import numpy as np

from .claims import Claim, Verdict
from .comparison import Comparison, Line
from .lengths import epochs_and_steps
from .second_moment import Moment

SOURCE = "§6.3"


def order_claims(
    plain: Comparison,
    dropped: Comparison,
    moments: Sequence[Moment],
    early: int,
    per_epoch: int,
    data: str,
    command: str,
    real: bool,
) -> list[Claim]:
    """The findings of section 6.3, judged by this run.

    Args:
        plain: Adam, AdaGrad and SGD + Nesterov.
        dropped: the same with dropout.
        moments: of Adam's best run without dropout, by epoch.
        early: epochs that count as early.
        per_epoch: steps of an epoch.
        data: what they ran on, in words.
        command: what prints the costs.
        real: whether that is the paper's data. On other data a claim may hold, but is not refuted.
    """

    def claim(text: str, agrees: bool, number: str, nearly: bool = False) -> Claim:
        verdict: Verdict = "false" if real else "could not be shown here"
        if agrees or nearly:
            verdict = "holds" if agrees else "holds with a correction"
        return Claim(SOURCE, text, command, verdict, f"{data}: {number}")

    pairs = [(x["Adam"], x["AdaGrad"], x["SGD + Nesterov"]) for x in (plain, dropped)]
    first, last = (
        [[_costs(line)[:, epoch] for line in three] for three in pairs] for epoch in (early, plain.settings.epochs)
    )
    soon, late = moments[early - 1], moments[-1]
    begin, end = (epochs_and_steps("figure3", per_epoch, epochs) for epochs in (early, plain.settings.epochs))
    fast = {name: all(np.all(three[i] < three[2]) for three in first) for i, name in enumerate(("Adam", "AdaGrad"))}
    far = [min(np.min(_ratios(adagrad, x)) for x in (adam, sgd)) for adam, adagrad, sgd in last]
    return [
        claim(
            "in the first epochs Adam and AdaGrad lower the cost faster than SGD with Nesterov momentum",
            all(fast.values()),
            f"cost after {begin} {_in_words(first)}; ahead of SGD with and without dropout, from every seed: "
            + ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in fast.items()),
        ),
        claim(
            "in the end Adam and SGD are far ahead of AdaGrad",
            min(far) > 2,
            f"cost after {end} {_in_words(last)}; AdaGrad's is at least {far[0]:.3g} times "
            f"theirs, with dropout {far[1]:.3g} times, from every seed (far is over 2)"
            + (
                ""
                if min(far) > 2 or min(far) <= 1
                else ": ahead both times, far ahead once"
                if max(far) > 2
                else ": ahead"
            ),
            nearly=min(far) > 1,
        ),
        claim(
            "Adam ends marginally ahead of SGD with Nesterov momentum",
            all(np.all(adam < sgd) for adam, _, sgd in last),
            f"after {end} cost of SGD over Adam's, by seed, "
            + "; with dropout ".join(", ".join(f"{r:.3g}" for r in _ratios(sgd, adam)) for adam, _, sgd in last),
        ),
        claim(
            "the second moment vanishes after a few epochs and ε dominates it",
            late.below_eps > 0.5,
            f"√v̂ < ε = 1e-8 for {late.below_eps:.1%} of the weights after {end}, median √v̂ = "
            f"{late.median:.3g} ε; after {begin} {soon.below_eps:.1%} and {soon.median:.3g} ε (without dropout; "
            f"apart from {late.idle:.0%} of the weights, which never had a gradient)",
        ),
    ]


def _costs(line: Line) -> np.ndarray:
    """Training costs `(seeds, epochs + 1)`, infinite where the run diverged."""
    return np.where(np.isfinite(line.costs), line.costs, np.inf)


def _ratios(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return upper / lower


def _in_words(pairs: Sequence[Sequence[np.ndarray]]) -> str:
    names = ("Adam", "AdaGrad", "SGD")
    threes = (", ".join(f"{n} {c.mean():.3g}" for n, c in zip(names, three, strict=True)) for three in pairs)
    return "; with dropout ".join(threes)
