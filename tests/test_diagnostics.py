"""What an optimizer says of itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx

PARAMS = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((64, 160)), jnp.bfloat16), "b": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: jnp.asarray(np.random.default_rng(1).standard_normal(p.shape), p.dtype), PARAMS)


def after(opt, steps=20):
    """Parameters and state of a run, two of three gradients turned about."""

    def body(t, carry):
        grads = jax.tree.map(lambda g: jnp.where(t % 3 == 0, g, -g), GRADS)
        return opt.step(grads, carry[1], carry[0])

    return jax.jit(lambda carry: jax.lax.fori_loop(0, steps, body, carry))((PARAMS, opt.init(PARAMS)))


def stalls(opt, *given):
    return jax.jit(lambda *given: adamx.diagnostics.stalls(opt, *given))(*given)


@pytest.mark.parametrize("weights", ["nearest", "stochastic", "kahan", "split8", "split16"])
def test_small_steps_stall_weights_that_are_rounded_to_nearest_and_no_others(weights):
    opt = adamx.adam(1e-4, weights=weights)
    params, state = after(opt)
    found = stalls(opt, state, GRADS, params)
    if weights == "nearest":
        assert found.weights.share > 0.8 and found.weights.progress < 0.2
    else:
        assert 0.5 < found.weights.progress < 1.5


def test_what_is_computed_in_float32_does_not_stall():
    opt = adamx.adamw(1e-2)
    found = stalls(opt, after(opt)[1], GRADS, jax.tree.map(jnp.float32, PARAMS))
    for stalled in (*found.slots.values(), found.weights):
        assert stalled.share < 0.01
        np.testing.assert_allclose(stalled.progress, 1, rtol=1e-3)


@pytest.mark.parametrize("moments", ["int8", "bfloat16"])
def test_dithered_moments_move_by_the_right_amount_though_seldom(moments):
    opt = adamx.adamw(1e-2, b2=0.9999, moments=moments)
    params, state = after(opt, 600)
    nu = stalls(opt, state, GRADS, params).slots["nu"]
    assert nu.share > 0.3
    assert 0.5 < nu.progress < 1.5


def test_the_shares_are_of_elements_that_should_have_moved():
    opt = adamx.adam(1e-3, weights="stochastic")
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found = stalls(opt, opt.init(PARAMS), zero, PARAMS)
    assert jnp.isnan(found.weights.share) and jnp.isnan(found.slots["mu"].progress)


def test_a_chain_is_asked_by_the_part_that_is_meant():
    import optax

    opt = adamx.adam(1e-3, weights="kahan")
    chained = optax.chain(optax.clip(1.0), opt)
    assert stalls(opt, chained.init(PARAMS), GRADS, PARAMS).weights.share.shape == ()
    with pytest.raises(TypeError, match=r"made by `adamx\.optimizer`"):
        _ = adamx.Optimizer(opt.init, chained.update).engine
