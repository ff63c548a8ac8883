"""What the library says of itself."""

import importlib
import inspect
import pkgutil
import re
from typing import get_args

import jax
import jax.numpy as jnp
import pytest

import adamx
from adamx.__main__ import main
from adamx._decay import SHRINK, Decay
from adamx._factory import FACTORIES
from adamx._weights import ROUNDINGS, Weights
from adamx.kernels import KERNELS, Kernel
from adamx.moments import FORMATS, MomentFormat
from adamx.wrapper import parts_of, states_in


@pytest.mark.parametrize("name", adamx.list())
def test_every_optimizer_is_public_and_described(name):
    row = adamx.describe(name)
    assert getattr(adamx, name) is FACTORIES[name]
    assert row.summary.endswith(".")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|\d{4}", row.reference)
    assert row.defaults == {
        k: "required" if p.default is p.empty else p.default
        for k, p in inspect.signature(getattr(adamx, name)).parameters.items()
    }


def test_the_package_names_what_its_files_enter_and_nothing_else():
    for place in ("rules", "modifiers", "trajectories"):
        package = importlib.import_module(f"adamx.{place}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"adamx.{place}.{module.name}")
    functions = {name: f for name in adamx.__all__ if inspect.isfunction(f := getattr(adamx, name))}
    found = {name: f for name, f in functions.items() if "learning_rate" in inspect.signature(f).parameters}
    del found["optimizer"]
    assert found == dict(FACTORIES)


@pytest.mark.parametrize("name", adamx.list())
def test_every_optimizer_takes_the_keywords_of_optimizer_as_optimizer_has_them(name):
    ours, general = (inspect.signature(f).parameters for f in (FACTORIES[name], adamx.optimizer))
    words = ("moments", "weights", "seed", "kernel", "groups")
    assert [*ours][-len(words) :] == [*words]
    assert [ours[w] for w in words] == [general[w] for w in words]
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in ours.values())


@pytest.mark.parametrize("name", adamx.list())
def test_every_optimizer_hands_those_keywords_on(name):
    required = [1e-3 for p in adamx.describe(name).defaults.values() if p == "required"]
    for part in parts_of(FACTORIES[name](*required, moments="bfloat16", weights="kahan", seed=3, kernel="xla")):
        assert {*part[0].layout.formats} == {"bfloat16"}
        assert (part[0].weights, part[0].seed, part[0].kernel) == ("kahan", 3, "xla")


@pytest.mark.parametrize("name", ["adan", "lamb", "prodigy", "schedule_free_adamw"])
def test_what_cxx_does_not_know_is_stepped_by_xla_unless_cxx_is_asked_for(name):
    params = jnp.ones(3)
    for kernel in ("auto", "xla"):
        opt = FACTORIES[name](1e-3, kernel=kernel)
        assert opt.step(params, opt.init(params), params)[0].shape == params.shape
    opt = FACTORIES[name](1e-3, kernel="native")
    with pytest.raises(ValueError, match="kernel='native' cannot take the step"):
        opt.step(params, opt.init(params), params)


@pytest.mark.parametrize(
    ("literal", "registry"),
    [(Decay, (*SHRINK, "l2")), (Weights, ROUNDINGS), (Kernel, KERNELS), (MomentFormat, FORMATS)],
    ids=["decay", "weights", "kernel", "moments"],
)
def test_names_are_typed_as_they_are_registered(literal, registry):
    assert get_args(literal) == (*registry,)


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
    states = states_in(FACTORIES[name](*[1e-3 for _ in required]).init(params))
    floats = sum(x.size for state in states for x in jax.tree.leaves(state.slots)) / params.size
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
