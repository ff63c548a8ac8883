"""What the grid of figure 4 says about the paper's claims on bias correction."""

from dataclasses import dataclass

import numpy as np

from .claims import Claim, Verdict, shown
from .vae_grid import Settings

SOURCE = "§6.4"
FEW = 0.05
"""The share of settings that a claim about all of them may miss, to be corrected rather than false."""

Judged = tuple[str, Verdict, str, str]
"""A claim, its verdict, its number and what that means."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Losses of every run, in nats per training image.

    Attributes:
        settings: the grid and what its runs share.
        untrained: with the initial weights, `(seeds,)`.
        corrected: with bias correction, `(seeds, checkpoints, b1, b2, step sizes)`; not finite where a run diverged,
            masked where none was made.
        uncorrected: the same without.
        real: whether data, network and epochs are the paper's.
    """

    settings: Settings
    untrained: np.ndarray
    corrected: np.ndarray
    uncorrected: np.ndarray
    real: bool = False


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
    return np.where((fine | absent).all(axis=0), _mean(ratio, absent), 0).max(axis=(1, 3))


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
    return _mean(more, absent)


def from_best_on(outcome: Outcome) -> np.ndarray:
    """Which step sizes are at least the corrected best, a mask `(checkpoints, b1, b2, step sizes)`."""
    mean = np.ma.filled(outcome.corrected.mean(axis=0), np.inf)
    lowest = np.where(np.isfinite(mean), mean, np.inf).argmin(axis=-1)[..., None]
    rates = np.array(outcome.settings.rates)
    return rates >= rates[lowest]


def lead(outcome: Outcome) -> np.ndarray:
    """The largest excess of the corrected loss at step sizes below its best, `(checkpoints, b2)`."""
    return np.where(from_best_on(outcome), 0, excess(outcome)).max(axis=(1, 3))


def bias_claims(outcome: Outcome, per_epoch: int, command: str) -> list[Claim]:
    """The findings of section 6.4, judged by this run; its second one in two parts.

    Args:
        outcome: the losses.
        per_epoch: steps of an epoch.
        command: what prints them.
    """
    judged = [_unstable(outcome), _no_worse_at_best(outcome), _no_worse_anywhere(outcome), _best_setting(outcome)]
    window, steps = 1 / (1 - outcome.settings.b2[-1]), per_epoch * outcome.settings.checkpoints[-1]
    if window > steps:
        what, verdict, number, sentence = judged[-1]
        judged[-1] = what, verdict, number, f"{sentence} 1/(1−β₂) is {window:,.0f} steps: this is not the paper's end."
    return [Claim(SOURCE, what, command, verdict, number, sentence) for what, verdict, number, sentence in judged]


def _unstable(outcome: Outcome) -> Judged:
    settings, by_epochs = outcome.settings, harm(outcome)
    first, last = by_epochs[0], by_epochs[-1]
    without, corrected = (
        ceiling(losses[:, 0], outcome.untrained, settings.rates) for losses in (outcome.uncorrected, outcome.corrected)
    )
    falls = np.all(np.diff(without) <= 0) and np.all(without[:, -1] < np.minimum(without[:, 0], corrected[:, -1]))
    verdict = shown(bool(falls), outcome.real)
    soon = first[-1] > last[-1]
    if falls and not soon:
        verdict = "holds with a correction"

    def by_b1(rates: np.ndarray) -> str:
        return " and ".join(f"{_each(row)} (β₁ = {b1:g})" for row, b1 in zip(rates, settings.b1, strict=True))

    number = f"largest stable α without correction {by_b1(without)}, with it {by_b1(corrected)}"
    sentence = (
        f"Up to these step sizes every run is below the untrained loss after {settings.checkpoints[0]} epochs, at "
        f"{_b2(settings)}; where neither diverges the uncorrected loss is up to {first[-1]:.3g} times the corrected "
        f"one then, {last[-1]:.3g} times after {settings.checkpoints[-1]}{'' if soon else ': later, not first of all'}."
    )
    what = (
        "Without bias correction training turns unstable at larger step sizes as β₂ goes to 1, most of all in the "
        "first epochs"
    )
    return what, verdict, number, sentence


