"""From the parts of a figure of the paper to its table, its picture, its JSON file and its claims."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from . import figures
from .claims import Claim
from .comparison import Comparison, as_dict, compare, table
from .progress import LiveSweeps
from .report import versions, writable, write_json
from .sweep import Problem
from .training import Contender, Settings


@dataclass(frozen=True)
class Part:
    """One panel to be: a problem, who competes on it, for how long and from how many seeds."""

    title: str
    problem: Problem
    contenders: tuple[Contender, ...]
    settings: Settings
    seeds: int
    about: dict[str, Any]


Judge = Callable[[Sequence[Comparison]], list[Claim]]
"""From the finished panels to what they say about the paper."""


def paper_figure(
    name: str, title: str, parts: Sequence[Part], judge: Judge, about: dict[str, Any], output: Path, console: Console
) -> list[Claim]:
    """Run the parts; write `output/NAME.png` and `output/NAME.json`, and a table for each part to `console`.

    Args:
        name: of the files.
        title: above the picture.
        parts: the panels, from left to right.
        judge: what the panels say about the paper.
        about: settings that the parts share.
        output: directory of the files, made if it is missing.
        console: where progress and tables go.

    Raises:
        ValueError: `output` cannot be written.
    """
    start = time.perf_counter()
    files = [f"{name}.png", f"{name}.json"]
    writable(output, files)
    picture, results = (output / file for file in files)
    epochs = sum(len(part.contenders) * part.seeds * part.settings.epochs for part in parts)
    with LiveSweeps(console, epochs) as on_epoch:
        comparisons = [
            compare(part.title, part.problem, part.contenders, part.settings, part.seeds, on_epoch) for part in parts
        ]
    claims = judge(comparisons)
    seeds = max(part.seeds for part in parts)
    spread = f"; mean and range of {seeds} seeds" if seeds > 1 else ""
    figures.save(figures.cost_panels(comparisons, title + spread, "training cost (nats)"), picture)
    seconds = time.perf_counter() - start
    described = [
        {"title": part.title, **part.about, **asdict(part.settings), "seeds": part.seeds, "l2": part.problem.l2}
        for part in parts
    ]
    write_json(
        results,
        {
            "settings": {**about, "panels": described},
            "versions": versions(),
            "seconds": round(seconds, 1),
            "panels": [as_dict(comparison) for comparison in comparisons],
            "claims": [claim._asdict() for claim in claims],
        },
    )
    for comparison in comparisons:
        console.print(table(comparison))
    for claim in claims:
        console.print(f"{claim.source} {claim.claim} [bold]{claim.verdict}[/]: {escape(claim.number)}", highlight=False)
    console.print(f"Wrote {picture} and {results} in {seconds:.0f} s", highlight=False, soft_wrap=True)
    return claims
