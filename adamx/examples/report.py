"""Results as a table for the terminal, and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.table import Table

from .protocol import Run, Search, Settings


def table(searches: Sequence[Search], title: str) -> Table:
    """One row per optimizer, at its best step size; a star marks one at the edge of its grid."""
    edge = any(search.at_edge for search in searches)
    caption = "* at the edge of the grid: a step size outside it may be better still" if edge else None
    result = Table(title=title, caption=caption)
    result.add_column("optimizer")
    for heading in ("best step size", "training loss", "test accuracy", "time/step"):
        result.add_column(heading, justify="right")
    for search in searches:
        best = search.best
        result.add_row(
            search.contender.name,
            f"{best.learning_rate:g}{'*' if search.at_edge else ''}",
            f"{best.final_loss:.2e}" if isfinite(best.final_loss) else "diverged",
            f"{best.test_accuracy:.1%}",
            f"{best.step_seconds * 1e6:.0f} µs" if isfinite(best.step_seconds) else "–",
        )
    return result


def as_json(searches: Sequence[Search], settings: Settings, about: dict[str, Any]) -> str:
    """Settings, versions and every run of every optimizer, to six digits; numbers that are not finite are null.

    Args:
        searches: the results.
        settings: what the runs shared.
        about: further settings, such as the data set and the model.
    """
    content = {
        "settings": about | asdict(settings),
        "versions": versions(),
        "optimizers": [
            {
                "name": search.contender.name,
                "best_step_size": search.best.learning_rate,
                "at_edge_of_grid": search.at_edge,
                "runs": [_run(run) for run in search.runs],
            }
            for search in searches
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _run(run: Run) -> dict[str, Any]:
    return {
        "step_size": run.learning_rate,
        "training_loss": [six_digits(loss) for loss in run.losses],
        "test_accuracy": six_digits(run.test_accuracy),
        "seconds_per_step": six_digits(run.step_seconds),
    }


def six_digits(x: float) -> float | None:
    """`x` to six digits, or `None` if it is not finite, which JSON has no number for."""
    return float(f"{x:.6g}") if isfinite(x) else None


def versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    return {package: version(package) for package in ("adamx", "jax", "optax", "flax")}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON. Every number has to be finite: `six_digits` gives `None` for one that is not."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def writable(output: Path, files: Sequence[str]) -> None:
    """Make the directory `output` if it is missing, and check that `files` can be written in it.

    Raises:
        ValueError: it cannot be made, or one of the files cannot be written in it.
    """
    path = output
    try:
        output.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=output).close()
        for path in (output / name for name in files):
            if path.exists():
                path.open("ab").close()
    except OSError as error:
        raise ValueError(f"output {str(path)!r} cannot be written: {error.strerror}") from error
