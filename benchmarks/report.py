"""Committed results, read and set as tables of Markdown."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def markdown(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def about(results: dict[str, Any], command: str) -> str:
    machine, versions = results["machine"], results["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "optax", "torch") if name in versions)
    return f"{machine['cpu']}, {machine['cores']} cores; {packages}. `{command}`"
