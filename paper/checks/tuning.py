"""Whether step sizes need a search: how wide the range of good ones is, and whether the default lies in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import adamx
from adamx.examples.data import load

from ..claims import Claim, Verdict
from .running import Found, Make, decades, evidence, race, verdict

EACH = 4
RATES = decades(-4, 4, EACH)
FACTORS = (0.01, 1.0, 100.0)
GOOD = 2.0
MAKES: dict[str, Make] = {"Adam": adamx.adam, "SGD": lambda r: adamx.optimizer(adamx.SGD(), r)}


class Model(NamedTuple):
    """A classifier of 64 pixels.

    Attributes:
        name: in words.
        steps: how long it is trained for.
        start: its weights, in one vector.
        logits: of weights and images.
    """

    name: str
    steps: int
    start: jax.Array
    logits: Callable[[Any, jax.Array], jax.Array]


def models(steps: int) -> tuple[Model, Model]:
    """Softmax regression from 0, and a network with a hidden layer, which is trained for so many steps."""
    first, second = jax.random.split(jax.random.key(0))
    weights = {
        "hidden": jax.random.normal(first, (64, 32)) * np.sqrt(2 / 64),
        "bias": jnp.zeros(32),
        "output": jax.random.normal(second, (32, 10)) * np.sqrt(1 / 32),
    }
    start, tree = ravel_pytree(weights)

    def network(w: Any, images: jax.Array) -> jax.Array:
        layers = tree(w)
        return jax.nn.relu(images @ layers["hidden"] + layers["bias"]) @ layers["output"]

    return (
        Model("softmax regression", 230, jnp.zeros(640), lambda w, images: images @ w.reshape(64, 10)),
        Model("a hidden layer of 32", steps, start, network),
    )


def losses(model: Model) -> dict[str, np.ndarray]:
    """Of Adam and SGD, for each factor of the loss (rows) and each step size; infinite where it diverged."""
    digits = load("digits")
    images, labels = jnp.asarray(digits.train_images, float).reshape(-1, 64), jnp.asarray(digits.train_labels)
    rows = jnp.asarray(np.random.default_rng(0).integers(0, len(images), (model.steps + 1, 128)))
    pairs = np.stack(np.meshgrid(RATES, FACTORS), axis=-1).reshape(-1, 2)

    def loss(w: Any, t: Any) -> Any:
        logits = model.logits(w, images[rows[t]])
        right = jnp.take_along_axis(logits, labels[rows[t]][:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)

    def scores(make: Make) -> np.ndarray:
        def scaled(pair: Any) -> optax.GradientTransformation:
            return optax.chain(optax.scale(pair[1]), make(pair[0]))

        raced = race(scaled, pairs, jax.grad(loss), model.start, model.steps, loss)
        return np.nan_to_num(raced.scores, nan=np.inf).reshape(len(FACTORS), -1)

    return {name: scores(make) for name, make in MAKES.items()}


def good_decades(scores: np.ndarray) -> float:
    """Decades of step sizes whose loss is less than `GOOD` times the best, of a row of them."""
    return float(np.sum(scores < GOOD * scores.min())) / EACH


def default_verdict(ratios: list[float]) -> Verdict:
    """By how many times the best loss the default's is; that a short run wants another refutes nothing."""
    worst = max(ratios)
    return "holds" if worst <= 1.1 else "holds with a correction" if worst <= 2 else "could not be shown here"


def tuning(quick: bool) -> Found:
    """Softmax regression and a network on the digits: which step sizes do, and whether they stay the same."""
    trained = models(200 if quick else 500)
    found = [losses(model) for model in trained]
    width = [{name: good_decades(table[1]) for name, table in of.items()} for of in found]
    best = [{name: RATES[table.argmin(1)] for name, table in of.items()} for of in found]
    moved = {name: max(float(np.ptp(np.log10(rates[name]))) for rates in best) for name in MAKES}
    default = int(np.argmin(np.abs(RATES - 1e-3)))
    ratios = [float(of["Adam"][1, default] / of["Adam"][1].min()) for of in found]
    wide = all(of["Adam"] >= 1 and of["Adam"] > of["SGD"] for of in width)
    return Found(
        [
            Claim(
                "abstract",
                "The hyperparameters need little tuning",
                evidence(),
                verdict(wide and moved["Adam"] <= 1, "could not be shown here"),
                "; ".join(
                    f"{of['Adam']:g} decades of α of Adam, {of['SGD']:g} of SGD ({m.name})"
                    for m, of in zip(trained, width, strict=True)
                ),
                f"So many have less than {GOOD:g} times the best loss, on the digits; to hold, Adam's would be at "
                f"least 1 and more than SGD's. Under a loss {FACTORS[0]:g} to {FACTORS[-1]:g} times as large the best "
                f"α moves by {moved['Adam']:g} decades, SGD's by {moved['SGD']:g}.",
            ),
            Claim(
                "§2",
                "Good defaults are α = .001, β₁ = .9, β₂ = .999, ε = 1e-8",
                evidence(),
                default_verdict(ratios),
                "; ".join(
                    f"{ratio:.3g} times the best ({model.name}, {model.steps} steps, best α {rates['Adam'][1]:.2g})"
                    for model, ratio, rates in zip(trained, ratios, best, strict=True)
                ),
                "The loss at α = .001, on the digits; α alone was varied. Weights move by about α a step: short runs "
                "want more.",
            ),
        ],
        {},
    )
