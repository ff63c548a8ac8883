"""A state that the optimizer did not make is one error, with leaf and cure; it is never stepped."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from tests.helpers import OPTIMIZERS, represented, wrapped

PARAMS = {"w": jnp.ones((64, 128)), "b": jnp.ones(3)}
ADAM, INT8 = adamx.adam(1e-3), adamx.adam(1e-3, moments="int8")
STATE, STATE8 = ADAM.init(PARAMS), INT8.init(PARAMS)


def cast(dtype):
    return STATE._replace(slots=jax.tree.map(lambda x: x.astype(dtype), STATE.slots))


def with_mu(state, name, x):
    return state._replace(slots=state.slots._replace(mu={**state.slots.mu, name: x}))


FOREIGN = {
    "another rule's": (
        adamx.lion(1e-3),
        STATE,
        "the state's slots are mu, nu in Moments, those of Lion are mu: it is the state of another rule",
    ),
    "Optax's": (ADAM, optax.adam(1e-3).init(PARAMS), "tuple is not a state from `init(params)`"),
    "slots of int32": (ADAM, cast(jnp.int32), "mu of grads['b'] is int32 in the state, but the optimizer keeps it in"),
    "slots of bool": (ADAM, cast(bool), "mu of grads['b'] is bool in the state"),
    "slots of float16": (ADAM, cast(jnp.float16), "leave the state out of casts"),
    "slots of bfloat16": (ADAM, cast(jnp.bfloat16), "mu of grads['b'] is bfloat16 in the state"),
    "complex slots of real leaves": (ADAM, cast(jnp.complex64), "mu of grads['b'] is complex64 in the state"),
    "a negative count": (ADAM, STATE._replace(count=jnp.asarray(-1)), "the state's count is -1, not a number of"),
    "a count of float32": (ADAM, STATE._replace(count=jnp.ones([])), "the state's count is float32[]: it should be"),
    "several counts": (ADAM, STATE._replace(count=jnp.ones(2, int)), "the state's count is int32[2]: it should be"),
    "no count": (ADAM, STATE._replace(count=None), "the state's count is None: it should be the number of finished"),
    "float32 under int8": (
        INT8,
        STATE,
        "mu of grads['w'] is stored as float32 in the state, but the optimizer keeps it in int8 (groups of 128)",
    ),
    "float32 under mu_dtype": (
        adamx.adam(1e-3, mu_dtype=jnp.bfloat16),
        STATE,
        "mu of grads['b'] is stored as float32 in the state, but the optimizer keeps it in bfloat16: convert",
    ),
    "a code without its scale": (
        INT8,
        with_mu(STATE8, "w", STATE8.slots.mu["w"]._replace(scale=None)),
        "mu of grads['w'] is stored as RatioCode whose scale is None instead of an array of bfloat16",
    ),
    "one slot's code in another": (
        INT8,
        with_mu(STATE8, "w", STATE8.slots.nu["w"]),
        "mu of grads['w'] is stored as LogCode of int8 (groups of 128) in the state, but the optimizer keeps it in",
    ),
    "a number for an array": (ADAM, with_mu(STATE, "b", 0.0), "mu of grads['b'] is 0.0 in the state, not an array"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_state_that_is_not_the_optimizers_is_refused(what):
    opt, state, message = FOREIGN[what]
    for call in (opt.step, opt.update):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            call(PARAMS, state, PARAMS)


def test_what_can_be_seen_of_a_traced_state_is_refused_when_it_is_traced():
    for what in ("slots of float16", "a count of float32", "several counts", "float32 under int8"):
        opt, state, message = FOREIGN[what]
        with pytest.raises(ValueError, match=re.escape(message)):
            jax.eval_shape(opt.step, PARAMS, state, PARAMS)


def test_a_gradient_for_a_parameter_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"grads\['b'\] is an array, but its parameter is None"):
        ADAM.step(PARAMS, STATE, {**PARAMS, "b": None})


def test_numpy_arrays_and_integers_of_a_restored_checkpoint_are_taken():
    plain = jax.tree.map(np.asarray, STATE)
    for count in (3, np.int64(3), np.asarray(3, np.int32)):
        _, after = ADAM.step(PARAMS, plain._replace(count=count), PARAMS)
        assert after.count == 4


def test_the_float32_state_of_weights_that_become_float64_is_taken(x64):
    """Wider than the optimizer would make it, or narrower than the weights: both keep their dtype."""
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), PARAMS)
    for state, params in ((STATE, wide), (ADAM.init(wide), PARAMS)):
        _, after = ADAM.step(params, state, params)
        assert jax.tree.map(lambda x: x.dtype, after.slots) == jax.tree.map(lambda x: x.dtype, state.slots)


@pytest.mark.devices
@pytest.mark.parametrize("entry", [*represented(OPTIMIZERS), *wrapped()], ids=str)
def test_on_an_explicit_mesh_the_state_keeps_its_types(entry):
    """So that a loop of steps is one: leaves cut along first, last, both and no axes."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    specs = {"both": ("x", "y"), "last": (None, "x"), "first": ("y", None, None), "bias": ("x",), "scalar": ()}
    shapes = {"both": (8, 4), "last": (6, 4), "first": (4, 3, 2), "bias": (4,), "scalar": ()}
    with jax.set_mesh(mesh):
        named = {k: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*specs[k])) for k in specs}
        params = {k: jax.device_put(jnp.ones(shapes[k]), named[k]) for k in specs}
        opt = entry.make(1e-2)
        state = opt.init(params)
        traced = jax.eval_shape(opt.init, params), jax.eval_shape(opt.step, params, state, params)[1]
        eager, begun, stepped = (jax.tree.map(lambda x: str(jax.typeof(x)), tree) for tree in (state, *traced))
        types = jax.tree.map(lambda x: jax.typeof(x).sharding.spec, state)
        derived = jax.tree.map(lambda x: x.spec, adamx.state_shardings(opt, params))
    assert eager == begun == stepped
    assert types == derived
