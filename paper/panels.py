"""Figures 1 and 2: run the panels, then write the picture, the JSON file, the tables and the claims."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from adamx.diagnostics import drawing
from adamx.examples.protocol import Contender, Settings
from adamx.examples.report import versions, writable, write_json

from .claims import Claim
from .comparison import Comparison, as_dict, compare, from_dict, table
from .cost_panels import cost_panels
from .narrow import Stage, epochs_to_come
from .options import Options
from .progress import LiveSweeps
from .sweep import Problem


@dataclass(frozen=True)
class Panel:
    """A panel before it is run: the problem, the optimizers, the settings and the number of seeds.

    `stages` are those of the search, `real` is as in `Comparison`.
    """

    title: str
    problem: Problem
    contenders: tuple[Contender, ...]
    settings: Settings
    seeds: int
    about: dict[str, Any]
    stages: tuple[Stage, ...] = ()
    real: bool = False


Judge = Callable[[dict[str, Any]], list[Claim]]
"""From the content of the JSON file to the verdicts on the paper's claims."""


def comparisons(content: dict[str, Any]) -> list[Comparison]:
    """The panels' results, from the content of the JSON file."""
    return [from_dict(panel) for panel in content["panels"]]


def run_panels(
    name: str,
    title: str,
    panels: Sequence[Panel],
    judge: Judge,
    about: dict[str, Any],
    options: Options,
    console: Console,
) -> list[Claim]:
    """Run the panels; write `NAME.png` and `NAME.json`, and a table for each panel to `console`.

    Args:
        name: of the files.
        title: above the picture.
        panels: from left to right.
        judge: from the results to the claims.
        about: settings that the panels share.
        options: how to run; the directory of the files is made if it is missing.
        console: where progress and tables go.

    Raises:
        ValueError: `output` cannot be written.
    """
    files = [f"{name}.png", f"{name}.json"]
    writable(options.output, files)
    picture, results = (options.output / file for file in files)
    epochs = sum(
        epochs_to_come(contender, panel.settings, panel.stages, panel.seeds)
        for panel in panels
        for contender in panel.contenders
    )
    with LiveSweeps(console, epochs) as on_epoch:
        found = [
            compare(
                panel.title,
                replace(panel.problem, key={"figure": name, **panel.about}),
                panel.contenders,
                panel.settings,
                panel.seeds,
                on_epoch,
                options.runs,
                panel.stages,
                panel.real,
            )
            for panel in panels
        ]
    drawing.save(cost_panels(found, f"{title}; mean and range of the seeds", "training cost (nats)"), picture)
    described = [
        {"title": panel.title, **panel.about, **asdict(panel.settings), "seeds": panel.seeds, "l2": panel.problem.l2}
        for panel in panels
    ]
    content = {
        "settings": {"quick": options.quick, **about, "panels": described},
        "versions": versions(),
        "seconds": round(options.runs.seconds(name), 1),
        "panels": [as_dict(comparison) for comparison in found],
    }
    claims = judge(content)
    write_json(results, {**content, "claims": [claim._asdict() for claim in claims]})
    for comparison in found:
        console.print(table(comparison))
    for claim in claims:
        console.print(f"{claim.source} {claim.claim} [bold]{claim.verdict}[/]: {escape(claim.told)}", highlight=False)
    console.print(f"Wrote {picture} and {results}", highlight=False, soft_wrap=True)
    return claims
