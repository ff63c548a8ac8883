"""`at.together`: equal functions of whole arrays of several leaves are one, on one device and on several."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from tests.helpers import collectives


class Momentum(NamedTuple):
    mu: Any


def newton_schulz(x, eps, steps=5):
    """The matrix with singular values near 1."""
    x = x / (jnp.sqrt(jnp.sum(x * x)) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


class Orthogonal(adamx.Rule[Momentum]):
    """Momentum made orthogonal, of matrices in the last two axes."""

    b1: adamx.Beta = 0.9
    eps: float = 1e-7
    steps: int = adamx.static(default=5)
    slots = Momentum(mu=adamx.Slot())
    elementwise = False

    def step(self, g, s, at):
        mu = self.b1 * s.mu + g

        def orthogonal(x):
            return at.together(functools.partial(newton_schulz, steps=self.steps), x, shared=(self.eps,))

        for _ in range(g.ndim - 2):
            orthogonal = jax.vmap(orthogonal)
        return orthogonal(mu), Momentum(mu)
