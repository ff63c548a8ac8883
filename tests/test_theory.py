"""Bounds, limits and bias: what `adamx.theory` says is true of the optimizers that are here."""

import functools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import theory
from tests.helpers import product, scanned


def trajectory(opt, grads, start):
    """The iterates of an optimizer whose gradients are given."""

    def body(carry, g):
        x, state = carry
        updates, state = opt.update(g, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    return np.asarray(jax.lax.scan(body, (start, opt.init(start)), jnp.asarray(grads))[1])


def heavy_tailed(generator, shape):
    """Gradients of which some are zero and some enormous, and which grow or shrink as they come."""
    g = generator.standard_cauchy(shape) * np.exp(2 * generator.standard_normal(shape))
    g = np.where(generator.random(shape) < generator.random((*shape[:-2], 1, *shape[-1:])), 0, g)
    growth = np.exp(0.3 * generator.standard_normal((*shape[:-2], 1, *shape[-1:])))
    return g * growth ** np.arange(shape[-2])[:, None]


RULES = {
    "adam": (adamx.scale_by_adam, theory.update_bound, theory.worst_case_gradients),
    "adamax": (adamx.scale_by_adamax, theory.adamax_update_bound, theory.adamax_worst_case_gradients),
}
BETAS = [
    (0.9, 0.999),
    (0.9, 0.99),
    (0.9, 0.95),
    (0.9, 0.9999),
    (0.5, 0.7),
    (0.95, 0.9),
    (0.9, 0.9),
    (0.0, 0.999),
    (0, 0),
]


@pytest.mark.parametrize("name", RULES)
def test_no_step_exceeds_the_exact_bound_in_ten_thousand_trials(name, x64):
    """100 pairs of decay rates with 100 sequences each, half of them the worst ones disturbed. Rounding is 1e-12."""
    make, bound, worst = RULES[name]
    generator, trials, steps = np.random.default_rng(0), 100, 64
    b1 = 1 - 10 ** -generator.uniform(0, 2, 100)
    b2 = 1 - 10 ** -generator.uniform(0.1, 4, 100)
    b1[:10] = 0
    grads = heavy_tailed(generator, (100, steps, trials))
    noise = np.exp(0.1 * generator.standard_normal((steps, trials // 2)))
    for i in range(100):
        grads[i, :, ::2] = worst(float(b1[i]), float(b2[i]), steps)[:, None] * noise
    t = np.arange(1, steps + 1)
    bounds = np.stack([bound(float(p), float(q), t) for p, q in zip(b1, b2, strict=True)])
    run = jax.jit(jax.vmap(lambda p, q, g: scanned(make(b1=p, b2=q, eps=0.0), g)))
    share = np.abs(run(b1, b2, grads)) / bounds[:, :, None]
    assert share.max() <= 1 + 1e-12
    assert share[:, -1].max() > 0.99


@functools.cache
def last_step(make):
    """Of rates that are arguments, so that one program is compiled for all."""
    return jax.jit(lambda b1, b2, g: scanned(make(b1=b1, b2=b2, eps=0.0), g)[-1])


@pytest.mark.parametrize("t", [1, pytest.param(2, marks=product), pytest.param(10, marks=product), 100, 1000])
@pytest.mark.parametrize(("b1", "b2"), BETAS)
@pytest.mark.parametrize("name", RULES)
def test_the_exact_bound_is_attained_by_the_worst_gradients(name, b1, b2, t, x64):
    make, bound, worst = RULES[name]
    grads = jnp.asarray(worst(b1, b2, t))
    assert grads.shape == (t,) and grads.max() == 1
    longest = float(last_step(make)(float(b1), float(b2), grads))
    np.testing.assert_allclose(longest, bound(b1, b2, t), rtol=1e-6)


@pytest.mark.parametrize(
    ("b1", "b2", "paper", "exact"),
    [(0.9, 0.999, 3.162, 7.270), (0.9, 0.99, 1, 2.345), (0.9, 0.95, 1, 1.165), (0.9, 0.9999, 10, 22.95),
     (0.5, 0.7, 1, 1.139), (0.95, 0.9, 1, math.inf), (0.0, 0.999, 31.62, 31.62)],
)  # fmt: skip
def test_the_papers_bound_and_the_exact_one(b1, b2, paper, exact):
    np.testing.assert_allclose(theory.paper_bound(b1, b2), paper, rtol=2e-4)
    np.testing.assert_allclose(theory.update_bound(b1, b2), exact, rtol=4e-4)


def test_adam_exceeds_the_papers_bound_by_2_29_times(x64):
    grads = jnp.asarray(theory.worst_case_gradients(0.9, 0.999, 8000))
    longest = float(jax.jit(lambda g: scanned(adamx.scale_by_adam(0.9, 0.999, eps=0.0), g)[-1])(grads))
    assert longest > 2.29 * theory.paper_bound(0.9, 0.999)


def test_the_papers_bound_is_that_of_a_lone_gradient(x64):
    lone = jnp.zeros(10_000).at[-1].set(1.0)
    longest = float(jax.jit(lambda g: scanned(adamx.scale_by_adam(eps=0.0), g)[-1])(lone))
    np.testing.assert_allclose(longest, theory.paper_bound(0.9, 0.999), rtol=1e-4)


@pytest.mark.parametrize(("b1", "b2", "exact"), [(0.9, 0.999, 1.00909), (0.9, 0.99, 1.1), (0.9, 0.95, 1.9)])
def test_adamax_exceeds_the_papers_bound(b1, b2, exact):
    assert theory.adamax_update_bound(b1, b2) > theory.ADAMAX_PAPER_BOUND
    np.testing.assert_allclose(theory.adamax_update_bound(b1, b2), exact, rtol=1e-5)


@pytest.mark.parametrize("bound", [theory.update_bound, theory.adamax_update_bound])
def test_bounds_are_one_at_the_first_step_grow_and_reach_their_limit(bound):
    t = np.arange(1, 20_000)
    values = bound(0.9, 0.999, t)
    assert values[0] == pytest.approx(1, abs=1e-15) and np.all(np.diff(values) > -1e-12)
    assert values[-1] == pytest.approx(bound(0.9, 0.999), rel=1e-8)
    assert bound(0.9, 0.0, 1) == pytest.approx(1) and bound(0.9, 0.0, 2) == math.inf
    assert all(bound(b1, b1**2) == math.inf for b1 in (0.8, 0.9, 0.95)) and bound(0.95, 0.9025) == math.inf
    assert bound(0.0, 0.0) == bound(0, 0, 7) == 1


def test_bounds_take_a_traced_step_number():
    traced = jax.jit(lambda t: theory.update_bound(0.9, 0.999, t))(jnp.arange(1, 2000))
    np.testing.assert_allclose(traced, theory.update_bound(0.9, 0.999, np.arange(1, 2000)), rtol=1e-4)


def test_equal_decay_rates_bound_the_step_by_the_step_size():
    np.testing.assert_allclose(theory.update_bound(0.95, 0.95, np.arange(1, 500)), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.update_bound(1.0, 0.9), r"b1 = 1.0 is outside \[0, 1\)"),
        (lambda: theory.paper_bound(0.9, -0.1), r"b2 = -0.1 is outside \[0, 1\)"),
        (lambda: theory.update_bound(0.9, 0.99, 0), "should be the number of a step, from 1"),
        (lambda: theory.worst_case_gradients(0.9, 0.0, 3), "forgets all gradients but the last"),
        (lambda: theory.adamax_worst_case_gradients(0.9, 0.5, 2.5), "t = 2.5 should be a positive whole number"),
        (lambda: theory.bias_curves(0.9, 0.999, 0), "steps = 0 should be a positive whole number"),
        (lambda: theory.reddi_a(2), "c = 2 should exceed 2"),
        (lambda: theory.play(theory.reddi_a(), adamx.adam(1.0), 0), "steps = 0 should be a positive number"),
        (lambda: theory.play(theory.reddi_a(), adamx.adam(1.0), 1, start=2.0), r"start = 2.0 is outside \[-1, 1\]"),
        (lambda: theory.regret_in_hindsight(1, -1), "low = 1 should be below high = -1"),
        (lambda: theory.theorem_4_1(np.ones(3), 0.5, 0.9, 0.99, 1.0, 2.0), r"decay = 1.0 is outside \(0, 1\)"),
        (lambda: theory.theorem_4_1(np.ones((2, 2, 2)), 0.5, 0.9, 0.99, 0.9, 2.0), r"grads of shape \(2, 2, 2\)"),
        (lambda: theory.amsgrad_regret_bound(np.ones(3), 0.5, 0.9, 0.99, 0.0), "diameter = 0.0 is outside"),
        (lambda: theory.amsgrad_regret_bound(np.ones(3), 0.5, 0.9, 0.99, 2.0, decay=2), "decay = 2 is outside"),
        (lambda: theory.amsgrad_regret_bound(np.ones(3), 0.5, 0.9, 0.99, 2.0).violated(np.ones(2)), "of every round"),
        (lambda: theory.adam_as_adagrad(-1.0), "alpha = -1.0 is outside"),
        (lambda: theory.adam_as_rmsprop(0.1, decay=1.0), "decay = 1.0 is outside"),
        (lambda: theory.adam_as_sgd(0.1, momentum=1.0), "momentum = 1.0 is outside"),
        (lambda: theory.adam_as_sgd(0.1, eps=0.0), r"eps = 0.0 is outside \(0, inf\)"),
    ],
)
def test_a_mistake_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_decay_rates_are_refused_by_bounds():
    with pytest.raises(TypeError, match=r"b1 is a JAX array: .* give float\(b1\)"):
        jax.jit(lambda b: theory.update_bound(b, 0.999))(0.9)


# Limits: float64 trajectories of 200 steps, each coordinate with gradients of a size of its own


@pytest.mark.parametrize(
    ("adam", "named"),
    [
        (theory.adam_as_adagrad(0.3), adamx.adagrad(0.3, 0.0, 0.0, eps_in_sqrt=False)),
        (theory.adam_as_adagrad(0.3, eps=0.1), adamx.adagrad(0.3, 0.0, 0.1, eps_in_sqrt=False)),
        (theory.adam_as_rmsprop(0.3, 0.99), adamx.rmsprop(0.3, 0.99, 1e-8, eps_in_sqrt=False)),
        (theory.adam_as_rmsprop(0.3, 0.9, eps=0.1), adamx.rmsprop(0.3, 0.9, 0.1, eps_in_sqrt=False)),
        (theory.adam_as_sgd(0.3, eps=1e16), adamx.optimizer(adamx.SGD(), 0.3)),
        (theory.adam_as_sgd(0.3, momentum=0.9, eps=1e16), optax.sgd(0.3, momentum=0.9)),
    ],
    ids=["adagrad", "adagrad_eps", "rmsprop", "rmsprop_eps", "sgd", "momentum"],
)
def test_at_its_limit_adam_is_the_optimizer_it_is_named_for(adam, named, x64):
    generator = np.random.default_rng(0)
    grads = generator.standard_normal((200, 20)) * 10.0 ** np.linspace(-3, 2, 20)
    start = jnp.asarray(generator.standard_normal(20))
    ours, theirs = trajectory(adam, grads, start), trajectory(named, grads, start)
    moved = np.abs(theirs - np.asarray(start)).max()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14 * moved)


def test_adam_nears_adagrad_as_b2_goes_to_one_and_without_correction_does_not(x64):
    grads = np.random.default_rng(0).standard_normal((100, 20))
    start = jnp.zeros(20)
    adagrad = trajectory(theory.adam_as_adagrad(0.1), grads, start)
    errors = [
        np.abs(trajectory(theory.adam_as_adagrad(0.1, b2=1 - gap), grads, start) - adagrad).max()
        for gap in (1e-4, 1e-6, 1e-8)
    ]
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 100, rtol=0.02)
    uncorrected = adamx.optimizer(
        adamx.Adam(b1=0.0, b2=1 - 1e-8, eps=0.0, bias_correction=False), adamx.schedules.inverse_sqrt(0.1)
    )
    assert np.abs(trajectory(uncorrected, grads, start) - adagrad).max() > 100


# Bias


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.0, 0.99), (0.9, 0.9999)])
def test_the_uncorrected_step_is_that_of_adam_without_correction(b1, b2, x64):
    curves = theory.bias_curves(b1, b2, 300)
    ones = jnp.ones(300)
    plain = scanned(adamx.scale_by_adam(b1, b2, eps=0.0, bias_correction=False), ones)
    np.testing.assert_allclose(curves.uncorrected_step, plain, rtol=1e-12)
    np.testing.assert_allclose(curves.correction * plain, 1, rtol=1e-12)


def test_without_correction_the_worst_step_is_6_57_times_too_long():
    t, worst = theory.bias_curves(0.9, 0.999, 1000).worst
    assert t in (12, 13) and worst == pytest.approx(6.57, abs=0.01)
    assert theory.bias_curves(0.0, 0.9999, 10).worst == pytest.approx((1, 100))


def test_theory_needs_nothing_that_only_examples_need():
    code = "import sys, adamx.theory; print({'flax', 'matplotlib', 'sklearn', 'rich', 'typer'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
