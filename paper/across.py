"""The claim on all figures together: Adam beside the other optimizers, by the training costs in their JSON."""

from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np

from .claims import Claim, Verdict

NAME = "Adam"


def finals(results: dict[str, dict[str, Any]]) -> list[dict[str, float]]:
    """For each panel that compares optimizers, their training costs after the last epoch, averaged over the seeds."""
    panels = [
        panel for content in results.values() for key in ("panels", "comparisons") for panel in content.get(key, ())
    ]
    return [{one["name"]: _final(one["training_cost"].values()) for one in panel["optimizers"]} for panel in panels]


def claims(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """The abstract's claim about Adam beside the others; none if no figure has run."""
    panels = finals(results)
    if not panels:
        return []
    lowest = sum(panel[NAME] <= min(panel.values()) for panel in panels)
    others = [(panel[NAME], cost) for panel in panels for name, cost in panel.items() if name != NAME]
    ahead = sum(mine < cost for mine, cost in others)
    furthest = max(panel[NAME] / min(panel.values()) for panel in panels)
    verdict: Verdict = "could not be shown here"
    if 2 * ahead > len(others):
        verdict = "holds" if 2 * lowest > len(panels) else "holds with a correction"
    number = (
        f"the {len(panels)} panels of figures 1 to 3, each optimizer at its best step size: Adam ends lowest in "
        f"{lowest}, below {ahead} of {len(others)} others, and at {furthest:.3g} times the lowest cost at the most"
    )
    if verdict == "holds with a correction":
        number += ": ahead of most, not the first"
    commands = ", ".join(f"`python -m paper {name}`" for name in ("figure1", "figure2", "figure3"))
    return [
        Claim("abstract, §8", "Adam compares favourably with other stochastic optimizers", commands, verdict, number)
    ]


def _final(runs: Iterable[list[float | None]]) -> float:
    """The mean of the seeds; infinite if one has diverged."""
    return float(np.mean([inf if run[-1] is None else run[-1] for run in runs]))
