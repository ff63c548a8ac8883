"""How narrow weights take their updates: the roundings, and optimizers that use them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx._weights import ROUNDINGS
from adamx.moments.noise import noise
from tests.helpers import NARROW_MODES, product, ulp

EVERY = np.arange(2**16, dtype=np.uint16)


def every(dtype):
    """All bit patterns of a 16-bit dtype."""
    return jax.lax.bitcast_convert_type(jnp.asarray(EVERY), dtype)


def normal(p):
    """Finite and not subnormal: XLA flushes subnormal numbers to zero on some machines."""
    x = np.abs(np.asarray(p, np.float32))
    return np.isfinite(x) & ((x >= float(jnp.finfo(p.dtype).tiny)) | (x == 0))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=product)])
@pytest.mark.parametrize("mode", ["split8", "split16"])
def test_split_round_trips_every_weight_with_every_residual(mode, dtype):
    """All 2^16 bit patterns times residuals from -half to half a spacing: back to within half a residual's step."""
    rounding, p = ROUNDINGS[mode], every(dtype)
    limit = 128 if mode == "split8" else 32768
    residuals = range(-128, 128) if mode == "split8" else range(-32768, 32768, 257)

    @jax.jit
    def round_trip(p, code):
        master = rounding.master(p, jnp.full(p.shape, code, rounding.dtype))
        weight = rounding.weight(master, p.dtype, noise(0, "", jnp.asarray(0)))
        return master, weight, rounding.master(weight, rounding.residual(master, weight))

    fine = normal(p)
    for code in residuals:
        with np.errstate(invalid="ignore"):
            master, weight, back = (np.asarray(x).astype(np.float64) for x in round_trip(p, code))
            error = np.abs(back - master)
        ok = fine & np.isfinite(weight) & (np.abs(master) >= float(jnp.finfo(dtype).tiny))
        # A spacing is at most 2^-7 (bfloat16) or 2^-10 of the weight; the residual's step is 1 / (2 limit) of it.
        spacing = np.maximum(np.abs(weight), float(jnp.finfo(dtype).tiny)) * ulp(dtype)
        assert (error[ok] <= spacing[ok] / (2 * limit) * (1 + 1e-6)).all(), code


@pytest.mark.parametrize("mode", NARROW_MODES)
def test_what_is_not_finite_stays_and_nothing_finite_becomes_infinite(mode):
    rounding = ROUNDINGS[mode]
    for dtype in (jnp.bfloat16, jnp.float16):
        top = float(jnp.finfo(dtype).max)
        master = jnp.asarray([np.nan, np.inf, -np.inf, 1.0001 * top, -1.0001 * top, 0.0, -0.0], jnp.float32)
        weight = rounding.weight(master, dtype, noise(0, "", jnp.asarray(0)))
        np.testing.assert_array_equal(np.asarray(weight, np.float32)[:3], [np.nan, np.inf, -np.inf])
        np.testing.assert_array_equal(np.asarray(weight, np.float32)[3:5], [top, -top])
        assert np.signbit(np.asarray(weight, np.float32)[5:]).tolist() == [False, True]
        residual = rounding.residual(master, weight)
        back = rounding.master(weight, residual)
        assert np.isnan(back[0])
        assert np.isinf(np.asarray(back[1:3])).all()
        assert np.isfinite(np.asarray(back[3:])).all()


def test_split16_restores_float32_to_2_to_the_minus_23():
    rounding = ROUNDINGS["split16"]
    x = jnp.asarray(np.random.default_rng(0).standard_normal(100_000) * np.logspace(-30, 30, 100_000), jnp.float32)
    weight = rounding.weight(x, jnp.bfloat16, noise(0, "", jnp.asarray(0)))
    back = np.asarray(rounding.master(weight, rounding.residual(x, weight)), np.float64)
    np.testing.assert_allclose(back, np.asarray(x, np.float64), rtol=2.0**-23)


def bits(x):
    """The bit patterns of floats, by which subnormal numbers can be told from 0 wherever they are compared."""
    return np.asarray(x).view(np.uint16 if x.dtype.itemsize == 2 else np.uint32)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("mode", ["stochastic", "split8", "split16"])
