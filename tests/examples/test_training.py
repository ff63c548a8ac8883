"""The protocol: the same start for every run, the lowest final loss wins, and a step size that diverges never does."""

from dataclasses import replace
from math import inf, isnan, nan

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
from adamx.examples import data
from adamx.examples.contenders import CONTENDERS, contenders
from adamx.examples.models import CNN, MLP, LogisticRegression
from adamx.examples.protocol import Contender, Run, Search, Settings
from adamx.examples.training import grid_search, run

DIGITS = data.digits()
SGD = Contender("SGD", optax.sgd, (1e-3, 0.1, 0.3, 1e30))
SHORT = Settings(epochs=2, batch_size=100)


@pytest.fixture(scope="module")
def model():
    return LogisticRegression(DIGITS.image, DIGITS.classes, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def search(model):
    return grid_search(SGD, model, DIGITS, SHORT)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "adam" else pytest.mark.product) for name in CONTENDERS]
)
def test_every_contender_lowers_the_loss(model, name):
    contender = CONTENDERS[name]
    middle = contender.grid[len(contender.grid) // 2]
    losses = run(contender, middle, model, DIGITS, SHORT).losses
    assert len(losses) == 3 and losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("make", [lambda rngs: MLP((8, 8, 1), 10, (32,), dropout=0.2, rngs=rngs),
                                  pytest.param(lambda rngs: CNN((8, 8, 1), 10, (4, 8), 16, rngs=rngs),
                                               marks=pytest.mark.product)])  # fmt: skip
def test_models_with_random_streams_and_convolutions_train(make):
    result = run(SGD, 0.3, make(nnx.Rngs(0)), DIGITS, Settings(epochs=3, batch_size=50))
    assert result.final_loss < 0.9 * result.losses[0]
    assert result.test_accuracy > 0.3


def test_every_run_starts_from_the_same_weights_and_leaves_them(model, search):
    before = np.asarray(model.output.kernel[...])
    adam = run(CONTENDERS["adam"], 1e-3, model, DIGITS, SHORT)
    assert {r.losses[0] for r in search.runs} == {adam.losses[0]}
    np.testing.assert_array_equal(model.output.kernel[...], before)


def test_a_run_can_be_repeated_and_the_seed_orders_the_minibatches(model, search):
    assert run(SGD, 0.1, model, DIGITS, SHORT).losses == search.runs[1].losses
    assert run(SGD, 0.1, model, DIGITS, replace(SHORT, seed=1)).losses[1:] != search.runs[1].losses[1:]


def test_all_step_sizes_share_one_compilation(model):
    traces = []

    def make(rate):
        traces.append(rate)
        return optax.sgd(rate)

    grid_search(Contender("SGD", make, (0.01, 0.1, 1.0)), model, DIGITS, Settings(epochs=1, batch_size=100))
    assert len(traces) == 2  # one to initialise, one to train


def test_a_schedule_can_wrap_the_traced_step_size(model):
    decayed = Contender(
        "1/sqrt(t)", lambda rate: optax.sgd(lambda t: rate / jnp.sqrt(jnp.asarray(t, jnp.float32) + 1)), (0.3,)
    )
    losses = run(decayed, 0.3, model, DIGITS, SHORT).losses
    assert losses[-1] < losses[0]
    assert losses != run(SGD, 0.3, model, DIGITS, SHORT).losses


def test_the_fused_step_is_used_where_there_is_one(model):
    class Fused(adamx.Optimizer):
        def step(self, grads, state, params, **extra_args):
            return params, state

    losses = run(Contender("still", lambda rate: Fused(*optax.sgd(rate)), (0.1,)), 0.1, model, DIGITS, SHORT).losses
    assert len(set(losses)) == 1


def test_the_lowest_final_loss_wins_and_a_diverging_step_size_does_not(search):
    finals = [r.final_loss for r in search.runs]
    assert not finals[-1] < 1e6
    assert search.best.final_loss == min(finals[:-1])
    assert search.best.learning_rate == 0.3 and not search.at_edge


@pytest.mark.parametrize(
    ("losses", "best", "at_edge"),
    [((nan, 2.0, 1.0, 3.0), 2, False), ((nan, nan, nan, 3.0), 3, True), ((1.0, 2.0, inf, nan), 0, True),
     ((-inf, 2.0, 1.0, nan), 2, False)],
)  # fmt: skip
def test_runs_that_diverged_rank_last(losses, best, at_edge):
    grid = (0.1, 0.2, 0.3, 0.4)
    runs = tuple(Run(rate, (5.0, loss), 0.5, 1e-4) for rate, loss in zip(grid, losses, strict=True))
    search = Search(Contender("any", optax.sgd, grid), runs)
    assert search.best is runs[best]
    assert search.at_edge == at_edge


def test_each_epoch_is_reported_with_its_loss(model):
    epochs = []
    result = run(SGD, 0.1, model, DIGITS, SHORT, epochs.append)
    assert [(e.contender, e.learning_rate, e.number) for e in epochs] == [(SGD, 0.1, 1), (SGD, 0.1, 2)]
    assert tuple(e.loss for e in epochs) == result.losses[1:]


def test_time_per_step_leaves_out_the_first_epoch(model, search):
    assert search.best.step_seconds > 0
    assert isnan(run(SGD, 0.1, model, DIGITS, Settings(epochs=1, batch_size=100)).step_seconds)


@pytest.mark.parametrize("batch_size", [0, 1438])
def test_a_batch_size_that_makes_no_step_is_refused(model, batch_size):
    with pytest.raises(ValueError, match=f"batch size {batch_size} is not between 1 and the 1437 training images"):
        run(SGD, 0.1, model, DIGITS, Settings(batch_size=batch_size))


def test_contenders_come_once_each_in_the_order_asked_for():
    assert [c.name for c in contenders(["adamw", "Adam", "adamw"])] == ["AdamW", "Adam"]
    assert contenders() == list(CONTENDERS.values())


@pytest.mark.parametrize(
    ("name", "nearest"), [("adm", "adam"), ("sgd-nesterow", "sgd-nesterov"), ("Rmsporp", "rmsprop")]
)
def test_an_unknown_optimizer_suggests_the_nearest(name, nearest):
    with pytest.raises(
        ValueError, match=rf"optimizer = '{name.lower()}': did you mean '{nearest}'\? Choose from 'adam'"
    ):
        contenders([name])


@pytest.mark.skipif(adamx.kernels.available()["native"] != "yes", reason="the native kernel is not there")
@pytest.mark.parametrize(
    "optimizer",
    [adamx.adamw, *(pytest.param(f, marks=pytest.mark.product) for f in (adamx.adam, adamx.adamax))],
    ids=lambda f: f.__name__,
)
def test_the_native_kernel_trains_as_xla_does(model, optimizer, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    by_kernel = [
        run(Contender(kernel, lambda rate, k=kernel: optimizer(rate, kernel=k), (0.01,)), 0.01, model, DIGITS, SHORT)
        for kernel in ("xla", "native")
    ]
    np.testing.assert_allclose(*(result.losses for result in by_kernel), rtol=1e-4)
    assert by_kernel[0].test_accuracy == pytest.approx(by_kernel[1].test_accuracy, abs=0.005)
