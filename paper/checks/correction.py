"""Sections 2 and 3: the efficient form, and the correction of the bias of averages that start at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx
from adamx import theory

from ..claims import Claim
from .running import Found, directions, evidence, verdict


def efficient_form(quick: bool) -> Found:
    """The correction as a factor of the step size."""
    grads = np.random.default_rng(0).standard_normal((300, 32)) * 10.0 ** np.linspace(-9, 3, 32)
    eps, reference = 1e-8, directions(adamx.scale_by_adam(), grads)

    def moving(count: jnp.ndarray) -> jnp.ndarray:
        return eps * jnp.sqrt(-jnp.expm1((count + 1.0) * jnp.log(0.999)))

    def by_hand(eps_hat):
        return optax.chain(
            adamx.scale_by_adam(eps=eps_hat, bias_correction=False), adamx.scale_by(adamx.BiasCorrection(0.9, 0.999))
        )

    exact = float(np.abs(directions(by_hand(moving), grads) - reference).max())
    first = {name: float(directions(tx, np.array([1e-8]))[0]) for name, tx in _PAIR.items()}
    del quick
    return Found(
        [
            Claim(
                "§2",
                "The lines may be reordered: α_t = α √(1−β₂ᵗ)/(1−β₁ᵗ), θ ← θ − α_t m/(√v + ε̂)",
                evidence(),
                "holds with a correction" if exact < 1e-12 else "false",
                f"the same to {exact:.0e} with ε̂ = ε √(1−β₂ᵗ)",
                f"ε̂ has to move; with a constant 1e-8 it is another algorithm, whose first step of a gradient 1e-8 is "
                f"{first['hat']:.3f} α for {first['algorithm 1']:.3f} α.",
            )
        ],
        {},
    )


_PAIR = {"algorithm 1": adamx.scale_by_adam(), "hat": adamx.scale_by_adam(eps_hat=True)}


def second_moment(quick: bool) -> Found:
    """E[v_t] by sampling, and the remainder where gradients change in size."""
    samples = 20_000 if quick else 400_000
    g = np.random.default_rng(0).standard_normal((5, samples))
    v = _state_after(adamx.scale_by_adam(), g).mean()
    expected = -np.expm1(5 * np.log(0.999))
    lags = {}
    for b2 in (0.999, 0.99, 0.9):
        growing = np.exp(np.arange(5000) / 2000)[:, None]
        lags[b2] = 1 - float(_state_after(adamx.scale_by_adam(b2=b2), growing)[0] / growing[-1, 0] ** 2)
    return Found(
        [
            Claim(
                "§3",
                "E[v_t] = E[g²] (1−β₂ᵗ) for gradients alike in distribution",
                evidence(),
                verdict(abs(v / expected - 1) < 0.02),
                f"E[v₅]/E[g²] = {v:.5f}, to be {expected:.5f}",
                f"The mean of {samples:,} samples.",
            ),
            Claim(
                "§3",
                "Where the second moment changes, the remainder ζ is small if old gradients weigh little",
                evidence(),
                verdict(lags[0.9] < lags[0.99] < lags[0.999] and lags[0.9] < 0.02),
                ", ".join(f"{lag:.1%} at β₂ = {b2:g}" for b2, lag in lags.items()),
                "So much v̂ is behind where E[g²] grows e-fold in 1,000 steps: the less, the shorter its memory.",
            ),
        ],
        {},
    )


def _state_after(tx, grads: np.ndarray) -> np.ndarray:
    def body(state, g):
        return tx.update(g, state)[1], None

    g = jnp.asarray(grads)
    return np.asarray(jax.lax.scan(body, tx.init(g[0]), g)[0].slots.nu)


def first_steps(quick: bool) -> Found:
    """Steps without correction: under a constant gradient, and under sparse ones."""
    steps = 3000
    t = np.unique(np.geomspace(1, steps, 60).astype(int))
    pairs = [(0.9, 0.99), (0.9, 0.999), (0.9, 0.9999), (0.0, 0.9999)]
    curves, worst = {}, {}
    for b1, b2 in pairs:
        found = theory.bias_curves(b1, b2, steps)
        curves[f"without correction at ({b1:g}, {b2:g})".replace("0.", ".")] = {
            "t": t,
            "step": found.uncorrected_step[t - 1],
        }
        worst[b1, b2] = found.worst
    constant = directions(adamx.scale_by_adam(0.9, 0.999, bias_correction=False), np.ones(100)).max()
    sparse = np.where(np.random.default_rng(0).random((200 if quick else 1000, 256)) < 0.01, 1.0, 0.0)
    longest = [
        float(np.abs(directions(adamx.scale_by_adam(0.9, 0.9999, bias_correction=on), sparse)).max())
        for on in (True, False)
    ]
    at, _ = worst[0.9, 0.999]
    return Found(
        [
            Claim(
                "§3",
                "Without the correction the first steps are much too large",
                evidence("theory::test_without_correction_the_worst_step_is_6_57_times_too_long"),
                verdict(constant > 2),
                f"{constant:.2f} α at step {at} under a constant gradient, at (.9, .999)",
                f"With the correction it is 1 α; without it up to {worst[0.9, 0.9999][1]:.1f} α at (.9, .9999), "
                f"{worst[0.0, 0.9999][1]:.0f} α at (0, .9999).",
            ),
            Claim(
                "§3",
                "With sparse gradients and β₂ near 1 the first steps without the correction are much larger",
                evidence(),
                verdict(longest[1] > 2 * longest[0]),
                f"{longest[1]:.1f} α against {longest[0]:.2f} α",
                "The longest step without and with the correction, where 1 gradient in 100 is not 0, at β₂ = .9999.",
            ),
        ],
        curves,
    )
