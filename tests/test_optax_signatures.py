"""README's promise: where Optax has an optimizer of the name, its arguments come first and mean the same."""

import inspect

import numpy as np
import optax
import optax.contrib
import pytest

import adamx

EMPTY, NAMED = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY

ANOTHER_DEFAULT = {
    "adadelta": {"learning_rate"},
    "adafactor": {"dtype_momentum"},
    "adan": {"eps_root"},
    "scale_by_ademamix": {"alpha"},
    "scale_by_novograd": {"eps"},
    "muon": {"ns_coeffs", "ns_steps", "eps"},
}
"""The arguments whose default is not Optax's. Docstrings say why."""

NOT_TAKEN = {
    "muon": {
        *("adam_b1", "adam_b2", "adam_eps_root", "adam_weight_decay", "adam_learning_rate"),
        *("muon_weight_dimension_numbers", "adaptive", "preconditioning"),
    },
}
"""Keywords of Optax's that another argument takes the place of, or none. Docstrings say which."""


def optaxs(name):
    return getattr(optax, name, None) or getattr(optax.contrib, name, None)


SHARED = [n for n in adamx.__all__ if inspect.isfunction(getattr(adamx, n)) and inspect.isfunction(optaxs(n))]


def parameters(function):
    return inspect.signature(function).parameters.values()


def same(ours, theirs):
    """Whether two defaults are: functions by what they give."""
    if inspect.isfunction(ours) and inspect.isfunction(theirs):
        counts = np.arange(100, dtype=np.int32)
        return np.allclose(ours(counts), theirs(counts), rtol=1e-6)
    return ours == theirs


def test_most_optimizers_have_a_counterpart():
    """Those of `functools.partial`, nadam and nadamw, are adam and adamw but for one default."""
    assert len(SHARED) >= 40
    assert {"adam", "lion", "lookahead", "prodigy", "adopt", "schedule_free_adamw", "scale_by_lion"} <= {*SHARED}
    assert ANOTHER_DEFAULT.keys() <= {*SHARED}


@pytest.mark.parametrize("name", [*SHARED, "nadam", "nadamw"])
def test_optaxs_arguments_come_first_with_optaxs_defaults(name):
    ours, theirs = {p.name: p for p in parameters(getattr(adamx, name))}, [*parameters(optaxs(name))]
    positional = [p.name for p in theirs if p.kind != NAMED]
    assert [n for n, p in ours.items() if p.kind != NAMED][: len(positional)] == positional
    assert {p.name for p in theirs} - ours.keys() == NOT_TAKEN.get(name, set())
    differ = {
        p.name
        for p in theirs
        if p.name in ours and p.default is not EMPTY and not same(ours[p.name].default, p.default)
    }
    assert differ == ANOTHER_DEFAULT.get(name, set())


@pytest.mark.parametrize(
    ("name", "argument"),
    [(n, a) for which in (ANOTHER_DEFAULT, NOT_TAKEN) for n, names in which.items() for a in sorted(names)],
)
def test_docstrings_speak_of_defaults_that_are_not_optaxs(name, argument):
    text = inspect.getdoc(getattr(adamx, name)) or ""
    assert f"`{argument}" in text and "Optax" in text
