"""Every verdict on a figure follows from the numbers that are committed with it, without training."""

import json
from pathlib import Path

import pytest

from paper import page as pages
from paper.claims import UNTESTED, Claim

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = pages.read(DOCS)
LARGEST = 300_000


@pytest.mark.parametrize("name", pages.FIGURES)
def test_the_committed_claims_of_a_figure_are_what_its_committed_numbers_say(name):
    content = RESULTS[name]
    assert [Claim(**claim) for claim in content["claims"]] == pages.judged(name, content)


@pytest.mark.parametrize("name", pages.FIGURES)
def test_a_number_that_is_changed_changes_what_is_said(name):
    text = (DOCS / f"{name}.json").read_text("utf-8")
    content = json.loads(text)
    before = pages.judged(name, content)
    for panel in content.get("panels", content.get("comparisons", ())):
        for optimizer in panel["optimizers"]:
            optimizer["training_cost"] = {seed: costs[::-1] for seed, costs in optimizer["training_cost"].items()}
            optimizer["grid"] = dict(zip(optimizer["grid"], list(optimizer["grid"].values())[::-1], strict=True))
    for curve in content.get("curves", ()):
        curve["cost"] = curve["cost"][::-1]
    for run in content.get("runs", ()):
        run["bias_correction"] = not run["bias_correction"]
    assert pages.judged(name, content) != before


def test_the_committed_results_are_small():
    assert all((DOCS / f"{name}.json").stat().st_size <= LARGEST for name in pages.RUNS)


def test_verdicts_drawn_again_are_those_that_were_written(tmp_path):
    for name in pages.FIGURES:
        (tmp_path / f"{name}.json").write_text((DOCS / f"{name}.json").read_text("utf-8"), "utf-8")
    pages.judge_again(tmp_path)
    assert pages.read(tmp_path) == {name: RESULTS[name] for name in pages.FIGURES}


def test_a_claim_has_one_number_and_one_sentence_that_fit_a_table():
    for claim in pages.claims_of(RESULTS):
        if claim.evidence != UNTESTED:
            assert len(claim.number) <= 200, claim
            assert len(claim.sentence) <= 400, claim
