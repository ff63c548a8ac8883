"""What the library says of itself."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import adamx
from adamx import _catalogue
from adamx.__main__ import main

README = Path(__file__).parent.parent / "README.md"


def test_the_readmes_family_table_is_the_generated_one():
    """`python -m adamx list --markdown` between the markers of README.md."""
    found = re.search(r"<!-- family: .*? -->\n(.*?)\n<!-- end -->", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == _catalogue.table()


@pytest.mark.parametrize("name", adamx.list())
def test_every_optimizer_is_public_and_described(name):
    row = adamx.describe(name)
    assert getattr(adamx, name) is _catalogue.FACTORIES[name]
    assert row.summary.endswith(".")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|\d{4}", row.reference)
    assert row.defaults == {
        k: "required" if p.default is p.empty else p.default
        for k, p in inspect.signature(getattr(adamx, name)).parameters.items()
    }


def test_state_is_counted_in_floats_for_each_parameter():
    assert {name: adamx.describe(name).state for name in ("adam", "amsgrad", "adan", "lion", "adafactor")} == {
        "adam": 2,
        "amsgrad": 3,
        "adan": 4,
        "lion": 1,
        "adafactor": 0,
    }


@pytest.mark.parametrize("name", adamx.list())
def test_counted_state_is_what_is_allocated(name):
    required = [p for p in adamx.describe(name).defaults.values() if p == "required"]
    params = jnp.ones((128, 128))
    slots = _catalogue.FACTORIES[name](*[1e-3 for _ in required]).init(params).slots
    floats = sum(x.size for x in jax.tree.leaves(slots)) / params.size
    assert abs(floats - adamx.describe(name).state) < 0.05


def test_the_command_line_lists_describes_and_suggests(capsys):
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(adamx.list())
    assert main(["describe", "adopt"]) == 0
    assert "arXiv:2411.02853" in capsys.readouterr().out
    assert main(["presets", "bert"]) == 0
    assert "| bert | adamw |" in capsys.readouterr().out
    assert main(["describe", "adoptt"]) == 2
    assert "did you mean 'adopt'?" in capsys.readouterr().err


def test_unknown_names_of_the_package_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'adamw2'"):
        adamx.adamw2  # noqa: B018
