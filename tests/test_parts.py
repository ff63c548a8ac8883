"""What looks into a state finds it in NNX's variables, in a chain, and where it speaks for some leaves only."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax
from tests.helpers import product

pytestmark = pytest.mark.usefixtures("loose")
OPT = adamx.adam(1e-3, moments="int8", weights="split8", kernel="xla")
PARAMS = {"w": jnp.full((64, 64), 1.001, jnp.bfloat16), "b": jnp.full(64, 0.3, jnp.bfloat16)}
WRAPPERS = {
    "chain": lambda opt: optax.chain(optax.clip_by_global_norm(1e9), opt),
    "masked": lambda opt: optax.masked(opt, {"w": True, "b": False}),
    "partition": lambda opt: optax.partition({"w": opt, "b": adamx.lion(1e-3)}, {"w": "w", "b": "b"}),
}


def stepped(tx):
    update = jax.jit(tx.update)
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(2):
        updates, state = update(PARAMS, state, params)
        params = optax.apply_updates(params, updates)
    return state, params


@functools.cache
def stepped_alone():
    return stepped(OPT)


@jax.jit
def stalled(state, grads, params):
    """The share of weights that do not move."""
    return adamx.diagnostics.stalls(OPT, state, grads, params).weights.share


def of_w(state):
    return state.inner_states["w"] if hasattr(state, "inner_states") else state


@pytest.mark.parametrize("wrap", ["chain", pytest.param("masked", marks=product), "partition"])
def test_a_state_in_another_is_read_for_the_leaves_that_it_speaks_for(wrap):
    alone, params = stepped_alone()
    inner, inner_params = stepped(WRAPPERS[wrap](OPT))
    np.testing.assert_array_equal(params["w"].astype(float), inner_params["w"].astype(float))
    wanted = adamx.master_params(OPT, alone, params)
    got = adamx.master_params(OPT, of_w(inner), inner_params)
    np.testing.assert_array_equal(got["w"], wanted["w"])
    if wrap == "chain":
        np.testing.assert_array_equal(got["b"], wanted["b"])
    else:
        assert got["b"] is inner_params["b"]

    assert 0 <= float(stalled(of_w(inner), PARAMS, inner_params)) < 0.1  # split8 moves nearly every weight

    sizes = adamx.map_slots(lambda x, p: p.size, OPT, of_w(inner), PARAMS)
    assert set(jax.tree.leaves(optax.tree.get(sizes, "nu")["w"])) == {64 * 64}


def test_several_states_are_named_apart():
    tx = WRAPPERS["partition"](OPT)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"2 adamx states.*state\.inner_states\[label\]"):
        adamx.master_params(OPT, state, PARAMS)
    with pytest.raises(ValueError, match=r"state of another rule"):
        adamx.map_slots(lambda x: x, OPT, state)
    with pytest.raises(ValueError, match=r"0 adamx states.*opt_state"):
        adamx.map_slots(lambda x: x, OPT, optax.sgd(0.1).init(PARAMS))
    with pytest.raises(TypeError, match=r"give the part of the chain"):
        adamx.master_params(tx, of_w(state), PARAMS)


def test_parts_of_a_partition_are_widened_one_after_another():
    kahan = adamx.lion(1e-3, weights="kahan")
    tx = optax.partition({"w": OPT, "b": kahan}, {"w": "w", "b": "b"})
    state, params = stepped(tx)
    masters = params
    for opt, label in ((OPT, "w"), (kahan, "b")):
        masters = adamx.master_params(opt, state.inner_states[label], masters)
    assert {x.dtype for x in jax.tree.leaves(masters)} == {np.dtype(np.float32)}
    jax.tree.map(lambda m, p: np.testing.assert_allclose(m, p.astype(float), rtol=2**-7), masters, params)


def test_nnx_variables_are_looked_through():
    model = nnx.Linear(64, 64, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    optimizer = adamx.flax.Optimizer(model, OPT, wrt=nnx.Param)
    pure = adamx.flax._pure(nnx.state(model, nnx.Param))
    nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.state(model, nnx.Param)))(model, optimizer)
    _, state = jax.jit(OPT.step)(pure, OPT.init(pure), pure)

    params = nnx.state(model, nnx.Param)
    masters = adamx.master_params(OPT, optimizer.opt_state, params)
    assert isinstance(masters["kernel"], nnx.Param)
    wanted = adamx.master_params(OPT, state, adamx.flax._pure(params))
    np.testing.assert_allclose(masters["kernel"][...], wanted["kernel"], rtol=2**-16)  # of split8's 16 bits
    assert float(stalled(optimizer.opt_state, params, params)) < 0.1
    doubled = adamx.map_slots(lambda x, p: x.shape == p.shape, OPT, optimizer.opt_state, params)
    kernel = doubled.slots.nu["kernel"]
    assert isinstance(kernel.code, nnx.Variable)
    assert jax.tree.leaves(kernel) == [True, False, False]


def test_a_monitored_optimizer_starts_from_masters():
    opt = adamx.diagnostics.monitor(OPT)
    masters = {"w": jnp.full((3,), 0.3)}
    params, state = jax.jit(lambda masters: adamx.from_master(masters, opt))(masters)
    np.testing.assert_allclose(adamx.master_params(opt, state, params)["w"], 0.3, rtol=2**-16)  # of split8's 16 bits
    _, after = jax.eval_shape(opt.step, params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state) == jax.tree.structure(opt.init(params))
