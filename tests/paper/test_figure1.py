"""Figure 1's verdicts follow from its curves, and its files hold what a page about the paper needs."""

import json
from dataclasses import replace
from io import StringIO
from math import isfinite
from typing import get_args

import numpy as np
import optax
import pytest
from rich.console import Console

from adamx.examples.protocol import Contender, Run, Search, Settings
from paper import figure1, text
from paper.claims import Claim, Verdict
from paper.comparison import Comparison, Line
from paper.figure1_claims import judge
from paper.options import Options

NAMES = ("Adam", "SGD + Nesterov", "AdaGrad", "AdaGrad, constant α", "RMSProp")


def ends(*finals, slow=()):
    """A comparison of 4 epochs in which the optimizers of `NAMES` fall to these costs, halfway after one epoch.

    Those in `slow` begin to fall two epochs later.
    """
    lines = []
    for name, final in zip(NAMES, finals, strict=False):
        early = (1.9, 1.8) if name in slow else (1 + final / 2, final + 0.01)
        runs = tuple(Run(0.1, (2.0, *early, final + 0.005, final), 0.5, 0.0) for _ in range(2))
        lines.append(Line(Search(Contender(name, optax.sgd, (0.1,)), runs[:1]), runs))
    return Comparison("data", Settings(epochs=4), tuple(lines))


PAPER = ends(0.201, 0.5, 0.22, 0.2, 0.3)
HOLDS, CORRECTED, NOT_SHOWN = "holds", "holds with a correction", "could not be shown here"


def judged(images, weak=PAPER, strong=PAPER, undropped=PAPER):
    return judge([images, weak, replace(strong, title="L2 0.3"), undropped], "a command")


@pytest.mark.parametrize(
    ("images", "verdicts"),
    [
        ((0.20, 0.202, 0.4, 0.4), [HOLDS, HOLDS]),
        ((0.20, 0.202, 0.4, 0.1), [HOLDS, CORRECTED]),  # AdaGrad is behind only if it is decayed twice
        ((0.35, 0.20, 0.4, 0.4), [None, HOLDS]),
        ((0.40, 0.20, 0.3, 0.3), [None, None]),
    ],
)
@pytest.mark.parametrize(("real", "otherwise"), [(False, NOT_SHOWN), (True, "false")])
def test_a_verdict_on_images_is_the_order_of_the_curves(images, verdicts, real, otherwise):
    claims = judged(replace(ends(*images), real=real))
    assert [claim.verdict for claim in claims][:2] == [verdict or otherwise for verdict in verdicts]


def test_who_gets_there_much_later_converges_alike_with_a_correction_only():
    late = ends(0.20, 0.202, 1.2, 1.2, slow=("Adam",))
    first, *_ = judged(late)
    assert first.verdict == CORRECTED
    assert "takes up to 3 times as many epochs: 3 epochs to 1.2, SGD + Nesterov 1" in first.sentence


def test_a_verdict_says_under_which_reading_of_adagrads_step_size_it_is_so():
    twice = ends(0.20, 0.21, 0.4, 0.1)  # behind with α/√t
    once = ends(0.21, 0.5, 0.7, 0.2)  # ahead with constant α
    images, words = (judged(twice, once, once)[i] for i in (1, 2))
    assert images.verdict == words.verdict == CORRECTED
    assert "if its step size is α/√t, and not if it is constant α" in images.sentence
    assert "if its step size is constant α, and not if it is α/√t" in words.sentence
    assert "No reading shows both this and the paper's order on words" in images.sentence
    assert "No reading shows both" not in judged(ends(0.20, 0.21, 0.4, 0.4))[1].sentence


@pytest.mark.parametrize(
    ("weak", "strong", "verdicts"),
    [
        (PAPER, PAPER, [HOLDS, HOLDS]),
        (ends(0.21, 0.5, 0.7, 0.2), PAPER, [CORRECTED, HOLDS]),  # AdaGrad is behind if it is decayed twice
        (PAPER, ends(0.20, 0.21, 0.2, 0.2), [CORRECTED, HOLDS]),  # hardly ahead under a strong penalty
        (PAPER, ends(0.40, 0.5, 0.2, 0.2), [HOLDS, NOT_SHOWN]),  # Adam is behind under a strong penalty
        (ends(0.201, 0.202, 0.2, 0.2), PAPER, [NOT_SHOWN, NOT_SHOWN]),  # ahead, but in the last epochs only
        (ends(0.40, 0.5, 0.2, 0.2), PAPER, [HOLDS, NOT_SHOWN]),
        (ends(0.60, 0.2, 0.5, 0.5), PAPER, [NOT_SHOWN, NOT_SHOWN]),
    ],
)
def test_a_verdict_on_words_says_whether_it_needs_a_weak_penalty_or_a_constant_step(weak, strong, verdicts):
    assert [claim.verdict for claim in judged(ends(0.2, 0.2, 0.4, 0.4), weak, strong)][2:4] == verdicts


