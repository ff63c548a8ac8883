"""What the grid of figure 4 says about the paper's claims on bias correction."""

from dataclasses import dataclass

import numpy as np

from .claims import Claim, Verdict
from .lengths import epochs_and_steps
from .vae_grid import Settings

SOURCE = "§6.4"
FEW = 0.05
"""The share of settings that a claim about all of them may miss, to be corrected rather than false."""

Judged = tuple[str, Verdict, str]
"""A claim, its verdict and its number."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Losses of every run, in nats per training image.

    Attributes:
        settings: the grid and what its runs share.
        untrained: with the initial weights, `(seeds,)`.
        corrected: with bias correction, `(seeds, checkpoints, b1, b2, step sizes)`; not finite where a run diverged,
            masked where none was made.
        uncorrected: the same without.
    """

    settings: Settings
    untrained: np.ndarray
    corrected: np.ndarray
    uncorrected: np.ndarray


def best(losses: np.ndarray) -> np.ma.MaskedArray:
    """The lowest loss over step sizes, the last axis; infinite where every run diverged."""
    values = np.ma.filled(losses, np.inf)
    return np.ma.array(np.where(np.isfinite(values), values, np.inf).min(axis=-1), mask=_absent(losses).all(axis=-1))


def spread(outcome: Outcome) -> np.ndarray:
    """How far seeds lie apart in the corrected best loss, relative to their mean: the largest by `(checkpoints,)`."""
    lowest = best(outcome.corrected)
    return np.ma.filled(((lowest.max(axis=0) - lowest.min(axis=0)) / lowest.mean(axis=0)).max(axis=(1, 2)), np.nan)


def ceiling(losses: np.ndarray, untrained: np.ndarray, rates: tuple[float, ...]) -> np.ndarray:
    """The largest step size up to which every run ends below the untrained loss, `(b1, b2)`; 0 if there is none.

    Args:
        losses: `(seeds, b1, b2, step sizes)`.
        untrained: `(seeds,)`.
        rates: the step sizes, ascending.
    """
    fine = np.logical_and.accumulate((np.ma.getdata(losses) < untrained[:, None, None, None]).all(axis=0), axis=-1)
    return np.append(0.0, rates)[fine.sum(axis=-1)]


def harm(outcome: Outcome) -> np.ndarray:
    """The largest ratio of uncorrected to corrected loss where both are finite, mean of seeds, `(checkpoints, b2)`."""
    one, other = outcome.corrected, outcome.uncorrected
    absent = _absent(one) | _absent(other)
    fine = np.isfinite(np.ma.filled(one, np.nan)) & np.isfinite(np.ma.filled(other, np.nan))
    ratio = np.divide(np.ma.getdata(other), np.ma.getdata(one), out=np.zeros(one.shape), where=fine)
    mean = np.ma.filled(np.ma.array(ratio, mask=absent).mean(axis=0), 0)
    return np.where((fine | absent).all(axis=0), mean, 0).max(axis=(1, 3))


def excess_at_best(outcome: Outcome) -> np.ndarray:
    """Corrected over uncorrected loss minus 1, each at its best step size, mean of seeds, `(checkpoints, b1, b2)`."""
    return np.ma.filled((best(outcome.corrected) / best(outcome.uncorrected) - 1).mean(axis=0), np.nan)


def excess(outcome: Outcome) -> np.ndarray:
    """Corrected over uncorrected loss minus 1 at equal step sizes, mean of seeds, `(checkpoints, b1, b2, step sizes)`.

    Minus 1 where only the uncorrected run diverged, 0 where both did, infinite where only the corrected one did.
    """
    with_it, without = np.ma.getdata(outcome.corrected), np.ma.getdata(outcome.uncorrected)
    absent = _absent(outcome.corrected) | _absent(outcome.uncorrected)
    fine, other = np.isfinite(with_it), np.isfinite(without)
    both = np.divide(with_it, without, out=np.ones(with_it.shape), where=fine & other)
    more = np.where(fine & ~other, -1.0, np.where(~fine & other, np.inf, both - 1))
    return np.ma.filled(np.ma.array(more, mask=absent).mean(axis=0), 0)


def from_best_on(outcome: Outcome) -> np.ndarray:
    """Which step sizes are at least the corrected best, a mask `(checkpoints, b1, b2, step sizes)`."""
    mean = np.ma.filled(outcome.corrected.mean(axis=0), np.inf)
    lowest = np.where(np.isfinite(mean), mean, np.inf).argmin(axis=-1)[..., None]
    rates = np.array(outcome.settings.rates)
    return rates >= rates[lowest]


def lead(outcome: Outcome) -> np.ndarray:
    """The largest excess of the corrected loss at step sizes below its best, `(checkpoints, b2)`."""
    return np.where(from_best_on(outcome), 0, excess(outcome)).max(axis=(1, 3))


def bias_claims(outcome: Outcome, per_epoch: int, data: str, command: str) -> list[Claim]:
    """The findings of section 6.4, judged by this run; its second one in two parts.

    Args:
        outcome: the losses.
        per_epoch: steps of an epoch.
        data: what they were measured on, in words.
        command: what prints them.
    """
    after = [epochs_and_steps("figure4", per_epoch, epochs) for epochs in outcome.settings.checkpoints]
    judged = [
        _unstable(outcome, after),
        _no_worse_at_best(outcome, after),
        _no_worse_anywhere(outcome, after, per_epoch),
        _best_setting(outcome, after, per_epoch),
    ]
    return [Claim(SOURCE, what, command, verdict, f"{data}: {number}") for what, verdict, number in judged]


