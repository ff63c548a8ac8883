"""The repository's address, which `pyproject.toml` alone states, and links into it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
NAME = ADDRESS.removeprefix("https://github.com/")
BRANCH = "main"


def link(path: str | Path) -> str:
    """Where a file of the repository can be read."""
    return f"{ADDRESS}/blob/{BRANCH}/{path}"


def colab(notebook: str) -> str:
    """Where a notebook of the repository opens in Colab."""
    return f"https://colab.research.google.com/github/{NAME}/blob/{BRANCH}/{notebook}"
