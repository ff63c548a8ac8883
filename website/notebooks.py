"""Notebooks as pages, with the outputs that they were committed with."""

from pathlib import Path

import nbconvert

from .repository import ROOT, colab


def page(notebook: Path, place: Path) -> str:
    """A notebook's Markdown; its pictures are written into a folder beside it."""
    folder = place.with_suffix("")
    exporter = nbconvert.MarkdownExporter()
    text, resources = exporter.from_filename(str(notebook), {"output_files_dir": folder.name})
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in resources["outputs"].items():
        (place.parent / name).write_bytes(picture)
    title, _, rest = text.lstrip().partition("\n")
    return f"{title}\n\n[Open in Colab]({colab(str(notebook.relative_to(ROOT)))}){{ .md-button }}\n{rest}"
