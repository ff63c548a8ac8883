"""Section 7: AdaMax, and averaged iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx
from adamx import theory

from ..claims import Claim
from .running import Found, directions, evidence, verdict


def adamax(quick: bool) -> Found:
    """AdaMax's bound, its limit, its first steps."""
    del quick
    longest = {
        b2: float(
            directions(adamx.scale_by_adamax(0.9, b2, eps=0.0), theory.adamax_worst_case_gradients(0.9, b2, 1000))[-1]
        )
        for b2 in (0.999, 0.99, 0.95)
    }
    grads = np.abs(np.random.default_rng(0).standard_normal(50))
    tx = adamx.scale_by_adamax(b2=0.9, eps=0.0)
    state = tx.init(jnp.zeros(()))
    for g in grads:
        _, state = tx.update(jnp.asarray(g), state)
    u, k = float(state.slots.nu), np.arange(49, -1, -1)
    off = [abs(_norm(grads, k, p) / u - 1) for p in (2, 8, 64, 512)]
    with np.errstate(over="ignore"):
        naive = float(np.float32(10) ** np.float32(64))
    first = directions(adamx.scale_by_adamax(eps=0.0), np.geomspace(1e-12, 1e12, 9)[None])[0]
    m, v = np.zeros(1), np.zeros(1)
    with np.errstate(invalid="ignore"):
        as_printed = float((m / v)[0])
    ours = float(directions(adamx.scale_by_adamax(eps=0.0), np.zeros(1))[0])
    return Found(
        [
            Claim(
                "§7.1",
                "AdaMax: |Δ| ≤ α",
                evidence("theory::test_adamax_exceeds_the_papers_bound"),
                verdict(max(longest.values()) <= 1),
                ", ".join(f"{step:.4f} α at (.9, {b2:g})" for b2, step in longest.items()),
                "The bound is α (1−β₁)/(1−β₁/β₂), a little above α.",
            ),
            Claim(
                "§7.1",
                "u is the limit of the Lᵖ norms as p → ∞",
                evidence(),
                verdict(off[-1] < 0.01 and bool(np.all(np.diff(off) < 0))),
                ", ".join(f"{error:.1%}" for error in off) + " at p = 2, 8, 64, 512",
                "So much v^(1/p) differs from u.",
            ),
            Claim(
                "§7.1",
                "Large p is unstable to compute, p → ∞ is not",
                evidence(),
                verdict(np.isinf(naive) and bool(np.allclose(np.abs(first), 1))),
                f"10⁶⁴ is {naive:g} in float32",
                "AdaMax's first step is α for gradients from 10⁻¹² to 10¹².",
            ),
            Claim(
                "§7.1",
                "u needs no correction for its start at 0",
                evidence(),
                verdict(bool(np.allclose(np.abs(first), 1))),
                f"{np.abs(first).max():.3f} α",
                "The first step, at every size of the gradient.",
            ),
            Claim(
                "§7.1",
                "Algorithm 2 can do without an ε",
                evidence(),
                verdict(not np.isnan(as_printed), "holds with a correction"),
                f"0/0 = {as_printed:g} as printed, {ours:g} here",
                "As printed, a parameter is lost if its first gradient is 0.",
            ),
        ],
        {},
    )


def _norm(grads: np.ndarray, k: np.ndarray, p: int) -> float:
    """((1 - b^p) sum b^(p k) |g|^p)^(1/p), b = .9, by logarithms."""
    exponents = p * (k * np.log(0.9) + np.log(grads))
    top = exponents.max()
    return float(np.exp((top + np.log(np.sum(np.exp(exponents - top))) + np.log1p(-(0.9**p))) / p))


def averaging(quick: bool) -> Found:
    """Averages of the iterates on a noisy quadratic."""
    steps = 4000 if quick else 20_000
    noise = jnp.asarray(np.random.default_rng(0).standard_normal((steps, 256)))
    losses = {}
    for name, decay in (("exponential", 0.999), ("Polyak", None)):
        opt = optax.chain(adamx.adam(0.1), adamx.averaging(decay))

        def body(carry, row, opt=opt):
            x, state = carry
            updates, state = opt.update(x + row, state, x)
            return (x + updates, state), None

        start = jnp.zeros(256)
        (x, state), _ = jax.lax.scan(body, (start, opt.init(start)), noise)
        losses["last"] = float(jnp.mean(x**2) / 2)
        losses[name] = float(jnp.mean(adamx.averaged_params(state) ** 2) / 2)
    opt = optax.chain(optax.scale(0.0), adamx.averaging(0.999))
    _, first = opt.update(jnp.ones(1), opt.init(jnp.ones(1)), jnp.ones(1))
    start = float(adamx.averaged_params(first)[0])
    return Found(
        [
            Claim(
                "§7.2",
                "Averaging the iterates makes a noisy end better",
                evidence(),
                verdict(losses["exponential"] < losses["last"] / 10),
                f"loss {losses['exponential']:.1e} in place of {losses['last']:.1e}",
                f"At the average with β₂ = .999 of a noisy quadratic, α = .1, after {steps:,} steps, and at the last "
                f"iterate; at the average of all {losses['Polyak']:.1e}.",
            ),
            Claim(
                "§7.2",
                "The exponential average is corrected by 1−β₂ᵗ",
                evidence(),
                verdict(abs(start - 1) < 1e-6),
                f"{start:g} after one step that stays at 1",
                "Without the correction the average would be .001.",
            ),
        ],
        {},
    )
