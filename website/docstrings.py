"""What mkdocstrings is told of the package: as it is at run time, with code, numbers and links."""

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import griffe

import adamx.presets  # noqa: F401

from . import repository

EXAMPLE = re.compile(r"(?m)^( *)>>> .*(?:\n\1(?! *$).*)*")


class Docstrings(griffe.Extension):
    """Changes what Griffe has read of the sources."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        loader.resolve_aliases(implicit=True, external=False)  # so that signatures lead to what files pass on
        for item in inside(pkg):
            if isinstance(item, griffe.Function | griffe.Class):
                lines = f"L{item.lineno}-L{item.endlineno}"
                item.extra["website"]["source"] = f"{repository.link(item.relative_package_filepath)}#{lines}"
            if item.docstring is not None:
                item.docstring.value = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", completed(item))
            for parameter in item.parameters if isinstance(item, griffe.Function) else ():
                parameter.default = stated(parameter.default, pkg)


def inside(item: griffe.Object) -> Iterator[griffe.Object]:
    yield item
    for member in item.members.values():
        if isinstance(member, griffe.Object):
            yield from inside(member)


def completed(item: griffe.Object) -> str:
    """The docstring that something has when it is imported, which decorators complete."""
    if isinstance(item, griffe.Function) and item.decorators and item.parent and item.parent.path in sys.modules:
        return inspect.getdoc(getattr(sys.modules[item.parent.path], item.name)) or ""
    return item.docstring.value if item.docstring else ""


def stated(default: str | griffe.Expr | None, pkg: griffe.Module) -> str | griffe.Expr | None:
    """The value of a default that is an attribute of a class of the package."""
    if isinstance(default, griffe.ExprAttribute) and default.canonical_path.startswith(f"{pkg.name}."):
        target = pkg[default.canonical_path.removeprefix(f"{pkg.name}.")]
        if isinstance(target, griffe.Attribute) and target.parent and target.parent.is_class:
            return stated(target.value, pkg)
    if isinstance(default, griffe.ExprCall) and str(default.function) == "static":
        return next(x.value for x in default.arguments if isinstance(x, griffe.ExprKeyword) and x.name == "default")
    return default
