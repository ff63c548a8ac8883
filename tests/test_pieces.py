"""The parts to chain by hand: bias correction, schedules, averages, weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import schedules
from tests import reference
from tests.helpers import ulp
from tests.test_optax_parity import trajectory

GRADS = np.random.default_rng(0).standard_normal((50, 8))


def scan_updates(tx, grads):
    def body(state, g):
        u, state = tx.update(g, state, g)
        return state, u

    return np.asarray(jax.lax.scan(body, tx.init(grads[0]), grads)[1])


@pytest.mark.parametrize("nesterov", [False, True])
def test_bias_correction_chained_by_hand_is_adam_with_eps_hat(nesterov, x64):
    by_hand = optax.chain(
        adamx.scale_by_adam(0.8, 0.99, 1e-3, bias_correction=False), adamx.scale_by(adamx.BiasCorrection(0.8, 0.99))
    )
    whole = adamx.scale_by_adam(0.8, 0.99, 1e-3, eps_hat=True)
    np.testing.assert_allclose(
        scan_updates(by_hand, jnp.asarray(GRADS)), scan_updates(whole, jnp.asarray(GRADS)), rtol=1e-13
    )


def test_bias_correction_without_b2_is_adamaxs(x64):
    got = scan_updates(adamx.scale_by(adamx.BiasCorrection(0.9, None)), jnp.ones((5, 1)))[:, 0]
    np.testing.assert_allclose(got, 1 / (1 - 0.9 ** np.arange(1, 6)), rtol=1e-13)


def test_inverse_sqrt_is_alpha_over_root_t_per_step_and_per_epoch():
    counts = jnp.arange(12)
    np.testing.assert_allclose(schedules.inverse_sqrt(3.0)(counts), 3 / np.sqrt(np.arange(1, 13)), rtol=1e-6)
    np.testing.assert_allclose(
        schedules.inverse_sqrt(3.0, every=5)(counts), 3 / np.sqrt(np.arange(12) // 5 + 1), rtol=1e-6
    )


def test_a_decay_rate_that_fades_to_nothing_keeps_weights_finite():
    """Below 3e-8 it is lost beside 1, and log1p(b - 1) would be -inf."""
    opt = adamx.adam(1e-3, b1=schedules.decayed_beta(0.9, 0.99))
    step = lambda carry, _: (opt.step(carry[0], carry[1], carry[0]), None)  # noqa: E731
    params, _ = jax.lax.scan(step, (jnp.ones(2), opt.init(jnp.ones(2))), None, length=3_000)[0]
    assert jnp.isfinite(params).all()


def test_decayed_beta_keeps_its_digits_near_one():
    late = float(schedules.decayed_beta(0.9, 1 - 1e-8)(jnp.asarray(10**6)))
    np.testing.assert_allclose(late, 0.9 * (1 - 1e-8) ** 10**6, rtol=2 * ulp(jnp.float32))


def varying_reference(grads, b1s, b2s):
    """Adam with a decay rate a step: an average started at zero has gathered the weight 1 - their product."""
    m = v = 0.0
    p1 = p2 = 1.0
    for g, b1, b2 in zip(grads, b1s, b2s, strict=True):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p1, p2 = p1 * b1, p2 * b2
        yield m / (1 - p1) / np.sqrt(v / (1 - p2))


def test_a_scheduled_beta_is_corrected_by_the_product_of_its_values(x64):
    b1s, b2s = 0.9 * 0.97 ** np.arange(50), 1 - 1 / np.arange(2.0, 52.0)
    opt = adamx.scale_by_adam(b1=schedules.decayed_beta(0.9, 0.97), b2=lambda count: 1 - 1 / (count + 2.0), eps=0.0)
    with jax.numpy_dtype_promotion("standard"):
        got = scan_updates(opt, jnp.asarray(GRADS))
    np.testing.assert_allclose(got, list(varying_reference(GRADS, b1s, b2s)), rtol=1e-12)


def test_a_scheduled_beta_may_be_zero():
    """AdaGrad's mean, b2 = 1 - 1/t, starts with b2 = 0."""
    opt = adamx.scale_by_adam(b1=0.0, b2=lambda count: 1 - 1 / (count.astype(float) + 1), eps=0.0)
    got = scan_updates(opt, jnp.asarray(GRADS, jnp.float32))
    wanted = GRADS / np.sqrt(np.cumsum(GRADS**2, axis=0) / np.arange(1, 51)[:, None])
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_constant_schedule_is_the_constant_to_rounding():
    """The sum of logarithms is compensated: after 10^4 steps it is as exact as t log(b)."""
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((10_000, 8)), jnp.float32)
    scheduled = scan_updates(adamx.scale_by_adam(b1=lambda _: 0.9, b2=lambda _: 0.9999), grads)
    wanted = np.asarray(list(reference.adam(np.asarray(grads), b2=0.9999)))
    for t in (1, 100, 10_000):
        error = np.linalg.norm(scheduled[t - 1] - wanted[t - 1]) / np.linalg.norm(wanted[t - 1])
        assert error <= 3e-6, t


