"""Every rule against its paper's box in extended precision (tests/reference), free-running."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._math import bias_correction
from tests import reference
from tests.helpers import directions, hostile, jitted_in_float64, some, ulp
from tests.reference_cases import CANCELLING, DIRECTIONS, PARAMETERS, REAL_ONLY

# One shape for every test in float32, which then share a program.
SHARED = np.random.default_rng(0).standard_normal((300, 8, 8)).astype(np.float32)
every_case = pytest.mark.parametrize("name", DIRECTIONS)


def worst(got, wanted):
    """The largest error of a step relative to the largest direction so far of the same coordinate.

    Relative to the coordinate and not to the step: where an alternating gradient makes the mean cross zero, the
    step is a difference of large numbers, and its own size says nothing about rounding.
    """
    wanted = np.asarray(wanted)
    scale = np.maximum.accumulate(np.abs(wanted), axis=0)
    return float(np.max(np.abs(got - wanted) / np.where(scale == 0, 1, scale)))


@pytest.mark.parametrize("name", sorted(DIRECTIONS.keys() - CANCELLING))
def test_float64_follows_the_box_through_hostile_gradients_to_1e_12(name, x64):
    rule, box = DIRECTIONS[name]
    grads = hostile((7, 5), steps=300)
    got = np.asarray(directions(rule, jnp.asarray(grads)))
    assert worst(got, list(box(grads))) <= 1e-12


def first_of_each_rule(names):
    """In `make test` the first stands for the same rule with other numbers, which all follow the box on real leaves."""
    first = {type(DIRECTIONS[name][0]): name for name in sorted(names, reverse=True)}
    return some([(name,) for name in sorted(names)], lambda name: first[type(DIRECTIONS[name][0])] == name)


@pytest.mark.parametrize("name", first_of_each_rule(DIRECTIONS.keys() - REAL_ONLY))
def test_float64_follows_the_box_on_complex_leaves_to_1e_12(name, x64):
    rule, box = DIRECTIONS[name]
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((300, 5, 2)) + 1j * rng.standard_normal((300, 5, 2))
    got = np.asarray(directions(rule, jnp.asarray(grads)))
    assert worst(got, list(box(grads))) <= 1e-12


@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (3, 1, 4), (2, 3, 4)])
@pytest.mark.parametrize("name", ["came", "adam_mini", "adam_mini_one_block", "novograd", "cautious"])
def test_leafwise_rules_follow_the_box_on_leaves_of_every_shape(name, shape, x64):
    rule, box = DIRECTIONS[name]
    grads = np.random.default_rng(0).standard_normal((50, *shape))
    assert worst(np.asarray(directions(rule, jnp.asarray(grads))), list(box(grads))) <= 1e-12


@pytest.mark.parametrize("name", first_of_each_rule(DIRECTIONS))
def test_elementwise_rules_and_no_others_keep_elements_apart(name):
    """Changing one element's gradients changes no other element's step, exactly."""
    rule, _ = DIRECTIONS[name]
    grads, other = SHARED, SHARED.copy()
    other[:, 0, 0] = 3 * other[::-1, 0, 0]
    a, b = (np.asarray(directions(rule, jnp.asarray(g)))[:, 1:] for g in (grads, other))
    assert np.array_equal(a, b) == rule.elementwise


def test_a_small_variance_beside_a_large_mean_keeps_its_digits_in_float32():
    """Mean square minus squared mean would leave none: 1e-8 beside 1, and float32 rounds at 1e-7."""
    grads = (1 + 1e-4 * np.random.default_rng(0).standard_normal((300, 8, 8))).astype(np.float32)
    rule = adamx.RMSProp(decay=0.9, eps=0.0, eps_in_sqrt=False, centered=True)
    got = np.asarray(directions(rule, jnp.asarray(grads)), np.float64)
    wanted = np.asarray(list(reference.rmsprop(grads, decay=0.9, eps=0.0, eps_in_sqrt=False, centered=True)))
    assert np.max(np.abs(got[100:] / wanted[100:] - 1)) <= 5e-3  # g - mean has three to four digits left in float32


@every_case
def test_float32_follows_the_box_within_rounding(name):
    """An average of decay rate b gathers the roundings of about 1 / (1 - b) steps: as a random walk, sqrt(1000) = 32.

    A scheduled b3 of .9999 arrives in float32, 1 - b3 then being 3e-4 of itself off: twice as much is allowed for.
    """
    rule, box = DIRECTIONS[name]
    grads = SHARED
    got = np.asarray(directions(rule, jnp.asarray(grads)), np.float64)
    roundings = 64 if name == "ademamix_warmed_up" else 32
    assert worst(got, list(box(grads))) <= roundings * ulp(jnp.float32)


def parameters(opt, grads, p):
    def body(carry, g):
        p, state = opt.step(g, carry[1], carry[0])
        return (p, state), p

    return jitted_in_float64(lambda p: jax.lax.scan(body, (p, opt.init(p)), grads)[1])(p)


def movement_error(got, wanted, start):
    """The largest error of a parameter relative to how far its array has moved."""
    got, wanted = (np.asarray(x, np.float64) for x in (got, wanted))
    return np.max(np.abs(got - wanted)) / np.max(np.abs(wanted - start))


@pytest.mark.parametrize("name", PARAMETERS)
def test_float64_parameters_follow_the_box_to_1e_12(name, x64, loose):
    opt, box = PARAMETERS[name]
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((7, 5)), rng.standard_normal((300, 7, 5)) * np.logspace(-4, 2, 5)
    got = parameters(opt, jnp.asarray(grads), jnp.asarray(start))
    assert movement_error(got, list(box(grads, start)), start) <= 1e-12


def test_schedule_free_evaluates_at_the_average(x64):
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((7, 5)), rng.standard_normal((50, 7, 5))
    opt, y = adamx.schedule_free_adamw(1e-2), jnp.asarray(start)
    state, step = opt.init(y), jax.jit(opt.step)
    for g, (_, x) in zip(grads, reference.schedule_free_adamw(grads, start, 1e-2), strict=True):
        y, state = step(jnp.asarray(g), state, y)
        np.testing.assert_allclose(adamx.schedule_free_eval_params(state, y), np.float64(x), rtol=1e-12)


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize(
    ("make", "box"),
    [(adamx.prodigy, reference.prodigy), (adamx.dadapt_adamw, reference.dadapt_adam)],
    ids=["prodigy", "dadapt_adamw"],
)
def test_estimates_over_all_leaves_follow_the_box(make, box, bias_correction, x64):
    """From parameters of 0: the estimate measures how far they are from their start, 1e-6 at first, and the rounding of
    parameters of size 1 would be 1e-10 of that, in the box too if it were in float64.
    """
    split = lambda x: {"a": x[..., :3], "b": x[..., 3:]}  # noqa: E731
    grads = np.random.default_rng(0).standard_normal((300, 7, 5)) * np.logspace(-4, 2, 5)
    opt = make(bias_correction=bias_correction, weight_decay=0.01)
    got = parameters(opt, jax.tree.map(jnp.asarray, split(grads)), jax.tree.map(jnp.asarray, split(np.zeros((7, 5)))))
    lists = [[*split(g).values()] for g in grads]
    wanted = box(lists, [*split(np.zeros((7, 5))).values()], bias_correction=bias_correction, wd=0.01)
    for got_leaf, wanted_leaf in zip(got.values(), zip(*wanted, strict=True), strict=True):
        assert movement_error(got_leaf, list(wanted_leaf), 0.0) <= 1e-12


def test_dadapt_growth_is_limited_as_in_the_box(x64):
    grads = np.random.default_rng(0).standard_normal((300, 7, 5))
    got = parameters(adamx.dadapt_adamw(growth_rate=1.02), jnp.asarray(grads), jnp.zeros((7, 5)))
    wanted = [p for (p,) in reference.dadapt_adam([[g] for g in grads], [np.zeros((7, 5))], growth=1.02)]
    assert movement_error(got, wanted, 0.0) <= 1e-12


def test_lookahead_follows_the_box(x64):
    rng = np.random.default_rng(0)
    start, updates = rng.standard_normal(5), rng.standard_normal((40, 5))
    tx, p = adamx.lookahead(sync_period=6, slow_step_size=0.3), jnp.asarray(start)
    state, apply = tx.init(p), jax.jit(tx.update)
    for u, wanted in zip(updates, reference.lookahead(updates, start, 6, 0.3), strict=True):
        update, state = apply(jnp.asarray(u), state, p)
        p = p + update
        np.testing.assert_allclose(p, np.float64(wanted), rtol=1e-12, atol=1e-13)


def test_float32_keeps_to_the_box_where_squares_neither_overflow_nor_vanish():
    """float32 squares gradients of 1e-18 to 1e18: of 3e19 the square is infinite, of 1e-20 it is 0, and eps remains."""
    grads = hostile((7, 5), steps=300).astype(np.float32)
    keep = (np.abs(grads) < 1e18).all(axis=0) & ((np.abs(grads) > 1e-18) | (grads == 0)).all(axis=0)
    assert keep.sum() > 10
    for name in ("adam", "adam_b1_0", "adamax", "amsgrad", "laprop"):
        rule, box = DIRECTIONS[name]
        got = np.asarray(directions(rule, jnp.asarray(grads[:, keep])), np.float64)
        assert worst(got, list(box(grads[:, keep]))) <= 64 * ulp(jnp.float32), name


def test_a_gradient_after_a_much_larger_one_is_not_forgotten_when_nothing_is_averaged():
    """b * old + (1 - b) * new has no trouble with b = 0; moving by the difference loses 1e-3 beside 1e8."""
    grads = jnp.asarray([[1e8, 1e4], [1e-3, 1e-3]], jnp.float32)
    np.testing.assert_allclose(directions(adamx.Adam(b1=0.0, b2=0.0, eps=0.0), grads)[1], 1.0, rtol=1e-6)
    rate = jnp.float32(0.0)
    np.testing.assert_allclose(directions(adamx.Adam(b1=rate, b2=rate, eps=0.0), grads)[1], 1.0, rtol=1e-6)


@pytest.mark.parametrize("b2", [0.999, 0.9999, 0.99999])
def test_radam_rectifies_from_the_sixth_step_on_in_float32(b2):
    """Optax, whose rho is a difference of numbers near 2 / (1 - b2), rectifies at t=2 for b2=.9999, at 1 for .99999."""
    grads = np.random.default_rng(0).standard_normal((12, 64)).astype(np.float32)
    got = np.asarray(directions(adamx.RAdam(b2=b2), jnp.asarray(grads)), np.float64)
    wanted = list(reference.radam(grads, b2=b2, eps_form="alg1"))
    assert worst(got, wanted) <= 32 * ulp(jnp.float32)


@pytest.mark.parametrize(("b2", "bound"), [(0.99, 1e-6), (0.999, 1e-6), (0.9999, 3e-6), (0.99999, 3e-6)])
def test_float32_is_exact_to_rounding_over_ten_thousand_steps(b2, bound):
    """Optax at its best is 7e-6 off at b2=.999 and 7e-4 at .99999 (`python -m benchmarks.exactness`)."""
    grads = np.random.default_rng(0).standard_normal((10_000, 64)).astype(np.float32)
    got = np.asarray(directions(adamx.Adam(b2=b2), jnp.asarray(grads)), np.float64)
    wanted = np.asarray(list(reference.adam(grads, b2=b2)))
    for t in (1, 10, 100, 1_000, 10_000):
        error = np.linalg.norm(got[t - 1] - wanted[t - 1]) / np.linalg.norm(wanted[t - 1])
        assert error <= bound, t


@pytest.mark.parametrize("b2", [0.99, 0.999, 0.9999, 0.99999])
def test_constant_gradients_stay_within_what_float32_storage_can_hold(b2):
    grads = np.full((10_000, 4), [1.0, -0.3, 1e-6, 1e6], np.float32)
    got = np.asarray(directions(adamx.Adam(b2=b2), jnp.asarray(grads)), np.float64)
    assert worst(got, list(reference.adam(grads, b2=b2))) <= 1e-5


@pytest.mark.parametrize("b", [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999])
def test_bias_correction_is_within_2e_7(b):
    t = np.unique(np.round(np.logspace(0, 6, 20_000)))
    exact = -np.expm1(t * np.log(b))
    got = np.asarray(jax.jit(lambda t: bias_correction(b, t))(jnp.asarray(t, jnp.float32)), np.float64)
    assert np.max(np.abs(got / exact - 1)) <= 2e-7
    rounded = np.float32(b)
    exact = -np.expm1(t * np.log(np.float64(rounded)))
    got = np.asarray(jax.jit(bias_correction)(rounded, jnp.asarray(t, jnp.float32)), np.float64)
    assert np.max(np.abs(got / exact - 1)) <= 2e-7
