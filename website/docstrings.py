"""Griffe's view of the docstrings: doctests are code, defaults are numbers, everything has a link to its source."""

import inspect
import re
import textwrap
from typing import Any

import griffe

import adamx
from website import repository

EXAMPLE = re.compile(r"(?m)^( *)>>> .*(?:\n\1(?! *$).*\S.*)*")


class Docstrings(griffe.Extension):
    """What the docstrings leave to the reader of a terminal."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None or not obj.path.startswith("adamx"):
            return
        obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)

    def on_function_instance(self, *, func: griffe.Function, **kwargs: Any) -> None:
        pass


def fenced(example: re.Match[str]) -> str:
    indent = example[1]
    return f"{indent}```pycon\n{example[0]}\n{indent}```"
