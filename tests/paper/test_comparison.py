"""What a comparison says follows from its costs: who is ahead, who is as fast, and what is written down."""

import json
from dataclasses import replace
from io import StringIO
from math import inf, isfinite, nan

import numpy as np
import optax
import pytest
from rich.console import Console

from adamx.diagnostics import drawing
from adamx.examples.models import LogisticRegression
from adamx.examples.protocol import Contender, Run, Search, Settings
from paper.comparison import Comparison, Line, as_dict, compare, from_dict, table
from paper.cost_panels import cost_panels
from paper.sweep import Examples, Problem


def line(name, *curves, grid=(0.1, 0.3, 1.0)):
    """An optimizer whose best step size is .3 if it is finite there, with a curve of costs for each seed."""
    contender = Contender(name, optax.sgd, grid)
    runs = tuple(Run(0.3, curve, 0.75, nan) for curve in curves)
    worse = (Run(rate, (2.0, nan), 0.1, nan) for rate in (0.1, 1.0))
    return Line(Search(contender, (next(worse), runs[0], next(worse))), runs)


def comparison(*lines):
    return Comparison("a problem", Settings(epochs=len(lines[0].runs[0].losses) - 1), lines, 7)


FAST = line("fast", (2.0, 0.4, 0.1), (2.0, 0.6, 0.3))
SLOW = line("slow", (2.0, 1.5, 0.5), (2.0, 1.5, 0.7))
LOST = line("lost", (2.0, inf, nan), (2.0, 1.0, 0.0))


def test_ahead_means_lower_from_every_seed():
    assert FAST.ahead_of(SLOW) and not SLOW.ahead_of(FAST)
    crossing = line("crossing", (2.0, 0.4, 0.05), (2.0, 0.6, 0.4))
    assert not crossing.ahead_of(FAST) and not FAST.ahead_of(crossing)
    assert not LOST.ahead_of(SLOW) and not SLOW.ahead_of(LOST)


@pytest.mark.parametrize(
    ("final", "fast"), [(0.1, True), (0.2, True), (0.39, True), (0.41, False), (0.7, False), (nan, False)]
)
def test_as_fast_means_nearer_than_half_way_to_who_is_behind(final, fast):
    assert line("one", (2.0, final)).as_fast_as(FAST, SLOW) == fast


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ((2.0, 0.9, 0.7, 0.3, 0.1), "holds"),
        ((2.0, 1.9, 1.8, 0.4, 0.1), "holds with a correction"),  # as low, after three times the epochs to .9
        ((2.0, 1.0, 0.7, 0.6, 0.55), "could not be shown here"),
        ((2.0, 1.0, 0.7, 0.3, nan), "could not be shown here"),
    ],
)
def test_as_fast_also_takes_about_as_many_epochs_to_where_the_others_end(curve, verdict):
    peers = line("peer", (2.0, 0.9, 0.5, 0.3, 0.1)), line("last", (2.0, 1.5, 1.2, 1.0, 0.9))
    found, told = comparison(line("one", curve), *peers).as_fast("one", "peer", "last")
    assert found == verdict
    assert ("3 epochs to 0.9, peer 1" in told) == (verdict == "holds with a correction")


def test_nobody_is_as_fast_by_being_near_somebody_behind():
    assert not SLOW.as_fast_as(FAST, behind=FAST)


def test_epochs_are_counted_to_the_first_at_the_cost_or_below():
    assert FAST.epochs_to(2.0) == 0 and FAST.epochs_to(0.5) == 1 and FAST.epochs_to(0.25) == 2
    assert FAST.epochs_to(0.1) is None and LOST.epochs_to(0.5) is None
    both = comparison(FAST, SLOW)
    assert (both.reached("fast", "slow"), both.reached("slow", "fast")) == ("after 1 of 2 epochs", "never")


