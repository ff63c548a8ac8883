"""A leaf's step as its gradient arrives is the step that all leaves take together."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
from tests.helpers import as_users_do, product

LAYERS = 3


def loss_fn(params, x):
    for w in params["layers"]:
        x = jnp.tanh(x @ w + params["shared"])
    return jnp.mean(jnp.square(x)), x


def start():
    keys = jax.random.split(jax.random.key(0), LAYERS)
    layers = [jax.random.normal(key, (64, 64)) / 8 for key in keys]
    return {"layers": layers, "shared": jnp.full((1, 64), 0.1), "unread": jnp.ones(3), "none": None}


@pytest.mark.parametrize("moments", [pytest.param("float32", marks=product), "int8"])
def test_the_results_are_those_of_the_whole_step(moments):
    opt = adamx.adamw(optax.linear_schedule(1e-2, 1e-3, 5), b1=lambda n: 0.9 - n / 10, moments=moments)
    step = as_users_do(adamx.step_in_backward(opt, loss_fn, has_aux=True))

    @as_users_do
    def together(params, state, x, grad_scale):
        loss, grads = jax.value_and_grad(loss_fn, has_aux=True)(params, x)
        return loss, *opt.step(grads, state, params, grad_scale=grad_scale)

    params, x = start(), jnp.linspace(-1, 1, 256).reshape(4, 64)
    ours = theirs = (None, params, opt.init(params))
    for _ in range(3):
        ours, theirs = step(*ours[1:], x, grad_scale=0.5), together(*theirs[1:], x, 0.5)
    # XLA may fuse the two programs otherwise.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7), ours, theirs)
    assert ours[2].count == 3


def test_a_step_stands_before_what_is_left_of_the_backward_pass():
    opt, params = adamx.adam(1e-2), start()
    step = adamx.step_in_backward(opt, lambda params, x: loss_fn(params, x)[0])
    names = [eqn.primitive.name for eqn in jax.make_jaxpr(step)(params, opt.init(params), jnp.ones((4, 64))).eqns]
    steps = [i for i, name in enumerate(names) if name == "adamx"]
    products = [i for i, name in enumerate(names) if name == "dot_general"]
    waits = [i for i, name in enumerate(names) if name == "optimization_barrier"]
    # One product for each layer forward, two backward, but for the first layer, whose input has no gradient.
    assert len(products) == 3 * LAYERS - 1
    for layer in range(LAYERS - 1):
        later = sum(i > steps[layer] for i in products)
        assert later >= 2 * (LAYERS - 1 - layer) - 1
        assert any(steps[layer] < i < products[-1] for i in waits)


def test_what_needs_all_gradients_is_refused():
    opt, params = adamx.adam(1e-2), jnp.ones(3)
    loss = lambda params: params.sum()  # noqa: E731
    with pytest.raises(TypeError, match="clip_norm needs the norm of all gradients"):
        adamx.step_in_backward(opt, loss)(params, opt.init(params), clip_norm=1.0)
    with pytest.raises(TypeError, match=r"not x: what loss_fn takes is given by position"):
        adamx.step_in_backward(opt, loss)(params, opt.init(params), x=1.0)
    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"params is an NNX model: give nnx\.split"):
        adamx.step_in_backward(opt, loss)(model, opt.init(nnx.state(model)))
    with pytest.raises(ValueError, match="measures the gradients of all leaves"):
        adamx.step_in_backward(adamx.prodigy(), loss)
    with pytest.raises(TypeError, match="Accumulate is not an adamx optimizer, or wraps one"):
        adamx.step_in_backward(adamx.accumulate(opt, 2), loss)
    with pytest.raises(TypeError, match="is not an adamx optimizer, or wraps one"):
        adamx.step_in_backward(optax.sgd(0.1), loss)
    with pytest.raises(TypeError, match="loss_fn is jitted"):
        adamx.step_in_backward(opt, jax.jit(loss))
    mesh = jax.make_mesh((1,), ("data",))
    inside = jax.shard_map(
        adamx.step_in_backward(opt, loss),
        mesh=mesh,
        in_specs=jax.sharding.PartitionSpec(),
        out_specs=jax.sharding.PartitionSpec(),
    )
    with pytest.raises(ValueError, match=r"inside of jax\.shard_map"):
        inside(params, opt.init(params))
