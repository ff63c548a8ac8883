"""What is asked for and read by nobody is an error."""

import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax

PARAMS = {"w": jnp.ones(2)}
WRAPPERS = {
    "alone": lambda opt: opt,
    "monitor": adamx.diagnostics.monitor,
    "chain": lambda opt: optax.chain(optax.clip(1.0), opt),
    "apply_if_finite": lambda opt: optax.apply_if_finite(opt, 3),
    "inject": lambda _: optax.inject_hyperparams(lambda learning_rate: adamx.adam(learning_rate))(learning_rate=0.1),
    "monitor of optax": lambda _: adamx.diagnostics.monitor(optax.scale(-0.1)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("word", ["clip_norm", "grad_scale", "clip_nrm"])
def test_update_refuses_what_only_step_reads(wrap, word):
    tx = wrap(adamx.adam(0.1))
    with pytest.raises(TypeError, match=rf"does not read {word}.*adamx\.Optimizer\.step"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, **{word: 1.0})


@pytest.mark.usefixtures("loose")  # Optax's plateau mixes dtypes
def test_update_lets_pass_what_another_part_of_a_chain_reads():
    tx = optax.chain(adamx.scale_by_adam(), optax.contrib.reduce_on_plateau())
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=jnp.array(1.0))


@pytest.mark.parametrize("wrap", [WRAPPERS["alone"], WRAPPERS["monitor"]], ids=["alone", "monitor"])
@pytest.mark.parametrize(("word", "cure"), [("clip_nrm", "did you mean 'clip_norm'"), ("value", "choose from")])
def test_step_refuses_what_it_does_not_read(wrap, word, cure):
    opt = wrap(adamx.adam(0.1))
    with pytest.raises(TypeError, match=cure):
        opt.step(PARAMS, opt.init(PARAMS), PARAMS, **{word: 1.0})


@pytest.mark.parametrize("tx", [optax.sgd(0.1), optax.chain(adamx.adam(0.1))], ids=["optax", "chain"])
@pytest.mark.parametrize("word", ["clip_norm", "grad_scale", "clip_nrm"])
def test_nnx_optimizer_without_a_step_refuses_what_only_step_reads(tx, word):
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = adamx.flax.Optimizer(model, tx, wrt=nnx.Param)
    with pytest.raises(TypeError, match=r"chain optax\.clip_by_global_norm"):
        optimizer.update(model, nnx.state(model, nnx.Param), **{word: 1.0})


@pytest.mark.usefixtures("loose")  # Optax's plateau mixes dtypes
def test_nnx_optimizer_gives_multisteps_what_its_inner_transformation_reads():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    inner = optax.chain(adamx.scale_by_adam(), optax.contrib.reduce_on_plateau(patience=1, factor=0.5, cooldown=0))
    optimizer = adamx.flax.Optimizer(model, optax.MultiSteps(inner, 1), wrt=nnx.Param)
    for _ in range(3):
        optimizer.update(model, nnx.state(model, nnx.Param), value=jnp.array(1.0))
    assert float(optax.tree.get(optimizer.opt_state, "scale")[...]) < 1


def test_nnx_optimizer_refuses_what_no_update_reads():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    climb = optax.GradientTransformation(lambda _: (), lambda grads, state, params=None: (grads, state))
    optimizer = adamx.flax.Optimizer(model, climb, wrt=nnx.Param)
    with pytest.raises(TypeError, match=r"value: the transformation's update does not read it"):
        optimizer.update(model, nnx.state(model, nnx.Param), value=1.0)


@pytest.mark.parametrize("tx", [adamx.adam(0.1), optax.sgd(0.1)], ids=["adamx", "optax"])
def test_train_state_refuses_an_attribute_that_it_does_not_have(tx):
    state = adamx.flax.TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    with pytest.raises(TypeError, match="stepp"):
        state.apply_gradients(grads=PARAMS, stepp=3)


def test_narrow_that_means_no_leaf_says_what_to_do_about_narrow():
    opt = adamx.adam(0.1, weights="split8")
    with pytest.raises(ValueError, match=r"^narrow covers none.*params\['w'\].*init\(params\)"):
        adamx.from_master(PARAMS, opt, narrow=False)
    with pytest.raises(TypeError, match=r"narrow\['w'\] = 1 should be True or False"):
        adamx.from_master(PARAMS, opt, narrow={"w": 1})
    with pytest.raises(ValueError, match=r"^narrow has no value for params\['w'\]"):
        adamx.from_master(PARAMS, opt, narrow={})
