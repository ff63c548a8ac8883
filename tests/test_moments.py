"""Slots in two bytes and in one: what they keep, what they cost, and that no rule knows."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._factory import FACTORIES
from adamx.moments import is_code
from adamx.moments.bfloat16 import Dithered
from adamx.moments.int8 import Log, Ratio
from adamx.moments.noise import noise, unit_interval
from tests.helpers import as_users_do, product, scanned, some

SHAPE = (32, 160)  # a ragged last group
QUIET = noise(0, "w", jnp.asarray(1))


def leaves(tree):
    return jax.tree.leaves(tree, is_leaf=is_code)


# What formats know of a slot, these have among them: units, maxima, factors, scalars, iterates.
TRAINED = {
    "int8": {"adam", "amsgrad", "adan", "adafactor", "came", "lion", "mars_adamw", "prodigy", "schedule_free_adamw"},
    "bfloat16": {"adam", "adafactor", "schedule_free_adamw"},
}
EVERY = [
    pytest.param(name, moments, marks=() if name in trained else product)
    for moments, trained in TRAINED.items()
    for name in FACTORIES
]


@pytest.mark.parametrize(("name", "moments"), EVERY)
def test_every_optimizer_trains_with_its_state_in_few_bytes(name, moments):
    """Towards zero on a quadratic, no dtype of the state changing, and at a fraction of the bytes."""
    opt = FACTORIES[name](learning_rate=1e-2 if name not in {"prodigy", "dadapt_adamw"} else 1.0, moments=moments)
    params = jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE) + 3, jnp.float32)
    state, step = jax.jit(opt.init)(params), jax.jit(opt.step)
    before = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    p = params
    for _ in range(60):
        p, state = step(p, state, p)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == before
    assert step._cache_size() == 1
    assert jnp.isfinite(p).all()
    assert jnp.sum(p**2) < jnp.sum(params**2)


def test_bytes_per_parameter():
    params = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
    per = lambda **kwargs: adamx.state_bytes(adamx.adamw(1e-3, **kwargs), params).per_parameter  # noqa: E731
    assert per() == pytest.approx(8, abs=1e-3)
    assert per(moments="bfloat16") == pytest.approx(4, abs=1e-3)
    assert per(moments="int8") <= 2.04
    assert per(moments=("bfloat16", "int8")) <= 3.02
    assert per(moments={"nu": "int8"}) <= 5.02
    assert 2 + per(moments="int8", weights="split8") <= 5.05
    assert per(moments="int8", weights="kahan") <= 4.04


@pytest.mark.parametrize("kwargs", [{}, {"moments": "int8"}, {"moments": "bfloat16", "weights": "split16"}])
def test_counted_bytes_are_the_allocated_ones(kwargs):
    opt = adamx.amsgrad(1e-3, **kwargs)
    params = {"w": jnp.ones((64, 160), jnp.bfloat16), "b": jnp.ones(64, jnp.bfloat16), "none": None}
    state = opt.init(params)
    counted = adamx.state_bytes(opt, params)
    assert counted.total == sum(x.nbytes for x in jax.tree.leaves(state))
    assert set(counted.slots) == {"mu", "nu", "nu_max"}
    assert counted.slots["mu"] == sum(x.nbytes for x in jax.tree.leaves(state.slots.mu))
    assert counted.residuals == sum(x.nbytes for x in jax.tree.leaves(state.residuals))


def test_small_leaves_scalars_and_iterates_stay_dense():
    params = {"w": jnp.ones((64, 128)), "bias": jnp.ones(64)}
    slots = adamx.schedule_free_adamw(1e-3, moments="int8").init(params).slots
    assert is_code(slots.inner.nu["w"])
    assert slots.inner.nu["bias"].dtype == slots.z["w"].dtype == slots.b1["w"].dtype == jnp.float32


@functools.partial(as_users_do, static_argnums=0)  # many steps
def adams_directions(moments, grads):
    """Of each step; the gradients are an argument, as XLA would fold a constant of them for seconds."""
    return scanned(adamx.scale_by_adam(eps=0.0, moments=moments), grads)


@pytest.mark.parametrize("scale", [1e-12, *(pytest.param(scale, marks=product) for scale in (1e-8, 1.0, 1e4))])
def test_the_direction_is_right_and_no_step_blows_up(scale):
    """After 400 steps, element scales lognormal with sigma .5; 2,500 steps: `python -m benchmarks.moments_accuracy`."""
    rng = np.random.default_rng(0)
    scales = jnp.asarray(scale * np.exp(0.5 * rng.standard_normal((64, 256))), jnp.float32)
    grads = scales[None] * jnp.asarray(rng.standard_normal((400, 64, 256)), jnp.float32)
    errors, wanted = {}, adams_directions("float32", grads)[100:]
    for moments in ("int8", "bfloat16"):
        got = adams_directions(moments, grads)[100:]
        errors[moments] = float(jnp.linalg.norm(got - wanted) / jnp.linalg.norm(wanted))
        assert jnp.max(jnp.abs(got)) <= 1.3 * jnp.max(jnp.abs(wanted))
    assert errors["int8"] <= 0.045
    assert errors["bfloat16"] <= 0.015


@pytest.mark.parametrize("power", [-40, -3, 1, 20])
def test_scaling_gradients_by_a_power_of_two_changes_no_code_and_no_step(power):
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((10, *SHAPE)), jnp.float32)
    tx = adamx.scale_by_adam(eps=0.0, moments="int8")
    plain, scaled = tx.init(grads[0]), tx.init(grads[0])
    update = jax.jit(tx.update)
    for g in grads:
        u, plain = update(g, plain)
        v, scaled = update(g * 2.0**power, scaled)
        np.testing.assert_array_equal(u, v)
    np.testing.assert_array_equal(plain.slots.nu.code, scaled.slots.nu.code)
    np.testing.assert_array_equal(plain.slots.mu.code, scaled.slots.mu.code)
    np.testing.assert_array_equal(scaled.slots.nu.high.astype(int) - plain.slots.nu.high.astype(int), 2 * power)


@functools.partial(jax.jit, static_argnums=0)
def there_and_back(form, x):
    """The code of `x`, and what it stands for."""
    code = form.encode(x, None, QUIET)
    return code, form.decode(code, None)


def test_log_code_keeps_zero_exactly_and_every_value_within_its_grid():
    rng = np.random.default_rng(0)
    x = np.exp(3 * rng.standard_normal(SHAPE)).astype(np.float32)
    x[rng.random(SHAPE) < 0.2] = 0
    code, back = there_and_back(Log(), jnp.asarray(x))
    back = np.asarray(back)
    np.testing.assert_array_equal(back == 0, x == 0)
    octaves = np.repeat(np.asarray(code.high, int) - np.asarray(code.low, int), 128, axis=-1)[:, : SHAPE[1]]
    # Within an octave the code is linear in the value: a step is at most 1 / 254 of the group's octaves, in octaves.
    assert (np.abs(back - x) <= x * octaves / 254 * 1.01)[x > 0].all()


def test_log_code_is_unbiased_over_the_steps():
    """1,000 draws of each of 4,096 values: the mean of the error is a ten-thousandth of a step of the grid."""
    x = jnp.asarray(
        1 + np.random.default_rng(0).random((32, 128)), jnp.float32
    )  # one octave, on which codes are linear
    draw = lambda t: Log().decode(Log().encode(x, None, noise(0, "w", t)), None)  # noqa: E731
    mean = np.mean(np.asarray(jax.lax.map(draw, jnp.arange(1_000)), np.float64), axis=0)
    assert abs(np.mean(mean - x)) < 1e-4 / 254 * 10
    assert np.max(np.abs(mean - x)) < 5e-3 / 254 * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_visible_in_its_group_and_harms_no_other(bad):
    x = jnp.ones((1, 256)).at[0, 3].set(bad)
    for form in (Log(), Ratio(), Dithered()):
        _, back = there_and_back(form, x)
        assert not jnp.isfinite(back[0, 3])
        np.testing.assert_allclose(back[0, 128:], 1.0, rtol=0.01)


def test_ratio_code_is_finest_near_zero():
    x = jnp.asarray([[1.0, 0.5, 0.1, 0.01, 0.0, -0.01, -1.0]])
    _, back = there_and_back(Ratio(), x)
    assert back[0, 4] == 0
    np.testing.assert_allclose(back[0], x[0], atol=8e-3, rtol=5e-3)
    np.testing.assert_allclose(back[0, 3], 0.01, atol=2.1e-3)


def test_uniform_bits_are_uniform_and_independent():
    """Mean, variance and the correlations between elements and between steps, each within 5 standard errors."""
    draws = jax.lax.map(lambda t: unit_interval(noise(3, "w", t).uniform((1_000,))), jnp.arange(100))
    draws = np.asarray(draws, np.float64)
    n = draws.size
    assert abs(draws.mean() - 0.5) < 5 * np.sqrt(1 / 12 / n)
    assert abs(draws.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / n)
    centred = draws - 0.5
    for a, b in ((centred[:, 1:], centred[:, :-1]), (centred[1:], centred[:-1])):
        assert abs((a * b).mean() * 12) < 5 / np.sqrt(a.size)


def test_weyl_bits_are_spread_evenly_over_the_steps():
    """The mean of n draws of an element is off by about 1/n; independent draws' would be by .29 / sqrt(n)."""
    draws = np.asarray(jax.lax.map(lambda t: unit_interval(noise(0, "w", t).weyl((4_096,))), jnp.arange(1_000)))
    assert np.sqrt(np.mean((draws.mean(axis=0) - 0.5) ** 2)) < 0.1 * 0.29 / np.sqrt(1_000)
    assert abs(draws.mean() - 0.5) < 1e-4


