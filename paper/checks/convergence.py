"""Section 4: the regret bound, its counterexamples, and problems on which regret falls as the bound says."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx
from adamx import theory

from ..claims import Claim, Verdict
from .running import Found, decades, evidence, race, verdict

RATE = 0.5
LAMBDAS = (0.9, 0.5, 1e-3)
SEEDS = 4
MOMENTA = (0.9, 0.99, 0.999)
MATTERS = 0.9
AS_IN_ITS_PAPER = {"eps": 0.0, "bias_correction_mu": False, "bias_correction_nu": False}


def samples(steps: int) -> np.ndarray:
    """Rounds to draw, evenly on a logarithmic axis."""
    return np.unique(np.geomspace(1, steps, 80).astype(int))


def theorem(quick: bool) -> Found:
    """Theorem 4.1 on the first problem of Reddi et al., and AMSGrad's Theorem 4."""
    problem, steps = theory.reddi_a(5), 30_000 if quick else 300_000
    rate = adamx.schedules.inverse_sqrt(RATE)
    adam = theory.play(problem, adamx.adam(rate, problem.b1, problem.b2), steps)
    repaired = theory.play(problem, adamx.amsgrad(rate, problem.b1, problem.b2, **AS_IN_ITS_PAPER), steps)
    # With b1 = 0 nothing decays, and the theorem has to hold for every lambda.
    bounds = {
        decay: theory.theorem_4_1(adam.grads, RATE, problem.b1, problem.b2, decay, diameter=2) for decay in LAMBDAS
    }
    promised = bounds[0.9]
    promised_amsgrad = theory.amsgrad_regret_bound(repaired.grads, RATE, problem.b1, problem.b2, diameter_inf=2)
    kept = promised_amsgrad.violated(repaired.regret) is None
    rounds = {decay: exceeded(bound, adam.regret) for decay, bound in bounds.items()}
    average = float(adam.regret[-1]) / steps
    t = samples(steps)
    curves = {
        "Reddi A": {
            "t": t,
            "adam_point": adam.points[t],
            "amsgrad_point": repaired.points[t],
            "adam_regret": adam.regret[t - 1],
            "amsgrad_regret": repaired.regret[t - 1],
            "theorem_4_1": promised.bound[t - 1],
            "amsgrad_bound": promised_amsgrad.bound[t - 1],
        }
    }
    return Found(
        [
            Claim(
                "§4",
                "Theorem 4.1 bounds the regret of Adam on every convex problem",
                evidence("regret::test_theorem_4_1_is_violated_on_a_by_round_1999"),
                verdict(not any(rounds.values())),
                f"regret {adam.regret[1998]:.1f}, the bound {promised.bound[1998]:.1f}, at T = 1999",
                "Problem A of arXiv:1904.09237 (C = 5, β₁ = 0) exceeds the bound "
                + "; ".join(f"with λ = {decay:g} {told or 'never'}" for decay, told in rounds.items())
                + f", of {steps:,}. Points are projected onto [−1, 1], as the theorem's bounded distances ask.",
            ),
            Claim(
                "§4",
                "Corollary 4.2: the average regret goes to 0, as 1/√T",
                evidence("regret::test_a_adam_goes_to_the_wrong_end_and_pays_two_a_round"),
                verdict(average < 0.1),
                f"R(T)/T = {average:.3f} at T = {steps:,}",
                f"On problem A Adam goes to the worst point, x = {float(adam.points[-1]):+.3f}, where −1 is the best.",
            ),
            Claim(
                "§4 (arXiv:1904.09237)",
                "AMSGrad, which never forgets the largest second moment, keeps its bound there",
                evidence("regret::test_a_amsgrad_goes_to_the_right_end_within_its_bound"),
                verdict(kept and float(repaired.points[-1]) < -0.99),
                f"R(T) = {float(repaired.regret[-1]):.0f}, the bound {promised_amsgrad.bound[-1]:.0f}",
                f"On problem A AMSGrad goes to the best point: x = {float(repaired.points[-1]):+.4f}.",
            ),
        ],
        curves,
    )


def exceeded(bound: theory.RegretBound, regret: Any) -> str:
    """When the regret is above its bound, first and for good, in words; empty if it never is."""
    over = np.asarray(regret) > bound.bound
    if not over.any():
        return ""
    for_good = int(np.flatnonzero(np.append(False, ~over))[-1]) + 1 if not over.all() else 1
    last = f"for good from T = {for_good}" if for_good <= len(over) else "not for good"
    return f"first at T = {bound.violated(regret)}, {last}"


