"""The paper's claims that need no training run: `python -m paper theory`.

Each check of `checks` is a computation with adamx, in float64, whose result gives the verdict. Writes theory.json and
theory.png, and paper.md from all the results in the same directory.
"""

import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from adamx.diagnostics import drawing
from adamx.examples import report

from . import page, theory_figure
from .checks import CHECKS
from .claims import Claim
from .options import Options


def theory(options: Options, console: Console) -> None:
    """Put the paper's claims to the test; print a table, write theory.json, theory.png and paper.md.

    Args:
        options: how to run; the only data are scikit-learn's digits, and quick runs have the same verdicts.
        console: where progress and the table go.

    Raises:
        ValueError: `output` cannot be made or written to.
    """
    quick, output = options.quick, options.output
    report.writable(output, ("theory.json", "theory.png", "paper.md"))
    claims, curves, seconds = run(quick, console)
    content = {
        "settings": {"quick": quick, "dtype": "float64"},
        "versions": report.versions(),
        "seconds": seconds,
        "curves": curves,
        "claims": [claim._asdict() for claim in claims],
    }
    results = output / "theory.json"
    report.write_json(results, rounded(content))
    drawing.save(theory_figure.theory(curves), output / "theory.png")
    written = page.write(output)
    console.print(table(claims))
    console.print(f"Wrote {results}, {output / 'theory.png'} and {written}", highlight=False, soft_wrap=True)


def run(quick: bool, console: Console) -> tuple[list[Claim], dict[str, Any], float]:
    """All checks: their claims, their curves by name, and the seconds that they took."""
    claims: list[Claim] = []
    curves: dict[str, Any] = {}
    start = time.perf_counter()
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("checks"),
    )
    with (
        jax.enable_x64(True),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(CHECKS))
        for name, check in CHECKS.items():
            progress.update(task, description=name)
            begin = time.perf_counter()
            found = check(quick)
            claims += found.claims
            curves |= found.curves
            progress.advance(task)
            if not console.is_terminal:
                took = time.perf_counter() - begin
                console.print(f"{name:28} {len(found.claims)} claims, {took:.1f} s", highlight=False)
    return claims, curves, time.perf_counter() - start


def table(claims: list[Claim]) -> Table:
    """One row per claim, in the order of the paper's sections."""
    result = Table(title="The paper's claims, and what a computation says", show_lines=True)
    for heading in ("source", "claim", "verdict", "number"):
        result.add_column(heading, overflow="fold")
    for claim in sorted(claims, key=lambda claim: (page.place(claim.source), claim.source)):
        result.add_row(claim.source, claim.claim, claim.verdict, claim.number)
    return result


def rounded(x: Any) -> Any:
    """`x` with its numbers to six digits, and `None` for those that are not finite, so that JSON can hold it."""
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, str | bool) or x is None:
        return x
    if isinstance(x, int | np.integer):
        return int(x)
    if np.ndim(x):
        return [rounded(value) for value in x]
    return report.six_digits(float(x))
