"""Hyperparameters that live in the state: set without compiling, equal to numbers that are fixed, read by name."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax

PARAMS = {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3), "bias": jnp.ones(3)}
GRADS = [jax.tree.map(lambda p, i=i: jnp.cos(p * (i + 1)), PARAMS) for i in range(4)]


def run(opt, rates=(), params=PARAMS, **options):
    state, step = opt.init(params), jax.jit(opt.step)
    for i, grads in enumerate(GRADS):
        if i < len(rates):
            state = adamx.set_hyperparameters(state, **rates[i])
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
        params, state = step(grads, state, params, **options)
    return params, state, step


def assert_equal(x, y):
    jax.tree.map(np.testing.assert_array_equal, x, y)


@pytest.mark.parametrize("kernel", ["xla", "auto"])
def test_live_numbers_are_fixed_ones_bit_for_bit(kernel):
    fixed = {name: np.float32(x) for name, x in {"learning_rate": 0.03, "weight_decay": 0.2, "eps": 1e-5}.items()}
    live = {name: adamx.live(name, x) for name, x in fixed.items()}
    numbers = {name: jnp.asarray(x) for name, x in fixed.items()}
    got, want = (run(adamx.adamw(**x, kernel=kernel))[0] for x in (live, numbers))
    assert_equal(got, want)


def test_live_decay_rates_are_corrected_by_their_product():
    values = [0.9, 0.5, 0.99, 0.8]
    scheduled = adamx.adam(0.1, b1=lambda count: jnp.asarray(values, jnp.float32)[count])
    got = run(adamx.adam(0.1, b1=adamx.live("b1", 0.3)), [{"b1": x} for x in values])[0]
    assert_equal(got, run(scheduled)[0])


def test_setting_compiles_nothing_and_moves_nothing():
    tx = optax.chain(optax.clip(1.0), adamx.adamw(adamx.live("learning_rate", 0.1), moments="bfloat16"))
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for rate in (0.1, 0.2, 0.3):
        state = adamx.set_hyperparameters(state, learning_rate=rate)
        state = update(GRADS[0], state, PARAMS)[1]
    assert update._cache_size() == 1
    assert optax.tree.get(state, "learning_rate") == np.float32(0.3)


def test_bfloat16_weights_have_float32_numbers():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    opt = adamx.adamw(adamx.live("learning_rate", 1e-3), b2=adamx.live("b2", 0.999), weights="stochastic")
    state = run(opt, params=params)[1]
    assert {x.dtype for x in state.live.values()} == {np.dtype(np.float32)}
    assert state.live["b2"] == np.float32(0.999)


def test_numbers_are_differentiated_and_batched():
    opt = adamx.adam(adamx.live("learning_rate", 0.1), kernel="xla")
    state = opt.init(PARAMS)

    def moved(rate):
        return opt.step(GRADS[0], adamx.set_hyperparameters(state, learning_rate=rate), PARAMS)[0]["bias"]

    (slope,) = jax.jacfwd(moved)(0.1)[:1]
    np.testing.assert_allclose(slope, (moved(0.2) - moved(0.1))[0] / 0.1, rtol=1e-5)
    rates = jnp.array([0.1, 0.4])
    np.testing.assert_array_equal(jax.vmap(moved)(rates)[1], moved(0.4))


def test_the_step_takes_a_step_size():
    opt, state = adamx.adamw(optax.linear_schedule(1.0, 0.0, 3), weight_decay=0.1), None
    want = run(adamx.adamw(np.float32(0.02), weight_decay=0.1))[0]
    assert_equal(run(opt, learning_rate=0.02)[0], want)
    state = opt.init(PARAMS)
    updates, _ = opt.update(GRADS[0], state, PARAMS, learning_rate=jnp.float32(0.02))
    assert_equal(optax.apply_updates(PARAMS, updates), opt.step(GRADS[0], state, PARAMS, learning_rate=0.02)[0])
    inner = adamx.schedule_free_sgd(0.5)
    first = inner.step(GRADS[0], inner.init(PARAMS), PARAMS, learning_rate=0.25)[0]
    assert_equal(first, adamx.schedule_free_sgd(0.25).step(GRADS[0], inner.init(PARAMS), PARAMS)[0])
    momentum = [adamx.rmsprop(x, momentum=0.9) for x in (lambda count: 0.5, np.float32(0.25))]
    first, want = (
        opt.step(GRADS[0], opt.init(PARAMS), PARAMS, **given)[0]
        for opt, given in zip(momentum, ({"learning_rate": np.float32(0.25)}, {}), strict=True)
    )
    assert_equal(first, want)
    with pytest.raises(TypeError, match="no step size"):
        adamx.scale_by_adam().step(GRADS[0], adamx.scale_by_adam().init(PARAMS), PARAMS, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"learning_rate = -1"):
        opt.step(GRADS[0], state, PARAMS, learning_rate=-1.0)


def test_the_norm_that_is_given_is_the_one_that_is_clipped():
    opt = adamx.optimizer(adamx.SGD(), 1.0)
    state, norm = opt.init(PARAMS), optax.tree.norm(GRADS[0])
    want = opt.step(GRADS[0], state, PARAMS, clip_norm=0.1, grad_scale=0.5)[0]
    got = opt.step(GRADS[0], state, PARAMS, clip_norm=0.1, grad_scale=0.5, grad_norm=norm)[0]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)
    twice = opt.step(GRADS[0], state, PARAMS, clip_norm=0.1, grad_norm=2 * norm)[0]
    np.testing.assert_allclose(optax.tree.norm(jax.tree.map(jnp.subtract, twice, PARAMS)), 0.05, rtol=1e-5)
    with pytest.raises(TypeError, match="grad_norm is the norm that clip_norm shortens"):
        opt.step(GRADS[0], state, PARAMS, grad_norm=norm)


def test_all_numbers_of_the_next_step_are_read():
    rate = adamx.live("learning_rate", 0.5)
    opt = adamx.monitor(
        adamx.adamw(
            lambda count: rate(count) * 0.1 ** count.astype(float),
            b1=optax.linear_schedule(0.9, 0.5, 2),
            groups=[adamx.Group("bias", weight_decay=0.0, learning_rate_scale=2.0)],
        )
    )
    _, state = opt.step(GRADS[0], opt.init(PARAMS), PARAMS)
    told = {name: float(x) for name, x in adamx.hyperparameters(opt, state).items()}
    assert told == pytest.approx(
        {"learning_rate": 0.05, "b1": 0.7, "b2": 0.999, "eps": 1e-8, "eps_root": 0, "weight_decay": 1e-4}
        | {"bias/weight_decay": 0, "bias/learning_rate": 0.1}
    )
    assert adamx.diagnostics.read(state)["kernel/step_mean"] == pytest.approx(1, rel=1e-3)


def test_numbers_have_the_names_of_the_arguments_that_they_were_given_as():
    """Also where the factory puts them into a rule within a rule; a number that changes nothing is not read."""
    for name in adamx.list():
        given = {"learning_rate": 0.01, "weight_decay": 0.1, "b1": 0.8}.items()
        own = {key: x for key, x in given if key in inspect.signature(getattr(adamx, name)).parameters}
        opt = getattr(adamx, name)(**own)
        told = adamx.hyperparameters(opt, opt.init(jnp.ones((2, 2))))
        part = "in,out/" if name == "muon" else ""
        assert {key: told.get(part + key) for key in own} == own and not [key for key in told if "." in key], name
    opt = adamx.optimizer(adamx.ScheduleFree(adamx.SGD(), 0.01), 0.5)
    told = adamx.hyperparameters(opt, opt.init(jnp.ones(2)))
    assert (told["rule.learning_rate"], told["learning_rate"], told["weight_decay"]) == (0.01, 0.5, 0.0)
    same = adamx.optimizer(adamx.ScheduleFree(adamx.SGD(), float("0.5")), float("0.5"))  # equal, but two objects
    told = adamx.hyperparameters(same, same.init(jnp.ones(2)))
    assert told["learning_rate"] == 0.5 and "rule.learning_rate" not in told


@pytest.mark.parametrize("name", ["rmsprop", "adafactor"])
def test_a_step_size_inside_a_momentum_is_the_learning_rate_to_all(name):
    """Also one of 1, to which nothing else is equal: set in a step, by a group, read, monitored, searched."""
    make = lambda rate, **kwargs: getattr(adamx, name)(rate, momentum=0.5, **kwargs)  # noqa: E731
    scaled = adamx.Group("bias", learning_rate_scale=0.5)
    opt = adamx.monitor(make(1.0, groups=[scaled]))
    numbers = adamx.hyperparameters(opt, opt.init(PARAMS))
    assert numbers["learning_rate"] == 1 and numbers["bias/learning_rate"] == 0.5
    assert not [name for name in numbers if "step_size" in name]
    assert {leaf.group for leaf in adamx.explain(opt, PARAMS)} == {"", "bias: learning_rate x 0.5"}
    rates = np.array([0.25, 0.5], np.float32)
    apart, (given, wanted) = make(lambda count: rates[int(count)]), (PARAMS, PARAMS)
    state, own = opt.init(given), apart.init(wanted)
    for rate, grads in zip(rates, GRADS[:2], strict=True):
        given, state = opt.step(grads, state, given, learning_rate=rate)
        wanted, own = apart.step(grads, own, wanted)
    np.testing.assert_array_equal(given["kernel"], wanted["kernel"])
    one, half = (adamx.monitor(make(rate)) for rate in (1.0, 0.5))
    read = [adamx.diagnostics.read(x.step(GRADS[0], x.init(PARAMS), PARAMS)[1]) for x in (one, half)]
    np.testing.assert_allclose(read[0]["all/step_mean"], read[1]["all/step_mean"], rtol=1e-6)


def test_the_numbers_of_several_optimizers_are_named_by_their_patterns():
    rate = adamx.live("learning_rate", 0.5)
    opt = adamx.guard(adamx.by_path({"bias": adamx.adam(rate), ".*": adamx.lion(0.25)}))
    state = adamx.set_hyperparameters(opt.init(PARAMS), learning_rate=0.125)
    told = adamx.hyperparameters(opt, state)
    assert (float(told["bias/learning_rate"]), told[".*/learning_rate"]) == (0.125, 0.25)
    with pytest.raises(ValueError, match=r"there are 2 states of adamx\.by_path in it: give the one"):
        adamx.hyperparameters(opt, (state, state))


def test_presets_and_factories_that_compute_with_numbers_take_live_ones():
    params = PARAMS
    rate = adamx.live("learning_rate", 0.1)
    opts = [
        adamx.preset("keras", "adam", learning_rate=rate),
        adamx.preset("pytorch", "adagrad", lr=rate, lr_decay=0.5),
    ]
    for opt in opts:
        state = adamx.set_hyperparameters(opt.init(params), learning_rate=0.0)
        assert_equal(opt.step(GRADS[0], state, params)[0], params)


def test_nnx_optimizers_have_live_numbers():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = adamx.flax.Optimizer(model, adamx.adam(adamx.live("learning_rate", 0.1)), wrt=nnx.Param)
    optimizer.opt_state = adamx.set_hyperparameters(optimizer.opt_state, learning_rate=0.0)
    before = model.kernel[...]
    loss = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.grad(lambda m: m(jnp.ones(2)).sum())(model)))
    loss(model, optimizer)
    np.testing.assert_array_equal(model.kernel[...], before)
    assert adamx.hyperparameters(optimizer.tx, optimizer.opt_state)["learning_rate"] == 0


def test_errors():
    opt = adamx.adam(adamx.live("learning_rate", 0.1))
    state = opt.init(PARAMS)
    with pytest.raises(ValueError, match=r"b2 = 1.5 is outside"):
        adamx.adam(0.1, b2=adamx.live("b2", 1.5))
    with pytest.raises(ValueError, match="the live hyperparameter = 'lr': choose from 'learning_rate'"):
        adamx.set_hyperparameters(state, lr=0.1)
    with pytest.raises(ValueError, match=r"no b2 lives in the state: make the optimizer with adamx\.live\('b2'"):
        adamx.set_hyperparameters(adamx.adam(0.1).init(PARAMS), b2=0.5)
    with pytest.raises(ValueError, match="learning_rate = nan"):
        adamx.set_hyperparameters(state, learning_rate=float("nan"))
    with pytest.raises(ValueError, match="the state keeps no live"):
        opt.step(GRADS[0], adamx.adam(0.1).init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match="are one number in the state"):
        adamx.adamw(adamx.live("x", 0.1), weight_decay=adamx.live("x", 0.2)).init(PARAMS)
    with pytest.raises(LookupError, match="has its value in an optimizer's state"):
        adamx.live("x", 0.1)(0)
    with pytest.raises(ValueError, match=r"learning_rate = -0.5"):
        opt.step(GRADS[0], adamx.set_hyperparameters(state, learning_rate=-0.5), PARAMS)
    injected = optax.inject_hyperparams(adamx.adam)(learning_rate=0.1)
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    with pytest.raises(TypeError, match=r"adamx\.live"):
        injected.init(narrow)