def test_the_ends_are_ranked_by_mean_cost_with_those_who_diverged_last():
    assert comparison(LOST, SLOW, FAST).ends() == "fast 0.2, slow 0.6, lost nan nats"
    assert comparison(LOST, SLOW, FAST).ends("slow", "fast") == "slow 0.6, fast 0.2 nats"


def test_the_table_tells_cost_spread_and_epochs():
    console = Console(width=160, record=True, file=StringIO())
    console.print(table(comparison(FAST, SLOW, LOST)))
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in console.export_text().splitlines() if "│" in row]
    assert rows == [
        ["fast", "0.3", "0.2", "0.1 to 0.3", "1", "75.0%"],
        ["slow", "0.3", "0.6", "0.5 to 0.7", "2", "75.0%"],
        ["lost", "0.1*", "diverged", "–", "–", "75.0%"],
    ]


def test_json_keeps_every_curve_and_null_for_what_is_not_finite():
    (entry,) = json.loads(json.dumps(as_dict(comparison(LOST)), allow_nan=False))["optimizers"]
    assert entry["best_step_size"] == 0.1 and entry["at_edge_of_grid"]
    assert entry["grid"] == {"0.1": None, "0.3": None, "1": None}
    assert entry["training_cost"] == {"0": [2.0, None, None], "1": [2.0, 1.0, 0.0]}


@pytest.mark.parametrize("lines", [(FAST, SLOW), (SLOW, LOST, FAST)])
def test_what_is_read_back_from_json_says_the_same(lines):
    written = json.loads(json.dumps(as_dict(replace(comparison(*lines), real=True))))
    read = from_dict(written)
    assert as_dict(read) == written and read.real and read.steps == 7
    assert read.ends() == comparison(*lines).ends()
    assert read.as_fast("fast", "slow", "slow") == comparison(*lines).as_fast("fast", "slow", "slow")


def test_where_no_cost_was_taken_nothing_is_drawn(tmp_path):
    sparse = line("sparse", (2.0, 1.0, nan, 0.5))
    (axes,) = cost_panels([comparison(sparse)], "title", "cost (nats)").axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 1, 3])


def test_a_figure_draws_a_line_for_each_optimizer_with_those_that_end_highest_first(tmp_path):
    figure = cost_panels([comparison(FAST, SLOW, LOST), comparison(SLOW, FAST)], "title", "cost (nats)")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["lost, 0.1", "slow, 0.3", "fast, 0.3"]
    assert {drawn.get_label(): drawn.get_color() for drawn in right.lines}.items() <= {
        drawn.get_label(): drawn.get_color() for drawn in left.lines
    }.items()
    assert (left.get_xlabel(), left.get_ylabel(), left.get_yscale()) == ("epoch of 7 steps", "cost (nats)", "log")
    assert left.get_title(loc="left") == "a problem\n14 steps, 2 seeds"
    np.testing.assert_allclose(left.lines[0].get_ydata(), [2.0, 0.5, 0.2])
    drawing.save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_comparing_searches_each_grid_and_repeats_the_best_from_further_seeds():
    images = np.random.default_rng(0).normal(size=(40, 2, 2, 1)).astype(np.float32)
    examples = Examples(images, (images.sum((1, 2, 3)) > 0).astype(np.int32))
    problem = Problem(lambda rngs: LogisticRegression((2, 2, 1), 2, rngs=rngs), examples, examples)
    contenders = [Contender("SGD", optax.sgd, (0.01, 1.0, 1e30)), Contender("Lion", optax.lion, (0.01, 0.1, 1e30))]
    heard = []
    result = compare("a problem", problem, contenders, Settings(epochs=2, batch_size=10), 2, heard.append)
    assert [line.name for line in result.lines] == ["SGD", "Lion"] and result["Lion"] is result.lines[1]
    assert len(heard) == 2 * 2 * 2
    for line in result.lines:
        assert line.costs.shape == (2, 3) and isfinite(line.final)
        assert line.runs[0] is line.search.best
    assert result["SGD"].search.best.learning_rate == 1.0
