"""SOAP beside a transcription of its official code, and what any rule keeps in the bases of `Rotated`.

Updates are compared and never bases, whose vectors have arbitrary signs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx.presets import preset
from tests.helpers import directions, ulp
from tests.reference.soap import soap

STEPS = 51


def trajectory(opt, grads, params, start=None):
    """The parameters after each step; `start` are statistics to begin with, by axis."""
    state = opt.init(params)
    if start is not None:
        given = state.slots.statistics._replace(**{f"axis{a}": jnp.asarray(x) for a, x in start.items()})
        state = state._replace(slots=state.slots._replace(statistics=given))

    def body(carry, g):
        params, state = opt.step(g, carry[1], carry[0])
        return (params, state), params

    return jax.jit(lambda p, state: jax.lax.scan(body, (p, state), grads)[1])(params, state)


@pytest.mark.parametrize(
    ("shape", "given", "own"),
    [
        ((5, 5), {"wd": 0.1}, {"weight_decay": 0.1}),
        ((6, 10), {}, {}),
        ((10, 6), {"kl_eps": 1e-8}, {"kl": True}),
        ((12, 5), {"longest": 8}, {"max_precondition_dim": 8}),
        ((4, 3, 5), {"before": True}, {"refresh_first": True}),
        ((5, 5), {"kl_eps": 0.1, "debias": True}, {"kl": True, "kl_eps": 0.1, "debias": True}),
        ((7,), {}, {"debias": True}),
    ],
    ids=["square", "wide", "tall_kl", "too_long", "three_axes_first", "kl_debiased", "vector"],
)
def test_float64_follows_the_official_code_over_50_steps(shape, given, own, x64):
    """To 1e-10 of the movement. From statistics of full rank: the vectors of a null space are arbitrary."""
    rng = np.random.default_rng(0)
    grads, p = rng.standard_normal((STEPS, *shape)) * np.logspace(-1, 1, shape[-1]), rng.standard_normal(shape)
    roots = [rng.standard_normal((n, 2 * n)) for n in shape]
    start = {a: x @ x.T / 10 for a, x in enumerate(roots) if len(shape) > 1 and shape[a] <= given.get("longest", 99)}
    wanted = np.array([*soap(grads, p, 3e-3, frequency=3, start=start, **{**given, "wd": given.get("wd", 0.0)})])
    opt = adamx.soap(3e-3, frequency=3, **{"weight_decay": 0.0, **own})
    got = trajectory(opt, jnp.asarray(grads), jnp.asarray(p), start)
    assert np.max(np.abs(got - wanted)) <= 1e-10 * np.max(np.abs(wanted - p))


def test_equal_rows_stay_equal_and_follow_the_official_code(x64):
    """Where a gradient has no part, rounding over ε has one: 1e-16 / 1e-8."""
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((20, 4, 4))
    grads[:, 1] = grads[:, 0]
    p = np.zeros((4, 4))
    got = np.asarray(trajectory(adamx.soap(1.0, frequency=3, weight_decay=0.0), jnp.asarray(grads), jnp.asarray(p)))
    wanted = np.array([*soap(grads, p, 1.0, frequency=3)])
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    np.testing.assert_allclose(got[:, 0], got[:, 1], atol=1e-6)


def test_the_preset_is_the_official_codes():
    rule = preset("soap", "soap", betas=(0.9, 0.99), weight_decay=0.1).engine.rule
    assert rule == adamx.soap(3e-3, 0.9, 0.99, weight_decay=0.1).engine.rule
    assert preset("soap", "soap", shampoo_beta=0.5).engine.rule.rule.shampoo_beta == 0.5


@pytest.mark.parametrize(
    "rule", [adamx.Adam(), adamx.AdaMax(), adamx.Lion(), adamx.AMSGrad()], ids=lambda r: type(r).__name__
)
def test_without_bases_it_is_the_rule_itself_bit_for_bit(rule):
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((12, 4, 3)), jnp.float32)
    plain = directions(rule, grads)
    np.testing.assert_array_equal(
        directions(adamx.Rotated(rule, max_precondition_dim=0, refresh_first=True), grads), plain
    )
    after_one = directions(adamx.Rotated(rule, max_precondition_dim=0), grads)
    np.testing.assert_array_equal(after_one[0], 0 * grads[0])
    np.testing.assert_array_equal(after_one[1:], directions(rule, grads[1:]))


OPT = adamx.soap(1e-2, frequency=2, weight_decay=0.1)
step = jax.jit(OPT.step)
DEFICIENT = {
    "zero": np.zeros((6, 4)),
    "rank_one": np.outer(np.arange(6.0), [1.0, 0.0, 2.0, -1.0]),
    "equal_rows": np.ones((6, 1)) * np.arange(4.0),
    "tiny": np.full((6, 4), 1e-30),
}


@pytest.mark.parametrize("name", DEFICIENT)
def test_gradients_without_full_rank_give_finite_steps_and_orthogonal_bases(name):
    g, params = jnp.asarray(DEFICIENT[name], jnp.float32), jnp.ones((6, 4))
    state = OPT.init(params)
    for i in range(6):
        params, state = step(g * (1 + i % 3), state, params)
    assert jnp.isfinite(params).all()
    for q in state.slots.bases[:2]:
        np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=16 * ulp(jnp.float32))


def test_a_gradient_that_is_not_finite_stays_visible_and_spares_the_bases():
    params, good = jnp.ones((6, 4)), jnp.asarray(np.random.default_rng(0).standard_normal((6, 4)), jnp.float32)
    for first in (True, False):
        p, state = params, OPT.init(params)
        if not first:
            p, state = step(good, state, p)
        p, state = step(good.at[0, 0].set(jnp.nan), state, p)
        assert not jnp.isfinite(p).all()
        for _ in range(3):
            p, state = step(good, state, p)
        assert not jnp.isfinite(p).all() and jnp.isfinite(jnp.stack(jax.tree.leaves(state.slots.bases.axis0))).all()


def test_the_first_call_neither_steps_nor_decays():
    params, good = jnp.ones((6, 4)), jnp.asarray(np.random.default_rng(0).standard_normal((6, 4)), jnp.float32)
    first, state = step(good, OPT.init(params), params)
    np.testing.assert_array_equal(first, params)
    second, _ = step(good, state, params)
    assert (second != params).all()


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_bases_are_as_orthogonal_after_many_refreshes_as_after_one(dtype):
    """In bfloat16 as its rounding leaves them: half a rounding of each element, of columns of length 1."""
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((60, 16, 16)), jnp.float32)
    opt = adamx.soap(1e-3, frequency=1, basis_dtype=dtype)
    run = lambda state: jax.lax.scan(lambda s, g: (opt.update(g, s, g)[1], None), state, grads)[0]  # noqa: E731
    q = jax.jit(run)(opt.init(grads[0])).slots.bases.axis0
    assert q.dtype == (jnp.float32 if dtype is None else dtype)
    q = np.asarray(q, np.float64)
    assert np.linalg.norm(q.T @ q - np.eye(16), 2) <= 8 * ulp(dtype or jnp.float32)


def test_staggered_axes_are_refreshed_each_at_a_step_of_its_own():
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((11, 6, 4)), jnp.float32)
    opt = adamx.soap(1e-3, frequency=5, staggered=True)

    def body(state, g):
        return opt.update(g, state, g)[1], tuple(
            jnp.any(a != b)
            for a, b in zip(opt.update(g, state, g)[1].slots.bases[:2], state.slots.bases[:2], strict=True)
        )

    changed = np.array(jax.jit(lambda s: jax.lax.scan(body, s, grads)[1])(opt.init(grads[0])))
    assert changed[:, 0].all()  # the first bases
    steps = [np.flatnonzero(row[1:]) for row in changed]
    assert all(len(x) == 2 and x[1] - x[0] == 5 for x in steps) and steps[0][0] != steps[1][0]


def test_stacked_matrices_have_bases_of_their_own():
    rng = np.random.default_rng(0)
    grads, p = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((8, 3, 4, 5), (3, 4, 5)))
    own = {"frequency": 2, "kl": True}
    stacked = trajectory(adamx.soap(1e-2, batch_axes=1, **own), grads, p)
    alone = trajectory(adamx.soap(1e-2, **own), [grads[:, i] for i in range(3)], [*p])
    np.testing.assert_allclose(stacked, jnp.stack(alone, 1), atol=1e-4)


def test_formats_code_rotated_moments_and_leave_bases_and_statistics_exact():
    params = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)
    opt = adamx.soap(1e-3, moments="int8", basis_dtype=jnp.bfloat16)
    slots = jax.eval_shape(opt.init, params).slots
    assert slots.statistics.axis0.dtype == jnp.float32 and slots.bases.axis1.dtype == jnp.bfloat16
    assert (slots.statistics.axis2, slots.bases.axis3) == (None, None)
    size = adamx.state_bytes(opt, params)
    assert size.slots["statistics"] == 2 * 4 * 64**2 and size.slots["bases"] == 2 * 2 * 64**2
    assert size.formats["int8"] < 2.2 * 64**2


@pytest.mark.parametrize(
    ("rule", "shape", "words"),
    [
        (adamx.Adafactor(), (2, 3), "elementwise rule"),
        (
            adamx.Lookahead() if hasattr(adamx, "Lookahead") else adamx.ScheduleFree(adamx.Adam(), 0.1),
            (2, 3),
            "put it around",
        ),
        (adamx.Adam(), (2, 2, 2, 2, 2), "more than 4 axes"),
    ],
    ids=["mixing", "weights", "axes"],
)
def test_what_cannot_be_turned_is_refused(rule, shape, words):
    with pytest.raises(ValueError, match=words):
        adamx.optimizer(adamx.Rotated(rule), 1e-3).init(jnp.ones(shape))


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("frequency", 0, 1), ("frequency", 2.5, 1), ("max_precondition_dim", -1, 0), ("batch_axes", True, 0)],
)
def test_what_counts_is_a_whole_number(name, value, least):
    with pytest.raises(ValueError, match=f"{name} = {value} should be a whole number, at least {least}"):
        adamx.soap(**{name: value})
