"""The claims are put to the test from the command line, and the page is made of what came out."""

import json
from collections import Counter
from pathlib import Path

import jax
import pytest
from rich.console import Console

from paper import across, theory
from paper import page as pages
from paper.checks import CHECKS, tuning
from paper.claims import UNTESTED, Claim
from paper.options import Options

DOCS = Path(__file__).parent.parent.parent / "docs"
pytestmark = pytest.mark.usefixtures("loose")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A quick run, and what it has printed."""
    folder = tmp_path_factory.mktemp("theory") / "new"
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        (folder.parent / "log").open("w") as log,
    ):
        theory.theory(Options(quick=True, output=folder), Console(file=log, width=200))
    return folder


def claims(folder):
    return {claim["claim"]: claim for claim in json.loads((folder / "theory.json").read_text())["claims"]}


@pytest.mark.product
def test_a_run_writes_a_table_a_figure_results_and_the_page(output):
    log = (output.parent / "log").read_text()
    assert all(name in log for name in CHECKS) and "verdict" in log and "Wrote" in log
    assert (output / "theory.png").exists()
    content = json.loads((output / "theory.json").read_text())
    assert content["settings"]["quick"] and content["seconds"] > 0 and {"adamx", "jax"} <= set(content["versions"])
    assert {"Reddi A", "average regret", "signal to noise"} <= set(content["curves"])
    assert (output / "paper.md").read_text() == pages.page(output)


@pytest.mark.product
def test_a_quick_run_comes_to_the_verdicts_of_the_committed_one(output):
    quick, full = claims(output), claims(DOCS)
    assert {name: claim["verdict"] for name, claim in quick.items()} == {
        name: claim["verdict"] for name, claim in full.items()
    }


@pytest.mark.product
@pytest.mark.parametrize(
    ("claim", "verdict", "number"),
    [
        ("|Δ| ≤ α (1−β₁)/√(1−β₂) where 1−β₁ > √(1−β₂)", "false", "2.30 times"),
        ("|Δ| < α where 1−β₁ = √(1−β₂)", "false", "2.345 α"),
        ("AdaMax: |Δ| ≤ α", "false", "1.0091 α"),
        ("Theorem 4.1 bounds the regret of Adam on every convex problem", "false", "4004.6, the bound 3180.8"),
        ("With α/√t the average regret of Adam falls as 1/√T, where the problem is kind", "holds", "slope -0."),
        ("Without the correction the first steps are much too large", "holds", "6.57 α"),
        (
            "Theorem 4.1 bounds the regret of Adam on every convex problem",
            "false",
            "0.9 first at T = 1188, for good from",
        ),
        ("Lemma 10.3: Σ √(g²/t) ≤ 2 G∞ ‖g‖₂", "false", "1.859 against 0.200"),
        ("Lemma 10.4: Σ m̂²/√(t v̂) ≤ 2 ‖g‖₂ / ((1−γ) √(1−β₂))", "false", "7.48 against 5.50"),
        ("The hyperparameters need little tuning", "could not be shown here", "of SGD"),
    ],
)
def test_what_is_known_comes_out(output, claim, verdict, number):
    found = claims(output)[claim]
    assert found["verdict"] == verdict and number in f"{found['number']}. {found['sentence']}"


@pytest.mark.parametrize("of", ["committed", pytest.param("quick", marks=pytest.mark.product)])
def test_every_claim_says_where_it_is_made_and_how_it_was_tested(of, request):
    root = DOCS.parent
    for claim in claims(DOCS if of == "committed" else request.getfixturevalue("output")).values():
        assert all(text for part, text in claim.items() if part != "sentence")
        assert pages.place(claim["source"]) in pages.SECTIONS
        for test in (part for part in claim["evidence"].split("`") if part.startswith("tests/")):
            file, name = test.split("::")
            assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), test


def test_the_committed_page_is_that_of_the_committed_results():
    assert (DOCS / "paper.md").read_text(encoding="utf-8") == pages.page(DOCS), (
        "docs/paper.md is out of date: python -m paper page"
    )


@pytest.fixture
def folder(tmp_path):
    """Results of two runs with a claim each of every verdict."""
    for name, section in (("theory", "§2.1"), ("figure1", "§6.1")):
        content = {
            "settings": {"quick": False},
            "versions": {"jax": "1"},
            "claims": [Claim(section, f"a|b {v}", "`x`", v, f"number of {v}")._asdict() for v in pages.VERDICTS],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_page_has_every_claim_under_its_section_and_counts_verdicts(folder):
    page = pages.page(folder)
    sections = page.split("## ")
    assert [part.splitlines()[0] for part in sections[1:]] == [pages.SECTIONS[2], pages.SECTIONS[6]]
    assert all(part.count(r"| a\|b ") == len(pages.VERDICTS) for part in sections[1:])
    assert "| false | 2 |" in sections[0]
    assert all(f"`python -m paper {name}`" in sections[0] for name in ("figure2", "figure3", "figure4"))


def test_the_page_says_where_our_curves_are_not_in_the_papers_order(folder):
    told = pages.page(folder).split("or not its order:")[1].split("##")[0]
    assert "number of false" in told and "number of holds;" not in told and "§2.1" not in told


def test_a_claim_of_an_order_that_does_not_hold_is_told_wherever_it_is_made(folder):
    order = Claim("abstract", "as AdaGrad, far ahead", "`x`", "false", "the order")
    length = Claim("§2.1", "steps of AdaGrad", "`x`", "false", "the length")
    _replace(folder, [order, length])
    told = pages.page(folder).split("or not its order:")[1].split("##")[0]
    assert "the order" in told and "the length" not in told


def test_what_was_not_tested_is_marked_and_counted(folder):
    _replace(folder, [Claim("§6.2", "a", UNTESTED, "could not be shown here", "no SFO")])
    page = pages.page(folder)
    assert "| **could not be shown here** (*not tested*) | no SFO |  | none |" in page
    assert "1 of those that could not be shown were not tested" in page


def test_what_a_figure_has_tested_takes_the_place_of_what_was_not(folder):
    _replace(folder, [Claim("§6.1", "a|b holds", UNTESTED, "could not be shown here", "none", "Not run.")])
    assert "(*not tested*)" not in pages.page(folder)


def _replace(folder, claims):
    content = json.loads((folder / "theory.json").read_text())
    (folder / "theory.json").write_text(json.dumps(content | {"claims": [claim._asdict() for claim in claims]}))


def test_section_6_begins_with_steps_beside_the_papers():
    section = pages.page(DOCS).split("## Section 6")[1].split("## ")[0]
    assert "| figure3 | digits, 1,437 images | 3 epochs | 2 | 33 | 1,170 | 35.5 |" in section
    assert "A step is a minibatch." in section


def test_a_panel_at_the_papers_length_says_what_no_short_run_does():
    def optimizer(name, grid):
        return {"name": name, "grid": grid, "training_cost": {"0": [2.0, min(grid.values())]}}

    grids = {"Adam": {"0.001": 0.11, "0.003": 0.1}, "SGD + Nesterov": {"0.1": 0.08}}
    panel = {"title": "dropout", "optimizers": [optimizer(*pair) for pair in grids.items()]}
    settings = {"panels": [{"training_examples": 60_000, "hidden": [1000, 1000]}]}

    def found(real):
        results = {"figure2": {"settings": settings, "panels": [panel | {"as_in_the_paper": real}]}}
        return {claim.claim.partition(",")[0]: claim for claim in across.claims(results)}

    large, defaults = "Suited to problems with much data and many parameters", "Good defaults are α = .001"
    assert found(True)[large].verdict == "holds" and "1.25 times" in found(True)[large].number
    assert found(True)[defaults].verdict == "holds" and "1.10 times the best loss" in found(True)[defaults].number
    assert large not in found(False) and defaults not in found(False)


@pytest.mark.parametrize(
    ("adam", "sgd", "verdict"),
    [([0.1, 0.1], [0.2, 0.2], "holds"), ([0.1, 0.1], [0.05, 0.2], "could not be shown here")],
)
def test_adam_compares_favourably_if_it_ends_below_most_others(adam, sgd, verdict):
    panels = [
        {"optimizers": [{"name": name, "training_cost": {"0": [1.0, end]}} for name, end in pair]}
        for pair in zip([("Adam", cost) for cost in adam], [("SGD", cost) for cost in sgd], strict=True)
    ]
    (claim,) = across.claims({"figure1": {"panels": panels}})
    assert claim.verdict == verdict
    assert across.claims({"theory": {}}) == []


@pytest.mark.parametrize(
    ("adam", "sgd", "verdict"),
    [
        ([9, 1.05, 1, 9], [9, 1, 9, 9], "holds"),
        ([9, 1.05, 1, 9], [9, 1, 1, 9], "holds with a correction"),
        ([9, 1, 1.2, 9], [9, 1, 9, 9], "false"),
        ([1, 1, 1.2, 9], [9, 1, 9, 9], "holds with a correction"),
        ([None, 1, 1.2, None], [9, 1, 9, 9], "false"),
    ],
)
def test_little_tuning_is_a_good_default_and_a_wide_range(adam, sgd, verdict):
    grids = [
        {f"{rate:g}": cost for rate, cost in zip((1e-4, 3e-4, 1e-3, 3e-3), costs, strict=True)} for costs in (adam, sgd)
    ]
    optimizers = [{"name": name, "grid": grid} for name, grid in zip(("Adam", "SGD + Nesterov"), grids, strict=True)]
    about = {"training_examples": 60_000, "batch_size": 128, "epochs": 45}

    def found(real):
        panel = {"title": "a model", "as_in_the_paper": real, "optimizers": optimizers}
        return across.claims({"defaults": {"panels": [panel], "settings": {"panels": [about]}}})

    assert found(False) == []
    assert found(True)[-1].verdict == verdict and "after 21,060 steps" in found(True)[-1].sentence


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [([1.0, 1.1], "holds"), ([1.0, 1.9], "holds with a correction"), ([1.0, 2.1], "could not be shown here")],
)
def test_defaults_are_as_good_as_on_the_worst_problem(ratios, verdict):
    assert tuning.default_verdict(ratios) == verdict


def test_the_summary_counts_every_claim_once(folder):
    found = pages.claims_of(pages.read(folder))
    rows = [line.strip("| ").split(" | ") for line in pages.summary(found).splitlines()[2:]]
    assert {name: int(count) for name, count in rows} == Counter(claim.verdict for claim in found)


def test_an_unknown_verdict_is_refused():
    bad = {"theory": {"claims": [Claim("§2", "c", "e", "true", "1")._asdict()]}}
    with pytest.raises(
        ValueError, match="verdict 'true' of 'c' should be one of holds, holds with a correction, false"
    ):
        pages.claims_of(bad)


@pytest.mark.parametrize(
    ("source", "section"),
    [("abstract, §2.1", 0), ("§1", 0), ("§2", 2), ("§2.1", 2), ("§10.1", 10), ("introductions", 98), ("figure", 99)],
)
def test_a_source_has_a_section(source, section):
    assert pages.place(source) == section


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(theory, "run", lambda *args: pytest.fail("ran"))
    (tmp_path / "theory.json").mkdir()
    with pytest.raises(ValueError, match="cannot be written"):
        theory.theory(Options(quick=True, output=tmp_path), Console())
