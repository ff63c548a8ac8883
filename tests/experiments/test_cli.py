"""The command line runs without a terminal, writes what it says, and explains a mistake."""

import json
import sys
from math import nan
from types import SimpleNamespace

import optax
import pytest
from typer.testing import CliRunner

from adamx.experiments import demo, figures, report
from adamx.experiments.__main__ import EXPERIMENTS, app
from adamx.experiments.contenders import CONTENDERS
from adamx.experiments.training import Contender, Run, Search, Settings


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_demo_writes_a_table_a_figure_and_every_run(tmp_path):
    output = tmp_path / "new" / "folder"
    result = invoke("demo", "--epochs", 2, "--batch-size", 128, "--hidden", "16", "--seed", 3,
                    "--optimizers", "adam,sgd-nesterov", "--optimizers", "adagrad", "--output", output)  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in ("Adam", "SGD + Nesterov", "AdaGrad", "training loss", "test accuracy", "time/step", "µs"):
        assert word in result.output
    assert "AdaDelta" not in result.output
    assert (output / "demo.png").exists()

    content = json.loads((output / "demo.json").read_text())
    assert content["settings"] == {"data": "digits", "model": "MLP", "hidden": [16], "parameters": 64 * 16 + 16 + 170,
                                   "epochs": 2, "batch_size": 128, "seed": 3}  # fmt: skip
    assert set(content["versions"]) == {"adamx", "jax", "optax", "flax"}
    assert [entry["name"] for entry in content["optimizers"]] == ["Adam", "SGD + Nesterov", "AdaGrad"]
    for entry, name in zip(content["optimizers"], ("adam", "sgd-nesterov", "adagrad"), strict=True):
        assert tuple(run["step_size"] for run in entry["runs"]) == CONTENDERS[name].grid
        assert all(len(run["training_loss"]) == 3 for run in entry["runs"])
        best = min(entry["runs"], key=lambda run: run["training_loss"][-1])
        assert entry["best_step_size"] == best["step_size"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--optimizers", "adam,adamx2"], "optimizer = 'adamx2': did you mean 'adamax'?"),
        (["demo", "--optimizers", ","], "optimizer = '': choose from 'adam', 'adamax'"),
        (["demo", "--optimizers", "adam,"], "optimizer = '': choose from 'adam', 'adamax'"),
        (["demo", "--optimizers", ""], "optimizer = '': choose from 'adam', 'adamax'"),
        (["demo", "--data", "cifar"], "data set = 'cifar': did you mean 'cifar10'?"),
        (["demo", "--data", "mnist", "--data-dir", "nowhere"], "expected train-images-idx3-ubyte"),
        (["demo", "--batch-size", "2000"], "batch size 2000 is not between 1 and the 1437 training images"),
        (["demo", "--hidden", "64,none"], "hidden widths '64,none' are not positive integers"),
        (["demo", "--epochs", "0"], "Invalid value for '--epochs'"),
        (["dmo"], "Did you mean 'demo'"),
    ],
)
def test_a_mistake_is_explained(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(("output", "bad"), [("file/folder", "file/folder"), ("folder", "folder/demo.json")])
def test_an_output_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch, output, bad):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "grid_search", lambda *args: pytest.fail("trained"))
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "demo.json").mkdir(parents=True)
    result = invoke("demo", "--output", output)
    assert result.exit_code == 2
    assert f"output '{bad}' cannot be written: " in result.output


def test_preparing_leaves_what_is_there(tmp_path):
    report.writable(tmp_path / "new" / "folder", demo.FILES)
    (tmp_path / "demo.json").write_text("before")
    report.writable(tmp_path, demo.FILES)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo.json", "folder", "new"]
    assert (tmp_path / "demo.json").read_text() == "before"


def test_help_explains_every_option():
    result = invoke("demo", "--help")
    assert result.exit_code == 0
    options = ("data", "data-dir", "epochs", "batch-size", "seed", "optimizers", "hidden", "output")
    assert all(f"--{option} " in result.output for option in options)
    assert all(name in result.output for name in CONTENDERS)


def test_an_optimizer_that_only_diverged_is_reported_as_such(tmp_path):
    contender = Contender("SGD", optax.sgd, (0.1, 1.0))
    search = Search(contender, tuple(Run(rate, (2.3, nan, nan), 0.1, nan) for rate in contender.grid))
    cells = [next(iter(column.cells)) for column in report.table([search], "title").columns]
    assert cells == ["SGD", "0.1*", "diverged", "10.0%", "–"]
    content = json.loads(report.as_json([search], Settings(), {}))
    assert content["optimizers"][0]["runs"][0]["training_loss"] == [2.3, None, None]
    figures.save(figures.loss_curves([search], "title"), tmp_path / "demo.png")
    assert (tmp_path / "demo.png").exists()


@pytest.fixture
def played(monkeypatch):
    """Every experiment of the paper replaced by one that says how it was called."""
    calls = []

    def play(name):
        return lambda data_dir, quick, output, console: calls.append((name, str(data_dir), quick, str(output)))

    for name in EXPERIMENTS:
        monkeypatch.setitem(sys.modules, f"adamx.experiments.{name}", SimpleNamespace(**{name: play(name)}))
    return calls


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_command_of_its_name(played, tmp_path, name):
    result = invoke(name, "--data-dir", "here", "--quick", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert invoke(name, "--output", tmp_path).exit_code == 0
    assert played == [(name, "here", True, str(tmp_path)), (name, "data", False, str(tmp_path))]


def test_all_runs_the_figures_then_the_theory_and_says_how_long_each_took(played, tmp_path):
    result = invoke("all", "--quick", "--output", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert [name for name, *_ in played] == ["figure1", "figure2", "figure3", "figure4", "theory"]
    assert {call[1:] for call in played} == {("data", True, str(tmp_path / "new"))}
    assert "figure1 0 s, figure2 0 s, figure3 0 s, figure4 0 s, theory 0 s" in result.output


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
    assert all(f"--{option} " in result.output for option in ("data-dir", "quick", "output"))
