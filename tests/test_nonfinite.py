"""What is not finite stays so, and what is finite stays so: nothing over- or underflows on the way to the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._math import largest
from tests.helpers import NARROW_MODES, as_users_do, needs_native, ulp

SHAPE = (64, 128)  # 8,192 elements: from 4,096 on a maximum of floats passes over NaN on CPUs


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_largest_of_many_elements_is_nan_if_one_is(dtype):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE), dtype)
    found = as_users_do(lambda x: (largest(x), largest(x, -1)))
    everywhere, rows = found(x)
    assert everywhere == abs(x).max() and (rows == abs(x).max(-1)).all()
    everywhere, rows = found(x.at[3, 5].set(-jnp.nan))
    assert jnp.isnan(everywhere)
    np.testing.assert_array_equal(jnp.isnan(rows), np.arange(64) == 3)
    assert largest(jnp.zeros(0)) == 0


@pytest.mark.parametrize("kernel", ["xla", pytest.param("native", marks=needs_native)])
@pytest.mark.usefixtures("one_device")
def test_an_int8_momentum_of_nan_is_nan_in_its_group_only(kernel):
    opt, params = adamx.lion(1e-3, moments="int8", kernel=kernel), jnp.ones(SHAPE)
    _, state = as_users_do(opt.step)(params.at[3, 5].set(jnp.nan), opt.init(params), params)
    mu = adamx.unpack_state(opt, state, params).slots.mu
    np.testing.assert_array_equal(jnp.isnan(mu), np.broadcast_to(np.arange(64)[:, None] == 3, SHAPE))


@pytest.mark.parametrize("weights", NARROW_MODES)
@pytest.mark.parametrize("kernel", ["xla", pytest.param("native", marks=needs_native)])
@pytest.mark.usefixtures("one_device")
def test_an_infinite_weight_stays_infinite(kernel, weights):
    opt = adamx.adam(1e-3, weights=weights, kernel=kernel)
    params = jnp.asarray([jnp.inf, -jnp.inf, 1.0, jnp.nan], jnp.bfloat16)
    grads, wanted = jnp.ones(4, jnp.bfloat16), [np.inf, -np.inf, 1.0, np.nan]
    stepped, _ = as_users_do(opt.step)(grads, opt.init(params), params)
    np.testing.assert_allclose(np.asarray(stepped, np.float32), wanted, rtol=ulp(jnp.bfloat16))
    updates, _ = as_users_do(opt.update)(grads, opt.init(params), params)
    np.testing.assert_allclose(params.astype(jnp.float32) + updates, wanted, rtol=ulp(jnp.bfloat16))


def clipped(grads, **kwargs):
    """What the gradients become: weights of zero, less the step of plain descent."""
    opt, params = adamx.optimizer(adamx.SGD(), 1.0), jax.tree.map(jnp.zeros_like, grads)
    stepped, _ = as_users_do(lambda g: opt.step(g, opt.init(params), params, **kwargs))(grads)
    return jax.tree.map(lambda x: -np.asarray(x), stepped)


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e-3, 1e10, 1e25, 1e37])
def test_a_norm_that_float32_can_say_is_clipped_to(size):
    """Squares of such numbers over- and underflow."""
    direction = np.random.default_rng(0).standard_normal(50)
    direction /= np.linalg.norm(direction)
    grads = {"w": jnp.asarray(size * direction[:49], jnp.float32), "b": jnp.asarray(size * direction[49], jnp.float32)}
    got = clipped(grads, clip_norm=0.25 * size)
    np.testing.assert_allclose(np.append(got["w"], got["b"]), 0.25 * size * direction, rtol=8 * ulp(jnp.float32))


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_float64_gradients_are_scaled_and_clipped_in_float64(size, x64):
    direction = np.random.default_rng(0).standard_normal(50)
    direction /= np.linalg.norm(direction)
    grads = jnp.asarray(size * direction)
    np.testing.assert_allclose(clipped(grads, clip_norm=0.1 * size), 0.1 * size * direction, rtol=1e-15)
    np.testing.assert_allclose(clipped(grads, grad_scale=0.1), 0.1 * size * direction, rtol=1e-15)


def test_a_scale_and_a_norm_that_together_overflow_are_clipped_all_the_same():
    got = clipped(jnp.asarray([3e30, 4e30]), clip_norm=1.0, grad_scale=-1e20)
    np.testing.assert_allclose(got, [-0.6, -0.8], rtol=8 * ulp(jnp.float32))


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_a_constant_scale_is_multiplied_before_the_gradient_is_squared(shape):
    """In leaves of one element XLA makes g^2 s^2 of (g s)^2: 0 times infinity."""
    opt, params, grads = adamx.adam(1.0, eps=0.0), jnp.ones(shape), jnp.full(shape, 1e-25)
    step = as_users_do(lambda g: opt.step(g, opt.init(params), params, grad_scale=1e20))
    stepped, state = step(grads)
    np.testing.assert_allclose(state.slots.nu, np.full(shape, 1e-13), rtol=8 * ulp(jnp.float32))
    np.testing.assert_allclose(stepped, np.zeros(shape), atol=1e-6)


def test_of_very_many_groups_a_nan_is_told_in_its_own():
    """From 4,096 numbers on, groups times leaves, the largest step of a group was that of its finite leaves."""
    params = {f"w{i:02}": jnp.ones(2) for i in range(24)}
    opt = adamx.monitor(adamx.optimizer(adamx.SGD(), 1.0), groups=lambda path: path)
    grads = {**params, "w07": jnp.asarray([1.0, jnp.nan])}
    _, state = as_users_do(opt.step)(grads, opt.init(params), params)
    values = adamx.diagnostics.read(state)
    nan = {name.partition("/")[0] for name, value in values.items() if name.endswith("step_max") and np.isnan(value)}
    assert nan == {"w07", "all"}