def test_the_upper_bits_of_one_leafs_purposes_are_uncorrelated():
    """Of two purposes the upper sixteen are independent, of four the upper eight; of all, to within 2^-4."""
    uppers = [np.asarray(noise(0, "w", jnp.asarray(3)).to(i).weyl((2**16,)) >> np.uint32(24)) for i in range(8)]
    correlations = np.corrcoef(np.stack(uppers).astype(np.float64)) - np.eye(8)
    assert np.abs(correlations[:4, :4]).max() < 5 / 2**8
    assert np.abs(correlations).max() < 2**-4 + 5 / 2**8


def test_leaves_have_bits_of_their_own():
    draw = lambda *where: np.asarray(noise(*where, jnp.asarray(1)).uniform((64,)))  # noqa: E731
    first = draw(0, "a")
    assert (first == draw(0, "a")).all()
    assert (first != draw(0, "b")).any()
    assert (first != draw(1, "a")).any()


@pytest.mark.parametrize(("moments", "weights"), [("int8", "split8"), ("bfloat16", "stochastic"), ("int8", "kahan")])
def test_a_run_restored_from_a_checkpoint_goes_on_bit_by_bit(moments, weights, tmp_path):
    import orbax.checkpoint as ocp

    opt = adamx.adamw(1e-2, moments=moments, weights=weights)
    params = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((64, 160)), jnp.bfloat16)}
    init = jax.jit(opt.init)
    state, step, start = init(params), jax.jit(opt.step), params
    for _ in range(3):
        params, state = step(params, state, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", (params, state))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", (start, init(start)))
    on, off = step(params, state, params), step(restored[0], restored[1], restored[0])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), on, off)


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ("int9", r"moments = 'int9': did you mean 'int8'"),
        (("int8",), r"names 1 formats for the slots mu, nu"),
        ({"nuu": "int8"}, r"slot in moments = 'nuu': did you mean"),
    ],
)
def test_unknown_formats_and_slots_are_refused(moments, message):
    with pytest.raises(ValueError, match=message):
        adamx.scale_by_adam(moments=moments)


