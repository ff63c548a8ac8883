"""Markdown as the docstrings and pages have it: `adamx.name` is a link, and so is arXiv:1412.6980."""

import re
import xml.etree.ElementTree as etree
from typing import Any

from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor


class Arxiv(InlineProcessor):
    """A paper by its number."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[etree.Element, int, int]:  # type: ignore[override]
        link = etree.Element("a", href=f"https://arxiv.org/abs/{m[1]}")
        link.text = m[0]
        return link, m.start(0), m.end(0)


class Name(InlineProcessor):
    """A public name in backticks."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[etree.Element, int, int]:  # type: ignore[override]
        link = etree.Element("autoref", identifier=m[1])
        code = etree.SubElement(link, "code")
        code.text = m[1]
        return link, m.start(0), m.end(0)


class Markup(Extension):
    """Both of them."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(Name(r"(?<!`)`(adamx(?!\.examples)(?:\.\w+)+)`(?!`)", md), "adamx name", 195)
        md.inlinePatterns.register(Arxiv(r"(?<!\[)arXiv:(\d{4}\.\d{4,5})", md), "arxiv", 70)


def makeExtension(**settings: Any) -> Markup:  # noqa: N802
    return Markup(**settings)
