"""A state goes from one storage to another and back, wherever it stands."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
from adamx.states.parts import find_state
from tests.helpers import jitted_in_float64

WIDE = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((32, 160)), jnp.float32), "b": jnp.ones(3)}
NARROW = jax.tree.map(lambda p: p.astype(jnp.bfloat16), WIDE)


@functools.cache
def make(moments="float32", weights="nearest", **kwargs):
    return adamx.adam(1e-2, moments=moments, weights=weights, kernel="xla", **kwargs)


EXACT, INT8, INT64 = make(), make("int8"), make(adamx.Int8(64))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def stepped(opt, state, params):
    """After a step, in a program that does not contract what it rounds."""
    return jitted_in_float64(opt.step)(params, state, params)


@functools.partial(jitted_in_float64, static_argnums=(1, 2))
def converted(state, from_, to, params):
    return adamx.convert_state(state, from_, to, params)


@functools.cache
def state_of(opt):
    return stepped(opt, opt.init(WIDE), WIDE)[1]


@pytest.mark.parametrize("moments", [adamx.Int8(64), ("bfloat16", "int8")], ids=str)
def test_a_float32_state_becomes_what_a_step_would_have_stored(moments):
    """Bit for bit: the same values, encoded with the same random bits."""
    opt = make(moments)
    state = state_of(opt)
    unpacked = converted(state, opt, EXACT, WIDE)
    same(unpacked, jitted_in_float64(functools.partial(adamx.unpack_state, opt))(state, WIDE))
    same(converted(stepped(EXACT, unpacked, WIDE)[1], EXACT, opt, WIDE), stepped(opt, state, WIDE)[1])


def test_what_both_store_alike_keeps_its_arrays():
    state = state_of(INT8)
    arrays, kept = map(jax.tree.leaves, (state, adamx.convert_state(state, INT8, make("int8"), WIDE)))
    assert all(a is b for a, b in zip(arrays, kept, strict=True))
    finer = make(("int8", adamx.Int8(32)))
    converted = adamx.convert_state(state, INT8, finer, WIDE)
    assert converted.slots.mu["w"].code is state.slots.mu["w"].code
    back = adamx.unpack_state(finer, converted, WIDE).slots.nu["w"]
    np.testing.assert_allclose(back, adamx.unpack_state(INT8, state, WIDE).slots.nu["w"], rtol=0.1)


def test_mu_dtype_is_taken_on_and_off_again():
    half, state = make(mu_dtype=jnp.bfloat16), state_of(EXACT)
    narrow = converted(state, EXACT, half, WIDE)
    same(narrow.slots.mu, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.slots.mu))
    jax.eval_shape(half.step, WIDE, narrow, WIDE)
    back = adamx.convert_state(narrow, half, EXACT, WIDE)
    same(back.slots.mu, jax.tree.map(lambda x: x.astype(jnp.float32), narrow.slots.mu))


def test_residuals_hold_the_master_weights_of_before():
    kahan, split, none = (make("int8", weights) for weights in ("kahan", "split16", "stochastic"))
    params, state = stepped(kahan, kahan.init(NARROW), NARROW)
    converted = adamx.convert_state(state, kahan, split, params)
    got, wanted = adamx.master_params(split, converted, params), adamx.master_params(kahan, state, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-23), got, wanted)
    assert adamx.convert_state(state, kahan, none, params).residuals == ()
    begun = adamx.convert_state(none.init(params), none, split, params)
    assert not any(x.any() for x in jax.tree.leaves(begun.residuals))
    jax.eval_shape(split.step, params, begun, params)


WRAPPERS = {
    "chain": lambda opt: optax.chain(optax.clip(1.0), opt),
    "MultiSteps": lambda opt: optax.MultiSteps(opt, 2),
    "masked": lambda opt: optax.masked(opt, {"w": True, "b": False}),
    "partition": lambda opt: optax.partition({"a": opt, "b": opt}, {"w": "a", "b": "b"}),
    "monitor": adamx.monitor,
    "lookahead": adamx.lookahead,
}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_state_is_found_wherever_it_stands(wrap):
    before, after = (WRAPPERS[wrap](opt).init(WIDE) for opt in (EXACT, INT64))
    got = converted(before, EXACT, INT64, WIDE)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    back = converted(got, INT64, EXACT, WIDE)
    same(back, before)  # of zeros


def test_a_state_in_a_tree_of_hyperparameters_is_found():
    inject = optax.inject_hyperparams(adamx.adam, static_args=("b1", "b2", "eps", "eps_root"))
    opt = inject(learning_rate=1e-2, moments=adamx.Int8(64))
    state = converted(inject(learning_rate=1e-2).init(WIDE), EXACT, INT64, WIDE)
    assert jax.tree.structure(state) == jax.tree.structure(opt.init(WIDE))
    jax.eval_shape(opt.update, WIDE, state, WIDE)


@pytest.mark.usefixtures("loose")
def test_variables_stay_around_what_they_hold():
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    optimizer, small = (nnx.Optimizer(model, opt, wrt=nnx.Param) for opt in (EXACT, INT64))
    params = nnx.state(model, nnx.Param)
    optimizer.update(model, params)
    small.opt_state = adamx.convert_state(optimizer.opt_state, EXACT, INT64, params)
    assert isinstance(small.opt_state.slots.nu["kernel"].code, nnx.OptState)
    small.update(model, params)
    back = adamx.convert_state(small.opt_state, INT64, EXACT, nnx.state(model, nnx.Param))
    assert jax.tree.structure(back) == jax.tree.structure(optimizer.opt_state)


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize("in_variables", [False, True], ids=["arrays", "nnx"])
def test_what_wrappers_keep_is_stored_as_the_new_ones_store_it(in_variables):
    def make(average, sums):
        opt = adamx.averaged(adamx.adam(1e-2, kernel="xla"), 0.5, moments=average)
        return adamx.guard(adamx.accumulate(opt, 2, sums))

    exact, small = make("float32", jnp.float32), make(adamx.Int8(32), jnp.bfloat16)
    params = nnx.state(nnx.Linear(64, 128, rngs=nnx.Rngs(0)), nnx.Param)
    params = params if in_variables else jax.tree.map(jnp.asarray, dict(nnx.as_pure(params)))
    state = exact.init(params)
    state = state._replace(inner=state.inner._replace(sums=jax.tree.map(lambda p: p + 1, params)))
    new = adamx.convert_state(state, exact, small, params)
    forms = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert forms(new) == forms(small.init(params))
    back = adamx.convert_state(new, small, exact, params)
    assert forms(back) == forms(state)
    averages, sums = back.inner.inner.averages[0].average, back.inner.sums
    for a, b in zip(jax.tree.leaves((averages, sums)), jax.tree.leaves((params, state.inner.sums)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2**-7, atol=0.02 * np.abs(b).max())
    with pytest.raises(ValueError, match=r"state/averages/1/average/.* is in one of the two states only"):
        adamx.convert_state(state.inner.inner, exact, adamx.averaged(adamx.adam(1e-2), (0.5, None)), params)


def test_shapes_of_the_parameters_are_enough():
    shapes, give = jax.eval_shape(lambda: WIDE), state_of(EXACT)
    got = jitted_in_float64(lambda state: adamx.convert_state(state, EXACT, INT64, shapes))(give)
    same(got, converted(give, EXACT, INT64, WIDE))


REFUSED = {
    "from_ did not make it": (
        INT8,
        INT64,
        WIDE,
        "mu of grads['w'] is stored as float32 in the state, but the optimizer",
    ),
    "another rule": (
        EXACT,
        adamx.lion(1e-2),
        WIDE,
        "from_ is of Adam, to of Lion, which makes another use of its slots",
    ),
    "other parameters": (EXACT, INT8, {**WIDE, "c": jnp.ones(3)}, "gradients['c'] has no counterpart in the state"),
    "other shapes": (
        EXACT,
        INT8,
        {**WIDE, "b": jnp.ones(4)},
        "grads['b'] has shape (4,), but mu of its state has (3,)",
    ),
    "a schedule": (EXACT, adamx.adam(1e-2, b1=lambda t: 0.9), WIDE, "the state is of schedules of [], the optimizer"),
    "residuals": (make(weights="kahan"), INT8, NARROW, "beside the parameter of grads['b'] the state keeps nothing"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_named(what):
    from_, to, params, message = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        adamx.convert_state(state_of(EXACT), from_, to, params)


def test_what_holds_no_state_or_is_no_optimizer_is_named():
    with pytest.raises(ValueError, match="there are 0 adamx states in it"):
        adamx.convert_state(optax.sgd(1e-2).init(WIDE), EXACT, INT8, WIDE)
    with pytest.raises(TypeError, match="is not an adamx optimizer"):
        adamx.convert_state(state_of(EXACT), EXACT, optax.chain(INT8), WIDE)
    assert find_state(state_of(EXACT)).count == 1
