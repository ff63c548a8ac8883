"""Every public name says what it takes, what it gives and what it raises, with an example that runs."""

import dataclasses
import importlib
import inspect
import re
from typing import Any

import pytest

import adamx
from adamx.described import arguments, sections

MODULES = ("", ".diagnostics", ".flax", ".kernels", ".presets", ".schedules", ".theory")


def public() -> dict[str, Any]:
    """The functions and classes of the public modules by name; each once."""
    found: dict[str, Any] = {"adamx.list": adamx.list}
    for place in MODULES:
        module = importlib.import_module(f"adamx{place}")
        names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
        things = {f"adamx{place}.{name}": getattr(module, name) for name in names}
        documented = {name: x for name, x in things.items() if inspect.isfunction(x) or inspect.isclass(x)}
        found |= {name: x for name, x in documented.items() if x not in found.values()}
    return found


PUBLIC = public()
FUNCTIONS = [name for name, x in PUBLIC.items() if inspect.isfunction(x)]
CLASSES = [name for name, x in PUBLIC.items() if inspect.isclass(x)]


def described(x: Any) -> list[str]:
    return [name.lstrip("*") for name in arguments(x.__doc__)]


def fields(kind: type) -> list[str]:
    """What an instance is made from: the fields of a tuple or a dataclass, the arguments of another class."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if kind.__init__ is object.__init__:
        return []
    return [*getattr(kind, "_fields", [*inspect.signature(kind.__init__).parameters][1:])]


def test_the_public_surface_is_seen():
    assert {"adamx.adam", "adamx.theory.regret", "adamx.flax.TrainState"} <= PUBLIC.keys()
    assert len(FUNCTIONS) >= 100 and len(CLASSES) >= 60


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_describes_its_arguments_in_order_and_its_result_and_has_an_example(name):
    function = PUBLIC[name]
    assert described(function) == [*inspect.signature(function).parameters]
    assert "Returns" in sections(function.__doc__)
    assert ">>> " in sections(function.__doc__).get("Examples", "")


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_names_its_fields_and_stands_in_an_example_or_beside_one(name):
    kind = PUBLIC[name]
    text = inspect.getdoc(kind) or ""
    assert {field for field in fields(kind) if field not in described(kind) and f"`{field}`" not in text} == set()
    used = re.compile(rf"`(\w+\.)*{kind.__name__}\b|\b{kind.__name__}\(")
    beside = (x.__doc__ for x in PUBLIC.values() if x is not kind and "Examples" in sections(x.__doc__))
    assert "Examples" in sections(kind.__doc__) or any(used.search(text) for text in beside)
