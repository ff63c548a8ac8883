"""What the runs of figure 3 say about the paper's claims on convolutional networks."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .claims import Claim, shown
from .comparison import Comparison, Line
from .second_moment import Moment

SOURCE = "§6.3"
WITHOUT_FIRST = "Adam, β₁ = 0"
FAR = 2
"""An optimizer, or a layer, that is more than so many times another is far from it."""
ON = {"cifar10": "", "mnist": " On MNIST's 60,000 images at half their resolution, not on CIFAR-10."}
"""The data sets that are large enough to refute a claim, and what is said of them."""


def order_claims(
    plain: Comparison, dropped: Comparison, moments: Sequence[Moment], early: int, command: str, on: str = ""
) -> list[Claim]:
    """The findings of section 6.3, judged by this run.

    Args:
        plain: Adam, AdaGrad and SGD + Nesterov.
        dropped: the same with dropout.
        moments: of Adam's best run without dropout, by epoch.
        early: epochs that count as early.
        command: what prints the costs.
        on: the data set, if it ran whole.
    """

    def claim(text: str, agrees: bool, number: str, sentence: str, nearly: bool = False) -> Claim:
        verdict = shown(agrees, on in ON)
        if nearly and not agrees:
            verdict = "holds with a correction"
        return Claim(SOURCE, text, command, verdict, number, sentence + ON.get(on, ""))

    pairs = [(x["Adam"], x["AdaGrad"], x["SGD + Nesterov"]) for x in (plain, dropped)]
    first, last = (
        [[_costs(line)[:, epoch] for line in three] for three in pairs] for epoch in (early, plain.settings.epochs)
    )
    soon, late = moments[early - 1], moments[-1]
    fast = {name: all(np.all(three[i] < three[2]) for three in first) for i, name in enumerate(("Adam", "AdaGrad"))}
    ahead = [name for name, yes in fast.items() if yes]
    far = [min(np.min(_ratios(adagrad, x)) for x in (adam, sgd)) for adam, adagrad, sgd in last]
    orders = [_ratios(sgd, adam) for adam, _, sgd in last]
    leads = np.concatenate(orders) > 1
    marginal = "every seed" if leads.all() else "some seeds" if leads.any() else "no seed"
    claims = [
        claim(
            "In the first epochs Adam and AdaGrad lower the cost faster than SGD with Nesterov momentum",
            all(fast.values()),
            f"after {early} epochs {_in_words(first)} nats",
            f"Ahead of SGD with and without dropout, from every seed: {' and '.join(ahead) or 'neither'}.",
        ),
        claim(
            "In the end Adam and SGD are far ahead of AdaGrad",
            min(far) > FAR,
            f"after {plain.settings.epochs} epochs {_in_words(last)} nats",
            f"AdaGrad's cost is at least {far[0]:.3g} times theirs, with dropout {far[1]:.3g}; far is over {FAR}.",
            nearly=min(far) > 1,
        ),
        claim(
            "Adam ends marginally ahead of SGD with Nesterov momentum",
            bool(leads.all()),
            "SGD's cost over Adam's "
            + "; with dropout ".join(" and ".join(f"{ratio:.3g}" for ratio in ratios) for ratios in orders),
            f"A number for each seed; above 1 Adam is ahead, which it is from {marginal}.",
        ),
        claim(
            "The second moment vanishes after a few epochs and ε dominates it",
            late.below_eps > 0.5,
            f"√v̂ < ε = 1e-8 for {late.below_eps:.1%} of the weights, median √v̂ = {late.median:.2g} ε",
            f"After {early} epochs {soon.below_eps:.1%} and {soon.median:.2g} ε: it does not vanish."
            if late.below_eps <= 0.5
            else f"After {early} epochs {soon.below_eps:.1%} and {soon.median:.2g} ε.",
        ),
    ]
    if math.isfinite(late.span):
        claims.append(
            claim(
                "Adam adapts the scale of the step layer by layer, where with SGD that is set by hand",
                late.span > FAR,
                f"{late.span:.3g} times",
                "So far apart are the medians of √v̂ of two layers' weights in the end, and with them Adam's steps for "
                f"equal gradients; SGD has one step size for all (to hold: over {FAR}).",
            )
        )
    if any(line.name == WITHOUT_FIRST for line in plain.lines):
        claims.append(
            _first_moment(claim, [(x["Adam"], x[WITHOUT_FIRST], x["SGD + Nesterov"]) for x in (plain, dropped)])
        )
    return claims


def _first_moment(claim: Callable[..., Claim], lines: Sequence[tuple[Line, Line, Line]]) -> Claim:
    """By what is lost without the one, and without the other: RMSProp, and SGD with momentum."""
    lost = [
        [_ratios(_costs(other)[:, -1], _costs(adam)[:, -1]) for other in (first, adaptive)]
        for adam, first, adaptive in lines
    ]
    numbers = [f"{first.mean():.3g} and {adaptive.mean():.3g} times" for first, adaptive in lost]
    return claim(
        "In convolutional networks the first moment's smaller variance matters more than the adaptive step",
        all(bool(np.all(first > adaptive)) for first, adaptive in lost),
        f"{numbers[0]} Adam's cost, with dropout {numbers[1]}",
        "Without the first moment (β₁ = 0), and without the adaptive step (SGD with Nesterov momentum); to hold, the "
        "first would be larger from every seed.",
    )


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
