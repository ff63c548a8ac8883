"""Write the site's pages and configuration into `build`: `make docs` builds the site from them.

Pages are `docs/`, some of the repository's other files, the notebooks, and the reference. Links between files of the
repository become links between pages where both are pages, and else lead to the repository.
"""

import os
import re
import shutil
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from . import notebooks, reference
from .repository import ADDRESS, NAME, ROOT, link

BUILD = ROOT / "build"
PAGES = BUILD / "pages"
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "paper/README.md": "paper/running.md",
}
"""Pages that lie elsewhere in the repository, and their place in the site."""


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    here = {str(path.relative_to(ROOT / "docs")): path for path in sorted((ROOT / "docs").rglob("*.md"))}
    here |= {there: ROOT / path for path, there in ELSEWHERE.items()}
    here |= {f"notebooks/{path.stem}.md": path for path in notebooks.NOTEBOOKS}
    places = {path: PurePosixPath(place) for place, path in here.items()}
    for place, path in here.items():
        text = notebooks.page(path, PAGES / place) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        write(place, highlighted(linked(text, path, places)))
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, PAGES)
    described = reference.pages()
    for pages in described.values():
        for place, text in pages.items():
            write(place, text)
    (PAGES / "assets").mkdir()
    for asset in (ROOT / "website" / "assets").iterdir():
        shutil.copy(asset, PAGES / "assets")
    (PAGES / "assets" / "mathjax.js").write_bytes(
        files("mathjax").joinpath("static/mathjax/es5/tex-svg.js").read_bytes()
    )
    listed = [next(iter(pages)) if len(pages) == 1 else {title: [*pages]} for title, pages in described.items()]
    configure([place for place in here if place.startswith("notebooks/")], listed)


def write(place: str, text: str) -> None:
    path = PAGES / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def linked(text: str, source: Path, places: dict[Path, PurePosixPath]) -> str:
    """The text of a page whose relative links are right from its place in the site."""

    def moved(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / found[1]))
        if target.suffix == ".png" or not target.exists():
            return found[0]
        if target in places:
            return f"]({os.path.relpath(places[target], places[source].parent)}{found[2] or ''})"
        return f"]({link(target.relative_to(ROOT))}{found[2] or ''})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", moved, text)


def highlighted(text: str) -> str:
    """Doctests as Python sessions, which colours what is typed and leaves what is printed."""
    return re.sub(r"(?m)^( *)```python\n(?= *>>>)", r"\1```pycon\n", text)


def configure(*sections: list[Any]) -> None:
    """The configuration with what is not written twice: the address, and the lists of pages."""
    text = (ROOT / "website" / "mkdocs.yml").read_text(encoding="utf-8")
    settings: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # without its names of Python's objects
    empty = (section for section in settings["nav"] for pages in section.values() if pages == [])
    for section, pages in zip(empty, sections, strict=True):
        section.update(dict.fromkeys(section, pages))
    made = {"INHERIT": "../website/mkdocs.yml", "repo_url": ADDRESS, "repo_name": NAME, "nav": settings["nav"]}
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
