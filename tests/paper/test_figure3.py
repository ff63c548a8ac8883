"""Figure 3: whitened images, the paper's convolutional network, and what its runs say about section 6.3."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from rich.console import Console

import adamx
from adamx.examples import data
from adamx.examples.models import cross_entropy
from adamx.examples.protocol import Contender, Run, Search, Settings
from paper import figure3
from paper.comparison import Comparison, Line
from paper.conv import DeepCNN, PatchConv
from paper.figure3_claims import WITHOUT_FIRST, order_claims
from paper.options import Options
from paper.runs import Runs
from paper.second_moment import Moment, measure, second_moments
from paper.sweep import Examples, Problem
from paper.whitening import whitened, zca

DIGITS = data.digits()
TINY = figure3.Plan(channels=(2,), hidden=5, epochs=2, early=1, images=260, every=2, seeds=2)


def test_whitened_pixels_are_uncorrelated_and_of_unit_variance():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12)) + 3).reshape(500, 2, 3, 2).astype(np.float32)
    white = zca(images, floor=1e-7)(images)
    assert white.shape == images.shape and white.dtype == np.float32
    flat = white.reshape(500, 12)
    np.testing.assert_allclose(np.cov(flat.T), np.eye(12), atol=1e-3)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-4)


def test_whitening_moves_no_pixel_without_variance_and_bounds_the_gain():
    white = whitened(DIGITS, floor=0.01)
    constant = DIGITS.train_images.std(axis=0) == 0
    assert constant.any()
    np.testing.assert_allclose(white.train_images[:, constant], 0, atol=1e-5)
    variances = np.linalg.eigvalsh(np.cov(white.train_images.reshape(-1, 64).T))
    assert 0.9 < variances.max() < 1


def test_test_images_are_whitened_by_the_training_images():
    white = zca(DIGITS.train_images)
    result = whitened(DIGITS)
    np.testing.assert_array_equal(result.test_images, white(DIGITS.test_images))
    assert (result.name, result.image) == ("digits", (8, 8, 1))
    np.testing.assert_array_equal(result.test_labels, DIGITS.test_labels)


@pytest.mark.parametrize(
    ("images", "floor", "message"),
    [(np.ones((3, 2, 2, 1), np.float32), 0.01, "there is no variance"), (np.ones((1, 2, 2, 1)), 0.01, "at least 2"),
     (DIGITS.train_images, 0.0, "floor = 0.0 should be positive")],
)  # fmt: skip
def test_what_cannot_be_whitened_is_refused(images, floor, message):
    with pytest.raises(ValueError, match=message):
        zca(images, floor)


def test_the_network_is_the_papers():
    model = jax.eval_shape(lambda: DeepCNN((32, 32, 3), 10, rngs=nnx.Rngs(0)))
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    convolutions = (25 * 3 * 64 + 64) + (25 * 64 * 64 + 64) + (25 * 64 * 128 + 128)
    assert sum(sizes) == convolutions + (4 * 4 * 128 * 1000 + 1000) + 1000 * 10 + 10


def test_a_product_with_patches_is_the_convolution():
    patches = PatchConv(3, 4, rngs=nnx.Rngs(0))
    convolution = nnx.Conv(3, 4, (5, 5), rngs=nnx.Rngs(1))
    convolution.kernel[...] = patches.linear.kernel[...].reshape(5, 5, 3, 4)
    images = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    # 75 products of size 1 in float32, summed in another order.
    np.testing.assert_allclose(patches(images), convolution(images), atol=75 * 2**-23)


@pytest.mark.parametrize("image", [(8, 8, 1), (9, 6, 3), (1, 1, 1)])
def test_images_of_any_size_pass(image):
    model = lambda images: DeepCNN(image, 7, (2, 3, 4), 5, rngs=nnx.Rngs(0))(images)  # noqa: E731
    assert jax.eval_shape(model, jnp.ones((5, *image))).shape == (5, 7)


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)])
def test_dropout_acts_on_the_input_and_on_the_hidden_layer_in_training_only(rates):
    model = DeepCNN((8, 8, 1), 10, (4, 4, 8), 16, *rates, rngs=nnx.Rngs(0))
    images = jnp.ones((2, 8, 8, 1))
    assert (model(images) != model(images)).any()
    model.eval()
    np.testing.assert_array_equal(model(images), model(images))


def test_the_second_moment_after_one_step_is_the_square_of_the_gradient():
    model = DeepCNN((8, 8, 1), 10, (2,), 5, rngs=nnx.Rngs(0))
    train = Examples(DIGITS.train_images[:50], DIGITS.train_labels[:50])
    graph, params, other = nnx.split(model, nnx.Param, ...)
    grads = jax.grad(lambda p: cross_entropy(nnx.merge(graph, p, other)(train.inputs), train.labels))(params)
    sizes = np.abs(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)]))
    problem = Problem(lambda rngs: DeepCNN((8, 8, 1), 10, (2,), 5, rngs=rngs), train, train)
    first, second = second_moments(problem, Settings(epochs=2, batch_size=50), 1e-3)
    assert (first.epoch, second.epoch) == (1, 2)
    np.testing.assert_allclose(first.median, np.median(sizes[sizes > 0]) / 1e-8, rtol=1e-4)
    assert 0 < first.idle < 1
    assert first.idle == pytest.approx(np.mean(sizes == 0))
    assert second.median != first.median
    medians = [np.median(np.abs(leaf[leaf != 0])) for leaf in jax.tree.leaves(grads) if leaf.ndim > 1]
    np.testing.assert_allclose(first.span, max(medians) / min(medians), rtol=1e-4)


def test_shares_are_of_the_weights_that_had_a_gradient():
    state = adamx.adam(1.0).init({"a": jnp.zeros(3), "b": jnp.zeros((1, 2))})
    corrected = {"a": jnp.array([0.0, 1e-9, 2e-8]), "b": jnp.array([[3e-8, 1.0]])}
    slots = state.slots._replace(nu=jax.tree.map(lambda root: root**2 * (1 - 0.999**7), corrected))
    found = measure(4, state._replace(count=jnp.int32(7), slots=slots))
    assert found[:4] == (4, pytest.approx(0.2), 0.25, pytest.approx(2.5, rel=1e-4))
    still = state._replace(count=jnp.int32(7))
    assert measure(4, still).idle == 1 and math.isnan(measure(4, still).below_eps)


def comparison(adam, adagrad, sgd):
    """Three optimizers by their costs at the start and after two epochs; a second seed is 1 % higher."""
    lines = []
    for name, costs in (("Adam", adam), ("AdaGrad", adagrad), ("SGD + Nesterov", sgd)):
        runs = tuple(Run(0.1, tuple(factor * cost for cost in costs), 0.9, 1.0) for factor in (1, 1.01))
        lines.append(Line(Search(Contender(name, optax.sgd, (0.1,)), runs[:1]), runs))
    return Comparison("made up", Settings(epochs=2), tuple(lines))


PAPER = comparison((2.3, 0.5, 0.010), (2.3, 0.6, 0.1), (2.3, 0.9, 0.012))
NANS = comparison((2.3, 0.5, 0.010), (2.3, 0.6, 0.1), (2.3, 0.9, float("nan")))
LATE = comparison((2.3, 0.5, 0.010), (2.3, 0.6, 0.009), (2.3, 0.9, 0.0095))
NEAR = comparison((2.3, 0.5, 0.010), (2.3, 0.6, 0.023), (2.3, 0.9, 0.012))
EARLY = comparison((2.3, 0.5, 0.010), (2.3, 0.905, 0.1), (2.3, 0.9, 0.012))
SMALL, LARGE = [[Moment(1, 0.1, 0.1, 1e5), Moment(2, 0.1, share, 0.5)] for share in (0.51, 0.49)]
YES, NO, NEARLY = "holds", None, "holds with a correction"


@pytest.mark.parametrize(
    ("plain", "dropped", "moments", "verdicts"),
    [(PAPER, PAPER, SMALL, [YES] * 4), (PAPER, EARLY, SMALL, [NO, YES, YES, YES]),
     (LATE, PAPER, SMALL, [YES, NO, NO, YES]), (PAPER, NEAR, SMALL, [YES, NEARLY, YES, YES]),
     (PAPER, PAPER, LARGE, [YES, YES, YES, NO]), (NANS, PAPER, SMALL, [YES, NO, YES, YES])],
)  # fmt: skip
def test_an_order_holds_if_it_does_with_and_without_dropout_from_every_seed(plain, dropped, moments, verdicts):
    for on, otherwise in (("cifar10", "false"), ("mnist", "false"), ("", "could not be shown here")):
        claims = order_claims(plain, dropped, moments, 1, "a command", on)
        assert [claim.verdict for claim in claims] == [verdict or otherwise for verdict in verdicts]
        assert all(("not on CIFAR-10" in claim.sentence) == (on == "mnist") for claim in claims)
        assert all(claim.evidence == "a command" for claim in claims)
    assert ("from every seed: Adam and AdaGrad." in claims[0].sentence) == (dropped is not EARLY)


@pytest.mark.parametrize(
    ("first", "span", "verdicts"), [(0.013, 2.1, [YES, YES]), (0.011, 2.1, [YES, NO]), (0.013, 1.9, [NO, YES])]
)
def test_the_moments_are_weighed_by_what_is_lost_without_them(first, span, verdicts):
    ends = comparison((2.3, 0.5, 0.010), (2.3, 0.6, 0.1), (2.3, 0.9, 0.012))
    runs = tuple(Run(0.1, (2.3, 0.5, factor * first), 0.9, 1.0) for factor in (1, 1.01))
    ends = replace(ends, lines=(*ends.lines, Line(Search(Contender(WITHOUT_FIRST, optax.sgd, (0.1,)), runs[:1]), runs)))
    moments = [moment._replace(span=span) for moment in SMALL]
    *_, layers, moment = order_claims(ends, ends, moments, 1, "a command")
    assert [layers.verdict, moment.verdict] == [verdict or "could not be shown here" for verdict in verdicts]
    assert f"{first / 0.01:.3g} and 1.2 times Adam's cost" in moment.number


def test_no_more_images_are_trained_on_than_the_plan_has():
    few = figure3._first(DIGITS, 5)
    np.testing.assert_array_equal(few.train_images, DIGITS.train_images[:5])
    assert figure3._smaller(few, 2).train_images[3, 1, 2, 0] == few.train_images[3, 2:4, 4:6].mean()
    assert len(few.train_labels) == 5 and len(few.test_labels) == len(DIGITS.test_labels)
    assert len(figure3._first(DIGITS, None).train_labels) == 1437


def test_cifar10_is_taken_where_it_is(tmp_path):
    options = Options(tmp_path)
    assert figure3.at_hand(options).name == "digits"
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [f"data_batch_{i}.bin" for i in range(1, 6)]
    for name in names:
        (folder / name).write_bytes(bytes([3]) + bytes(3072))
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin"):
        figure3.at_hand(options)
    (folder / "test_batch.bin").write_bytes(bytes([3]) + bytes(3072))
    assert figure3.at_hand(options).name == "cifar10"


@pytest.mark.product  # a sweep of each optimizer: in `make test` figure 4 and the demo write theirs
def test_figure3_writes_tables_a_figure_and_every_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figure3, "QUICK", TINY)
    monkeypatch.setattr(figure3, "GRIDS", {name: (1e-2, 1e-2) for name in figure3.GRIDS})
    # SGD under every name compiles once.
    monkeypatch.setattr(figure3, "MAKERS", dict.fromkeys(figure3.MAKERS, optax.sgd))
    figure3.figure3(Options(tmp_path, quick=True, output=tmp_path), Console(width=200))
    printed = capsys.readouterr().out
    assert (tmp_path / "figure3.png").exists()
    content = json.loads((tmp_path / "figure3.json").read_text(), parse_constant=pytest.fail)
    assert content["settings"]["images"] == 260 and content["settings"]["channels"] == [2]
    assert set(content["versions"]) == {"adamx", "jax", "optax", "flax"} and content["seconds"] > 0
    assert [moment["epoch"] for moment in content["second_moment"]] == [1, 2]
    for compared in content["comparisons"]:
        for optimizer in compared["optimizers"]:
            assert list(optimizer["grid"]) == ["0.01"]
            assert [len(curve) for curve in optimizer["training_cost"].values()] == [3, 3]
    assert len(content["claims"]) == 6
    for claim in content["claims"]:
        assert claim["verdict"] in printed and claim["number"] and claim["sentence"]


def test_quick_tries_every_other_step_size(monkeypatch):
    tried = []
    monkeypatch.setattr(
        figure3, "compare", lambda title, problem, contenders, *rest, **options: tried.append(contenders)
    )
    figure3.search(DIGITS, figure3.QUICK, Settings(epochs=1), Console(quiet=True), Runs())
    small, large = (3e-4, 3e-3, 3e-2), (3e-3, 3e-2, 0.3)
    assert [c.grid for c in tried[0]] == [small, large, large, small]
    assert tried[0] == tried[1]


def test_on_the_papers_data_the_plan_is_the_papers():
    plan = figure3.PAPER
    assert (plan.channels, plan.hidden, plan.batch_size) == ((64, 64, 128), 1000, 128)
    assert (plan.early, plan.epochs, plan.images, plan.every) == (3, 45, None, 1)
