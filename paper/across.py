"""The claims on several runs together, by the numbers in their JSON."""

from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np

from .claims import Claim, Verdict

NAME = "Adam"
DEFAULT = 1e-3
GOOD, NEAR = 1.1, 2.0
"""Up to how many times the best cost counts as good, and as near it."""


def finals(results: dict[str, dict[str, Any]]) -> list[dict[str, float]]:
    """For each panel that compares optimizers, their training costs after the last epoch, averaged over the seeds."""
    panels = [
        panel for content in results.values() for key in ("panels", "comparisons") for panel in content.get(key, ())
    ]
    return [{one["name"]: _final(one["training_cost"].values()) for one in panel["optimizers"]} for panel in panels]


def claims(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """The claims on the figures together; none if none of those that they need has run."""
    figures = {name: results[name] for name in ("figure1", "figure2", "figure3") if name in results}
    return [
        *_favourable(figures),
        *_non_convex(figures),
        *_large(results),
        *_defaults(results),
        *_tuning(results),
    ]


def _favourable(results: dict[str, dict[str, Any]]) -> list[Claim]:
    panels = finals(results)
    if not panels:
        return []
    lowest = sum(panel[NAME] <= min(panel.values()) for panel in panels)
    others = [(panel[NAME], cost) for panel in panels for name, cost in panel.items() if not name.startswith(NAME)]
    ahead = sum(mine < cost for mine, cost in others)
    verdict: Verdict = "could not be shown here"
    if 2 * ahead > len(others):
        verdict = "holds" if 2 * lowest > len(panels) else "holds with a correction"
    sentence = (
        f"In the {len(panels)} panels of figures 1 to 3, each optimizer at its best step size, Adam ends lowest in "
        f"{lowest}, and at {_worst(panels):.3g} times the lowest cost at the most"
    )
    if verdict == "holds with a correction":
        sentence += ": ahead of most, not the first"
    return [
        Claim(
            "abstract, §8",
            "Adam compares favourably with other stochastic optimizers",
            _commands("figure1", "figure2", "figure3"),
            verdict,
            f"below {ahead} of {len(others)} others",
            f"{sentence}.",
        )
    ]


def _non_convex(results: dict[str, dict[str, Any]]) -> list[Claim]:
    panels = finals({name: content for name, content in results.items() if name != "figure1"})
    if not panels:
        return []
    worst = _worst(panels)
    return [
        Claim(
            "§8",
            "Robust and well suited to a wide range of non-convex problems",
            _commands("figure2", "figure3"),
            "holds" if worst <= NEAR else "could not be shown here",
            f"at most {worst:.3g} times the lowest cost",
            f"Adam's cost at the end of the {len(panels)} panels of figures 2 and 3, networks with and without "
            f"dropout, beside the best optimizer of each (to hold: at most {NEAR:g}).",
        )
    ]


def _large(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """On the paper's images and as many parameters as it has, if they have run."""
    panels = results.get("figure2", {}).get("panels", ())
    about = results.get("figure2", {}).get("settings", {}).get("panels", ())
    if not panels or not panels[0].get("as_in_the_paper"):
        return []
    worst = _worst(finals({"figure2": results["figure2"]}))
    return [
        Claim(
            "abstract",
            "Suited to problems with much data and many parameters",
            _commands("figure2"),
            "holds" if worst <= NEAR else "could not be shown here",
            f"at most {worst:.3g} times the lowest cost",
            f"Adam's cost on {about[0]['training_examples']:,} images with two hidden layers of "
            f"{about[0]['hidden'][0]:,} units, with and without dropout (to hold: at most {NEAR:g}).",
        )
    ]


def _defaults(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """The default step size in runs as long as the paper's; `theory` has it on short runs otherwise."""
    ratios: dict[str, float] = {}
    shown: list[str] = []
    panels = [(name, panel) for name in ("defaults", "figure2") for panel in results.get(name, {}).get("panels", ())]
    for name, panel in panels:
        adam = next(entry for entry in panel["optimizers"] if entry["name"] == NAME)
        if panel.get("as_in_the_paper") and f"{DEFAULT:g}" in adam["grid"]:
            ratios[panel["title"]] = _ratio(adam["grid"])
            shown.append(name)
    about = results.get("figure4", {}).get("settings", {})
    if about.get("data") == "mnist" and not about["quick"]:
        ends = {
            run["step_size"]: run["loss_by_epochs_and_seed"][str(about["checkpoints"][-1])][0]
            for run in results["figure4"]["runs"]
            if run["bias_correction"] and (run["b1"], run["b2"]) == (0.9, 0.999)
        }
        shown.append("figure4")
        ratios["the autoencoder"] = ends[DEFAULT] / min(end for end in ends.values() if end is not None)
    if not ratios:
        return []
    worst = max(ratios.values())
    verdict: Verdict = "holds" if worst <= GOOD else "holds with a correction" if worst <= NEAR else "false"
    return [
        Claim(
            "§2",
            "Good defaults are α = .001, β₁ = .9, β₂ = .999, ε = 1e-8",
            _commands(*dict.fromkeys(shown)),
            verdict,
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios.values())} times the best loss ({', '.join(ratios)})",
            "At α = .001, after as many steps as in the paper; α alone was varied "
            f"(to hold: at most {GOOD:g}; with a correction {NEAR:g}).",
        )
    ]


def _tuning(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """Whether the default does without a search, and over how many decades the step size may be chosen."""
    panels = [panel for panel in results.get("defaults", {}).get("panels", ()) if panel.get("as_in_the_paper")]
    if not panels:
        return []
    grids = {panel["title"]: {one["name"]: one["grid"] for one in panel["optimizers"]} for panel in panels}
    ratio = max(_ratio(of[NAME]) for of in grids.values())
    widths = {name: (_decades(of[NAME]), _decades(of["SGD + Nesterov"])) for name, of in grids.items()}
    wide = all(mine >= 1 and mine > other for mine, other in widths.values())
    verdicts: tuple[Verdict, ...] = ("false", "holds with a correction", "holds")
    return [
        Claim(
            "abstract",
            "The hyperparameters need little tuning",
            _commands("defaults"),
            verdicts[(ratio <= GOOD) + wide],
            f"{ratio:.2f} times the best loss at the default α; "
            + "; ".join(f"good α span {a:g} decades, SGD's {b:g} ({name})" for name, (a, b) in widths.items()),
            f"Good is within {GOOD - 1:.0%} of the best loss, on {_about(results)}. To hold, the default would be "
            "good, and at least a decade, more than of SGD + Nesterov; with a correction one of the two.",
        )
    ]


def _about(results: dict[str, dict[str, Any]]) -> str:
    about = results["defaults"]["settings"]["panels"][0]
    return f"MNIST after {about['training_examples'] // about['batch_size'] * about['epochs']:,} steps"


def _ratio(grid: dict[str, float | None]) -> float:
    """How many times the best cost the default's is."""
    default = grid[f"{DEFAULT:g}"]
    return inf if default is None else default / min(cost for cost in grid.values() if cost is not None)


def _decades(grid: dict[str, float | None]) -> float:
    """The decades of a grid of half decades whose cost is good."""
    best = min(cost for cost in grid.values() if cost is not None)
    return sum(cost is not None and cost <= GOOD * best for cost in grid.values()) / 2


def _worst(panels: Iterable[dict[str, float]]) -> float:
    """How many times the lowest cost Adam's is, at the most."""
    return max(panel[NAME] / min(panel.values()) for panel in panels)


def _commands(*names: str) -> str:
    return ", ".join(f"`python -m paper {name}`" for name in names)


def _final(runs: Iterable[list[float | None]]) -> float:
    """The mean of the seeds; infinite if one has diverged."""
    return float(np.mean([inf if run[-1] is None else run[-1] for run in runs]))
