"""Coded moments stay codes in NNX with an optimizer inside another."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax
from tests.helpers import some

pytestmark = pytest.mark.usefixtures("loose")

WRAPPERS = {
    "MultiSteps": lambda opt: optax.MultiSteps(opt, 2),
    "apply_if_finite": lambda opt: optax.apply_if_finite(opt, 3),
    "conditionally_mask": lambda opt: optax.conditionally_mask(opt, lambda step, **_: step % 2 == 1),
}


def halves(params):
    return jax.tree.map(lambda p: p * 0.5, params)


@pytest.mark.parametrize(
    ("wrap", "moments", "cls"),
    some(
        itertools.product(WRAPPERS, ["int8", "bfloat16"], [adamx.flax.Optimizer, nnx.Optimizer]),
        lambda wrap, moments, cls: moments == "int8" and (cls is nnx.Optimizer or wrap == "MultiSteps"),
    ),
)
def test_coded_moments_step_inside_what_chooses_between_states(wrap, moments, cls):
    """Outside `nnx.jit` and under it, as the transformation does by itself."""
    tx = WRAPPERS[wrap](adamx.adam(1e-2, moments=moments))
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    optimizer = cls(model, tx, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = tx.init(params)

    def step(model, optimizer):
        optimizer.update(model, halves(nnx.state(model, nnx.Param)))

    update = jax.jit(tx.update)
    for take in (step, *[nnx.jit(step)] * 3):
        updates, state = update(halves(params), state, params)
        params = optax.apply_updates(params, updates)
        take(model, optimizer)
    got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    # A rounding of float32 in each of four steps: the programs are not the same.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), params, got)


def test_a_known_count_is_checked_in_an_untraced_branch():
    tx = optax.apply_if_finite(adamx.adam(0.1), 3)
    params = {"w": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)


def test_variables_around_parameters_are_around_coded_moments():
    opt = adamx.adam(1e-2, moments="int8")
    params = nnx.state(nnx.Linear(64, 128, rngs=nnx.Rngs(0)), nnx.Param)
    state = opt.init(params)
    assert isinstance(state.slots.nu["kernel"].code, nnx.Param)
    _, after = opt.step(params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
