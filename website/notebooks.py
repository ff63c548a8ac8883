"""Notebooks as pages, with the outputs that they were committed with.

`python -m website.notebooks` writes into each where it opens in Colab, and from where it installs the library there.
"""

from pathlib import Path

import nbformat

from .repository import ADDRESS, ROOT, colab

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

HEAD = """\
[Open in Colab]({colab}).

The first cell installs the library if it is not there yet: from the checkout that this notebook lies in, or else from
the repository."""

INSTALL = """\
import pathlib

try:
    import adamx.examples.models
except ImportError:
    checkout = pathlib.Path("../pyproject.toml").exists()
    ADAMX = "..[examples]" if checkout else "adamx[examples] @ git+{address}"
    %pip install -q "{{ADAMX}}\""""


def page(notebook: Path, place: Path) -> str:
    """A notebook's Markdown; its pictures are written into a folder beside it."""
    import nbconvert

    folder = place.with_suffix("")
    text, resources = nbconvert.MarkdownExporter().from_filename(str(notebook), {"output_files_dir": folder.name})
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in resources["outputs"].items():
        (place.parent / name).write_bytes(picture)
    return text


def addressed(notebook: Path) -> str:
    """A notebook's file as it should be: its second and third cell know the repository's address."""
    content = nbformat.read(notebook, as_version=4)
    content.cells[1].source = HEAD.format(colab=colab(str(notebook.relative_to(ROOT))))
    content.cells[2].source = INSTALL.format(address=ADDRESS)
    return nbformat.writes(content) + "\n"


if __name__ == "__main__":
    for path in NOTEBOOKS:
        path.write_text(addressed(path), encoding="utf-8")