def test_every_finite_weight_is_its_own_master_subnormal_or_not(mode, dtype):
    rounding, p = ROUNDINGS[mode], every(dtype)[np.isfinite(np.asarray(every(dtype), np.float32))]
    master = rounding.master(p, rounding.start(p))
    np.testing.assert_array_equal(bits(master), bits(np.asarray(p).astype(np.float32)))
    weight = jax.jit(lambda x: rounding.weight(x, dtype, noise(0, "", jnp.asarray(0))))(master)
    np.testing.assert_array_equal(bits(weight), bits(p))


def test_split16_restores_subnormal_masters_bit_by_bit():
    raw = np.arange(0, 2**23 + 2**16, 37, dtype=np.uint32)
    master = jax.lax.bitcast_convert_type(jnp.asarray(np.concatenate([raw, raw | 2**31])), jnp.float32)
    opt = adamx.adam(1e-3, weights="split16")
    params, state = adamx.from_master(master, opt)
    np.testing.assert_array_equal(bits(params), bits(np.asarray(master).astype(jnp.bfloat16)))
    ties = bits(master) & 0x1FFFF == 0x8000  # rounded down to even: 2^15 is one more than 16 bits hold
    np.testing.assert_array_equal(bits(adamx.master_params(opt, state, params)), bits(master) - ties)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("value", [1.0 + 2.0**-9, 1.0 - 2.0**-13, -3.1, 1e-3, 65000.0])
def test_stochastic_rounding_is_unbiased(value, dtype):
    """The mean of 10^5 draws within 5 standard errors."""
    x, n = jnp.full((1000,), value, jnp.float32), 100
    draw = jax.jit(lambda t: ROUNDINGS["stochastic"].weight(x, dtype, noise(0, "w", t)))
    draws = np.stack([np.asarray(draw(jnp.asarray(t)), np.float64) for t in range(n)])
    error = draws.std() / np.sqrt(draws.size)
    assert abs(draws.mean() - float(x[0])) <= 5 * max(error, 1e-12)
    assert len(np.unique(draws)) <= 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=product)])
@pytest.mark.parametrize("mode", NARROW_MODES)
def test_a_weight_of_one_moves_by_the_right_amount_in_a_thousand_steps(mode, dtype):
    """Adam at 1e-3 and a constant gradient: from 1 to 0. Rounded to nearest, a bfloat16 weight never moves.

    split8's residual has steps of 3e-5 beside 1, so that a step of 1e-3 is rounded by at most 1.5 %, always alike here.
    """
    moved = 1 - _after_a_thousand_steps(mode, jnp.ones((64, 128), dtype))
    assert abs(moved.mean() - 1) <= 1e-2


def test_a_weight_of_one_that_is_rounded_to_nearest_never_moves():
    assert _after_a_thousand_steps("nearest", jnp.ones((), jnp.bfloat16)) == 1


def _after_a_thousand_steps(weights, params):
    opt = adamx.adam(1e-3, weights=weights)
    body = lambda _, carry: opt.step(jnp.ones_like(carry[0]), carry[1], carry[0])  # noqa: E731
    params, _ = jax.jit(lambda carry: jax.lax.fori_loop(0, 1_000, body, carry))((params, opt.init(params)))
    return np.asarray(params, np.float64)


@pytest.mark.parametrize("mode", NARROW_MODES)
def test_updates_are_float32_differences_that_optax_lands_exactly(mode, loose):
    opt = adamx.adamw(1e-2, weights=mode, weight_decay=0.1)
    params = jnp.asarray(np.random.default_rng(0).standard_normal((32, 32)), jnp.bfloat16)
    state = stepped_state = opt.init(params)
    by_update = by_step = params
    update, step = jax.jit(opt.update), jax.jit(opt.step)
    for t in range(5):
        grads = jnp.asarray(np.random.default_rng(t).standard_normal((32, 32)), jnp.bfloat16)
        updates, state = update(grads, state, by_update)
        assert updates.dtype == jnp.float32
        by_update = optax.apply_updates(by_update, updates)
        by_step, stepped_state = step(grads, stepped_state, by_step)
        np.testing.assert_array_equal(np.asarray(by_update, np.float32), np.asarray(by_step, np.float32))