def test_two_bytes_keep_zero_the_largest_number_and_eight_bits_of_fraction():
    x = jnp.asarray([0.0, 1.0, 1.0 + 2.0**-8, jnp.finfo(jnp.float32).max, jnp.inf, 1e-30])
    _, back = there_and_back(Dithered(), x)
    np.testing.assert_array_equal(back[:3], x[:3])
    assert jnp.isfinite(back[3]) and jnp.isinf(back[4])
    np.testing.assert_allclose(back, x, rtol=2.0**-8)


@pytest.mark.parametrize("moments", ["int8", "bfloat16", ("bfloat16", "int8")])
def test_packing_a_float32_state_loses_what_is_documented_and_unpacking_nothing(moments):
    exact, small = adamx.adamw(1e-2), adamx.adamw(1e-2, moments=moments)
    params = {"w": jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE), jnp.float32), "b": jnp.ones(3)}
    state, step = exact.init(params), jax.jit(exact.step)
    for t in range(20):
        grads = jax.tree.map(lambda p, t=t: jnp.asarray(np.random.default_rng(t).standard_normal(p.shape)), params)
        params, state = step(jax.tree.map(jnp.float32, grads), state, params)
    packed = jax.jit(lambda *given: adamx.pack_state(small, *given))(state, params)
    assert jax.tree.structure(packed) == jax.tree.structure(small.init(params))
    back = jax.jit(lambda *given: adamx.unpack_state(small, *given))(packed, params)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    np.testing.assert_array_equal(back.slots.nu["b"], state.slots.nu["b"])
    nu, mu = state.slots.nu["w"], state.slots.mu["w"]
    octaves = 1 if moments == "bfloat16" else np.ceil(np.ptp(np.log2(nu))) + 1
    np.testing.assert_allclose(back.slots.nu["w"], nu, rtol=octaves * (0.004 if moments == "bfloat16" else 0.006))
    ratio, kept = mu / jnp.sqrt(nu), back.slots.mu["w"] / jnp.sqrt(back.slots.nu["w"])
    np.testing.assert_allclose(kept, ratio, atol=0.02 * float(jnp.max(jnp.abs(ratio))))
    jax.eval_shape(small.step, params, packed, params)
    with pytest.raises(TypeError, match="packed already"):
        adamx.pack_state(small, packed, params)


