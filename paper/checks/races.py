"""Sparse gradients, moving optima, noise: Adam beside AdaGrad and SGD, each at its best step size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import adamx

from ..claims import Claim
from .running import Found, Make, Raced, decades, evidence, race, trajectory, verdict


def sparse(quick: bool) -> Found:
    """Logistic regression on rare features: feature j is there with probability 2 / (j + 3)."""
    features, examples, steps = (1000, 4096, 1500) if quick else (2000, 8192, 5000)
    generator = np.random.default_rng(0)
    x = generator.random((examples, features)) < 2 / (np.arange(features) + 3.0)
    y = generator.random(examples) < 1 / (1 + np.exp(-(x @ (2 * generator.standard_normal(features)))))
    inputs, labels = jnp.asarray(x, float), jnp.asarray(y, float)
    rows = jnp.asarray(generator.integers(0, examples, (steps + 1, 32)))

    def loss(w: Any, t: Any) -> Any:
        z = inputs[rows[t]] @ w
        return jnp.mean(jnp.logaddexp(0.0, z) - labels[rows[t]] * z)

    adam, adagrad, sgd = (raced.score for raced in _three(jax.grad(loss), jnp.zeros(features), steps, loss))
    return Found(
        [
            Claim(
                "abstract",
                "Appropriate for sparse gradients: as AdaGrad, far ahead of SGD",
                evidence(),
                verdict(adam < 1.25 * adagrad and adam < sgd / 1.5, "could not be shown here"),
                f"training loss Adam {adam:.3f}, AdaGrad {adagrad:.3f}, SGD {sgd:.3f}",
                f"Logistic regression on {features} rare features, each at its best step size.",
            )
        ],
        {},
    )


def moving(quick: bool) -> Found:
    """Noisy quadratics: an optimum that rests and then jumps, and one that jumps all the time."""
    rest = 5000 if quick else 10_000
    generator = np.random.default_rng(0)
    noise = jnp.asarray(generator.standard_normal((2 * rest + 1, 64)))
    places = jnp.asarray(generator.standard_normal((2 * rest // 500 + 1, 64)))

    def after_rest(x: Any, t: Any) -> Any:
        return x - jnp.where(t <= rest, 1.0, 3.0) + noise[t]

    def jumping(x: Any, t: Any) -> Any:
        return jnp.mean((x - places[t // 500]) ** 2) / 2

    halfway, losses = [], []
    for make, rates in _makes(decaying=False, each=10):
        best = race(make, rates, after_rest, jnp.zeros(64), rest, lambda x, t: jnp.mean((x - 1) ** 2) / 2)
        path = trajectory(make(best.rate), after_rest, np.zeros(64), 2 * rest)[rest:]
        near = path.mean(1) > 2
        halfway.append(int(np.argmax(near)) + 1 if near.any() else rest)
        stream = race(
            make, rates, lambda x, t: x - places[t // 500] + noise[t], jnp.zeros(64), 2 * rest, jumping, last=1.0
        )
        losses.append(stream.score)
    keeps, leads = halfway[0] < halfway[1] / 1.5, losses[0] < losses[1]
    number = "Adam {:,}, AdaGrad {:,}, SGD {:,} steps halfway to an optimum that jumped".format(*halfway)
    sentence = (
        f"After a rest of {rest:,} steps, at the best α for that. Where it jumps every 500 steps the mean loss is "
        "{:.3f}, {:.3f}, {:.3f}".format(*losses)
    )
    if keeps and not leads:
        sentence += ": there Adam is not ahead of AdaGrad"
    if halfway[2] < halfway[0] or losses[2] < losses[0]:
        both = halfway[2] < halfway[0] and losses[2] < losses[0]
        sentence += f"; SGD is ahead of Adam in {'both' if both else 'one'}"
    return Found(
        [
            Claim(
                "abstract",
                "Appropriate for non-stationary objectives, where AdaGrad has slowed down",
                evidence(),
                "holds" if keeps and leads else "holds with a correction" if keeps else "could not be shown here",
                number,
                f"{sentence}.",
            )
        ],
        {},
    )


def noisy(quick: bool) -> Found:
    """A quadratic with gradient noise of infinite variance."""
    steps = 3000 if quick else 20_000
    noise = jnp.asarray(np.random.default_rng(0).standard_t(1.5, (steps + 1, 256)))
    adam, adagrad, sgd = (
        raced.score
        for raced in _three(
            lambda x, t: x - 1 + noise[t], jnp.zeros(256), steps, lambda x, t: jnp.mean((x - 1) ** 2) / 2
        )
    )
    return Found(
        [
            Claim(
                "abstract",
                "Appropriate for very noisy gradients",
                evidence(),
                verdict(adam < sgd / 1.5, "could not be shown here"),
                f"loss Adam {adam:.1e}, AdaGrad {adagrad:.1e}, SGD {sgd:.1e}",
                "A quadratic under noise of infinite variance (Student's, 1.5 degrees of freedom), at the best α/√t.",
            )
        ],
        {},
    )


def _makes(decaying: bool, each: int = 2) -> list[tuple[Make, np.ndarray]]:
    """Adam, AdaGrad and SGD, with α/√t or a constant α, and grids that reach from slow to diverging."""
    falling = adamx.schedules.inverse_sqrt(1.0)

    def rate(r: Any) -> Any:
        return (lambda count: r * falling(count)) if decaying else r

    return [
        (lambda r: adamx.adam(rate(r)), decades(-3, 1, each)),
        (lambda r: adamx.adagrad(r, 0.0, 1e-12), decades(-2, 2, each)),
        (lambda r: adamx.optimizer(adamx.SGD(), rate(r)), decades(-3, 3, each)),
    ]


def _three(grad: Any, start: Any, steps: int, score: Any) -> list[Raced]:
    """Adam with α/√t, AdaGrad, and SGD with α/√t, at their best step sizes."""
    return [race(make, rates, grad, start, steps, score) for make, rates in _makes(decaying=True)]
