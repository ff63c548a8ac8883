"""The benchmarks of speed and memory run, and write what they print."""

import json
import sys

import pytest

from benchmarks import accelerators, compile_time, memory, monitor_cost, scaling, step_time, tables, wrappers
from benchmarks.deviceless import Counts
from benchmarks.machine import Spread, in_turns

pytestmark = pytest.mark.usefixtures("one_device", "loose")


@pytest.fixture
def short_turns(monkeypatch):
    """Turns that show that everything runs, and measure nothing."""
    for module in (step_time, compile_time, monitor_cost, wrappers):
        monkeypatch.setattr(module, "in_turns", lambda ready, rounds: in_turns(ready, 1, least=1e-4))


def test_spread_is_the_median_and_the_middle_half():
    assert Spread.of([4, 1, 3, 2, 100]) == (3, 2, 4)


def test_everyone_has_as_many_turns():
    seconds = in_turns({"a": lambda: None, "b": lambda: None}, rounds=3, least=1e-4)
    assert {len(row) for row in seconds.values()} == {3}


@pytest.mark.product
@pytest.mark.usefixtures("short_turns")
def test_step_time_measures_every_contender(monkeypatch, tmp_path):
    monkeypatch.setattr(step_time, "one_leaf", lambda _: {"w": (64, 128)})
    monkeypatch.setattr(sys, "argv", ["step_time", "--quick", "--output", str(tmp_path / "out.json")])
    step_time.main()
    cases = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert {"optax", "adamx", "torch fused"} <= set(cases["1 M"])
    assert cases["1 M"]["optax"]["to_optax"]["median"] == 1


def test_the_transformer_has_124_million_parameters():
    sizes = (a * (b[0] if b else 1) for a, *b in step_time.transformer().values())
    assert sum(sizes) == pytest.approx(124e6, rel=0.01)


@pytest.mark.product
@pytest.mark.usefixtures("short_turns")
def test_wrappers_are_measured_beside_optax(monkeypatch, tmp_path):
    monkeypatch.setattr(wrappers, "LARGE", {"layer_0/kernel": (64, 128), "layer_1/kernel": (8, 8)})
    few = {f"{kind}_{i}/kernel": (8, 8) for kind in "abcde" for i in range(2)}
    monkeypatch.setattr(wrappers, "MANY", few)
    argv = ["wrappers", "--parts", "tree", "compile", "time", "--rounds", "1", "--output", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", argv)
    wrappers.main()
    results = json.loads((tmp_path / "out.json").read_text())
    assert (
        results["tree"]["adamx.adamw"] == results["tree"]["adamx.adamw, groups"] != results["tree"]["optax.partition"]
    )
    assert {"guard", "optax.MultiSteps, 4"} <= set(results["time"]["200 leaves"])


@pytest.mark.usefixtures("short_turns")
def test_compile_time(monkeypatch, tmp_path):
    argv = ["compile_time", "--rounds", "1", "--leaves", "3", "--output", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", argv)
    compile_time.main()
    row = json.loads((tmp_path / "out.json").read_text())["leaves"]["3"]
    assert row["adamx"]["first"]["median"] > row["adamx"]["traced"]["median"] > 0 < row["adamx"]["later"]["median"]


@pytest.mark.product
@pytest.mark.usefixtures("short_turns")
def test_monitor_cost_is_of_both_ways_to_train(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["monitor_cost", "--rounds", "1", "--output", str(tmp_path / "out.json")])
    monitor_cost.main()
    training = json.loads((tmp_path / "out.json").read_text())["training"]
    assert set(training) == {"in a scan", "a call each"}
    assert training["in a scan"]["adam"]["to_adam"]["median"] == 1


@pytest.mark.parametrize("name", memory.CONTENDERS)
def test_memory_counts_the_state(name):
    row = memory.measure(name, 1)
    assert row["state"] == pytest.approx(2.03 if "int8" in name else 8, rel=0.01)
    assert row["temporary"] < 1 or "xla" in name


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Rows of accelerators that nobody compiled; the file that they are written to."""
    seconds = {"optax": 2.0, "adamx": 3.0}

    def row(target, case, name, limit):
        return (
            {"failed": "no"}
            if name not in seconds
            else dict.fromkeys(Counts._fields, 1) | {"times": 1} | {key: seconds[name] for key in accelerators.TIMES}
        )

    monkeypatch.setattr(accelerators, "missing", lambda target: None)
    monkeypatch.setattr(accelerators, "measured_apart", row)

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["accelerators", "--output", str(tmp_path / "out.json"), *argv])
        accelerators.main()
        return json.loads((tmp_path / "out.json").read_text())["shapes"]

    return run


def test_accelerators_measures_what_was_chosen_and_adds_it_to_what_is_there(pretended):
    first = pretended("--targets", "H100", "--shapes", "2000x64", "--rounds", "2")["2000x64"]["H100"]
    assert list(first) == list(accelerators.FEW)
    assert first["adamx"]["seconds_to_optax"] == first["adamx"]["processor_to_optax"] == 1.5
    assert first["adamx, moments int8"] == {"failed": "no"}
    both = pretended("--add", "--targets", "v5e", "--shapes", "2000x64", "--only", "optax")["2000x64"]
    assert both == {"H100": first, "v5e": {"optax": first["optax"]}}


def test_accelerators_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(accelerators, "missing", lambda target: f"{target}: install it")
    monkeypatch.setattr(sys, "argv", ["accelerators", "--targets", "v5e", "H100"])
    with pytest.raises(SystemExit):
        accelerators.main()
    assert capsys.readouterr().err.startswith("v5e: install it\nH100: install it\n")


@pytest.mark.devices
def test_scaling_measures_what_a_device_holds_and_what_devices_exchange(monkeypatch, tmp_path, capsys):
    strategies = ("data parallel", "FSDP, last axis", "ZeRO-1")
    monkeypatch.setattr(scaling, "STRATEGIES", {name: scaling.STRATEGIES[name] for name in strategies})
    monkeypatch.setattr(scaling, "FORMATS", {"float32": scaling.FORMATS["float32"]})
    monkeypatch.setattr(scaling, "transformer", lambda **_: {"h0.up": (256, 512)})
    argv = ["scaling", "--devices", "4", "--parts", "formats", "--output", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", argv)
    scaling.main()
    rows = [x["float32"] for x in json.loads((tmp_path / "out.json").read_text())["formats"].values()]
    assert [round(x["bytes"] / x["share"], 3) for x in rows] == [4, 1, 1]
    assert [x["exchanges"] for x in rows] == [{}, {}, {"all-gather": 1}]
    assert "1 all-gather" in capsys.readouterr().out


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_the_documents_tables_are_those_of_the_committed_results(name):
    text = (tables.ROOT / name).read_text(encoding="utf-8")
    assert text == tables.filled(text), "python -m benchmarks.tables"
    assert text.count("<!-- /") > 0