SLOW = adamx.AdEMAMix(b3=0.9999, eps=0.0)


@functools.partial(as_users_do, static_argnums=0)  # many steps
def slow_state(moments, scale, mean):
    """After 4,000 steps of gradients of this scale around this mean, in units of it."""
    tx = adamx.scale_by(SLOW, moments=moments)

    def body(state, t):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), t), scale.shape)
        return tx.update(scale * (mean + noise), state)[1], None

    return jax.lax.scan(body, tx.init(scale), jnp.arange(4_000))[0]


@pytest.mark.parametrize(
    ("moments", "snr"), some(itertools.product(["int8", "bfloat16"], [0.1, 1.0]), lambda *these: these == ("int8", 0.1))
)
def test_a_slow_mean_moves_as_far_as_it_should(moments, snr):
    """An average over ten thousand steps: rounded to nearest, int8 would keep a tenth of it, bfloat16 a sixth."""
    rng = np.random.default_rng(0)
    scale = jnp.asarray(np.exp(0.5 * rng.standard_normal((32, 128))), jnp.float32)
    mean = jnp.asarray(rng.standard_normal((32, 128)), jnp.float32)

    def run(moments):
        opt = adamx.optimizer(SLOW, 1.0, moments=moments)
        return np.asarray(adamx.unpack_state(opt, slow_state(moments, scale, snr * mean), scale).slots.mu_slow)

    wanted, got = run("float32"), run(moments)
    assert np.sum(got * wanted) / np.sum(wanted**2) == pytest.approx(1, abs=0.05)


def test_map_slots_reaches_every_array_of_the_state():
    opt = adamx.amsgrad(1e-3, moments="int8", weights="split8")
    params = {"w": jnp.ones((64, 128), jnp.bfloat16), "b": jnp.ones(3), "none": None}
    state = opt.init(params)
    names = {"w": "w", "b": "b", "none": None}
    told = adamx.map_slots(lambda x, name: f"{name} {x.dtype}", opt, state, names)
    assert told.slots.nu_max["w"] == ("w uint8",) * 3 and told.slots.mu["b"] == "b float32"
    assert told.residuals["w"] == "w int8" and told.count is state.count


def test_a_dead_element_does_not_coarsen_its_group():
    """Its second moment falls for ever; codes between it and the others would be few."""
    x = jnp.asarray(np.exp(0.5 * np.random.default_rng(0).standard_normal((8, 128))), jnp.float32).at[:, 0].set(1e-30)
    _, back = there_and_back(Log(), x)
    np.testing.assert_allclose(back[:, 1:], x[:, 1:], rtol=41 / 254)


@pytest.mark.parametrize("shape", [(4096,), (1, 4096), (5000, 1), (1200, 5), (40, 129), (4, 8, 160), (0, 8000)])
def test_every_shape_has_codes_of_its_own_length(shape):
    params = jnp.ones(shape)
    opt = adamx.adam(0.1, moments="int8")
    p, state = jax.jit(lambda params: opt.step(params, opt.init(params), params))(params)
    np.testing.assert_allclose(p, 0.9, rtol=0.01)
    assert adamx.state_bytes(opt, params).total == sum(x.nbytes for x in jax.tree.leaves(state))


@pytest.mark.usefixtures("x64")
def test_float64_leaves_stay_float64():
    params = jnp.ones((64, 128), jnp.float64)
    for moments in ("int8", "bfloat16"):
        slots = adamx.adam(1e-3, moments=moments).init(params).slots
        assert {x.dtype for x in jax.tree.leaves(slots)} == {np.dtype("f8")}


def test_a_state_in_another_format_or_mode_is_refused():
    params = jnp.ones((64, 128))
    state = adamx.adam(1e-3, moments="int8").init(params)
    with pytest.raises(
        ValueError, match=r"mu of grads is stored as RatioCode of int8 .* in the state, .* keeps it in float32"
    ):
        adamx.adam(1e-3).step(params, state, params)
    narrow = params.astype(jnp.bfloat16)
    state = adamx.adam(1e-3, weights="split16").init(narrow)
    with pytest.raises(ValueError, match=r"the state keeps int16\[64, 128\], the optimizer int8"):
        adamx.adam(1e-3, weights="split8").step(narrow, state, narrow)


def test_from_master_leaves_wide_what_the_mask_says():
    opt = adamx.adam(1e-3, weights="split16", kernel="xla")
    params = {"kernel": jnp.full((2, 2), 0.1), "bias": jnp.full(2, 0.1)}
    start, state = adamx.from_master(params, opt, narrow=lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree))
    assert start["kernel"].dtype == jnp.bfloat16 and start["bias"].dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, adamx.master_params(opt, state, start), params)
    opt.step(params, state, start)
