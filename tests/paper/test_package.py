"""The paper stays out of the package: adamx never imports it, and the wheel does not have it."""

import ast
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(path):
    """The absolute names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


def test_adamx_imports_nothing_from_the_rest_of_the_repository():
    for path in (ROOT / "adamx").rglob("*.py"):
        roots = {name.partition(".")[0] for name in imported(path)}
        assert not roots & {"paper", "tests", "benchmarks"}, path


def test_the_wheel_takes_adamx_and_its_examples_only():
    found = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("[a-z]*/**/__init__.py")}
    taken = {name for name in packages if any(fnmatchcase(name, pattern) for pattern in found["include"])}
    assert {"adamx", "adamx.examples"} <= taken
    assert {name.partition(".")[0] for name in taken} == {"adamx"} and "paper" in packages


def test_importing_adamx_imports_neither_flax_nor_matplotlib_nor_the_examples():
    program = "import sys, adamx; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {"flax", "matplotlib", "rich", "typer", "sklearn", "adamx.examples"} & set(modules.split())
