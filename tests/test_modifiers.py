"""Rules around rules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx._math import ema
from tests import reference
from tests.helpers import directions

GRADS = np.random.default_rng(0).standard_normal((60, 4, 3))


class Mean(adamx.Rule):
    """The exponential average of the gradient, nothing else."""

    b1: adamx.Beta = 0.9
    slots = adamx.Moments(mu=adamx.Slot(), nu=adamx.Slot(init=lambda p, dtype: None))

    def step(self, g, s, at):
        mu = ema(s.mu, g, self.b1)
        return mu, adamx.Moments(mu, None)


def test_nesterov_looks_one_step_ahead_of_any_mean(x64):
    """The average of g + b1 (g - previous) is b1 m + (1 - b1) g: Nesterov's momentum, without seeing m."""
    mean = np.asarray(directions(Mean(), jnp.asarray(GRADS)))
    got = directions(adamx.Nesterov(Mean(), b1=0.9), jnp.asarray(GRADS))
    np.testing.assert_allclose(got, 0.9 * mean + 0.1 * GRADS, rtol=1e-12, atol=1e-14)


def test_lamb_is_the_trust_ratio_around_decayed_adam(x64, loose):
    """And both are the LAMB equations, which test_reference.py compares with the box."""
    params, grads = jnp.asarray(GRADS[0]), jnp.asarray(GRADS[1])
    by_hand = optax.chain(
        adamx.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(0.1),
        optax.scale_by_trust_ratio(),
        optax.scale_by_learning_rate(1e-2),
    )
    lamb = adamx.lamb(1e-2, weight_decay=0.1)
    wanted, _ = by_hand.update(grads, by_hand.init(params), params)
    np.testing.assert_allclose(lamb.update(grads, lamb.init(params), params)[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("threshold", [0.1, 10.0])
def test_clipping_bounds_the_root_mean_square_and_leaves_short_steps_alone(threshold, x64):
    plain = np.asarray(directions(adamx.Adam(), jnp.asarray(GRADS)))
    clipped = np.asarray(directions(adamx.ClippedByRMS(adamx.Adam(), threshold), jnp.asarray(GRADS)))
    length = np.sqrt(np.mean(plain**2, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(clipped, plain / np.maximum(1, length / threshold), rtol=1e-12)


def test_modifiers_nest(x64):
    """Cautious MARS around AMSGrad equals the boxes put together by hand."""
    corrected = list(reference.mars(GRADS, b1=0.9))
    wanted = list(reference.cautious(reference.amsgrad(corrected), GRADS))
    rule = adamx.Cautious(adamx.MARS(adamx.AMSGrad(), b1=0.9))
    got = np.asarray(directions(rule, jnp.asarray(GRADS)))
    np.testing.assert_allclose(got, np.asarray(wanted, np.float64), rtol=1e-10, atol=1e-13)


def test_schedules_reach_rules_inside_modifiers(x64):
    b1 = adamx.schedules.decayed_beta(0.9, 0.9)
    plain = directions(adamx.Adam(b1=b1), jnp.asarray(GRADS))
    wrapped = directions(adamx.Grams(adamx.Adam(b1=b1)), jnp.asarray(GRADS))
    np.testing.assert_allclose(jnp.abs(plain), jnp.abs(wrapped), rtol=1e-12)


def test_a_rule_may_measure_all_leaves_inside_a_modifier():
    """Prodigy's estimate runs over the whole tree, also behind another rule: it grows, alike in every leaf."""
    grads = {"a": jnp.ones(3), "b": jnp.full((2, 2), 0.5)}
    estimates = []
    for rule in (adamx.Prodigy(d0=1e-3), adamx.ClippedByRMS(adamx.Prodigy(d0=1e-3), 1e6)):
        opt, params = adamx.optimizer(rule, 1.0), jax.tree.map(jnp.zeros_like, grads)
        state, step = opt.init(params), jax.jit(opt.step)
        for _ in range(5):
            params, state = step(grads, state, params)
        d = optax.tree.get(state, "d")
        assert d["a"] == d["b"] > 2e-3
        estimates.append(d["a"])
    np.testing.assert_allclose(estimates[0], estimates[1], rtol=1e-6)


def test_a_broken_gradient_breaks_the_whole_leaf_of_a_trust_ratio():
    """Its length is not a number, and a ratio of 1 instead would be a step out of all proportion."""
    opt, params = adamx.lamb(1.0), jnp.full(3, 1e-3)
    updates, _ = opt.update(jnp.array([jnp.nan, 1.0, 1.0]), opt.init(params), params)
    assert not jnp.isfinite(updates).any()


def test_adopt_neither_steps_nor_decays_on_its_first_call():
    opt, params = adamx.adopt(0.1, weight_decay=1.0), jnp.full(1, 2.0)
    first, state = opt.step(jnp.ones(1), opt.init(params), params)
    np.testing.assert_array_equal(first, params)
    second, _ = opt.step(jnp.zeros(1), state, first)
    np.testing.assert_allclose(second, 2.0 - 0.1 * 2.0, rtol=1e-6)


@pytest.mark.parametrize("make", [adamx.schedule_free_sgd, adamx.schedule_free_adamw])
def test_schedule_free_evaluates_bfloat16_weights_where_it_evaluates_float32_ones(make):
    """x cannot be had from a y that is rounded to bfloat16 at every step, and is kept."""
    target = jnp.linspace(-1, 1, 16)
    losses = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        opt, params = make(0.05), jnp.zeros(16, dtype)

        def body(_, carry, opt=opt):
            params, state = carry
            return opt.step(params.astype(jnp.float32) - target, state, params)

        params, state = jax.lax.fori_loop(0, 1_000, body, (params, opt.init(params)))
        x = adamx.schedule_free_eval_params(state, params).astype(jnp.float32)
        losses[dtype] = float(jnp.mean((x - target) ** 2))
    assert losses[jnp.bfloat16] < losses[jnp.float32] + 1e-4


def test_schedule_free_evaluates_what_it_trains_inside_masked_and_partition():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    groups = {"x": adamx.schedule_free_sgd(0.1), "y": adamx.schedule_free_adamw(0.1)}
    both = optax.partition(groups, {"a": "x", "b": "y"})
    only = optax.masked(adamx.schedule_free_sgd(0.1), {"a": True, "b": False})
    for opt, moved in ((both, ("a", "b")), (only, ("a",))):
        state, p = opt.init(params), params
        for _ in range(3):
            updates, state = opt.update(params, state, p)
            p = optax.apply_updates(p, updates)
        x = adamx.schedule_free_eval_params(state, p)
        for name in params:
            assert (x[name] != p[name]).all() == (name in moved)
