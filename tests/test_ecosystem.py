"""Inside the wrappers and trainers that people use: each trains something."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import adamx
from tests.helpers import product, ulp

pytestmark = pytest.mark.usefixtures("loose")

TARGET = {"kernel": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.asarray([0.25, -0.75])}
START = jax.tree.map(jnp.zeros_like, TARGET)


def loss(params):
    return sum(jnp.sum((p - t) ** 2) for p, t in zip(jax.tree.leaves(params), jax.tree.leaves(TARGET), strict=True))


def train(opt, params=START, steps=300, loss=loss):
    """The parameters after so many jitted steps of update and apply."""

    def body(carry, _):
        params, state = carry
        updates, state = opt.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda params: jax.lax.scan(body, (params, opt.init(params)), length=steps)[0])(params)[0]


# Their states are alike, and wrappers look no further.
FACTORIES = pytest.mark.parametrize(
    "factory", [adamx.adamw, *(pytest.param(make, marks=product) for make in (adamx.adam, adamx.adamax, adamx.adamaxw))]
)


@FACTORIES
@pytest.mark.parametrize(
    "wrap",
    [
        lambda opt: opt,
        lambda opt: optax.chain(optax.clip_by_global_norm(1.0), opt, adamx.averaging()),
        lambda opt: optax.named_chain(("clip", optax.clip(1.0)), ("opt", opt)),
        lambda opt: optax.apply_if_finite(opt, max_consecutive_errors=2),
        lambda opt: optax.MultiSteps(opt, every_k_schedule=2),
        lambda opt: optax.flatten(opt),
    ],
    ids=["bare", "chain", "named_chain", "apply_if_finite", "MultiSteps", "flatten"],
)
def test_trains_inside_the_wrapper(factory, wrap):
    assert loss(train(wrap(factory(0.05)), steps=600)) < 1e-2 < loss(START)


@FACTORIES
def test_masked_leaves_the_rest_alone(factory):
    opt = optax.chain(
        optax.masked(factory(0.05), {"kernel": True, "bias": False}),
        optax.masked(optax.set_to_zero(), {"kernel": False, "bias": True}),
    )
    trained = train(opt, steps=600)
    np.testing.assert_array_equal(trained["bias"], START["bias"])
    np.testing.assert_allclose(trained["kernel"], TARGET["kernel"], atol=0.05)


@FACTORIES
def test_partition_gives_each_group_its_own_optimizer(factory):
    labels = {"kernel": "ours", "bias": "theirs"}
    trained = train(optax.partition({"ours": factory(0.05), "theirs": optax.sgd(0.1)}, labels), steps=600)
    assert loss(trained) < 1e-2


@FACTORIES
def test_injected_hyperparameters_equal_the_plain_optimizer_to_rounding(factory):
    """b2 rounded to float32 moves 1 - b2 by 1.3e-5 of itself, but both averages of a debiased mean alike: what is left
    is that share of the *variation* of the squared gradient, about 3 % of it for b2=.999.
    """
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((500, 16)), jnp.float32)

    def run(opt):
        body = lambda state, g: opt.update(g, state, g)[::-1]  # noqa: E731
        return np.asarray(jax.lax.scan(body, opt.init(grads[0]), grads)[1])

    plain, injected = run(factory(1e-2)), run(optax.inject_hyperparams(factory)(learning_rate=1e-2))
    assert np.linalg.norm(plain - injected) <= 20 * ulp(jnp.float32) * np.linalg.norm(plain)


@FACTORIES
def test_injected_hyperparameters_train_bfloat16_with_the_cure(factory):
    opt = optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)(learning_rate=0.05)
    narrow = lambda tree: jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)  # noqa: E731
    trained = train(opt, narrow(START), loss=lambda p: loss(jax.tree.map(lambda x: x.astype(jnp.float32), p)))
    assert trained["kernel"].dtype == jnp.bfloat16
    assert loss(jax.tree.map(lambda x: x.astype(jnp.float32), trained)) < 0.01 * loss(START)


def test_an_injected_learning_rate_can_be_changed_between_steps():
    opt = optax.inject_hyperparams(adamx.adam)(learning_rate=1e-2)
    state = opt.init(START)
    state.hyperparams["learning_rate"] = jnp.asarray(0.5)
    updates, _ = opt.update(jax.tree.map(jnp.ones_like, START), state, START)
    np.testing.assert_allclose(updates["bias"], -0.5, rtol=1e-6)


def regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3)


class Net(nnx.Module):
    """Two layers with a batch statistic, so that parameters are only a part of the state."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.out = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.norm(self.hidden(x))))


def nnx_mask(model):
    return jax.tree.map(lambda x: x.ndim > 1, nnx.state(model, nnx.Param))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda model: adamx.adam(0.01), marks=product),
        pytest.param(lambda model: adamx.adamax(0.01), marks=product),
        pytest.param(lambda model: adamx.adamw(0.01, mask=nnx_mask(model)), marks=product),
        lambda model: adamx.adamaxw(0.01, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
        lambda model: optax.chain(optax.clip_by_global_norm(1.0), adamx.adamw(0.01, mask=nnx_mask(model))),
    ],
    ids=["adam", "adamax", "adamw_state_mask", "adamaxw_callable_mask", "chain"],
)
def test_flax_nnx_optimizer_trains(make):
    x, y = regression()
    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, make(model), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return value

    losses = [float(train_step(model, optimizer)) for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]


def test_a_mask_from_nnx_state_decays_what_it_covers():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    model.bias[...] = jnp.ones(2)
    kernel = model.kernel[...]
    optimizer = nnx.Optimizer(model, adamx.adamw(0.5, weight_decay=0.5, mask=nnx_mask(model)), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    np.testing.assert_allclose(model.kernel[...], 0.75 * kernel, rtol=1e-6)
    np.testing.assert_array_equal(model.bias[...], jnp.ones(2))


def test_flax_train_state_trains():
    x, y = regression()
    model = linen.Dense(1)
    state = TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(0), x), tx=adamx.adamw(0.05))

    @jax.jit
    def train_step(state):
        value, grads = jax.value_and_grad(lambda p: jnp.mean((state.apply_fn(p, x) - y) ** 2))(state.params)
        return state.apply_gradients(grads=grads), value

    losses = []
    for _ in range(200):
        state, value = train_step(state)
        losses.append(float(value))
    assert losses[-1] < 0.1 * losses[0]


class Model(NamedTuple):
    """A module in Equinox's manner: arrays and everything else in one tree."""

    weight: jax.Array | None
    activation: object
    count: object


def test_a_filtered_tree_with_none_in_place_of_what_is_not_trained():
    x, y = regression()
    weight = jnp.zeros((3, 1))
    params, rest = Model(weight, None, None), Model(None, jnp.tanh, 7)
    opt = adamx.adamw(0.05)

    def value(params):
        model = Model(*(a if a is not None else b for a, b in zip(params, rest, strict=True)))
        return jnp.mean((jnp.tanh(x @ model.weight) - jnp.tanh(y)) ** 2)

    @jax.jit
    def train_step(params, state):
        return opt.step(jax.grad(value)(params), state, params)

    before, state = value(params), opt.init(params)
    for _ in range(200):
        params, state = train_step(params, state)
    assert params.activation is None
    assert value(params) < 0.2 * before
