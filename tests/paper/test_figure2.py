"""Figure 2's verdicts follow from its curves, and its files hold what a page about the paper needs."""

import json
from io import StringIO
from typing import get_args

import numpy as np
import optax
import pytest
from rich.console import Console

from adamx.examples.data import Dataset
from adamx.examples.protocol import Contender, Run, Search, Settings
from paper import figure2
from paper.claims import Claim, Verdict
from paper.comparison import Comparison, Line
from paper.figure2 import SEARCHED
from paper.options import Options

NAMES = tuple(figure2.GRIDS)


def ends(real=False, **finals):
    """A comparison in which Adam ends at 0.2 from both seeds, and the others as said or at 0.3."""
    lines = []
    for name in NAMES:
        pair = finals.get(name.partition(",")[0] if name != SEARCHED else "searched", (0.3, 0.3))
        runs = tuple(Run(0.1, (2.0, final), 0.5, 0.0) for final in ((0.2, 0.2) if name == "Adam" else pair))
        lines.append(Line(Search(Contender(name, optax.sgd, (0.1,)), runs[:1]), runs))
    return Comparison("data", Settings(epochs=1), tuple(lines), real=real)


@pytest.mark.parametrize(
    ("finals", "verdict"),
    [
        ({}, "holds"),
        ({"RMSProp": (0.1, 0.3)}, None),
        ({"searched": (0.1, 0.1)}, "holds with a correction"),  # behind with its paper's step size, 1
        ({"searched": (0.1, 0.1), "AdaDelta": (0.1, 0.1)}, None),
        ({"searched": (0.1, 0.1), "RMSProp": (0.1, 0.1)}, None),
    ],
)
@pytest.mark.parametrize(("real", "otherwise"), [(False, "could not be shown here"), (True, "false")])
def test_adam_is_first_only_if_it_ends_lowest_from_every_seed(finals, verdict, real, otherwise):
    (first,) = figure2.judge([ends(real, **finals), ends()])
    assert first.verdict == (verdict or otherwise)
    assert ("not of" in first.sentence) == bool(finals)


@pytest.mark.product  # a sweep of each optimizer: in `make test` figure 4 and the demo write theirs
def test_a_quick_run_writes_table_picture_and_json(monkeypatch, tmp_path):
    monkeypatch.setattr(figure2, "QUICK", figure2.Length((8,), 2, 1))
    # SGD under every name compiles once.
    monkeypatch.setattr(figure2, "MAKERS", dict.fromkeys(figure2.GRIDS, optax.sgd))
    monkeypatch.setattr(figure2, "GRIDS", dict.fromkeys(figure2.GRIDS, (0.03, 0.1)))
    console = Console(width=200, record=True, file=StringIO())
    figure2.figure2(Options(tmp_path, quick=True, output=tmp_path), console)
    printed = console.export_text()
    for word in (*NAMES, "50% dropout", "deterministic, L2 0.0001", "figure2.json", "§6.2"):
        assert word in printed
    assert (tmp_path / "figure2.png").exists()
    content = json.loads((tmp_path / "figure2.json").read_text())
    assert {"settings", "versions", "seconds", "panels", "claims"} == set(content)
    dropout, deterministic = content["settings"]["panels"]
    assert (dropout["dropout"], dropout["l2"], deterministic["dropout"], deterministic["l2"]) == (0.5, 0, 0, 1e-4)
    assert dropout["hidden"] == [8] and dropout["batch_size"] == 128
    for panel in content["panels"]:
        assert tuple(entry["name"] for entry in panel["optimizers"]) == NAMES
        assert all(len(costs) == 3 for entry in panel["optimizers"] for costs in entry["training_cost"].values())
    claims = [Claim(**claim) for claim in content["claims"]]
    assert len(claims) == 1 and all(claim.verdict in get_args(Verdict) for claim in claims)


def test_on_mnist_the_network_and_the_epochs_are_the_papers(monkeypatch, tmp_path):
    images, labels = np.zeros((200, 28, 28, 1), np.float32), np.zeros(200, np.int32)
    mnist = Dataset("mnist", images, labels, images, labels, 10)
    seen = []
    monkeypatch.setattr(figure2, "load", lambda options: mnist)
    monkeypatch.setattr(figure2, "run_panels", lambda name, title, panels, *rest: seen.extend(panels))
    figure2.figure2(Options(tmp_path, output=tmp_path), Console())
    for part in seen:
        assert part.about["hidden"] == (1000, 1000)
        assert (part.settings.epochs, part.settings.batch_size) == (200, 128)
        assert part.real
    assert len(seen) == 2
