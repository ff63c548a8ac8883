"""What the repository says of itself agrees: versions, benchmarks, and what notebooks and workflows use."""

import json
import re
from pathlib import Path

import pytest

import adamx
from benchmarks.__main__ import SHORT

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRIVATE = re.compile(r"\badamx(\.\w+)*\._\w|\bfrom adamx[\w.]* import (\w+, )*_\w")


def test_the_changelog_and_the_citation_are_of_this_version():
    released = re.search(r"^## \[(\d.*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    assert released is not None
    version, date = released.groups()
    assert version == adamx.__version__
    assert {f"version: {version}", f"date-released: {date}"} <= {*citation}


def test_every_benchmark_has_a_short_form():
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main()" in path.read_text()}
    assert {*SHORT} == benchmarks - {"__main__", "tables"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_use_what_is_public(path):
    cells = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [line for cell in cells for line in "".join(cell).splitlines() if PRIVATE.search(line)] == []


def test_private_names_are_seen():
    assert PRIVATE.search("from adamx._random import bits") and PRIVATE.search("x = adamx.kernels._load()")
    assert PRIVATE.search("from adamx import _math") and not PRIVATE.search("from adamx import adam as _adam_of")
