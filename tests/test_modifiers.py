"""Rules around rules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx._math import ema
from tests import reference
from tests.test_reference import directions

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
    """Prodigy's estimate runs over the whole tree, also behind another rule's step."""
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    opt = adamx.optimizer(adamx.Grams(adamx.Prodigy(d0=0.1)), 1.0)
    _, state = jax.jit(opt.step)(params, opt.init(params), params)
    d = optax.tree.get(state, "d")
    assert d["a"] == d["b"]
