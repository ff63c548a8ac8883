"""What was collected is written where it can be looked at: a dictionary, TensorBoard, one page by itself."""

import base64
import re
import sys
import types
import xml.etree.ElementTree as ET

import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx.diagnostics import History, monitor, read


@pytest.fixture(scope="module")
def history():
    opt, params, told = monitor(adamx.adam(1e-2)), {"a": jnp.ones(3), "b": jnp.ones(2)}, History()
    state = opt.init(params)
    for step in range(1, 6):
        params, state = opt.step(params, state, params)
        told.add(step, read(state), loss=np.float32(1 / step))
    return told


def test_series_are_values_by_step(history):
    assert history.series["loss"] == ([1, 2, 3, 4, 5], [pytest.approx(1 / t) for t in range(1, 6)])
    assert {name.partition("/")[0] for name in history.series} == {"all", "a", "b", "loss"}


def test_the_page_stands_by_itself_with_a_picture_for_each_metric(history, tmp_path):
    history.to_html(tmp_path / "run.html", title="a <run>")
    text = (tmp_path / "run.html").read_text()
    assert "a &lt;run&gt;" in text and "<run>" not in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)"', text)
    assert len(pictures) == 1 + 13
    assert {alt.partition(" by step")[0] for _, alt in pictures} >= {"loss", "Update to weight", "Gradient norm"}
    for data, _ in pictures:
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_values_that_are_not_finite_or_come_once_do_not_stop_a_page(tmp_path):
    told = History()
    told.add(0, {"all/snr": float("nan"), "all/gradient_norm": float("inf")}, loss=1.0)
    told.to_html(tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size > 1000


def test_tensorboard_is_given_every_value(history, tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, logdir):
            self.logdir = logdir

        def add_scalar(self, name, value, step):
            written.append((self.logdir, name, value, step))

        def close(self):
            written.append("closed")

    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    history.to_tensorboard(tmp_path)
    assert written[-1] == "closed"
    assert len(written) - 1 == sum(len(steps) for steps, _ in history.series.values())
    assert (str(tmp_path), "loss", pytest.approx(0.5), 2) in written


def test_without_tensorboardx_the_error_names_the_package(history, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboardX"):
        history.to_tensorboard(tmp_path)


def test_without_matplotlib_the_error_names_the_package(history, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        history.to_html(tmp_path / "run.html")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda told: (told.add(2, loss=1.0), told.add(1, loss=1.0)), "step 1 of 'loss' comes after step 2"),
        (lambda told: told.add(1, loss=jnp.ones(3)), r"'loss' has shape \(3,\) at step 1"),
        (lambda told: told.to_html("nowhere.html"), "the history is empty"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call(History())
