"""Section 5: related methods, which are AdaGrad, RMSProp, SGD with momentum and the natural gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx
from adamx import theory

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
                "θ differs by " + ", ".join(f"{error:.1e}" for error in off),
                f"After 100 steps with 1−β₂ = 1e-4, 1e-6, 1e-8; with β₂ = 1−1/t it is AdaGrad to {same:.0e}.",
            ),
            Claim(
                "§5",
                "Not so without the bias correction: the updates would be infinite",
                evidence("theory::test_adam_nears_adagrad_as_b2_goes_to_one_and_without_correction_does_not"),
                verdict(uncorrected > 100),
                f"θ differs by {uncorrected:.0f} for 1−β₂ = 1e-8",
                "And 10 times as much for each 1/100 of that.",
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
                f"steps differ by up to {gap.max():.2f} α",
                f"Under heavy-tailed gradients at (.9, .9), both corrected; in the mean square "
                f"{np.sqrt(np.mean(gap**2)):.2f} α.",
            ),
            Claim(
                "§5",
                "RMSProp has no bias correction, which matters most as β₂ goes to 1",
                evidence("theory::test_the_uncorrected_step_is_that_of_adam_without_correction"),
                verdict(first[2] > first[1] > first[0] > 5),
                ", ".join(f"{step:.1f} α" for step in first) + " at β₂ = .99, .999, .9999",
                "The first step, which the correction would make 1 α.",
            ),
            Claim(
                "introductions",
                "Adam combines RMSProp and SGD with momentum",
                evidence("theory::test_at_its_limit_adam_is_the_optimizer_it_is_named_for"),
                verdict(same < 1e-10 and momentum < 1e-10),
                f"θ the same to {same:.0e} and {momentum:.0e}",
                "Adam is RMSProp with β₁ = 0 and α/√(1−β₂ᵗ), and SGD with momentum with a huge ε.",
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
                f"to {off:.1%} in 8 coordinates",
                "Of a logistic model at its true parameters, one sample a step, β₂ = .9999; of a minibatch of n it is "
                "1/n of that.",
            )
        ],
        {},
    )


def natural_gradient(quick: bool) -> Found:
    """How far steps move with the size of the gradients, by the root of the second moment and by itself."""
    del quick
    sizes = 10.0 ** np.arange(-3, 4)
    g = np.random.default_rng(0).standard_normal(1000)[:, None] * sizes
    root = directions(adamx.scale_by_adam(0.0, eps=0.0), g)[-1]
    natural = root * np.abs(root / g[-1])  # g / v = (g / sqrt v) / sqrt v
    by_root, by_itself = (float(np.polyfit(np.log(sizes), np.log(np.abs(u)), 1)[0]) for u in (root, natural))
    return Found(
        [
            Claim(
                "§5",
                "The inverse square root of v̂ adapts more conservatively than the inverse, the natural gradient's",
                evidence(),
                verdict(abs(by_root) < abs(by_itself) / 2),
                f"{_span(root):.2g} times against {_span(natural):.0e} times",
                f"So much steps change from gradients of 10⁻³ to 10³: they go with their size to the power "
                f"{abs(by_root):.2f} divided by √v̂, {by_itself:.2f} divided by v̂.",
            )
        ],
        {},
    )


def _span(steps: np.ndarray) -> float:
    return float(np.abs(steps).max() / np.abs(steps).min())
