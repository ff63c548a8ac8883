"""Flax's classes with adamx's step in them are drop-in."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state

import adamx
import adamx.flax
from adamx.flax import _pure as pure
from tests.helpers import product, some

pytestmark = pytest.mark.usefixtures("loose")  # Optax's AdamW needs it

PARAMS = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((8, 4)), jnp.float32), "b": jnp.ones(4)}
GRADS = jax.tree.map(lambda p: p * 0.5 + 0.1, PARAMS)


@pytest.mark.parametrize("tx", [adamx.adamw(1e-2), optax.adamw(1e-2)], ids=["adamx", "optax"])
def test_train_state_steps_as_flax_does(tx):
    ours, flax = (
        cls.create(apply_fn=None, params=PARAMS, tx=tx) for cls in (adamx.flax.TrainState, train_state.TrainState)
    )
    for _ in range(3):
        ours, flax = ours.apply_gradients(grads=GRADS), flax.apply_gradients(grads=GRADS)
    assert isinstance(ours, adamx.flax.TrainState) and int(ours.step) == 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours.params, flax.params)


def test_train_state_rounds_narrow_weights_as_the_optimizer_says_and_clips():
    tx = adamx.adam(1e-3, weights="stochastic")
    params = {"w": jnp.ones((64, 64), jnp.bfloat16)}
    state = adamx.flax.TrainState.create(apply_fn=None, params=params, tx=tx)
    step = jax.jit(lambda state: state.apply_gradients(grads=params, clip_norm=1.0, grad_scale=0.5))
    for _ in range(20):
        state = step(state)
    assert float(jnp.mean(state.params["w"].astype(float))) == pytest.approx(0.98, abs=2e-3)
    other = adamx.flax.TrainState.create(apply_fn=None, params=PARAMS, tx=optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"chain optax\.clip_by_global_norm"):
        other.apply_gradients(grads=GRADS, clip_norm=1.0)


def test_train_state_overwrites_what_flax_overwrites():
    params = {"params": PARAMS, "_overwrite_with_gradient": {"scale": jnp.ones(2)}}
    grads = {"params": GRADS, "_overwrite_with_gradient": {"scale": jnp.full(2, 3.0)}}
    state = adamx.flax.TrainState.create(apply_fn=None, params=params, tx=adamx.adam(1e-2)).apply_gradients(grads=grads)
    np.testing.assert_array_equal(state.params["_overwrite_with_gradient"]["scale"], 3.0)
    assert (state.params["params"]["w"] != PARAMS["w"]).any()


@pytest.mark.parametrize("tx", [adamx.adamw(1e-2), optax.adamw(1e-2)], ids=["adamx", "optax"])
def test_nnx_optimizer_steps_as_flax_does(tx):
    def loss(model):
        return ((model(jnp.ones((2, 3))) - 1) ** 2).mean()

    outcomes = []
    for cls in (adamx.flax.Optimizer, nnx.Optimizer):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        optimizer = cls(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            return optimizer.update(model, nnx.grad(loss)(model))

        before = pure(nnx.state(model, nnx.Param))
        updates = step(model, optimizer)
        after = pure(nnx.state(model, nnx.Param))
        if updates is not None:  # Flax 0.12.0's own tells nothing
            jax.tree.map(lambda a, b, u: np.testing.assert_allclose(a - b, u, atol=1e-7), after, before, updates)
        for _ in range(3):
            step(model, optimizer)
        assert int(optimizer.step[...]) == 4
        outcomes.append(pure(nnx.state(model, nnx.Param)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *outcomes)


@pytest.mark.parametrize(
    ("moments", "weights"),
    some(itertools.product(["bfloat16", "int8"], ["nearest", "split8"]), lambda *these: these == ("int8", "split8")),
)
def test_nnx_optimizer_keeps_coded_moments_and_residuals(moments, weights):
    tx = adamx.adamw(1e-2, moments=moments, weights=weights, kernel="xla")
    model = nnx.Linear(64, 128, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer, state = adamx.flax.Optimizer(model, tx, wrt=nnx.Param), tx.init(params)

    @nnx.jit(donate_argnums=(0, 1))
    def step(model, optimizer):
        optimizer.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))

    alone = jax.jit(tx.step)
    for _ in range(3):
        params, state = alone(jax.tree.map(lambda p: p * 0.5, params), state, params)
        step(model, optimizer)
    got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.astype(float), b.astype(float)), params, got)
    kept = pure(optimizer.opt_state)
    assert jax.tree.map(jnp.shape, jax.tree.leaves(kept)) == jax.tree.map(jnp.shape, jax.tree.leaves(state))


@pytest.mark.parametrize("moments", ["bfloat16", pytest.param("int8", marks=product)])  # int8: test_nnx_codes.py
def test_flaxes_own_nnx_optimizer_takes_coded_moments(moments):
    """It puts states back by path, under jit and outside."""
    tx = adamx.adamw(1e-2, moments=moments)
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer, state = nnx.Optimizer(model, tx, wrt=nnx.Param), tx.init(params)

    def step(model, optimizer):
        optimizer.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))

    jitted, update = nnx.jit(step), jax.jit(tx.update)
    for take in (step, jitted, jitted):
        updates, state = update(jax.tree.map(lambda p: p * 0.5, params), state, params)
        params = optax.apply_updates(params, updates)
        take(model, optimizer)
    got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, got)


def test_train_states_and_nnx_pass_on_what_wrappers_read():
    frozen = [adamx.Group("bias", frozen=True)]
    inner = adamx.averaged(adamx.adamw(1.0, weight_decay=0.0, groups=frozen))
    tx = adamx.guard(adamx.accumulate(inner, every=2))
    given = {"learning_rate": 0.25, "clip_norm": 1.0, "grad_norm": 7.0}
    batches = ((1.0, 1.0), (1.0, np.nan), (3.0, 1.0))  # weight, loss: the second is skipped

    params = {"w": jnp.ones(2), "bias": jnp.ones(2)}
    state = adamx.flax.TrainState.create(apply_fn=None, params=params, tx=tx)
    for weight, loss in batches:
        state = state.apply_gradients(grads=params, weight=weight, loss=loss, **given)
    assert int(state.step) == 3
    np.testing.assert_allclose(state.params["w"], 0.75, rtol=1e-6)
    np.testing.assert_allclose(adamx.averaged_params(state.opt_state, state.params)["w"], 0.75, rtol=1e-6)
    np.testing.assert_array_equal(state.params["bias"], 1.0)
    with pytest.raises(TypeError, match="'wieght': did you mean 'weight'"):
        state.apply_gradients(grads=params, wieght=1.0)

    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    optimizer, before = adamx.flax.Optimizer(model, tx, wrt=nnx.Param), float(model.kernel[...][0, 0])
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for weight, loss in batches:
        optimizer.update(model, grads, weight=weight, loss=loss, **given)
    np.testing.assert_allclose(model.kernel[...], before - 0.25, rtol=1e-5)
    np.testing.assert_array_equal(model.bias[...], 0.0)

    for opt_state in (state.opt_state, optimizer.opt_state):
        assert adamx.guard_report(opt_state).skipped == 1
        assert float(adamx.last_norm(opt_state)) == 7.0
        assert float(optax.tree.get(opt_state, "weight")) == 4.0
