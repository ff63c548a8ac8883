"""Coded moments stay codes in NNX with an optimizer inside another."""

import functools
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


def steps(cls, n, restore=None):
    """A layer and its optimizer after `n` steps, the optimizer's state first put through `restore(fresh, old)`."""

    def make():
        model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
        return model, cls(model, adamx.adam(1e-2, moments="int8"), wrt=nnx.Param)

    model, optimizer = make()
    for i in range(n):
        if restore is not None and i == n - 1:
            new_model, new = make()
            nnx.update(new_model, nnx.state(model))
            model, optimizer = new_model, restore(new, optimizer)
        optimizer.update(model, halves(nnx.state(model, nnx.Param)))
    return jax.tree.leaves(nnx.to_pure_dict(nnx.state((model, optimizer))))


@functools.cache
def undisturbed(cls):
    return steps(cls, 2)


def by_pure_dict(new, old):
    state = nnx.state(new)
    nnx.replace_by_pure_dict(state, nnx.to_pure_dict(nnx.state(old)))
    nnx.update(new, state)
    return new


def by_update(new, old):
    nnx.update(new, nnx.state(old))
    return new


def by_split_and_merge(new, old):
    del new
    graph, state = nnx.split(old)
    return nnx.merge(graph, jax.tree.map(jnp.asarray, state))


@pytest.mark.parametrize("restore", [by_pure_dict, by_update, by_split_and_merge])
@pytest.mark.parametrize("cls", [adamx.flax.Optimizer, nnx.Optimizer], ids=["ours", "flax"])
def test_coded_moments_survive_the_ways_of_nnx_to_save_and_restore(cls, restore):
    """A run that is saved and restored before its last step ends with the same bits."""
    for got, wanted in zip(steps(cls, 2, restore), undisturbed(cls), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_coded_moments_survive_conditions_loops_and_maps_over_a_state():
    opt = adamx.adam(1e-2, moments="int8")
    params = {"w": jnp.linspace(-1.0, 1.0, 64 * 128).reshape(64, 128)}
    step = lambda carry: opt.step(carry[0], carry[1], carry[0])  # noqa: E731
    wanted = jax.jit(step)((params, opt.init(params)))
    start = params, optax.tree_utils.tree_map_params(opt, lambda x: x + jnp.zeros_like(x), opt.init(params))
    by_cond = jax.jit(lambda carry: jax.lax.cond(carry[1].count == 0, step, lambda carry: carry, carry))(start)
    by_scan = jax.lax.scan(lambda carry, _: (step(carry), None), start, length=1)[0]
    for got in (by_cond, by_scan):
        assert jax.tree.structure(got) == jax.tree.structure(wanted)
        jax.tree.map(np.testing.assert_array_equal, got[1].slots.nu, wanted[1].slots.nu)
    mapped = optax.tree_utils.tree_map_params(
        opt, lambda x, p: x, start[1], params, is_leaf=adamx.moments.is_code
    )  # with a second tree, a code is one leaf
    assert jax.tree.structure(mapped) == jax.tree.structure(start[1])
