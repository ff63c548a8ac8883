"""Regret, the problems on which Adam fails, and the bounds proved for it: `adamx.theory` on the optimizers here."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import theory

RATE = adamx.schedules.inverse_sqrt(0.5)
AS_IN_ITS_PAPER = {"eps": 0.0, "bias_correction_mu": False, "bias_correction_nu": False}


def test_regret_against_a_point_is_the_difference_of_the_losses():
    meter = theory.regret({"x": jnp.array([1.0, 2.0])})
    state = meter.init({"x": jnp.zeros(2)})
    for k in (1.0, 3.0):
        state, so_far = meter.update(state, lambda p, k=k: k * jnp.sum(p["x"] ** 2), {"x": jnp.array([3.0, 0.0])})
    assert so_far == 4 * (9 - 5)


def test_regret_in_hindsight_is_against_the_best_point_of_the_rounds_so_far(x64):
    """Against a search of a fine grid."""
    generator, rounds = np.random.default_rng(0), 40
    slopes, curvatures = generator.standard_normal((rounds, 3)), generator.exponential(size=(rounds, 3)) * [0, 0.2, 2]
    points = generator.uniform(-1, 2, (rounds, 3))
    meter = theory.regret_in_hindsight(-1, 2)

    def body(state, row):
        return meter.update(state, *row)

    start = meter.init(jnp.zeros(3))
    _, measured = jax.lax.scan(body, start, (jnp.asarray(points), jnp.asarray(slopes), jnp.asarray(curvatures)))
    grid = np.linspace(-1, 2, 30_001)[:, None]
    for t in (1, 2, 17, rounds):
        a, b = curvatures[:t], slopes[:t]
        paid = np.sum(a / 2 * points[:t] ** 2 + b * points[:t])
        best = np.min(a.sum(0) / 2 * grid**2 + b.sum(0) * grid, axis=0).sum()
        np.testing.assert_allclose(measured[t - 1], paid - best, atol=1e-7 * t)


def test_regret_in_float32_loses_nothing_over_a_million_rounds():
    meter = theory.regret(jnp.float32(0))
    tenth = jnp.float32(0.1)

    def body(state, _):
        return meter.update(state, lambda x: x, tenth)[0], None

    state, _ = jax.lax.scan(body, meter.init(tenth), length=1_000_000)
    np.testing.assert_allclose(float(state.value), 1e6 * float(tenth), rtol=1e-7)


def noisy_quadratics(opt, rounds, coordinates=64):
    """The regret of an optimizer on (x - z_t)^2 / 2, z_t normal, in each coordinate, against the best in hindsight."""
    meter = theory.regret_in_hindsight(-math.inf, math.inf)
    start = jnp.zeros(coordinates)

    def body(carry, t):
        x, state, sums = carry
        z = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), x.shape) + 1
        sums, regret = meter.update(sums, x, -z, jnp.ones_like(x))
        x, state = opt.step(x - z, state, x)
        return (x, state, sums), regret / coordinates

    def play():
        return jax.lax.scan(body, (start, opt.init(start), meter.init(start)), jnp.arange(1, rounds + 1))[1]

    return np.asarray(jax.jit(play)())


def slope(regret, first):
    """Of log R(T)/T against log T, from round `first`."""
    t = np.unique(np.geomspace(first, len(regret), 50).astype(int))
    return np.polyfit(np.log(t), np.log(regret[t - 1] / t), 1)[0]


def test_average_regret_on_a_convex_problem_falls_as_one_over_the_root_of_the_rounds(x64):
    assert slope(noisy_quadratics(adamx.adam(RATE), 20_000), 1000) == pytest.approx(-0.5, abs=0.1)


def test_average_regret_with_a_constant_step_size_stays(x64):
    assert slope(noisy_quadratics(adamx.adam(0.05), 20_000), 1000) > -0.3


# Counterexamples


def test_the_problems_slopes_have_the_mean_they_say():
    for problem, rounds, tolerance in ((theory.reddi_a(7), 300, 1e-9), (theory.reddi_b(), 10_100, 1e-9),
                                       (theory.reddi_c(), 1_000_000, 0.25)):  # fmt: skip
        slopes = jax.vmap(problem.slope)(jnp.arange(1, rounds + 1))
        assert np.mean(np.asarray(slopes, float)) == pytest.approx(problem.mean_slope, abs=tolerance)
        assert problem.optimum == -1


def test_the_stochastic_problem_is_the_same_in_both_precisions():
    t = jnp.arange(1, 1000)
    single = np.asarray(jax.vmap(theory.reddi_c(3).slope)(t))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.vmap(theory.reddi_c(3).slope)(jnp.arange(1, 1000)), single)


def test_a_problem_is_its_loss():
    problem, x = theory.reddi_a(), jnp.float32(0.5)
    for t in jnp.arange(1, 5):
        assert problem.grad(x, t) == jax.grad(problem.loss)(x, t)
    assert problem.project(jnp.float32(3)) == 1 and problem.project(jnp.float32(-3)) == -1


def test_a_adam_goes_to_the_wrong_end_and_pays_two_a_round(x64):
    problem, steps = theory.reddi_a(5), 300_000
    game = theory.play(problem, adamx.adam(RATE, problem.b1, problem.b2), steps)
    assert game.points[-1] > 0.999
    assert game.regret[-1] / steps == pytest.approx(2.001, abs=1e-3)


def test_a_amsgrad_goes_to_the_right_end_within_its_bound(x64):
    problem, steps = theory.reddi_a(5), 300_000
    game = theory.play(problem, adamx.amsgrad(RATE, problem.b1, problem.b2, **AS_IN_ITS_PAPER), steps)
    assert game.points[-1] < -0.999
    assert game.regret[-1] / steps < 0.002
    promised = theory.amsgrad_regret_bound(game.grads, 0.5, problem.b1, problem.b2, diameter_inf=2)
    assert promised.unmet == () and promised.violated(game.regret) is None


def test_b_adam_goes_to_the_wrong_end(x64):
    problem = theory.reddi_b()
    assert theory.play(problem, adamx.adam(RATE, problem.b1, problem.b2), 300_000).points[-1] > 0.99
    repaired = adamx.amsgrad(RATE, problem.b1, problem.b2, **AS_IN_ITS_PAPER)
    assert theory.play(problem, repaired, 300_000).points[-1] < -0.99


def test_c_adam_goes_to_the_wrong_end(x64):
    problem = theory.reddi_c()
    adam = theory.play(problem, adamx.adam(RATE, problem.b1, problem.b2), 1_000_000).points[-1]
    repaired = adamx.amsgrad(RATE, problem.b1, problem.b2, **AS_IN_ITS_PAPER)
    assert adam > 0.99
    assert theory.play(problem, repaired, 1_000_000).points[-1] < adam - 0.5


def test_any_optimizer_of_optax_can_play():
    """With α / sqrt(t) SGD is within a step of -1 after 30,000 rounds, a step being up to 5 α / sqrt(T)."""
    assert theory.play(theory.reddi_a(), optax.sgd(RATE), 30_000).points[-1] < -0.98


# Bounds on regret


def test_theorem_4_1_is_violated_on_a_by_round_1999(x64):
    problem = theory.reddi_a(5)
    game = theory.play(problem, adamx.adam(RATE, problem.b1, problem.b2), 1999)
    promised = theory.theorem_4_1(game.grads, 0.5, problem.b1, problem.b2, decay=0.9, diameter=2)
    assert promised.unmet == ()
    np.testing.assert_allclose(promised.bound[[999, 1998]], [2823.9, 3180.8], rtol=1e-4)
    np.testing.assert_allclose(game.regret[np.array([999, 1998])], [2000.9, 4004.6], rtol=1e-4)
    first = promised.violated(game.regret)
    assert first is not None and 1000 < first <= 1999
    assert game.regret[first - 1] > promised.bound[first - 1] and game.regret[first - 2] <= promised.bound[first - 2]


def test_theorem_4_1_adds_up_coordinates(x64):
    g = np.random.default_rng(0).standard_normal((50, 3))
    together = theory.theorem_4_1(g, 0.1, 0.9, 0.99, 0.9, 2.0, g_inf=5.0).bound
    apart = sum(theory.theorem_4_1(column, 0.1, 0.9, 0.99, 0.9, 2.0, g_inf=5.0).bound for column in g.T)
    np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_the_bounds_are_the_sums_that_their_papers_print():
    """Written out, round by round and coordinate by coordinate, with every term of a size that counts."""
    g = np.random.default_rng(1).standard_normal((30, 2)) * [1, 3]
    alpha, b1, b2, decay, near, far = 0.3, 0.7, 0.9, 0.8, 1.5, 2.0
    rounds, top = len(g), np.abs(g).max()
    v, v_max, second = np.zeros(2), np.zeros(2), 0.0
    for t in range(1, rounds + 1):
        v = b2 * v + (1 - b2) * g[t - 1] ** 2
        v_max = np.maximum(v_max, v)
        second += sum(b1 * decay ** (t - 1) * math.sqrt(v_max[i]) / (alpha / math.sqrt(t)) for i in range(2))
    lengths, v_hat = sum(math.sqrt(sum(g[:, i] ** 2)) for i in range(2)), v / (1 - b2**rounds)

    adam = far**2 / (2 * alpha * (1 - b1)) * sum(math.sqrt(rounds * v_hat[i]) for i in range(2))
    adam += alpha * (1 + b1) * top / ((1 - b1) * math.sqrt(1 - b2) * (1 - b1**2 / math.sqrt(b2)) ** 2) * lengths
    adam += 2 * near**2 * top * math.sqrt(1 - b2) / (2 * alpha * (1 - b1) * (1 - decay) ** 2)
    np.testing.assert_allclose(theory.theorem_4_1(g, alpha, b1, b2, decay, far, near).bound[-1], adam, rtol=1e-12)

    amsgrad = near**2 * math.sqrt(rounds) / (alpha * (1 - b1)) * sum(np.sqrt(v_max))
    amsgrad += near**2 / (2 * (1 - b1)) * second
    amsgrad += (
        alpha
        * math.sqrt(1 + math.log(rounds))
        * lengths
        / ((1 - b1) ** 2 * (1 - b1 / math.sqrt(b2)) * math.sqrt(1 - b2))
    )
    found = theory.amsgrad_regret_bound(g, alpha, b1, b2, near, decay).bound[-1]
    np.testing.assert_allclose(found, amsgrad, rtol=1e-12)


def test_the_bounds_moments_are_adams(x64):
    """Their first terms alone are left where everything else is scaled away: D large against the step size."""
    g = np.random.default_rng(0).standard_normal(40)
    opt = adamx.scale_by_adam(0.0, 0.9)
    state = opt.init(jnp.zeros(()))
    for row in g:
        _, state = opt.update(jnp.asarray(row), state)
    v, t, diameter = float(state.slots.nu), len(g), 1e6
    adam = theory.theorem_4_1(g, 1.0, 0.0, 0.9, 1e-9, diameter, diameter_inf=1e-3).bound[-1]
    np.testing.assert_allclose(adam, diameter**2 / 2 * math.sqrt(t * v / (1 - 0.9**t)), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "unmet"),
    [
        (lambda g: theory.theorem_4_1(g, 0.1, 0.99, 0.9, 0.9, 2.0), "gamma = b1**2 / sqrt(b2)"),
        (lambda g: theory.theorem_4_1(g, 0.1, 0.9, 0.999, 0.9, 2.0, g_inf=1.0), "a gradient is steeper than g_inf"),
        (lambda g: theory.theorem_4_1(g, 0.1, 0.9, 0.999, 0.9, 2.0, 3.0), "diameter_inf exceeds diameter"),
        (lambda g: theory.amsgrad_regret_bound(g, 0.1, 0.95, 0.9, 2.0), "gamma = b1 / sqrt(b2)"),
        (lambda g: theory.amsgrad_regret_bound(g, 0.1, 0.1, 0.0, 2.0), "gamma = b1 / sqrt(b2)"),
    ],
)
def test_a_theorem_whose_conditions_are_not_met_promises_nothing(call, unmet):
    promised = call(np.array([1.0, -3.0, 2.0]))
    assert len(promised.unmet) == 1 and promised.unmet[0].startswith(unmet)
    assert np.all(promised.bound == math.inf) and promised.violated(np.full(3, 1e300)) is None
