"""The documentation site's sources: the repository's address is stated once, notebooks know it, pages run."""

import re
import subprocess

import pytest

import adamx
from website import notebooks, repository

ROOT = repository.ROOT


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: no list of files")
def test_the_address_is_stated_by_pyproject_alone():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {name: (ROOT / name).read_bytes() for name in listed.split("\0") if (ROOT / name).is_file()}
    stating = {name for name, text in texts.items() if f"/{repository.NAME}".encode() in text}
    assert stating == {"pyproject.toml", *(f"notebooks/{path.name}" for path in notebooks.NOTEBOOKS)}


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_installs_from_the_address(path):
    assert path.read_text(encoding="utf-8") == notebooks.addressed(path), "python -m website.notebooks"


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_nothing_private(path):
    assert re.findall(r"adamx(?:\.\w+)*\._\w+", path.read_text(encoding="utf-8")) == []


RULES = [
    name for name in adamx.__all__ if isinstance(item := getattr(adamx, name), type) and issubclass(item, adamx.Rule)
]


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("Rule", "Modifier")])
def test_a_rule_says_its_equations_and_whose_they_are(name):
    text = getattr(adamx, name).__doc__
    assert re.search(r"\$[^$]+\$", text) and ("Reference: " in text or name == "Decayed")