def iterates(decay):
    opt = optax.chain(adamx.adam(0.1), adamx.averaging(decay))
    params, path = jnp.asarray([1.0, -2.0, 0.5]), []
    state = opt.init(params)
    np.testing.assert_array_equal(adamx.averaged_params(state), params)
    for g in jnp.asarray(GRADS[:, :3], jnp.float32):
        updates, state = opt.update(g, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.asarray(path), adamx.averaged_params(state)


def test_averaging_is_the_bias_corrected_average_of_the_iterates():
    path, average = iterates(0.9)
    weights = 0.9 ** np.arange(len(path))[::-1]
    np.testing.assert_allclose(average, weights @ path / weights.sum(), rtol=1e-5)


def test_averaging_without_decay_is_the_mean_of_the_iterates():
    path, average = iterates(None)
    np.testing.assert_allclose(average, path.mean(axis=0), rtol=1e-5)


def test_averaged_params_says_what_is_missing():
    opt = adamx.adam(0.1)
    with pytest.raises(ValueError, match=r"holds 0 averages.*adamx\.averaging"):
        adamx.averaged_params(opt.init(jnp.ones(1)))


@pytest.fixture
def one_decayed_step():
    params, grads = jnp.asarray([2.0, -2.0, 2.0]), jnp.asarray([1.0, 1.0, 0.0])

    def run(**kwargs):
        opt = adamx.adamw(eps=0.0, weight_decay=0.1, **kwargs)
        return np.asarray(opt.update(grads, opt.init(params), params)[0])

    return run


def test_decoupled_decay_is_lr_times_lambda(one_decayed_step):
    np.testing.assert_allclose(one_decayed_step(learning_rate=0.5), [-0.6, -0.4, -0.1], rtol=1e-6)


def test_independent_decay_is_lambda_times_the_share_of_the_largest_step_size(one_decayed_step):
    np.testing.assert_allclose(one_decayed_step(learning_rate=0.5, decay="independent"), [-0.7, -0.3, -0.2], rtol=1e-6)
    scheduled = one_decayed_step(learning_rate=lambda _: 0.5, lr_max=2.0, decay="independent")
    np.testing.assert_allclose(scheduled, [-0.55, -0.45, -0.05], rtol=1e-6)


def test_cautious_decay_acts_only_where_the_step_shrinks_the_weight(one_decayed_step):
    np.testing.assert_allclose(one_decayed_step(learning_rate=0.5, decay="cautious"), [-0.6, -0.5, -0.1], rtol=1e-6)


def test_l2_decay_is_the_gradient_of_the_penalty(x64, loose):
    ours = trajectory(adamx.adamw(1e-2, weight_decay=0.1, decay="l2"))
    theirs = trajectory(optax.chain(optax.add_decayed_weights(0.1), optax.adam(1e-2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)


def test_rule_is_a_pytree_of_its_hyperparameters():
    rule = adamx.Adam(b1=0.5, nesterov=True)
    assert jax.tree.leaves(rule) == [0.5, 0.999, 1e-8, 0.0]
    doubled = jax.tree.map(lambda x: 2 * x, rule)
    assert doubled == adamx.Adam(b1=1.0, b2=1.998, eps=2e-8, nesterov=True)
