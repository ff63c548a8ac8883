"""The package is laid out as CONTRIBUTING.md says: imports run upwards in its list, files are short."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "adamx").rglob("*.py"))
EXCEPT = {ROOT / "adamx" / name for name in ("__init__.py", "__main__.py", "kernels/cpu/programs.py")}
"""The public surface, the command, and the one file that names the rules that C++ computes."""


def ranks() -> dict[str, int]:
    """The row of each file or folder of the package in the list of CONTRIBUTING.md."""
    listed = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where things live")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in listed.splitlines() if line.startswith("| `")]
    return {
        name.rstrip("/").removesuffix(".py"): i for i, row in enumerate(rows) for name in re.findall("`(.+?)`", row)
    }


def imported(path: Path) -> set[str]:
    """The files and folders directly in the package that a file of it imports."""
    package = path.relative_to(ROOT / "adamx").parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            found |= {module[0]} if module[0] else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted({*FILES} - EXCEPT), ids=lambda path: str(path.relative_to(ROOT / "adamx")))
def test_imports_run_upwards_in_the_list(path):
    name = str(path.relative_to(ROOT / "adamx"))
    rank = ranks()
    own = rank[name.partition("/")[0].removesuffix(".py")]
    assert {other for other in imported(path) if rank.get(other, -1) > own} == set()


def test_files_and_the_core_are_short():
    lines = {path.relative_to(ROOT / "adamx"): len(path.read_text().splitlines()) for path in FILES}
    assert max(lines.values()) <= 300
    assert max(n for path, n in lines.items() if path.parts[0] == "rules") <= 200
    assert sum(n for path, n in lines.items() if len(path.parts) == 1 and path.name.startswith("_")) <= 2600