def _no_worse_at_best(outcome: Outcome) -> Judged:
    over, tolerance = excess_at_best(outcome).max(axis=(1, 2)), spread(outcome)
    epochs = outcome.settings.checkpoints
    verdict = shown(bool(over[-1] <= tolerance[-1]), outcome.real)
    early = (over <= tolerance).all()
    if verdict == "holds" and not early:
        verdict = "holds with a correction"
    number = " and ".join(f"{x:+.2%} after {n} epochs" for x, n in zip(over, epochs, strict=True))
    differ = " and ".join(f"{x:.2%}" for x in tolerance)
    sentence = (
        f"So much the corrected loss exceeds the uncorrected one at the most, over the β; seeds differ by {differ}"
        f"{': so in the end, not before' if verdict == 'holds with a correction' else ''}."
    )
    return "Each at its best step size, Adam does as well as RMSProp or better", verdict, number, sentence


def _no_worse_anywhere(outcome: Outcome) -> Judged:
    settings, over = outcome.settings, excess(outcome)
    worse = over > spread(outcome)[:, None, None, None]
    small = worse & ~from_best_on(outcome)
    share, where = worse.mean(), np.unravel_index(over.argmax(), over.shape)
    verdict: Verdict = "false"
    if share <= FEW:
        verdict = "holds with a correction" if share > 0 else "holds"
    number = " and ".join(
        f"worse at {worse[k].sum()} of {worse[k].size} settings after {epochs} epochs"
        for k, epochs in enumerate(settings.checkpoints)
    )
    sentence = ""
    if share > 0:
        sentence = (
            f"{small.sum()} of these {worse.sum()} are at step sizes below the corrected best; most "
            f"({over.max():+.0%}) at α = {settings.rates[where[3]]:g}, β₁ = {settings.b1[where[1]]:g}, "
            f"β₂ = {settings.b2[where[2]]:g} after {settings.checkpoints[where[0]]} epochs"
        )
        sentence += ", where uncorrected steps are longer by 1/√(1−β₂ᵗ), and too short." if small[where] else "."
        if small[where]:
            ends = " / ".join(f"{x:.1%}" for x in lead(outcome)[-1])
            sentence += f" It wears off: in the end there {ends} at {_b2(settings)}."
    what = "At equal hyperparameters, whatever they are, Adam does as well as RMSProp or better"
    return what, verdict, number, sentence


def _best_setting(outcome: Outcome) -> Judged:
    settings, tolerance = outcome.settings, spread(outcome)[-1]
    with_it, without = (_lowest(x) for x in (outcome.corrected, outcome.uncorrected))
    gain, correction = with_it[0] / with_it.min() - 1, without.min() / with_it.min() - 1
    agrees = with_it.argmin() > 0 and gain > tolerance and with_it.min() < without.min()
    number = f"{_each(with_it)} nats with correction, {_each(without)} without, at {_b2(settings)}"
    sentence = (
        f"Of the lowest losses after {settings.checkpoints[-1]} epochs the correction makes {correction:+.2%}, a β₂ "
        f"above {settings.b2[0]:g} {gain:+.2%}; seeds differ by {tolerance:.2%}."
    )
    what = "Bias correction and a small 1 − β₂ together give the lowest loss towards the end"
    return what, shown(bool(agrees), outcome.real), number, sentence


def _lowest(losses: np.ndarray) -> np.ndarray:
    """The lowest loss after the last epoch for each b2, mean of the seeds."""
    return np.asarray(best(losses)[:, -1].min(axis=1).mean(axis=0))


def _b2(settings: Settings) -> str:
    return f"β₂ = {', '.join(f'{b2:g}' for b2 in settings.b2)}"


def _mean(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Over the seeds that ran. `np.ma` would mask a mean that is not finite."""
    return np.where(absent, 0, values).sum(axis=0) / np.maximum((~absent).sum(axis=0), 1)


def _absent(losses: np.ndarray) -> np.ndarray:
    return np.ma.getmaskarray(losses)


def _each(values: np.ndarray) -> str:
    """One value for each b2, in its order."""
    return " / ".join(f"{value:.4g}" for value in values)