@pytest.mark.parametrize(("mode", "tolerance"), [("split16", 2.0**-20), ("split8", 2.0**-12), ("kahan", 2.0**-12)])
def test_masters_follow_float32_training(mode, tolerance):
    """Gradients given, so that the runs do not drift apart: the master is float32's weight to its own precision."""
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.standard_normal((16, 16)), jnp.float32)
    exact, narrow = adamx.adam(1e-3), adamx.adam(1e-3, weights=mode)
    params, state = adamx.from_master(start, narrow)
    wanted = adamx.master_params(narrow, state, params)
    wanted_state = exact.init(wanted)
    narrow_step, exact_step = jax.jit(narrow.step), jax.jit(exact.step)
    for _ in range(200):
        grads = jnp.asarray(rng.standard_normal((16, 16)), jnp.float32)
        params, state = narrow_step(grads, state, params)
        wanted, wanted_state = exact_step(grads, wanted_state, wanted)
    master = adamx.master_params(narrow, state, params)
    assert np.max(np.abs(master - wanted)) <= tolerance * np.max(np.abs(wanted))


def test_random_bits_do_not_depend_on_how_the_leaf_is_laid_out():
    """Over four devices as on one, eager as jitted, and again after a restart."""
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    opt = adamx.adamw(1e-2, weights="stochastic", moments="int8")
    params = jnp.asarray(np.random.default_rng(0).standard_normal((64, 512)), jnp.bfloat16)
    results = []
    for place in (params, jax.device_put(params, sharding)):
        p, state, step = place, jax.jit(opt.init)(place), jax.jit(opt.step)
        for _ in range(3):
            p, state = step(place, state, p)
        results.append((p, state))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), *results)


def test_parameters_are_asked_for():
    opt, params = adamx.adam(1e-3, weights="kahan"), jnp.ones(2, jnp.bfloat16)
    with pytest.raises(ValueError, match="weights='kahan' rounds the parameters"):
        opt.update(params, opt.init(params))
    with pytest.raises(ValueError, match="did you mean 'split8'"):
        adamx.adam(1e-3, weights="split9")


@pytest.mark.parametrize("mode", ["split8", *(pytest.param(mode, marks=product) for mode in ("kahan", "split16"))])
def test_float32_training_goes_on_in_narrow_weights_and_low_bits(mode):
    exact, small = adamx.adamw(1e-2), adamx.adamw(1e-2, moments="int8", weights=mode)
    params = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((64, 80)), jnp.float32), "none": None}
    state, step = exact.init(params), jax.jit(exact.step)
    for _ in range(3):
        params, state = step(params, state, params)
    narrow, small_state = adamx.from_master(params, small, state=state)
    assert narrow["w"].dtype == jnp.bfloat16 and int(small_state.count) == 3
    master = adamx.master_params(small, small_state, narrow)
    np.testing.assert_allclose(master["w"], params["w"], rtol=2.0**-15)
    on, _ = small.step(narrow, small_state, narrow)
    wanted, _ = step(params, state, params)
    np.testing.assert_allclose(np.asarray(on["w"], np.float32), wanted["w"], atol=2e-2)
    lost = small_state._replace(residuals=())
    for ask in (
        lambda: small.step(narrow, lost, narrow),
        lambda: adamx.master_params(small, lost, narrow),
        lambda: adamx.pack_state(small, state, narrow),
    ):
        with pytest.raises(ValueError, match=rf"keeps nothing beside params\['w'\], as weights='{mode}' does"):
            ask()


@pytest.mark.parametrize("mode", NARROW_MODES)
@pytest.mark.parametrize(("rate", "decay"), [pytest.param(1e-5, 0.0, marks=product), (3e-6, 0.0), (3e-4, 0.01)])
def test_steps_below_a_residuals_place_add_up(mode, rate, decay):
    """A constant gradient, or decay by itself, over 2,000 steps: the mean moves by what float32's would."""
    opt = adamx.adamw(rate, weight_decay=decay, weights=mode)
    start = jnp.asarray(np.random.default_rng(0).uniform(1, 1.9, (64, 64)), jnp.float32)
    grads = jnp.zeros_like(start) if decay else jnp.ones_like(start)
    params, state = adamx.from_master(start, opt)
    body = lambda _, carry: opt.step(grads, carry[1], carry[0])  # noqa: E731
    params, state = jax.jit(lambda carry: jax.lax.fori_loop(0, 2_000, body, carry))((params, state))
    moved = np.mean(np.asarray(start - adamx.master_params(opt, state, params), np.float64))
    wanted = np.mean(np.asarray(start, np.float64)) * (1 - (1 - rate * decay) ** 2_000) if decay else 2_000 * rate
    assert moved / wanted == pytest.approx(1, abs=0.1 if mode == "stochastic" else 0.05)