def _unstable(outcome: Outcome, after: list[str]) -> Judged:
    settings, by_epochs = outcome.settings, harm(outcome)
    first, last = by_epochs[0], by_epochs[-1]
    without, corrected = (
        ceiling(losses[:, 0], outcome.untrained, settings.rates) for losses in (outcome.uncorrected, outcome.corrected)
    )
    falls = np.all(np.diff(without) <= 0) and np.all(without[:, -1] < np.minimum(without[:, 0], corrected[:, -1]))
    verdict: Verdict = "could not be shown here"
    if falls:
        verdict = "holds" if first[-1] > last[-1] else "holds with a correction"

    def by_b1(rates: np.ndarray) -> str:
        return ", ".join(f"{_each(row)} (β₁ = {b1:g})" for row, b1 in zip(rates, settings.b1, strict=True))

    number = (
        f"step sizes up to which every run is below the untrained loss after {after[0]}, "
        f"without correction {by_b1(without)}; with correction {by_b1(corrected)}, at β₂ = "
        f"{', '.join(f'{b2:g}' for b2 in settings.b2)}; the largest tried is {settings.rates[-1]:g}. "
        f"Where neither diverges the uncorrected loss is up to {first[-1]:.3g} times the corrected one then, "
        f"{last[-1]:.3g} times after {after[-1]} (β₂ = {settings.b2[-1]:g}). In the end "
        f"{_diverged(outcome.uncorrected)} uncorrected and {_diverged(outcome.corrected)} corrected runs of "
        f"{np.ma.count(outcome.corrected[:, -1])} are not finite"
    )
    if verdict == "holds with a correction":
        number += ": unstable, but not most of all in the first epochs"
    what = (
        "without bias correction training turns unstable at larger step sizes as β₂ goes to 1, most of all in the "
        "first epochs"
    )
    return what, verdict, number


def _no_worse_at_best(outcome: Outcome, after: list[str]) -> Judged:
    over, tolerance = excess_at_best(outcome).max(axis=(1, 2)), spread(outcome)
    verdict: Verdict = "could not be shown here"
    if over[-1] <= tolerance[-1]:
        verdict = "holds" if (over <= tolerance).all() else "holds with a correction"
    number = "the corrected loss exceeds the uncorrected one by at most " + "; ".join(
        f"{over[k]:+.2%} after {epochs}, where seeds differ by {tolerance[k]:.2%}" for k, epochs in enumerate(after)
    )
    if verdict == "holds with a correction":
        number += ": so in the end, and not before"
    return "each at its best step size, Adam does as well as RMSProp or better", verdict, number


def _no_worse_anywhere(outcome: Outcome, after: list[str], per_epoch: int) -> Judged:
    settings, over = outcome.settings, excess(outcome)
    worse = over > spread(outcome)[:, None, None, None]
    small = worse & ~from_best_on(outcome)
    share, where = worse.mean(), np.unravel_index(over.argmax(), over.shape)
    verdict: Verdict = "false"
    if share <= FEW:
        verdict = "holds with a correction" if share > 0 else "holds"
    number = "the corrected loss is higher by more than the seeds' spread at " + "; ".join(
        f"{worse[k].sum()} of {worse[k].size} settings after {epochs}, {small[k].sum()} of them at step sizes below "
        "the corrected best" for k, epochs in enumerate(after)
    )  # fmt: skip
    if share > 0:
        number += (
            f"; most at α = {settings.rates[where[3]]:g}, β₁ = {settings.b1[where[1]]:g}, "
            f"β₂ = {settings.b2[where[2]]:g} after {settings.checkpoints[where[0]]} epochs: {over.max():+.0%}"
        )
    if small[where]:
        windows = per_epoch * settings.checkpoints[-1] * (1 - np.array(settings.b2))
        number += (
            ", where steps are too short and those of the uncorrected run are longer by 1/√(1−β₂ᵗ). It wears off: "
            f"in the end it is at most {' / '.join(f'{x:.1%}' for x in lead(outcome)[-1])} at β₂ = "
            f"{', '.join(f'{b2:g}' for b2 in settings.b2)}, {_each(windows)} times 1/(1−β₂) steps from the start"
        )
    return "at equal hyperparameters, whatever they are, Adam does as well as RMSProp or better", verdict, number


def _best_setting(outcome: Outcome, after: list[str], per_epoch: int) -> Judged:
    settings, tolerance = outcome.settings, spread(outcome)[-1]
    with_it, without = (best(x)[:, -1].min(axis=1).mean(axis=0) for x in (outcome.corrected, outcome.uncorrected))
    gain = with_it[0] / with_it.min() - 1
    verdict: Verdict = "could not be shown here"
    if with_it.argmin() > 0 and gain > tolerance and with_it.min() < without.min():
        verdict = "holds"
    number = (
        f"lowest loss after {after[-1]}, in nats, corrected {_each(with_it)}; "
        f"uncorrected {_each(without)} at β₂ = {', '.join(f'{b2:g}' for b2 in settings.b2)}: the correction "
        f"gains {without.min() / with_it.min() - 1:+.2%}, β₂ above {settings.b2[0]:g} {gain:+.2%} (seeds differ by "
        f"{tolerance:.2%})"
    )
    window, steps = 1 / (1 - settings.b2[-1]), per_epoch * settings.checkpoints[-1]
    if window > steps:
        number += f". 1/(1−β₂) is up to {window:,.0f} steps: this end is not the paper's"
    what = "bias correction and a small 1 − β₂ together give the lowest loss towards the end"
    return what, verdict, number


def _diverged(losses: np.ndarray) -> int:
    return int(np.sum(~np.isfinite(np.ma.compressed(losses[:, -1]))))


def _absent(losses: np.ndarray) -> np.ndarray:
    return np.ma.getmaskarray(losses)


def _each(values: np.ndarray) -> str:
    """One value for each b2, in its order."""
    return " / ".join(f"{value:.4g}" for value in values)
