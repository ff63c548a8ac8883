"""Promises of docstrings and README that the contracts over the registry do not reach."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx._math import bias_correction
from tests.helpers import ulp

ONE = jnp.ones(2)


def test_step_rounds_a_bfloat16_weight_once():
    """1 - 2^-9 - 2^-17 rounds to 1 - 2^-8; a change rounded to 2^-9 first would give 1 (ties to even)."""
    delta = 2.0**-9 + 2.0**-17
    params = jnp.ones((), jnp.bfloat16)
    opt = adamx.optimizer(adamx.SGD(), 1.0)
    for dtype in (jnp.float32, jnp.bfloat16):
        stepped, _ = opt.step(jnp.asarray(delta, dtype), opt.init(params), params)
        exact = jnp.asarray(1 - float(jnp.asarray(delta, dtype)), jnp.bfloat16)
        assert stepped == exact, dtype


def test_step_computes_low_precision_gradients_in_float32():
    """Adam's step of a bfloat16 gradient keeps float32's digits up to the weight."""
    params, grads = jnp.zeros(1), jnp.asarray([0.3], jnp.bfloat16)
    opt = adamx.adamw(0.1234567, eps=1.0)
    stepped, _ = opt.step(grads, opt.init(params), params)
    g = float(grads[0])
    np.testing.assert_allclose(stepped, -0.1234567 * g / (g + 1), rtol=4 * ulp(jnp.float32))


def test_step_rounds_a_float64_weight_once(x64):
    params, grads = jnp.ones(1), jnp.full(1, 0.3, jnp.float32)
    opt = adamx.optimizer(adamx.SGD(), 0.1)
    np.testing.assert_allclose(opt.step(grads, opt.init(params), params)[0], 1 - 0.1 * float(grads[0]), rtol=1e-15)


def test_meta_gradients_are_finite_at_zero_gradients_with_eps_root():
    def after(initial, learning_rate, b1):
        opt = adamx.adam(learning_rate, b1=b1, eps_root=1e-8)
        params, state = opt.step(0 * initial, opt.init(initial), initial)
        return jnp.sum(opt.step(params**2, state, params)[0])

    slopes = jax.jit(jax.grad(after, argnums=(0, 1, 2)))(ONE, 0.1, 0.9)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_the_gradient_with_respect_to_a_decay_rate_is_finite_at_zero(name):
    def after(b):
        opt = adamx.adam(0.1, **{name: b}, eps=1.0)
        return opt.step(ONE, opt.init(ONE), ONE)[0].sum()

    assert jnp.isfinite(jax.jit(jax.grad(after))(0.0))


def test_a_float32_scalar_or_schedule_of_one_works_inside_jit():
    for rate in (jnp.float32(0.5), np.float32(0.5), optax.constant_schedule(jnp.float32(0.5))):
        opt = adamx.adam(rate)
        updates, _ = jax.jit(opt.update)(ONE, opt.init(ONE))
        np.testing.assert_allclose(updates, -0.5, rtol=1e-6)


def test_nesterov_with_a_scheduled_b1_corrects_the_look_ahead_by_the_present_rate(x64):
    """At t + 1 the product has one factor more, b1 at t: with a constant schedule it is plain Nesterov."""
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((20, 3)))
    for t in (1, 2, 20):
        plain, scheduled = (adamx.scale_by_adam(b1=b1, nesterov=True) for b1 in (0.9, lambda _: 0.9))
        a, b = plain.init(grads[0]), scheduled.init(grads[0])
        update, update_scheduled = jax.jit(plain.update), jax.jit(scheduled.update)
        for g in grads[: t - 1]:
            _, a = update(g, a)
            _, b = update_scheduled(g, b)
        np.testing.assert_allclose(update_scheduled(grads[t - 1], b)[0], update(grads[t - 1], a)[0], rtol=1e-12)


def test_cautious_decay_of_complex_weights_looks_at_the_real_inner_product():
    """A step along p shrinks it, a step along i p turns it."""
    params = jnp.asarray([1 + 0j, 1 + 0j], jnp.complex64)
    grads = jnp.asarray([1 + 0j, -1 + 1j], jnp.complex64)
    opt = adamx.optimizer(adamx.SGD(), 0.5, weight_decay=0.5, decay="cautious")
    np.testing.assert_allclose(opt.step(grads, opt.init(params), params)[0], [0.25, 1.5 - 0.5j], rtol=1e-6)


def test_the_count_saturates_instead_of_overflowing():
    opt = adamx.adam(0.1)
    last = opt.init(ONE)._replace(count=jnp.asarray(2**31 - 1, jnp.int32))
    updates, state = opt.update(ONE, last)
    assert state.count == 2**31 - 1
    assert jnp.isfinite(updates).all()


def test_bias_correction_of_later_steps_does_not_decrease():
    t = jnp.arange(1, 10_001, dtype=jnp.float32)
    assert (jnp.diff(jax.vmap(lambda t: bias_correction(0.999, t))(t)) >= 0).all()


def test_units_are_of_the_slots_shape_and_adams_is_the_root_of_nu():
    slots = adamx.Moments(mu=jnp.ones(2), nu=jnp.asarray([4.0, 9.0]))
    np.testing.assert_array_equal(adamx.Adam.slots.mu.unit(slots), [2.0, 3.0])
    np.testing.assert_array_equal(adamx.AdaMax.slots.mu.unit(slots), [4.0, 9.0])


def test_a_donated_step_reuses_its_buffers_and_gives_the_same():
    opt, params = adamx.adamw(0.1), jnp.ones((64, 64))
    wanted, _ = jax.jit(opt.step)(params, opt.init(params), params)
    donated, state, grads = jnp.ones((64, 64)), opt.init(params), jnp.ones((64, 64))
    got, _ = jax.jit(opt.step, donate_argnums=(1, 2))(grads, state, donated)
    np.testing.assert_array_equal(got, wanted)
    assert donated.is_deleted()
    assert state.slots.mu.is_deleted()


def test_a_step_inside_shard_map_equals_one_on_a_single_device():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params = jnp.arange(8.0).reshape(8, 1) + 1
    opt = adamx.adamw(0.1)
    state = opt.init(params)
    specs = jax.tree.map(lambda x: P("x") if x.ndim else P(), state)
    sharded = jax.shard_map(opt.step, mesh=mesh, in_specs=(P("x"), specs, P("x")), out_specs=(P("x"), specs))
    np.testing.assert_array_equal(
        jax.jit(sharded)(params, state, params)[0], jax.jit(opt.step)(params, state, params)[0]
    )
    assert NamedSharding(mesh, P("x")).num_devices == 4


@pytest.mark.parametrize(
    "wrap",
    [
        lambda opt: optax.MultiSteps(opt, every_k_schedule=2),
        lambda opt: optax.masked(opt, {"average": True, "rest": True}),
        lambda opt: optax.partition({"all": opt}, {"average": "all", "rest": "all"}),
        lambda opt: optax.chain(optax.clip(1.0), opt),
    ],
    ids=["MultiSteps", "masked", "partition", "chain"],
)
def test_averages_are_found_inside_wrappers_and_beside_a_parameter_called_average(wrap, loose):
    params = {"average": jnp.ones(2), "rest": jnp.ones(3)}
    opt = wrap(optax.chain(adamx.adam(0.1), adamx.averaging(decay=None)))
    state = opt.init(params)
    for _ in range(2):
        _, state = opt.update(params, state, params)
    averaged = adamx.averaged_params(state)
    assert jax.tree.map(jnp.shape, averaged) == {"average": (2,), "rest": (3,)}
    assert (averaged["rest"] < 1).all()


def test_averages_are_of_the_weights_as_they_are_stored():
    """Steps of 1e-4 never move a bfloat16 weight of 1, so its average is 1."""
    opt = optax.chain(optax.sgd(1e-4), adamx.averaging(0.9))
    params = jnp.ones((), jnp.bfloat16)
    state = opt.init(params)
    for _ in range(10):
        _, state = opt.update(jnp.ones((), jnp.bfloat16), state, params)
    assert adamx.averaged_params(state) == 1


def test_a_scheduled_averaging_rate_is_corrected_by_its_product():
    """b_t = 1 - 1/t makes the exponential average the plain mean."""
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((30, 3)), jnp.float32)
    results = []
    for decay in (None, lambda count: 1 - 1 / (count.astype(float) + 1)):
        opt, params = optax.chain(optax.sgd(0.1), adamx.averaging(decay)), jnp.ones(3)
        state = opt.init(params)
        for g in grads:
            updates, state = opt.update(g, state, params)
            params = optax.apply_updates(params, updates)
        results.append(adamx.averaged_params(state))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_an_average_without_debiasing_starts_at_the_first_iterate():
    """Weights 1, 2, 4 with decay 1/2: ((1 + 2) / 2 + 4) / 2."""
    opt, params = optax.chain(optax.sgd(1.0), adamx.averaging(0.5, debias=False)), jnp.zeros(())
    state = opt.init(params)
    for target in (1.0, 2.0, 4.0):
        updates, state = opt.update(params - target, state, params)
        params = optax.apply_updates(params, updates)
    assert adamx.averaged_params(state) == 2.75


def test_parts_that_are_stepped_apart_are_two_real_weights():
    """Also beside real and absent leaves, with decay of each kind of sign, and in a state that is packed."""
    parts = lambda x: jnp.stack([x.real, x.imag], -1)  # noqa: E731
    rng = np.random.default_rng(0)
    params, grads = (jnp.asarray(x[0] + 1j * x[1], jnp.complex64) for x in rng.standard_normal((2, 2, 64, 80)))
    options = dict(weight_decay=0.1, decay="cautious", moments="int8")
    apart = adamx.optimizer(adamx.NAdam(), 1e-2, complex_parts="apart", **options)
    real = adamx.optimizer(adamx.NAdam(), 1e-2, **{**options, "moments": "float32"})
    tree, view = {"complex": params, "real": params.real, "absent": None}, parts(params)
    state, real_state = apart.init(tree), real.init(view)

    @jax.jit
    def step(state, tree):
        tree, state = apart.step({"complex": grads, "real": grads.real, "absent": None}, state, tree)
        return tree, adamx.pack_state(apart, adamx.unpack_state(apart, state, tree), tree)

    real_step = jax.jit(real.step)
    for _ in range(3):
        tree, state = step(state, tree)
        view, real_state = real_step(parts(grads), real_state, view)
    np.testing.assert_allclose(parts(tree["complex"]), view, rtol=4 * ulp(jnp.float32), atol=1e-8)
    assert state.slots.nu["complex"].dtype == jnp.complex64
    np.testing.assert_allclose(parts(state.slots.nu["complex"]), real_state.slots.nu, rtol=4 * ulp(jnp.float32))
    together, mixed = adamx.optimizer(adamx.NAdam(), 1e-2, **options), {"w": params.real}
    same = (jax.jit(opt.step)(mixed, opt.init(mixed), mixed) for opt in (apart, together))
    jax.tree.map(np.testing.assert_array_equal, *same)


def test_a_monitor_tells_of_parts_that_are_stepped_apart_together():
    params = {"w": jnp.asarray([3 + 4j, -1j], jnp.complex64)}
    told = []
    for complex_parts in ("together", "apart"):
        opt = adamx.monitor(adamx.optimizer(adamx.Adam(), 1e-2, complex_parts=complex_parts))
        told.append(adamx.diagnostics.read(jax.jit(opt.step)(params, opt.init(params), params)[1])["w/snr"])
    np.testing.assert_allclose(told, 1, rtol=1e-6)


def test_lookahead_is_looked_through_to_the_optimizer_that_it_is_around():
    params = {"w": jnp.ones((64, 80), jnp.bfloat16), "absent": None}
    opt = adamx.monitor(adamx.lookahead(adamx.adam(0.1, weights="stochastic"), 2, reset_state=True))
    state, step = opt.init(params), jax.jit(opt.step)
    for t in range(1, 4):
        params, state = step(params, state, params)
        assert params["w"].dtype == jnp.bfloat16
        assert all(np.isfinite(x) for x in adamx.diagnostics.read(state).values())
        assert int(state.inner.fast_state.count) == t % 2
    assert step._cache_size() == 1
    assert adamx.master_params(opt, state, params)["w"].dtype == jnp.float32
    assert adamx.explain(opt, params)[0].path == "params['w']"


def test_injected_hyperparameters_leave_adopts_clip_value_a_schedule(loose):
    """Decay rates are float32 then: 1 - .9 is 2e-7 off."""
    injected, plain, params = optax.inject_hyperparams(adamx.adopt)(learning_rate=0.1), adamx.adopt(0.1), ONE
    a, b = injected.init(params), plain.init(params)
    for _ in range(4):
        (u, a), (v, b) = injected.update(params, a, params), plain.update(params, b, params)
        np.testing.assert_allclose(u, v, rtol=8 * ulp(jnp.float32))


def test_states_and_rules_can_be_pickled_and_copied():
    state = adamx.adam(0.1, b1=lambda _: 0.9).init(ONE)
    for twin in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        jax.tree.map(np.testing.assert_array_equal, twin, state)
    rule = adamx.Adam(b1=0.5, nesterov=True)
    assert pickle.loads(pickle.dumps(rule)) == rule == copy.deepcopy(rule)


def test_an_empty_tree_is_a_step_of_nothing():
    opt = adamx.adam(0.1)
    updates, state = opt.update({}, opt.init({}), {})
    assert updates == {}
    assert state.count == 1


def test_injected_float32_hyperparameters_on_bfloat16_weights_equal_the_plain_optimizer(loose):
    """But for weights where rounding to bfloat16 falls the other way: updates are within one of its spacings."""
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((200, 64)), jnp.bfloat16)

    def updates(opt):
        body = lambda state, g: opt.update(g, state, g)[::-1]  # noqa: E731
        return np.asarray(jax.lax.scan(body, opt.init(grads[0]), grads)[1], np.float32)

    injected = optax.inject_hyperparams(adamx.adam, hyperparam_dtype=jnp.float32)(learning_rate=1e-2)
    np.testing.assert_allclose(updates(injected), updates(adamx.adam(1e-2)), rtol=ulp(jnp.bfloat16))


def test_adam_mini_stores_one_second_moment_for_each_block():
    params = {"kernel": jnp.ones((8, 4)), "heads": jnp.ones((8, 2, 4)), "bias": jnp.ones(4)}
    shapes = lambda keep: jax.tree.map(jnp.shape, adamx.adam_mini(1e-3, keep=keep).init(params).slots.nu)  # noqa: E731
    assert shapes((-1,)) == {"kernel": (1, 4), "heads": (1, 1, 4), "bias": (4,)}
    assert shapes((0, 1)) == {"kernel": (8, 4), "heads": (8, 2, 1), "bias": (4,)}
    assert shapes(()) == {"kernel": (1, 1), "heads": (1, 1, 1), "bias": (4,)}


def test_adafactor_stores_rows_and_columns():
    nu = adamx.adafactor(1e-3).init({"w": jnp.ones((256, 3, 128)), "b": jnp.ones(256)}).slots.nu
    assert nu.row["w"].shape == (3, 128)
    assert nu.col["w"].shape == (256, 3)
    assert nu.full["w"] is None
    assert nu.full["b"].shape == (256,)
