"""Sections 5 and 7: the methods that Adam has in it, AdaMax, and averaged iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx

from ... import theory
from ..claims import Claim
from .running import Found, directions, evidence, trajectory, verdict


def adagrad(quick: bool) -> Found:
    """The limit of b2 to 1, with correction and without."""
    del quick
    noise = np.random.default_rng(0).standard_normal((100, 20))
    gaps = (1e-4, 1e-6, 1e-8)
    exact = _path(adamx.adagrad(0.1, 0.0, 0.0, eps_in_sqrt=False), noise)
    off = [_far(_path(theory.adam_as_adagrad(0.1, b2=1 - gap), noise), exact) for gap in gaps]
    same = _far(_path(theory.adam_as_adagrad(0.1), noise), exact)
    without = adamx.optimizer(
        adamx.Adam(b1=0.0, b2=1 - 1e-8, eps=0.0, bias_correction=False), adamx.schedules.inverse_sqrt(0.1)
    )
    uncorrected = _far(_path(without, noise), exact)
    return Found(
        [
            Claim(
                "§5",
                "AdaGrad is Adam with β₁ = 0, β₂ → 1 and α/√t",
                evidence("theory::test_at_its_limit_adam_is_the_optimizer_it_is_named_for"),
                verdict(off[0] < 0.01 and off[2] < 1e-6),
                "after 100 steps θ differs by "
                + ", ".join(f"{error:.1e}" for error in off)
                + f" for 1−β₂ = 1e-4, 1e-6, 1e-8; with β₂ = 1−1/t by {same:.0e}",
            ),
            Claim(
                "§5",
                "Not so without the bias correction: the updates would be infinite",
                evidence("theory::test_adam_nears_adagrad_as_b2_goes_to_one_and_without_correction_does_not"),
                verdict(uncorrected > 100),
                f"θ differs by {uncorrected:.0f} for 1−β₂ = 1e-8, and 10 times as much for each 1/100 of that",
            ),
        ],
        {},
    )


def _path(opt: optax.GradientTransformation, noise: np.ndarray) -> np.ndarray:
    rows = jnp.asarray(noise)
    return trajectory(opt, lambda x, t: rows[t - 1], np.zeros(noise.shape[1:]), len(noise))


def _far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def rmsprop(quick: bool) -> Found:
    """What RMSProp lacks, and where its momentum stands."""
    del quick
    noise = np.random.default_rng(0).standard_t(2, (300, 20))
    same = _far(
        _path(theory.adam_as_rmsprop(0.1, 0.9), noise), _path(adamx.rmsprop(0.1, 0.9, eps_in_sqrt=False), noise)
    )
    momentum = _far(_path(theory.adam_as_sgd(0.1, 0.9, eps=1e16), noise), _path(optax.sgd(0.1, 0.9), noise))
    scaled = optax.chain(adamx.scale_by(adamx.RMSProp(0.9, 0.0, momentum=0.9, bias_correction=True)), optax.scale(0.1))
    gap = np.abs(directions(scaled, noise) - directions(adamx.scale_by_adam(0.9, 0.9, eps=0.0), noise))[50:]
    first = [float(directions(adamx.scale_by_rms(b2, 0.0), np.ones(1))[0]) for b2 in (0.99, 0.999, 0.9999)]
    return Found(
        [
            Claim(
                "§5",
                "RMSProp with momentum is another method: it averages rescaled gradients",
                evidence(),
                verdict(float(gap.max()) > 0.1),
                f"heavy-tailed gradients at (.9, .9), both corrected: steps differ by up to {gap.max():.2f} α, by "
                f"{np.sqrt(np.mean(gap**2)):.2f} α in the mean square",
            ),
            Claim(
                "§5",
                "RMSProp has no bias correction, which matters most as β₂ goes to 1",
                evidence("theory::test_the_uncorrected_step_is_that_of_adam_without_correction"),
                verdict(first[2] > first[1] > first[0] > 5),
                "first step " + ", ".join(f"{step:.1f} α" for step in first) + " at β₂ = .99, .999, .9999",
            ),
            Claim(
                "introductions",
                "Adam combines RMSProp and SGD with momentum",
                evidence("theory::test_at_its_limit_adam_is_the_optimizer_it_is_named_for"),
                verdict(same < 1e-10 and momentum < 1e-10),
                f"both are Adam: θ of RMSProp to {same:.0e} with β₁ = 0 and α/√(1−β₂ᵗ), of SGD with momentum to "
                f"{momentum:.0e} with a huge ε",
            ),
        ],
        {},
    )


def fisher(quick: bool) -> Found:
    """The second moment at the true parameters of a logistic model, one sample a step."""
    steps = 20_000 if quick else 200_000
    generator = np.random.default_rng(0)
    inputs, truth = generator.standard_normal((steps, 8)) * np.linspace(0.3, 3, 8), generator.standard_normal(8)
    p = 1 / (1 + np.exp(-inputs @ truth))
    grads = (p - (generator.random(steps) < p))[:, None] * inputs
    exact = np.mean((p * (1 - p))[:, None] * inputs**2, axis=0)
    tx = adamx.scale_by_adam(b2=0.9999)

    def body(state, g):
        return tx.update(g, state)[1], None

    state = jax.lax.scan(body, tx.init(jnp.zeros(8)), jnp.asarray(grads))[0]
    v_hat = np.asarray(state.slots.nu) / -np.expm1(steps * np.log(0.9999))
    off = float(np.max(np.abs(v_hat / exact - 1)))
    return Found(
        [
            Claim(
                "§5",
                "v̂ approximates the diagonal of the Fisher matrix",
                evidence(),
                verdict(off < 0.1, "holds with a correction"),
                f"logistic model at its true parameters, one sample a step, β₂ = .9999: to {off:.1%} in 8 coordinates; "
                "of a minibatch of n it is 1/n of that",
            )
        ],
        {},
    )


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
                ", ".join(f"{step:.4f} α at (.9, {b2:g})" for b2, step in longest.items())
                + "; the bound is α (1−β₁)/(1−β₁/β₂)",
            ),
            Claim(
                "§7.1",
                "u is the limit of the Lᵖ norms as p → ∞",
                evidence(),
                verdict(off[-1] < 0.01 and bool(np.all(np.diff(off) < 0))),
                "v^(1/p) differs from it by " + ", ".join(f"{error:.1%}" for error in off) + " at p = 2, 8, 64, 512",
            ),
            Claim(
                "§7.1",
                "Large p is unstable to compute, p → ∞ is not",
                evidence(),
                verdict(np.isinf(naive) and bool(np.allclose(np.abs(first), 1))),
                f"|g|⁶⁴ of g = 10 is {naive:g} in float32; AdaMax's first step is α for |g| from 10⁻¹² to 10¹²",
            ),
            Claim(
                "§7.1",
                "u needs no correction for its start at 0",
                evidence(),
                verdict(bool(np.allclose(np.abs(first), 1))),
                f"the first step is {np.abs(first).max():.3f} α at every size of the gradient",
            ),
            Claim(
                "§7.1",
                "Algorithm 2 can do without an ε",
                evidence(),
                verdict(not np.isnan(as_printed), "holds with a correction"),
                f"as printed 0/0 = {as_printed:g} until the first gradient that is not 0; here {ours:g}",
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
                f"noisy quadratic, α = .1, {steps:,} steps: loss {losses['last']:.1e} at the last iterate, "
                f"{losses['exponential']:.1e} at the average with β₂ = .999, {losses['Polyak']:.1e} at that of all",
            ),
            Claim(
                "§7.2",
                "The exponential average is corrected by 1−β₂ᵗ",
                evidence(),
                verdict(abs(start - 1) < 1e-6),
                f"after one step that stays at 1 the average is {start:g}; without it would be .001",
            ),
        ],
        {},
    )
