"""In NNX narrow weights start with what rounding took, and a saved run goes on as if it had not stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adamx
import adamx.flax

pytestmark = pytest.mark.usefixtures("loose")
OPT = adamx.adamw(1e-2, moments="int8", weights="split16", kernel="xla")


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make():
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    return model, adamx.flax.Optimizer.from_master(model, OPT, wrt=nnx.Param, narrow=matrices)


@nnx.jit
def step(model, optimizer):
    optimizer.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))


def numbers(run):
    """Of model and optimizer; a variable of nothing is none."""
    return [np.asarray(x, float) for x in jax.tree.leaves(nnx.state(run))]


def test_from_master_narrows_the_model_and_keeps_what_rounding_took():
    exact = nnx.state(nnx.Linear(64, 128, rngs=nnx.Rngs(0)), nnx.Param)
    model, optimizer = make()
    assert (model.kernel.dtype, model.bias.dtype) == (jnp.bfloat16, jnp.float32)
    masters = adamx.master_params(OPT, optimizer.opt_state, nnx.state(model, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, masters, exact)
    assert optimizer.tx is OPT
    with pytest.raises(TypeError, match="not an adamx optimizer"):
        adamx.flax.Optimizer.from_master(model, optax.chain(OPT), wrt=nnx.Param)


def test_a_saved_run_goes_on_bit_by_bit():
    run = make()
    step(*run)
    # To the host and back, as a checkpoint goes.
    saved = jax.tree.map(np.asarray, nnx.state(run))
    graph, parts = nnx.split(run)
    merged = nnx.merge(graph, jax.tree.map(jnp.array, parts))
    restored = make()
    nnx.update(restored, jax.tree.map(jnp.asarray, saved))
    assigned = make()
    nnx.update(assigned[0], nnx.state(restored[0]))
    assigned[1].opt_state = jax.tree.map(jnp.array, adamx.flax._pure(run[1].opt_state))
    assigned[1].step[...] = 1
    assert isinstance(assigned[1].opt_state.slots.nu["kernel"].code, nnx.OptArray)
    for _ in range(2):
        step(*run)
    for other in (merged, restored, assigned):
        for _ in range(2):
            step(*other)
        jax.tree.map(np.testing.assert_array_equal, numbers(run), numbers(other))


def test_what_does_not_fit_is_named_with_its_cure():
    model, optimizer = make()
    with pytest.raises(TypeError, match=r"nnx\.update\(optimizer, nnx_state\)"):
        optimizer.opt_state = nnx.state(optimizer)["opt_state"]
    wide = jax.tree.map(lambda p: p.astype(float), adamx.flax._pure(nnx.state(model, nnx.Param)))
    optimizer.opt_state = OPT.init(wide)
    with pytest.raises(ValueError, match=r"adamx\.from_master"):
        optimizer.update(model, nnx.state(model, nnx.Param))