def other_problems(quick: bool) -> Found:
    """Problems B and C, with the usual rates .9 and .99."""
    rate = adamx.schedules.inverse_sqrt(RATE)
    length, share = (300_000, 1_000_000), 10 if quick else 1
    b, c = theory.reddi_b(), theory.reddi_c()

    def contenders(problem: theory.Problem) -> tuple[optax.GradientTransformation, ...]:
        return (
            adamx.adam(rate, problem.b1, problem.b2),
            adamx.amsgrad(rate, problem.b1, problem.b2, **AS_IN_ITS_PAPER),
            adamx.adam(rate, problem.b1, 0.9999),
        )

    def drawn(opt: optax.GradientTransformation) -> np.ndarray:
        """Where the draws of each seed lead."""
        run = jax.vmap(lambda seed: theory.play(theory.reddi_c(seed), opt, length[1] // share).points[-1])
        return np.asarray(run(jnp.arange(SEEDS)))

    ends = [float(theory.play(b, opt, length[0] // share).points[-1]) for opt in contenders(b)]
    ranges = [drawn(opt) for opt in contenders(c)]
    told = [f"{x:+.3f}, {these.min():+.3f} to {these.max():+.3f}" for x, these in zip(ends, ranges, strict=True)]
    return Found(
        [
            Claim(
                "§4",
                "With β₁ = .9, β₂ = .99 Adam finds the best point of a convex problem",
                evidence("regret::test_b_adam_goes_to_the_wrong_end"),
                verdict(ends[0] < -0.9 and float(ranges[0].max()) < -0.9),
                f"x = {told[0]}, where −1 is best",
                f"Problem B of arXiv:1904.09237, and C from {SEEDS} seeds, after {length[0] // share:,} and "
                f"{length[1] // share:,} rounds; AMSGrad comes to {told[1]}, Adam with β₂ = .9999 to {told[2]}.",
            )
        ],
        {},
    )


def average_regret(quick: bool) -> Found:
    """R(T)/T on noisy quadratics, where Adam does converge."""
    rounds = 20_000 if quick else 100_000
    inverse_sqrt = adamx.schedules.inverse_sqrt(RATE)
    t = samples(rounds)
    runs = {
        "α/√t": adamx.adam(inverse_sqrt),
        "constant α": adamx.adam(0.05),
    }
    regrets = {name: noisy_quadratics(opt, rounds) for name, opt in runs.items()}
    slopes = {name: slope(regret, rounds // 20) for name, regret in regrets.items()}
    return Found(
        [
            Claim(
                "§4",
                "With α/√t the average regret of Adam falls as 1/√T, where the problem is kind",
                evidence("regret::test_average_regret_on_a_convex_problem_falls_as_one_over_the_root_of_the_rounds"),
                verdict(abs(slopes["α/√t"] + 0.5) < 0.1),
                f"slope {slopes['α/√t']:.2f} of log R(T)/T against log T, to be -0.5",
                f"On noisy quadratics; with a constant α the slope is {slopes['constant α']:.2f}.",
            ),
        ],
        {"average regret": {"t": t, **{name: regret[t - 1] / t for name, regret in regrets.items()}}},
    )


def fading(quick: bool, coordinates: int = 128) -> Found:
    """What is gained by a β₁ that fades to e⁻¹⁰ of itself: quadratics of condition 1000, at the best α/√t."""
    horizons = (2000, 5000 if quick else 20_000)
    curvature = jnp.tile(jnp.logspace(0, -3, 32), coordinates // 32)
    noise = jnp.asarray(np.random.default_rng(0).standard_normal((horizons[-1] + 1, coordinates)))
    falling = adamx.schedules.inverse_sqrt(1.0)

    def lowest(b1: Any, steps: int) -> float:
        return race(
            lambda rate: adamx.adam(lambda count: rate * falling(count), b1=b1),
            decades(-2, 0, 4),
            lambda x, t: curvature * (x - 1) + jnp.sqrt(curvature) * noise[t],
            jnp.zeros(coordinates),
            steps,
            lambda x, t: jnp.sum(curvature * (x - 1) ** 2),
        ).score

    shares = [
        [lowest(adamx.schedules.decayed_beta(b1, 1 - 10 / steps), steps) / lowest(b1, steps) for b1 in MOMENTA]
        for steps in horizons
    ]
    told = [
        f"{', '.join(f'{x:.2f}' for x in row)} times the loss after {steps:,} steps"
        for row, steps in zip(shares, horizons, strict=True)
    ]
    found = fading_verdict(shares)
    where = "It matters only where the memory 1/(1−β₁) is about as long as the run. " if "correction" in found else ""
    return Found(
        [
            Claim(
                "§4",
                "That β₁ fades matters",
                evidence(),
                found,
                f"{'; '.join(told)} (β₁ = {', '.join(map(str, MOMENTA))})",
                "Of that with a constant β₁, on noisy quadratics at the best α/√t, if λ makes β₁ fade to e⁻¹⁰ of "
                f"itself; under {MATTERS:g} times it matters. {where}Bounds can be proved with a constant β₁, too "
                "(arXiv:2003.09729).",
            )
        ],
        {},
    )


def fading_verdict(shares: list[list[float]]) -> Verdict:
    """By what is left of the loss, a row for each horizon, at Adam's own β₁ first: less than `MATTERS` matters."""
    if all(row[0] < MATTERS for row in shares):
        return "holds"
    return "holds with a correction" if min(map(min, shares)) < MATTERS else "false"


def noisy_quadratics(opt: adamx.Optimizer, rounds: int, coordinates: int = 64) -> np.ndarray:
    """The regret on (x - z_t)^2 / 2, z_t normal around 1, against the best in hindsight; mean of the coordinates."""
    meter = theory.regret_in_hindsight(-math.inf, math.inf)
    targets = jnp.asarray(1 + np.random.default_rng(0).standard_normal((rounds, coordinates)))

    def body(carry, z):
        x, state, sums = carry
        sums, regret = meter.update(sums, x, -z, jnp.ones_like(x))
        x, state = opt.step(x - z, state, x)
        return (x, state, sums), regret / coordinates

    def play():
        start = jnp.zeros(coordinates)
        return jax.lax.scan(body, (start, opt.init(start), meter.init(start)), targets)[1]

    return np.asarray(jax.jit(play)())


def slope(regret: np.ndarray, first: int) -> float:
    """Of log R(T)/T against log T, from round `first` on."""
    t = np.unique(np.geomspace(first, len(regret), 50).astype(int))
    return float(np.polyfit(np.log(t), np.log(regret[t - 1] / t), 1)[0])
