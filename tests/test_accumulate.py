"""Gradients added up over several calls are one step with their mean."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
import adamx.flax
from tests.helpers import SoftSign, as_users_do, needs_host_memory

WEIGHTS = (3.0, 500.0, 41.0)


def tree(dtype=jnp.float32):
    return {"w": jnp.linspace(-1, 1, 4096, dtype=dtype).reshape(32, 128), "b": jnp.ones(5, dtype), "none": None}


def gradients(like, seed):
    """A gradient for each of `WEIGHTS`."""
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), like) for _ in WEIGHTS]


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize("method", ["step", "update"])
def test_the_last_call_steps_with_the_weighted_mean_and_the_others_do_nothing(method, x64):
    base, params = adamx.adamw(optax.linear_schedule(1e-2, 1e-3, 3), b1=lambda n: 0.9 - n / 10), tree(jnp.float64)
    opt = adamx.accumulate(base, len(WEIGHTS))
    options = {"clip_norm": 3.0, "grad_scale": 2.0, "learning_rate": 0.02} if method == "step" else {}

    def call(opt, grads, state, params, **more):
        if method == "step":
            return opt.step(grads, state, params, **more)
        updates, state = opt.update(grads, state, params, **more)
        return optax.apply_updates(params, updates), state

    call_once = jax.jit(lambda g, s, p, w: call(opt, g, s, p, weight=w, **options))
    at_once = jax.jit(lambda g, s, p: call(base, g, s, p, **options))
    state, expected = opt.init(params), (params, base.init(params))
    for move in range(2):
        grads = gradients(params, move)
        for g, weight in zip(grads, WEIGHTS, strict=True):
            before = params, state.inner
            params, state = call_once(g, state, params, weight)
            assert same(before, (params, state.inner)) == (g is not grads[-1])
        mean = jax.tree.map(lambda *g: sum(map(np.multiply, WEIGHTS, g)) / sum(WEIGHTS), *grads)
        expected = at_once(mean, expected[1], expected[0])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-12, 1e-15), (params, state.inner), expected)
    assert state.inner.count == 2
    assert call_once._cache_size() == 1


def test_codes_and_narrow_weights_wait_bit_for_bit():
    params, _ = adamx.from_master(tree(), adamx.adamw(1e-2, weights="split8"))
    opt = adamx.accumulate(adamx.adamw(1e-2, moments="int8", weights="split8"), 2, jnp.bfloat16)
    state, step = opt.init(params), jax.jit(opt.step, donate_argnums=(1, 2))
    assert (state.sums["w"].dtype, state.sums["b"].dtype) == (jnp.bfloat16, jnp.float32)
    for call, g in enumerate(gradients(params, 0)):
        before = jax.tree.map(np.array, (params, state.inner))
        params, state = step(g, state, params)
        assert same(before, (params, state.inner)) == (call != 1)


@needs_host_memory
def test_sums_in_host_memory_stay_there():
    """With the slots: bit for bit the run on the device."""
    opt, start = adamx.accumulate(adamx.adamw(1e-2, moments="int8"), 2, jnp.bfloat16), tree()
    start = jax.device_put(start, NamedSharding(jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,)), P()))
    placed, step = adamx.state_shardings(opt, start, memory_kind="pinned_host"), as_users_do(opt.step)
    assert placed.sums["w"].memory_kind == "pinned_host"
    params, state = start, jax.device_put(opt.init(start), placed)
    wanted, other = start, opt.init(start)
    for g in gradients(start, 0):
        params, state = step(g, state, params)
        wanted, other = step(g, other, wanted)
        assert jax.tree.map(lambda x: x.sharding.memory_kind, state) == jax.tree.map(lambda x: x.memory_kind, placed)
    assert same((params, state), (wanted, other))


def test_a_schedule_of_moves_says_how_many_calls_make_the_next():
    opt = adamx.accumulate(adamx.adam(0.1), lambda moves: jnp.where(moves < 2, 1, 3))
    params, state, step = jnp.ones(3), opt.init(jnp.ones(3)), jax.jit(opt.step)
    counts = []
    for _ in range(8):
        params, state = step(params, state, params)
        counts.append(int(state.inner.count))
    assert counts == [1, 2, 2, 2, 3, 3, 3, 4]


def test_a_bfloat16_buffer_has_the_right_mean():
    """1 + 2^-10 is between two numbers of bfloat16, an eighth of their distance from 1, as are its multiples."""
    g = jnp.full(4096, 1 + 2.0**-10)
    opt = adamx.accumulate(adamx.optimizer(adamx.SGD(), 1.0), 3, jnp.bfloat16)
    params, state, step = jnp.zeros(4096), opt.init(g), jax.jit(opt.step)
    for _ in range(3 * 16):
        params, state = step(g, state, params)
    off = params / -16 - g
    assert abs(off.mean()) < 2e-5  # rounded to nearest: 1e-3
    assert abs(off).max() < 2.0**-7


def test_windows_of_no_weight_do_not_move_and_what_is_not_finite_stays_so():
    opt = adamx.accumulate(adamx.adam(0.1), 2)
    params, step = jnp.ones(3), jax.jit(lambda g, s, p, w: opt.step(g, s, p, weight=w))
    state = opt.init(params)
    for _ in range(2):
        params, state = step(params, state, params, 0)
    assert (params == 1).all() and state.inner.count == 0 and state.position == 0
    for g in (jnp.inf, 1.0):
        params, state = step(jnp.array([g, 1.0, 1.0]), state, params, 0.5)
    np.testing.assert_allclose(params, [np.nan, 0.9, 0.9], rtol=1e-6)
    params, state = step(jnp.ones(3), state, params, 1)
    assert (state.sums == 1).all()  # the old sum is left behind


def test_updates_have_the_dtype_of_the_gradients_and_transformations_of_optax_accumulate_too():
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    for base in (optax.sgd(0.5), adamx.optimizer(SoftSign(), 0.5)):
        opt = adamx.accumulate(base, 2)
        state = opt.init(params)
        for wanted in (0.0, None):
            updates, state = jax.jit(opt.update)(params, state, params)
            assert updates["w"].dtype == jnp.bfloat16
            assert wanted is None or (updates["w"] == wanted).all()
        assert (updates["w"] < 0).all()
    assert not hasattr(adamx.accumulate(optax.sgd(0.5), 2), "step")


def test_complex_gradients_are_weighted():
    opt, params = adamx.accumulate(adamx.optimizer(adamx.SGD(), 0.5), 1), jnp.array([1 + 2j])
    np.testing.assert_allclose(opt.step(params, opt.init(params), params, weight=3.0)[0], 0.5 * params, rtol=1e-6)


def test_frozen_leaves_have_no_sum():
    frozen = adamx.adam(0.1, groups=[adamx.Group("b", frozen=True)])
    opt, params = adamx.accumulate(frozen, 1), tree()
    state = opt.init(params)
    assert state.sums["b"] is None and state.sums["w"].shape == (32, 128)
    after, state = opt.step(params, state, params)
    assert same(after["b"], params["b"]) and not same(after["w"], params["w"])
    thawed = adamx.accumulate(adamx.adam(0.1), 1)
    with pytest.raises(ValueError, match=r"grads\['b'\] has no sum in the state"):
        thawed.step(params, thawed.init(params)._replace(sums=state.sums), params)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("kind", "spec", "zero"), [(AxisType.Auto, P("data"), None), (AxisType.Explicit, P(), "data")], ids=["auto", "zero"]
)
def test_sums_are_cut_as_weights_and_have_the_bits_of_one_device(kind, spec, zero):
    opt = adamx.accumulate(adamx.adamw(1e-2), 2, jnp.bfloat16)
    params = jax.random.normal(jax.random.key(0), (32, 256))
    step = lambda g, s, p: opt.step(g, s, p, weight=3.0)  # noqa: E731
    alone, state_alone, whole = params, opt.init(params), jax.jit(step)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        where = NamedSharding(mesh, spec)
        params = jax.device_put(params, where)
        shardings = adamx.state_shardings(opt, params, zero=zero)
        assert shardings.sums.spec[0] == "data"
        state = jax.jit(opt.init, out_shardings=shardings)(params)
        cut = jax.jit(step, out_shardings=(where, shardings))
        for seed in range(2):
            g = jax.random.normal(jax.random.key(seed), params.shape)
            params, state = cut(jax.device_put(g, where), state, params)
            alone, state_alone = whole(np.asarray(g), state_alone, alone)
        assert cut._cache_size() == 1
    assert same((params, state), (alone, state_alone))


def test_nnx_waits_and_moves():
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    optimizer = adamx.flax.Optimizer(model, adamx.accumulate(adamx.adamw(1e-2), 2), wrt=nnx.Param)
    grads, moved = nnx.grad(lambda model: model(jnp.ones((2, 64))).sum())(model), []
    for _ in range(4):
        before = np.array(model.kernel[...])
        optimizer.update(model, grads, clip_norm=1.0)
        moved.append(not same(before, model.kernel[...]))
    assert moved == [False, True, False, True]


def test_what_cannot_be_is_refused():
    opt, params = adamx.adam(0.1), jnp.ones(3)
    with pytest.raises(ValueError, match="every = 0 should be at least 1"):
        adamx.accumulate(opt, 0)
    with pytest.raises(ValueError, match="every = 0 should be at least 1"):
        adamx.accumulate(opt, lambda moves: 0)
    with pytest.raises(TypeError, match=r"every = 1\.5 should be a whole number"):
        adamx.accumulate(opt, 1.5)
    with pytest.raises(ValueError, match=r"should be jnp\.float32, or jnp\.bfloat16"):
        adamx.accumulate(opt, 2, jnp.float16)
    with pytest.raises(TypeError, match="count moves by the state of an adamx optimizer"):
        adamx.accumulate(optax.sgd(0.1), 2, jnp.bfloat16).init(params)
    some = adamx.accumulate(opt, 2)
    for weight, message in ((jnp.ones(2), "weight should be one number"), (-1.0, "weight = -1.0 is outside")):
        with pytest.raises(ValueError, match=message):
            some.step(params, some.init(params), params, weight=weight)
    with pytest.raises(TypeError, match=r"is not the state of adamx\.accumulate"):
        some.step(params, opt.init(params), params)
    with pytest.raises(TypeError, match="grad_norm is the norm of this call's gradients"):
        some.step(params, some.init(params), params, grad_norm=1.0)
    around = adamx.guard(some)  # which reads it, and hands none on
    around.step(params, around.init(params), params, grad_norm=1.0, clip_norm=1.0)


def test_a_gradient_that_is_absent_in_one_call_leaves_nothing_behind():
    opt = adamx.accumulate(adamx.optimizer(adamx.SGD(), 1.0), every=2)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    state, ones = opt.init(params), jax.tree.map(jnp.ones_like, params)
    for grads in (ones, ones, ones | {"a": None}, ones):
        params, state = opt.step(grads, state, params)
    np.testing.assert_array_equal(params["a"], -1.5)
    np.testing.assert_array_equal(params["b"], -2.0)


def test_updates_of_frozen_leaves_are_zero():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    opt = adamx.accumulate(adamx.adam(0.1, groups=[adamx.Group("a", frozen=True)]), every=1)
    updates, _ = opt.update(params, opt.init(params), params)
    assert float(updates["a"][0]) == 0 and float(updates["b"][0]) < 0
