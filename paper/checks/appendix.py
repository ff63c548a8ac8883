"""The appendix: its two lemmas on sums of gradients, and its statement of the theorem."""

import math

import numpy as np

from ..claims import Claim
from .running import Found, evidence, verdict


def lemmas(quick: bool) -> Found:
    """Lemma 10.3 with a constant gradient, Lemma 10.4 with gradients 1/√t, Theorem 10.5 beside Theorem 4.1."""
    del quick
    steps, c = 100, 0.1
    left = float(np.sum(c / np.sqrt(np.arange(1, steps + 1))))
    right = 2 * c * c * math.sqrt(steps)
    rounds = 1000
    sums = {betas: _lemma_10_4(*betas, rounds) for betas in ((0.0, 0.01), (0.9, 0.999))}
    (low, few), (usual, many) = sums.values()
    b1 = 0.9
    misprint = (1 - b1) / b1
    return Found(
        [
            Claim(
                "§10.1",
                "Lemma 10.3: Σ √(g²/t) ≤ 2 G∞ ‖g‖₂",
                evidence(),
                verdict(left <= right),
                f"{left:.3f} against {right:.3f}",
                f"A constant gradient of {c} for {steps} steps exceeds it; the sides differ in units.",
            ),
            Claim(
                "§10.1",
                "Lemma 10.4: Σ m̂²/√(t v̂) ≤ 2 ‖g‖₂ / ((1−γ) √(1−β₂))",
                evidence(),
                verdict(low <= few and usual <= many),
                f"{low:.2f} against {few:.2f} at (0, .01)",
                f"Gradients 1/√t for {rounds} steps exceed it; at (.9, .999) it is {usual:.1f} against {many:.0f}, but "
                "the left side grows as log T, the right as its root.",
            ),
            Claim(
                "§10.1",
                "Theorem 10.5 is Theorem 4.1",
                evidence(),
                verdict(math.isclose(misprint, 1)),
                f"{misprint:.2f} times its last term at β₁ = {b1}",
                "The proof divides its last term by 2αβ₁(1−λ)², the theorem by 2α(1−β₁)(1−λ)²; the derivation leads to "
                "1−β₁, and at β₁ = 0 the other is infinite.",
            ),
        ],
        {},
    )


def sparse_bound(quick: bool) -> Found:
    """The sum of the norms of gradients on rare features: feature j is there with probability 1 / j²."""
    del quick
    rounds, few, many = 10_000, 10, 10_000
    counts = np.random.default_rng(0).binomial(rounds, 1 / np.arange(1.0, many + 1) ** 2)
    norms = np.sqrt(counts)  # of a coordinate's gradients, 1 where its feature is there
    growth = float(norms.sum() / norms[:few].sum())
    return Found(
        [
            Claim(
                "§4",
                "For sparse features the bound is O(log d √T), against O(√(dT)) of methods that do not adapt",
                evidence(),
                "holds with a correction" if growth <= math.log(many) / math.log(few) else "false",
                f"{growth:.2g} times as much at d = {many:,} as at d = {few}",
                f"So its sum of norms grows on features that are there with probability 1/j², in {rounds:,} rounds; "
                f"log d grows {math.log(many) / math.log(few):.0f} times, √d {math.sqrt(many / few):.0f} times. But "
                "the bound that it is part of does not hold.",
            )
        ],
        {},
    )


def _lemma_10_4(b1: float, b2: float, steps: int) -> tuple[float, float]:
    """Both sides, for gradients 1/√t."""
    t = np.arange(1, steps + 1)
    gradients = 1 / np.sqrt(t)
    m = v = left = 0.0
    for i, g in zip(t, gradients, strict=True):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        left += (m / (1 - b1**i)) ** 2 / math.sqrt(i * v / (1 - b2**i))
    gamma = b1**2 / math.sqrt(b2)
    return left, 2 / ((1 - gamma) * math.sqrt(1 - b2)) * float(np.linalg.norm(gradients))
