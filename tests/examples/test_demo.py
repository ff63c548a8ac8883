"""The demo runs without a terminal, writes its table, figure and JSON file, and explains a mistake."""

import json
from math import nan

import optax
import pytest
from typer.testing import CliRunner

from adamx.diagnostics import drawing
from adamx.examples import demo, figures, report
from adamx.examples.__main__ import app
from adamx.examples.contenders import CONTENDERS
from adamx.examples.protocol import Contender, Run, Search, Settings


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
    drawing.save(figures.loss_curves([search], "title"), tmp_path / "demo.png")
    assert (tmp_path / "demo.png").exists()
