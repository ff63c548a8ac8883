"""Training the language model with its weights and moments stored in one way or another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import adamx

from .language_model import Settings, Text, Transformer, loss


@dataclass(frozen=True)
class Variant:
    """How the optimizer stores things: its moments' format, and how bfloat16 weights are rounded (None: float32)."""

    name: str
    moments: str = "float32"
    weights: str | None = None


VARIANTS = (
    Variant("float32"),
    Variant("moments int8", "int8"),
    Variant("moments bfloat16", "bfloat16"),
    Variant("weights nearest", weights="nearest"),
    Variant("weights stochastic", weights="stochastic"),
    Variant("weights kahan", weights="kahan"),
    Variant("weights split8", weights="split8"),
    Variant("weights split16", weights="split16"),
    Variant("split8, moments int8", "int8", "split8"),
)
"""The first is what the others are measured against."""


class Run(NamedTuple):
    """One training run: steps and the validation loss after them; seconds of a step; bytes of weights and state."""

    seed: int
    steps: list[int]
    losses: list[float]
    step_seconds: float
    bytes_per_parameter: float


def make_optimizer(variant: Variant, settings: Settings, seed: Any) -> adamx.Optimizer:
    def rate(count: jax.Array) -> jax.Array:
        done = count.astype(float)
        warm = jnp.minimum(1.0, (done + 1) / settings.warmup)
        return settings.learning_rate * warm * (1 + jnp.cos(jnp.pi * done / settings.steps)) / 2

    formats: dict[str, Any] = {"moments": variant.moments, "seed": seed}
    if variant.weights is not None:
        formats["weights"] = variant.weights
    return adamx.optimizer(adamx.Adam(b2=settings.b2), rate, weight_decay=settings.weight_decay, **formats)


@partial(jax.jit, static_argnums=(0, 1))
def start(variant: Variant, settings: Settings, seed: Any, params: nnx.State) -> tuple[nnx.State, Any]:
    """The weights as the variant stores them, and its optimizer's state, from the float32 weights `params`."""
    optimizer = make_optimizer(variant, settings, seed)
    if variant.weights is None:
        return params, optimizer.init(params)
    # Residuals hold what rounding takes from the start. Weights that all start on bfloat16's grid would be moved by the
    # first steps together, those of wide spacing not at all: an error in line with the gradient.
    return adamx.from_master(params, optimizer)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def train(
    graph: nnx.GraphDef, variant: Variant, settings: Settings, seed: Any, carry: Any, text: jax.Array, order: jax.Array
) -> Any:
    """One step for each row of `order`, the windows' first bytes."""
    optimizer = make_optimizer(variant, settings, seed)

    def step(carry: Any, starts: jax.Array) -> tuple[Any, None]:
        params, state = carry
        grads = jax.grad(lambda p: loss(graph, p, text, starts, settings.context))(_cast(params, jnp.float32))
        return optimizer.step(grads, state, params), None

    return jax.lax.scan(step, carry, order)[0]


@partial(jax.jit, static_argnums=(0, 1))
def evaluate(graph: nnx.GraphDef, settings: Settings, params: nnx.State, text: jax.Array) -> jax.Array:
    """The loss on windows spread evenly over `text`, a minibatch at a time."""
    starts = jnp.asarray(np.linspace(0, len(text) - settings.context - 1, settings.windows).astype(np.int32))
    batches = starts.reshape(-1, settings.batch)
    wide = _cast(params, jnp.float32)
    return jax.lax.map(lambda batch: loss(graph, wide, text, batch, settings.context), batches).mean()


def run(
    variant: Variant, settings: Settings, seed: int, text: Text, on_loss: Callable[[int, float], None] = lambda *_: None
) -> Run:
    """One training run; `on_loss` hears the number of steps and the validation loss after them."""
    graph, params = nnx.split(Transformer(settings, rngs=nnx.Rngs(seed)))
    last = len(text.train) - settings.context - 1
    order = np.random.default_rng(seed).integers(0, last, (settings.steps, settings.batch), np.int32)
    reading, judging = jnp.asarray(text.train), jnp.asarray(text.validation)
    carry = start(variant, settings, seed, params)
    size = sum(x.size for x in jax.tree.leaves(params))
    stored = sum(x.nbytes for x in jax.tree.leaves(carry))
    steps = np.linspace(0, settings.steps, settings.evaluations + 1).astype(int).tolist()
    losses, seconds = [float(evaluate(graph, settings, carry[0], judging))], []
    for first, end in pairwise(steps):
        begin = time.perf_counter()
        carry = jax.block_until_ready(train(graph, variant, settings, seed, carry, reading, order[first:end]))
        seconds.append((time.perf_counter() - begin) / (end - first))
        losses.append(float(evaluate(graph, settings, carry[0], judging)))
        on_loss(end, losses[-1])
    return Run(seed, steps, losses, median(seconds), stored / size)


def _cast(params: nnx.State, dtype: Any) -> nnx.State:
    return jax.tree.map(lambda p: p.astype(dtype), params)