@pytest.mark.parametrize(
    ("undropped", "verdict"),
    [(PAPER, HOLDS), (ends(0.21, 0.5, 0.7, 0.2), CORRECTED), (ends(0.2, 0.2, 0.5, 0.5), NOT_SHOWN)],
)
def test_words_without_dropout_are_judged_by_their_own_runs(undropped, verdict):
    assert judged(PAPER, undropped=undropped)[4].verdict == verdict


@pytest.fixture
def few(monkeypatch):
    """Two epochs on a few texts with two step sizes, of SGD under every name, which compiles once."""
    labels = np.arange(300, dtype=np.int32) % 3
    bags = np.stack([labels, np.full(300, 5)], axis=1).astype(np.int32)
    texts = text.Texts("few texts", bags, labels, bags[:9], labels[:9], 5, ("a", "b", "c"))
    monkeypatch.setattr(figure1.text, "load", lambda data_dir: texts)
    monkeypatch.setattr(figure1, "MAKERS", dict.fromkeys(figure1.MAKERS, optax.sgd))
    monkeypatch.setattr(figure1, "QUICK", figure1.Length(2, 2, 1, 140))
    for grids in ("IMAGE_GRIDS", "WORD_GRIDS"):
        monkeypatch.setattr(figure1, grids, {name: (0.1, 1.0) for name in getattr(figure1, grids)})


@pytest.mark.product  # a sweep of each optimizer: in `make test` figure 4 and the demo write theirs
def test_a_quick_run_writes_table_picture_and_json(few, tmp_path):
    console = Console(width=200, record=True, file=StringIO())
    figure1.figure1(Options(tmp_path, quick=True, output=tmp_path / "new"), console)
    printed = console.export_text()
    for word in (*NAMES, "training cost", "few texts, 150 texts, 50% dropout, L2 1e-06", "figure1.png", "§6.1"):
        assert word in printed
    assert (tmp_path / "new" / "figure1.png").exists()
    content = json.loads((tmp_path / "new" / "figure1.json").read_text())
    assert {"settings", "versions", "seconds", "panels", "claims"} == set(content)
    assert content["settings"]["quick"] is True and isfinite(content["seconds"])
    assert [panel["data"] for panel in content["settings"]["panels"]] == ["digits", *["few texts"] * 3]
    assert [panel["l2"] for panel in content["settings"]["panels"]] == [1e-4, 1e-6, 1e-4, 1e-6]
    images, words, strong, undropped = content["panels"]
    assert [entry["name"] for entry in images["optimizers"]] == ["Adam", "SGD + Nesterov", "AdaGrad", NAMES[3]]
    assert {entry["name"] for entry in words["optimizers"]} == set(NAMES)
    for entry in (*images["optimizers"], *words["optimizers"], *strong["optimizers"], *undropped["optimizers"]):
        assert set(entry["grid"]) == {"0.1", "1"}
        (costs,) = entry["training_cost"].values()
        assert len(costs) == 3 and costs[-1] < costs[0]
        assert costs[-1] == min(entry["grid"].values())
    claims = [Claim(**claim) for claim in content["claims"]]
    assert len(claims) == 5 and all(claim.verdict in get_args(Verdict) for claim in claims)


def test_the_step_size_decays_as_the_inverse_root_of_the_steps():
    opt = figure1.MAKERS["SGD + Nesterov"](0.5)
    state, updates = opt.init(np.float32(0)), []
    for _ in range(4):
        update, state = opt.update(np.float32(1), state)
        updates.append(float(update))
    # Nesterov's direction under a constant gradient of 1: 1.9, 2.71, 3.439, 4.0951
    np.testing.assert_allclose(
        updates, [-0.5 * 1.9, -0.5 * 2.71 / 2**0.5, -0.5 * 3.439 / 3**0.5, -0.25 * 4.0951], rtol=1e-6
    )
