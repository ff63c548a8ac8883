"""What docs/choosing.md answers to its readers holds at a small scale, too."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import adamx
from benchmarks import questions
from benchmarks.questions import by_epsilon, by_momentum, by_schedule
from benchmarks.trials import Spread, best, digits, minimise, quadratic


def ends(opt, problem, steps=100, seeds=2):
    return np.asarray(minimise(opt, problem.gradient, problem.start, steps, seeds)[0])


def test_epsilon_matters_from_the_lower_quantiles_on():
    problem = quadratic(dim=16, scale=1e-6)
    low, *_, high = questions.quantiles(problem, 0.03, steps=(200,), seeds=3)[200]
    answer = by_epsilon(problem, 200, 3, epsilons=(1e-12, 1e-8, 1e-2), rates=(0.03, 0.1))
    assert 1e-8 < low < high < 1e-2
    assert [row.share for row in answer.values()] == [0.0, 0.0, 1.0]
    tiny, usual, huge = (row.unchanged.mean for row in answer.values())
    assert tiny == pytest.approx(usual, rel=0.1)
    assert huge > 5 * usual


def test_epsilon_is_in_units_of_the_gradient():
    scale = 2.0**-20  # a power of two, so that nothing is rounded otherwise
    plain, scaled = quadratic(dim=8), quadratic(dim=8, scale=scale)
    np.testing.assert_array_equal(ends(adamx.adam(0.1, eps=0.5), plain), ends(adamx.adam(0.1, eps=0.5 * scale), scaled))


def test_the_first_step_tells_eps_from_eps_hat():
    g, eps = np.array([1e-4, 1e-6, 1e-8]), 1e-8
    found = questions.first_steps(g.tolist(), eps)
    np.testing.assert_allclose(found["eps"], g / (g + eps), rtol=1e-5)
    root = math.sqrt(1 - questions.B2) * g
    np.testing.assert_allclose(found["eps_hat"], root / (root + eps), rtol=1e-5)


def test_a_large_epsilon_makes_adam_momentum_sgd(loose):
    problem, eps = quadratic(dim=8), 1e6
    sgd = optax.chain(optax.ema(0.9), optax.scale(-0.1))
    np.testing.assert_allclose(ends(adamx.adam(0.1 * eps, eps=eps), problem), ends(sgd, problem), atol=1e-4)


def test_pure_noise_moves_adam_by_a_fifth_of_its_step_size():
    assert questions.pure_noise(steps=5000, dim=1024) == pytest.approx(math.sqrt(0.1 / 1.9), rel=0.05)


@pytest.mark.product
def test_where_noise_stays_a_constant_step_size_ends_above_a_schedule_or_an_average(loose):
    answer = by_schedule(quadratic(dim=16), rates=(0.1,), steps=2000, seeds=5)
    constant, *others = (row[0].loss.mean for row in answer.values())
    assert len(others) == 4
    assert constant > 3 * max(others)


def test_nesterov_momentum_is_stable_for_smaller_steps_only():
    """A mean of gradients is stable below 2(1+b)/(1-b) = 38 over the curvature, Nesterov's 1 + 2b = 2.8 times less."""
    problem, eps = quadratic(dim=1, noise=0.0, condition=1.0), 1e15  # so large that v never counts

    def end(rate, nesterov):
        return np.abs(ends(adamx.adam(rate * eps, eps=eps, nesterov=nesterov), problem, 1200)).max()

    for limit, nesterov in ((38.0, False), (38.0 / 2.8, True)):
        assert end(0.9 * limit, nesterov) < 1e-3
        assert end(1.1 * limit, nesterov) > 1e3


def test_every_way_to_look_ahead_minimises():
    problem = quadratic(dim=8, noise=0.1, condition=1e4, rotated=True)
    start = float(np.mean(jax.vmap(problem.loss)(ends(adamx.adam(0.1), problem, steps=0, seeds=3))))
    ahead = {name: make for name, make in questions.NESTEROV.items() if not name.startswith("adam")}
    answer = by_momentum(problem, (200,), seeds=3, rates=(0.03, 0.1), makes=ahead)
    assert set(answer) == {"nadam", "nadam, Dozat's schedule", "Nesterov(Adam())", "adan"}
    assert all(row[0].loss.mean < start / 5 for row in answer.values())


@pytest.mark.product
def test_the_digits_are_learnt_and_every_table_prints():
    problem = digits(hidden=(8,), mislabelled=0.1)
    epsilons, rates = (1e-8, 1e-2), (0.01, 0.03)
    by_eps = by_epsilon(problem, 60, 2, epsilons, rates)
    found = by_eps[1e-8].best
    assert found.loss.mean < 1.8 < math.log(10)
    outcome = questions.Outcome(found.loss, Spread(0.9, 0.01))
    console = Console(width=130)
    with console.capture() as capture:
        console.print(questions.epsilon_table("A", by_eps))
        console.print(questions.quantile_table("B", {1: np.ones(5)}))
        console.print(questions.first_step_table())
        console.print(questions.schedule_table("D", (0.01,), {"constant": [outcome]}))
        console.print(questions.momentum_table("E", {"adam": [found]}, (60,)))
    assert str(found) in capture.get() and found.at_edge and "90.0 ± 1.0%" in capture.get()


def test_a_diverged_step_size_is_never_the_best():
    losses = jnp.array([[jnp.nan, 1.0], [2.0, 4.0], [jnp.inf, 1.0]])
    found = best((0.1, 0.2, 0.3), losses)
    assert (found.rate, found.loss.mean, found.at_edge) == (0.2, 3.0, False)


def test_seeds_share_nothing_and_optimizers_share_everything():
    problem = dataclasses.replace(quadratic(dim=4), gradient=lambda x, key: jax.random.normal(key, (4,)))
    one, two = (ends(opt, problem, steps=1) for opt in (optax.sgd(1.0), optax.sgd(2.0)))
    start = ends(optax.sgd(1.0), problem, steps=0)
    np.testing.assert_allclose(two - start, 2 * (one - start), rtol=1e-5)
    assert not np.any(np.isclose(one[0], one[1]))
