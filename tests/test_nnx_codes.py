"""Coded moments stay codes in NNX with an optimizer inside another."""

import jax
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax

pytestmark = pytest.mark.usefixtures("loose")


def test_coded_moments_step_under_multisteps():
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    tx = optax.MultiSteps(adamx.adam(1e-2, moments="int8"), 2)
    optimizer = adamx.flax.Optimizer(model, tx, wrt=nnx.Param)
    before = model.kernel[...]
    for _ in range(2):
        optimizer.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))
    assert (model.kernel[...] != before).any()
