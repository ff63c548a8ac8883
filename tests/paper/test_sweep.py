"""A grid trained side by side is each of its runs, on the cost that training minimises."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from adamx.examples.models import MLP
from adamx.examples.protocol import Contender, Settings
from paper import runs
from paper.bag_of_words import BagOfWords
from paper.narrow import Stage, epochs_to_come, narrow
from paper.optimizers import OPTIMIZERS
from paper.sweep import Examples, Problem, repeat, sweep

RNG = np.random.default_rng(0)
WORDS, CLASSES = 12, 3
LABELS = RNG.integers(0, CLASSES, 90).astype(np.int32)
# Words 0 to 2 tell the class; of the others each text has a few, and no text fills its row.
BAGS = np.stack(
    [np.r_[label, RNG.choice(np.arange(CLASSES, WORDS), 4, replace=False), WORDS, WORDS] for label in LABELS]
).astype(np.int32)
IMAGES = RNG.normal(size=(90, 2, 2, 1)).astype(np.float32)
SETTINGS = Settings(epochs=2, batch_size=20)
SGD = Contender("SGD", optax.sgd, (0.01, 0.1, 1.0, 1e30))


def words(dropout=0.5, l2=0.0):
    examples = Examples(BAGS[:60], LABELS[:60]), Examples(BAGS[60:], LABELS[60:])
    return Problem(lambda rngs: BagOfWords(WORDS, CLASSES, dropout, rngs=rngs), *examples, l2)


def images(dropout=0.5, l2=0.0):
    examples = Examples(IMAGES[:60], LABELS[:60]), Examples(IMAGES[60:], LABELS[60:])
    return Problem(lambda rngs: MLP((2, 2, 1), CLASSES, (8,), dropout, rngs=rngs), *examples, l2)


@pytest.mark.parametrize(
    "problem", [words(), pytest.param(images(l2=1e-2), marks=pytest.mark.product)], ids=["words", "images"]
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "Adam" else pytest.mark.product) for name in OPTIMIZERS]
)
def test_every_step_size_trains_as_it_does_alone(name, problem):
    contender = Contender(name, OPTIMIZERS[name], (0.003, 0.03, 0.3))
    together = sweep(contender, problem, SETTINGS)
    for run in together.runs:
        (alone,) = sweep(replace(contender, grid=(run.learning_rate,)), problem, SETTINGS).runs
        # Sums of a batched product are taken in another order.
        np.testing.assert_allclose(run.losses, alone.losses, rtol=2e-5)
        assert run.test_accuracy == alone.test_accuracy


def test_contenders_share_minibatches_and_dropout():
    other = replace(SGD, name="another", make=lambda rate: optax.sgd(rate))
    one, same = (
        [replace(run, step_seconds=0.0) for run in sweep(x, images(), SETTINGS).runs[:3]]  # NaN equals nothing
        for x in (SGD, other)
    )
    assert one == same


def test_training_finds_the_words_that_tell_the_class():
    best = sweep(SGD, words(), Settings(epochs=20, batch_size=20)).best
    assert best.test_accuracy == 1 and best.final_loss < 0.7 * best.losses[0]


def test_the_first_cost_on_words_is_that_of_guessing():
    for run in sweep(SGD, words(), Settings(epochs=1, batch_size=20)).runs:
        assert run.losses[0] == pytest.approx(math.log(CLASSES), rel=1e-6)


def test_the_cost_has_the_penalty_of_weights_and_not_of_biases():
    kernels = nnx.state(images().model(nnx.Rngs(0)), nnx.Param)
    squares = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(kernels) if leaf.ndim == 2)
    without, penalised = (sweep(SGD, images(l2=l2), SETTINGS).runs[0].losses[0] for l2 in (0.0, 0.3))
    assert penalised - without == pytest.approx(0.15 * squares, rel=1e-5)


def test_the_cost_is_with_dropout_drawn_for_each_example():
    class Switch(nnx.Module):
        """A logit of 1 for the first class, if it is not dropped."""

        def __init__(self, rngs):
            self.weight = nnx.Param(jnp.ones(()))
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, inputs):
            on = self.dropout(jnp.ones(len(inputs))) * self.weight[...]
            return jnp.stack([on, jnp.zeros(len(inputs))], axis=1)

    examples = Examples(np.zeros((64, 1), np.float32), np.zeros(64, np.int32))
    cost = sweep(SGD, Problem(Switch, examples, examples), SETTINGS).runs[0].losses[0]
    dropped, kept = math.log(2), math.log1p(math.exp(-2))
    share = (dropped - cost) / (dropped - kept)
    assert 0.25 < share < 0.75
    assert 64 * share == pytest.approx(round(64 * share), abs=1e-3)


def test_a_bag_is_a_dense_row_of_ones_and_padding_counts_for_nothing():
    model = BagOfWords(WORDS, CLASSES, rngs=nnx.Rngs(0))
    model.output.kernel[...] = jax.random.normal(jax.random.key(0), (WORDS, CLASSES))
    model.eval()
    dense = np.zeros((90, WORDS), np.float32)
    for row, bag in zip(dense, BAGS, strict=True):
        row[bag[bag < WORDS]] = 1
    # Sums of five numbers of the order of 1, taken in another order: four roundings of a few units each.
    expected = dense @ np.asarray(model.output.kernel[...])
    np.testing.assert_allclose(model(jnp.asarray(BAGS)), expected, rtol=0, atol=16 * np.finfo(np.float32).eps)


def test_kept_words_make_up_for_those_dropped():
    model = BagOfWords(WORDS, WORDS, rngs=nnx.Rngs(0))
    model.output.kernel[...] = jnp.eye(WORDS)
    present = np.asarray(model(jnp.asarray(BAGS)))
    assert set(np.unique(present)) == {0.0, 2.0}
    assert abs(np.count_nonzero(present) / (90 * 5) - 0.5) < 0.1  # four standard deviations of 450 draws


def test_repeats_begin_with_the_best_run_and_go_on_from_other_seeds():
    search = sweep(SGD, images(), SETTINGS)
    heard = []
    first, second, third = repeat(search, images(), SETTINGS, 3, heard.append)
    assert first is search.best and search.best.learning_rate != 1e30
    assert len({run.losses[0] for run in (first, second, third)}) == 3  # the seed draws weights, too
    assert {run.learning_rate for run in (second, third)} == {first.learning_rate}
    assert [(h.seed, h.number, h.epochs) for h in heard] == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
    assert [h.costs for h in heard[:2]] == [(loss,) for loss in second.losses[1:]]


def test_a_sweep_that_was_killed_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SAVED", -1.0)
    adam, folder = Contender("Adam", OPTIMIZERS["Adam"], (0.003, 0.03, 0.3)), runs.Runs(tmp_path)
    settings = replace(SETTINGS, epochs=4)

    def kill(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(adam, words(), settings, kill, folder)
    heard = []
    found = sweep(adam, words(), settings, heard.append, folder)
    assert [epoch.kept for epoch in heard] == [True, True, False, False]
    whole = sweep(adam, words(), settings)
    assert [run.losses for run in found.runs] == [run.losses for run in whole.runs]
    assert [run.test_accuracy for run in found.runs] == [run.test_accuracy for run in whole.runs]


def test_a_grid_that_narrows_ends_with_the_best_at_full_length(tmp_path):
    settings, stages, heard = replace(SETTINGS, epochs=4), (Stage(1, 3), Stage(2, 1)), []
    search, ended = narrow(SGD, words(), settings, stages, heard.append, runs.Runs(tmp_path))
    (best,) = search.runs
    assert best.losses == sweep(replace(SGD, grid=(best.learning_rate,)), words(), settings).runs[0].losses
    assert {len(run.losses) for run in ended[:1]} == {2} and {len(run.losses) for run in ended[1:]} == {3}
    assert sorted([best.learning_rate, *(run.learning_rate for run in ended)]) == sorted(SGD.grid)
    assert best.losses[2] == min(run.losses[2] for run in (best, *ended[1:]))
    assert len(heard) == epochs_to_come(SGD, settings, stages, 1) == 4 * 1 + 3 * 2 + 4
    assert search.contender is SGD and math.isnan(ended[0].test_accuracy)


def test_a_cost_is_taken_after_the_first_ten_epochs_and_every_so_many():
    (run, *_) = sweep(SGD, replace(words(), every=4), replace(SETTINGS, epochs=13)).runs
    assert [number for number, cost in enumerate(run.losses) if math.isnan(cost)] == [11, 13]


@pytest.mark.parametrize("batch_size", [0, 61])
def test_a_batch_size_that_makes_no_step_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch size {batch_size} is not between 1 and the 60 training examples"):
        sweep(SGD, words(), Settings(batch_size=batch_size))
