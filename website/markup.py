"""Markdown as docstrings and pages have it: names and papers are links, `$$` begins anywhere."""

import re
import xml.etree.ElementTree as etree
from typing import Any

from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor


class Name(InlineProcessor):
    """A public name, `adamx.name`."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[etree.Element, int, int]:
        link = etree.Element("autoref", identifier=m[1])
        etree.SubElement(link, "code").text = m[1]
        return link, m.start(0), m.end(0)


class Arxiv(InlineProcessor):
    """A paper, arXiv:1412.6980."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[etree.Element, int, int]:
        link = etree.Element("a", href=f"https://arxiv.org/abs/{m[1]}")
        link.text = m[0]
        return link, m.start(0), m.end(0)


class Displays(Preprocessor):
    r"""Displayed formulas are paragraphs of their own, and so is what stands on either side of a `\qquad`."""

    def run(self, lines: list[str]) -> list[str]:
        def apart(found: re.Match[str]) -> str:
            parts = re.split(r"\\qquad\b", found[2])
            return "\n" + "".join(f"\n{found[1]}$${' '.join(part.split())}$$\n" for part in parts) + "\n"

        return re.sub(r"(?m)^( *)\$\$([^$]+)\$\$$", apart, "\n".join(lines)).split("\n")


class Markup(Extension):
    """All of them."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.register(Displays(md), "displays", 24)  # after code was put aside
        md.inlinePatterns.register(Name(r"(?<!`)`(adamx(?!\.examples)(?:\.\w+)+)`(?!`)", md), "name", 195)
        md.inlinePatterns.register(Arxiv(r"arXiv:(\d{4}\.\d{4,5})", md), "arxiv", 70)


def makeExtension(**settings: Any) -> Markup:
    """What Markdown calls."""
    return Markup(**settings)
