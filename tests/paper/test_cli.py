"""Every experiment is a command, `all` runs them in order, `page` gathers their claims, and mistakes are explained."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from paper.__main__ import EXPERIMENTS, app
from paper.options import Images, Options
from paper.runs import Runs

DOCS = Path(__file__).parents[2] / "docs"


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def played(monkeypatch):
    """Every experiment of the paper replaced by one that says how it was called."""
    calls = []

    def play(name):
        return lambda options, console: calls.append((name, options))

    for name in EXPERIMENTS:
        monkeypatch.setitem(sys.modules, f"paper.{name}", SimpleNamespace(**{name: play(name)}))
    return calls


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_command_of_its_name(played, tmp_path, name):
    runs = tmp_path / "runs"
    asked = ("--data-dir", "here", "--data", "mnist", "--quick", "--output", tmp_path, "--runs", runs)
    result = invoke(name, *asked)
    assert result.exit_code == 0, result.output
    assert invoke(name, "--output", tmp_path).exit_code == 0
    assert played == [
        (name, Options(Path("here"), Images.mnist, True, tmp_path, Runs(runs))),
        (name, Options(output=tmp_path)),
    ]


def test_all_runs_the_figures_then_the_theory_and_says_how_long_each_took(played, tmp_path):
    result = invoke("all", "--quick", "--output", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert [name for name, *_ in played] == list(EXPERIMENTS)
    assert {options for _, options in played} == {Options(quick=True, output=tmp_path / "new")}
    assert "figure1 0 s, figure2 0 s, figure3 0 s, figure4 0 s, defaults 0 s, sfo 0 s, theory 0 s" in result.output


def test_all_is_refused_before_it_runs_where_one_of_its_files_cannot_be_written(played, tmp_path):
    (tmp_path / "figure3.json").mkdir()
    result = invoke("all", "--output", tmp_path)
    assert result.exit_code == 2 and "figure3.json' cannot be written: " in " ".join(result.output.split())
    assert played == []


def test_data_that_is_there_in_part_is_explained(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").touch()
    result = invoke("figure2", "--data-dir", tmp_path, "--output", tmp_path)
    assert result.exit_code == 2
    assert "expected train-labels-idx1-ubyte, t10k-images-idx3-ubyte" in " ".join(
        result.output.replace("│", " ").split()
    )


@pytest.mark.parametrize("name", [*EXPERIMENTS, "all"])
def test_help_of_an_experiment_explains_its_options(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert all(f"--{option} " in result.output for option in ("data-dir", "data", "quick", "output", "runs"))


def test_page_is_written_beside_the_results(tmp_path):
    for name in EXPERIMENTS:
        for kind in ("json", "png"):
            shutil.copy(DOCS / f"{name}.{kind}", tmp_path)
    result = invoke("page", "--results", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "paper.md").read_text(encoding="utf-8") == (DOCS / "paper.md").read_text(encoding="utf-8")


def test_page_asks_for_a_directory_that_exists(tmp_path):
    assert invoke("page", "--results", tmp_path / "nowhere").exit_code == 2
