"""The sum-of-functions optimizer finds minima, goes on where it was, and its claims follow from its curves."""

import json

import numpy as np
import pytest
from rich.console import Console

from paper import sfo
from paper.options import Options
from paper.sfo_claims import judged
from paper.sums import SFO


def quadratics(n=6, m=40):
    """Their losses and gradients, and the minimum of their sum."""
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(n, m, m))
    curvature = np.einsum("nij,nkj->nik", factors, factors) / m + 0.1 * np.eye(m)
    centres = rng.normal(size=(n, m))
    best = np.linalg.solve(curvature.sum(0), np.einsum("nij,nj->i", curvature, centres))

    def evaluate(i, x, call):
        away = x - centres[i]
        return float(away @ curvature[i] @ away / 2), curvature[i] @ away

    return evaluate, best


def test_sfo_finds_the_minimum_of_a_sum_through_collapses_of_its_subspace():
    evaluate, best = quadratics()
    opt, sizes = SFO(evaluate, 6, np.zeros(40)), []
    for _ in range(20 * 6):
        opt.step()
        sizes.append(opt.k)
    assert np.any(np.diff(sizes) < 0) and max(sizes) <= 3 * 6 + 4
    np.testing.assert_allclose(opt.x, best, atol=1e-6)
    rows = opt.basis[: opt.k]
    np.testing.assert_allclose(rows @ rows.T, np.eye(opt.k), atol=1e-12)


def test_sfo_goes_on_from_a_state_to_the_same_numbers():
    evaluate, _ = quadratics()
    whole, begun, other = (SFO(evaluate, 6, np.zeros(40)) for _ in range(3))
    for _ in range(40):
        whole.step()
    for _ in range(15):
        begun.step()
    other.restore({name: np.asarray(value) for name, value in begun.state.items()})
    for _ in range(25):
        other.step()
    np.testing.assert_array_equal(other.x, whole.x)


def test_a_step_that_leads_to_nothing_finite_is_taken_back():
    def evaluate(i, x, call):
        away = x - i
        return (np.inf if np.abs(x).max() > 3 else float(away @ away / 2)), away / (1 if call < 9 else 2)

    opt = SFO(evaluate, 2, np.full(3, 2.9))
    for _ in range(30):
        opt.step()
    assert np.isfinite(opt.x).all()


def content(ratios=(6, 9), kept=(31, 61), dropped=(2.0, 1.5), sfo_cost=0.2, adam_at=2, spent=1.0, data="mnist"):
    """Of a JSON file: SFO comes to a cost after 4 passes, Adam after so many of them."""
    adam = [2.3, *(0.3 if i < adam_at else 0.2 for i in range(1, 5))]
    costs = {("Adam", 0.0): adam, ("SFO", 0.0): [2.3, 1.0, 0.9, 0.5, sfo_cost]}
    costs |= {("Adam", 0.5): [2.3, 0.1], ("SFO", 0.5): list(dropped)}
    return {
        "settings": {"data": data, "quick": False, "training_examples": 9, "hidden": [3], "batch_size": 1,
                     "minibatches": 3},
        "curves": [
            {"name": name, "dropout": dropout, "cost": cost, "cpu_seconds": [spent * i for i in range(len(cost))]}
            for (name, dropout), cost in costs.items()
        ],
        "iterations": [
            {"minibatches": n, "sfo_seconds": ratio, "adam_seconds": 1, "sfo_numbers": numbers, "adam_numbers": 2}
            for n, ratio, numbers in zip((10, 20), ratios, kept, strict=True)
        ],
    }  # fmt: skip


YES, NEARLY, NO = "holds", "holds with a correction", "false"


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, (YES, YES, YES, YES)),
        ({"ratios": (4, 9)}, (NEARLY, YES, YES, YES)),
        ({"ratios": (1, 2)}, (NO, YES, YES, YES)),
        ({"kept": (31, 121)}, (YES, NO, YES, YES)),
        ({"dropped": (2.0, 0.3)}, (YES, YES, NEARLY, YES)),
        ({"dropped": (2.0, 0.1)}, (YES, YES, NO, YES)),
        ({"dropped": (2.0, None)}, (YES, YES, YES, YES)),
        ({"adam_at": 4}, (YES, YES, YES, NO)),
        ({"sfo_cost": 0.01}, (YES, YES, YES, NO)),
        ({"sfo_cost": 0.01, "data": "digits"}, (YES, YES, YES, "could not be shown here")),
    ],
)
def test_verdicts_follow_from_times_numbers_and_curves(changes, verdicts):
    assert tuple(claim.verdict for claim in judged(content(**changes))) == verdicts


@pytest.mark.product  # compiles two perceptrons
def test_a_quick_run_writes_a_picture_and_json(tmp_path, monkeypatch):
    monkeypatch.setattr(sfo, "QUICK", sfo.Length((4,), 1, (2, 3)))
    sfo.sfo(Options(tmp_path, quick=True, output=tmp_path), Console(quiet=True))
    assert (tmp_path / "sfo.png").exists()
    found = json.loads((tmp_path / "sfo.json").read_text())
    assert [len(curve["cost"]) for curve in found["curves"]] == [2] * 4
    assert len(found["claims"]) == 4
