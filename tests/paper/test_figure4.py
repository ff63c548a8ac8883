"""Figure 4: the grid is what its runs would be one by one, and says of bias correction what section 6.4 says."""

import json
from dataclasses import replace
from math import inf, nan

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from rich.console import Console

import adamx
from adamx.examples import data
from paper import figure4, vae_grid
from paper.figure4_claims import (
    Outcome,
    best,
    bias_claims,
    ceiling,
    excess,
    excess_at_best,
    from_best_on,
    harm,
    lead,
    spread,
)
from paper.options import Options
from paper.runs import Runs
from paper.vae import VAE, negative_elbo
from paper.vae_grid import Settings, train

IMAGES = data.digits().train_images.reshape(-1, 64)[:400]
TINY = Settings(hidden=12, latent=3, rates=(1e-3, 1e-2), checkpoints=(1, 2), batch_size=100, seeds=(0, 1))


def test_the_bound_is_reconstruction_plus_divergence():
    model = VAE(6, hidden=5, latent=2, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x, noise = rng.random((4, 6)), rng.normal(size=(4, 2))
    mean, log_variance = (np.asarray(a, float) for a in model.encode(jnp.asarray(x, jnp.float32)))
    latents = mean + np.exp(log_variance / 2) * noise
    white = 1 / (1 + np.exp(-np.asarray(model.decode(jnp.asarray(latents, jnp.float32)), float)))
    reconstruction = -np.sum(x * np.log(white) + (1 - x) * np.log(1 - white), axis=1)
    divergence = 0.5 * np.sum(mean**2 + np.exp(log_variance) - 1 - log_variance, axis=1)
    found = negative_elbo(model, jnp.asarray(x, jnp.float32), jnp.asarray(noise, jnp.float32))
    np.testing.assert_allclose(found, np.mean(reconstruction + divergence), rtol=1e-5)


def test_hidden_units_are_softplus():
    model = VAE(1, hidden=1, latent=1, rngs=nnx.Rngs(0))
    model.encoder.kernel[...], model.posterior.kernel[...] = jnp.ones((1, 1)), jnp.ones((1, 2))
    mean, log_variance = model.encode(jnp.array([[-1.0]]))
    np.testing.assert_allclose([mean.item(), log_variance.item()], np.log1p(np.exp(-1)), rtol=1e-6)


def one_by_one(optimizer, seed, epochs):
    """What the grid does for one point, as a loop; losses after the last epoch."""
    weights, order, measure = jax.random.split(jax.random.key(seed), 3)
    graph, params = nnx.split(VAE(64, TINY.hidden, TINY.latent, rngs=nnx.Rngs(weights)), nnx.Param)

    def loss(params, images, key):
        return negative_elbo(nnx.merge(graph, params), images, jax.random.normal(key, (len(images), TINY.latent)))

    @jax.jit
    def step(params, state, images, key):
        updates, state = optimizer.update(jax.grad(loss)(params, images, key), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for epoch in range(1, epochs + 1):
        shuffle, draw = jax.random.split(jax.random.fold_in(order, epoch))
        batches = jax.random.permutation(shuffle, len(IMAGES)).reshape(-1, TINY.batch_size)
        for batch, key in zip(batches, jax.random.split(draw, len(batches)), strict=True):
            params, state = step(params, state, jnp.asarray(IMAGES)[batch], key)
    return float(loss(params, jnp.asarray(IMAGES), measure))


@pytest.mark.parametrize(("i", "j", "k"), [(0, 0, 1), pytest.param(1, 2, 0, marks=pytest.mark.product)])
def test_a_point_of_the_grid_is_adam_run_alone(i, j, k):
    alone = one_by_one(adamx.adam(TINY.rates[k], b1=TINY.b1[i], b2=TINY.b2[j]), seed=1, epochs=2)
    # Decay rates are float32 in the grid, which moves 1 - b2 by 3e-4 at .9999, and the correction alike.
    np.testing.assert_allclose(train(IMAGES, TINY, True, 1).trained[-1, i, j, k], alone, rtol=1e-4)


def test_without_correction_and_b1_zero_it_is_rmsprop():
    rmsprop = optax.rmsprop(1e-3, decay=0.999, eps=1e-8, eps_in_sqrt=False)
    found = train(IMAGES, TINY, False, 0).trained[-1, 0, 1, 0]
    np.testing.assert_allclose(found, one_by_one(rmsprop, seed=0, epochs=2), rtol=1e-4)


def test_runs_with_and_without_correction_start_alike_and_seeds_do_not():
    starts = {(corrected, seed): train(IMAGES, TINY, corrected, seed).untrained
              for corrected in (True, False) for seed in (0, 1)}  # fmt: skip
    assert starts[True, 0] == starts[False, 0] != starts[True, 1]


def test_a_grid_is_compiled_once_whatever_its_values_and_epochs(monkeypatch):
    traced = []

    def counting(corrected, point):
        traced.append(point)
        return adam(corrected, point)

    adam = vae_grid._adam
    monkeypatch.setattr(vae_grid, "_adam", counting)
    settings = replace(TINY, hidden=7)
    train(IMAGES, settings, True, 0)
    compiled = len(traced)
    epochs = []
    train(
        IMAGES,
        replace(settings, rates=(0.1, 0.2), b2=(0.5, 0.6, 0.7), checkpoints=(3,)),
        True,
        4,
        lambda epoch, kept: epochs.append(epoch),
    )
    assert compiled == 2 and len(traced) == compiled  # one to initialise, one to train
    assert epochs == [1, 2, 3]


def test_runs_one_after_another_are_those_side_by_side_and_only_some_go_on(tmp_path):
    together, apart = train(IMAGES, TINY, True, 1), replace(TINY, together=False)
    onward = np.arange(np.prod(TINY.shape)).reshape(TINY.shape) % 5 == 0
    found = train(IMAGES, apart, True, 1, runs=Runs(tmp_path), onward=onward)
    np.testing.assert_array_equal(~found.trained.mask[1], onward)
    assert not found.trained.mask[0].any() and found.trained.count() == 12 + onward.sum()
    np.testing.assert_allclose(found.trained.compressed(), together.trained[~found.trained.mask].data, rtol=1e-4)
    heard = []
    train(IMAGES, apart, True, 1, lambda epoch, kept: heard.append(kept), Runs(tmp_path), onward=onward)
    assert len(heard) == 12 + onward.sum() and all(heard)


@pytest.mark.parametrize("batch_size", [0, 401])
def test_a_batch_size_that_makes_no_step_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch size {batch_size} is not between 1 and the 400 images"):
        train(IMAGES, replace(TINY, batch_size=batch_size), True, 0)


@pytest.fixture(scope="module")
def outcome():
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
    settings = Settings(hidden=24, latent=4, checkpoints=(4, 40), batch_size=50, rates=rates)
    runs = [[train(IMAGES, settings, corrected, seed) for seed in settings.seeds] for corrected in (True, False)]
    untrained = np.array([losses.untrained for losses in runs[0]])
    return Outcome(settings, untrained, *(np.stack([losses.trained for losses in seeds]) for seeds in runs))


@pytest.mark.product
def test_without_correction_the_largest_stable_step_size_falls_as_b2_goes_to_one(outcome):
    without, corrected = (
        ceiling(losses[:, 0], outcome.untrained, outcome.settings.rates)
        for losses in (outcome.uncorrected, outcome.corrected)
    )
    assert (np.diff(without) <= 0).all() and (without[:, -1] <= without[:, 0] / 10).all()
    assert (corrected == 0.1).all()
    first, last = harm(outcome)
    assert first[-1] > last[-1] > 1


@pytest.mark.product
def test_corrected_is_no_worse_in_the_end_at_its_best_step_size_nor_above_it(outcome):
    assert excess_at_best(outcome)[-1].max() <= spread(outcome)[-1]
    assert excess(outcome)[-1][from_best_on(outcome)[-1]].max() <= spread(outcome)[-1]


@pytest.mark.product
def test_the_lead_of_longer_first_steps_wears_off(outcome):
    first, last = lead(outcome)
    assert (last < first).all() and (np.diff(last) > 0).all()  # 3.2, 0.32 and 0.032 times 1/(1-b2) steps


@pytest.mark.product
def test_the_claims_of_the_small_run_are_the_papers(outcome):
    unstable, at_best, anywhere, last = bias_claims(outcome, 8, "a command")
    assert unstable.verdict == "holds" and at_best.verdict in ("holds", "holds with a correction")
    assert f"up to {harm(outcome)[0, 2]:.3g} times" in unstable.sentence
    assert anywhere.verdict == "false" and "too short" in anywhere.sentence
    assert "after 40 epochs" in at_best.number
    assert "10,000 steps: this is not the paper's end" in last.sentence
    assert {claim.evidence for claim in (unstable, at_best, anywhere, last)} == {"a command"}


def made(corrected, uncorrected):
    """An outcome of one seed, one checkpoint, one b1, a row of losses by step size for each b2."""
    settings = Settings(
        b1=(0.0,), b2=(0.9, 0.99)[: len(corrected)], rates=(1e-3, 1e-2, 0.1), checkpoints=(1,), seeds=(0,)
    )
    return Outcome(settings, np.array([9.0]), *(np.array(x)[None, None, None] for x in (corrected, uncorrected)))


def test_what_diverged_is_never_best_and_counts_as_worse():
    outcome = made([[3.0, 2.0, nan]], [[2.0, inf, nan]])
    assert best(outcome.corrected).item() == 2 and best(np.array([nan, inf])) == inf
    np.testing.assert_array_equal(excess(outcome)[0, 0, 0], [0.5, -1, 0])
    np.testing.assert_array_equal(from_best_on(outcome)[0, 0, 0], [False, True, True])
    np.testing.assert_allclose(harm(outcome).item(), 2 / 3)
    swapped = replace(outcome, corrected=outcome.uncorrected, uncorrected=outcome.corrected)
    assert excess(swapped)[0, 0, 0, 1] == inf and harm(swapped).item() == 1.5


@pytest.mark.parametrize(
    ("losses", "largest"),
    [([3.0, 2.0, 8.9], 0.1), ([3.0, nan, 2.0], 1e-3), ([3.0, 2.0, 9.0], 1e-2), ([inf, 2, 2], 0.0)],
)
def test_the_ceiling_is_the_last_step_size_before_one_that_fails(losses, largest):
    outcome = made([losses], [losses])
    assert ceiling(outcome.corrected[:, 0], outcome.untrained, outcome.settings.rates).item() == largest
    both = np.concatenate([outcome.corrected[:, 0], np.full((1, 1, 1, 3), 1.0)])
    assert ceiling(both, np.array([9.0, 9.0]), outcome.settings.rates).item() == largest  # the worse seed counts


def test_seeds_differ_by_the_range_of_their_best_losses():
    settings = Settings(b1=(0.0,), b2=(0.9,), rates=(0.1, 1.0), checkpoints=(1,), seeds=(0, 1))
    losses = np.array([[5.0, 9.0], [8.0, 3.0]]).reshape(2, 1, 1, 1, 2)
    np.testing.assert_allclose(spread(Outcome(settings, np.array([9.0, 9.0]), losses, losses)), [0.5])


def test_a_run_without_the_effect_is_not_said_to_show_it():
    same = [[3.0, 2.0, 4.0], [3.0, 2.0, 4.0]]
    unstable, at_best, anywhere, best_setting = bias_claims(made(same, same), 1, "")
    assert unstable.verdict == best_setting.verdict == "could not be shown here"
    assert at_best.verdict == anywhere.verdict == "holds"
    unlike = made([[3.0, 2.2, 4.0], [3.0, 2.0, 4.0]], same)
    _, worse, anywhere, _ = bias_claims(unlike, 1, "")
    assert bias_claims(replace(unlike, real=True), 1, "")[1].verdict == "false"
    assert worse.verdict == "could not be shown here" and "+10.00%" in worse.number
    assert anywhere.verdict == "false" and "1 of 6 settings" in anywhere.number and "0 of these 1" in anywhere.sentence


@pytest.mark.product
def test_figure4_writes_a_table_a_figure_and_every_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figure4, "QUICK", replace(TINY, rates=(1e-3, 1e9)))
    figure4.figure4(Options(tmp_path, quick=True, output=tmp_path), Console(width=200))
    printed = capsys.readouterr().out
    assert "12 runs without bias correction, seed 1" in printed
    assert (tmp_path / "figure4.png").exists()
    content = json.loads((tmp_path / "figure4.json").read_text(), parse_constant=pytest.fail)
    assert content["settings"]["data"] == "digits" and content["settings"]["quick"]
    assert set(content["versions"]) == {"adamx", "jax", "optax", "flax"} and content["seconds"] > 0
    assert len(content["runs"]) == 24
    losses = [run["loss_by_epochs_and_seed"] for run in content["runs"]]
    assert all(set(by) == {"1", "2"} and all(len(seeds) == 2 for seeds in by.values()) for by in losses)
    assert any(loss is None for by in losses for loss in by["2"])
    assert [claim["source"] for claim in content["claims"]] == ["§6.4"] * 4
    for claim in content["claims"]:
        assert claim["verdict"] in printed
