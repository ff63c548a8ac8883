"""What wrappers promise inside of what others put around them: Optax's wrappers, NNX, Linen, saved and restored."""

import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType

import adamx
import adamx.flax
from adamx.states.parts import states_in
from tests.helpers import NESTED, WRAPPED, dtypes, some, wrapped

pytestmark = pytest.mark.usefixtures("loose")  # Optax needs it
PARAMS = {"matrix": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "bias": jnp.ones(5), "scalar": jnp.ones([])}
OURS = {"matrix": True, "bias": True, "scalar": False}


def partition(opt):
    labels = jax.tree.map(lambda ours: "ours" if ours else "theirs", OURS)
    return optax.partition({"ours": opt, "theirs": optax.sgd(0.1)}, labels)


AROUND = {
    "chain": lambda opt: optax.chain(optax.clip_by_global_norm(1.0), opt),
    "MultiSteps": lambda opt: optax.MultiSteps(opt, 2).gradient_transformation(),
    "apply_if_finite": lambda opt: optax.apply_if_finite(opt, 3),
    "masked": lambda opt: optax.masked(opt, OURS),
    "partition": partition,
    "conditionally_transform": lambda opt: optax.conditionally_transform(opt, lambda step, **_: step % 2 == 1),
}
AROUND["all"] = lambda opt: AROUND["apply_if_finite"](AROUND["MultiSteps"](AROUND["chain"](partition(opt))))


def saved(tree):
    """As it comes back from a file."""
    return jax.tree.map(jnp.asarray, pickle.loads(pickle.dumps(jax.tree.map(np.asarray, tree))))


def injected(entry, wrap):
    return optax.inject_hyperparams(lambda learning_rate: wrap(entry.make(learning_rate)))(learning_rate=0.1)


@pytest.mark.parametrize(
    ("entry", "around"),
    some(itertools.product(WRAPPED, AROUND), lambda entry, around: entry in NESTED and around == "all"),
    ids=str,
)
def test_optaxs_wrappers_go_around(entry, around):
    """With a step size that Optax injects; types stay, and a restored state compiles nothing."""
    opt, params = injected(entry, AROUND[around]), PARAMS
    state, update = opt.init(params), jax.jit(opt.update)
    kinds = dtypes(state)
    for _ in range(4):
        updates, state = update(PARAMS, state, params)
        params = optax.apply_updates(params, updates)
        assert dtypes(state) == kinds
    again, _ = update(PARAMS, saved(state), params)
    assert update._cache_size() == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(again))
    assert np.any(params["matrix"] != PARAMS["matrix"])
    assert all(own.count > 0 for own in states_in(state))


@pytest.mark.parametrize("entry", wrapped(), ids=str)
def test_a_step_size_that_is_injected_in_bfloat16_is_refused_with_its_cure(entry):
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    with pytest.raises(TypeError, match=r"learning_rate arrives as bfloat16.*adamx\.live\('learning_rate'"):
        injected(entry, lambda opt: opt).init(narrow)


MESH = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
FORMATS = [{"moments": "int8", "weights": "split8"}, {"moments": "bfloat16", "weights": "stochastic"}]


def layer():
    """A kernel of enough elements to be coded, cut along both of its axes, and a bias."""
    named = nnx.with_partitioning
    kernel, bias = named(nnx.initializers.normal(), ("x", "y")), named(nnx.initializers.normal(), ("y",))
    return nnx.Linear(128, 256, kernel_init=kernel, bias_init=bias, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))


def types(tree):
    return [(x.shape, x.dtype, x.weak_type, x.sharding) for x in jax.tree.leaves(tree)]


halves = functools.partial(jax.tree.map, lambda p: p * 0.5)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("entry", "formats"),
    some(itertools.product(WRAPPED, FORMATS), lambda entry, formats: entry in NESTED and formats is FORMATS[0]),
    ids=str,
)
def test_in_nnx_coded_states_of_narrow_weights_are_cut_as_names_say_and_compile_once(entry, formats):
    tx = entry.make(1e-2, **formats)

    @nnx.jit
    def create():
        model = layer()
        return model, adamx.flax.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, halves(nnx.state(model, nnx.Param)), clip_norm=1.0)

    with jax.set_mesh(MESH):
        run = create()
        start = nnx.state(run)
        shardings = nnx.get_named_sharding(start, MESH)
        before = np.asarray(run[0].kernel[...], np.float32)
        for _ in range(2):
            step(*run)
        kept, run = saved(nnx.state(run)), create()
        nnx.update(run, jax.device_put(kept, shardings))
        step(*run)
    assert types(nnx.state(run)) == types(start)
    assert step.jitted_fn._cache_size() == 1
    assert np.any(np.asarray(run[0].kernel[...], np.float32) != before)


@pytest.mark.parametrize(
    ("entry", "formats"),
    some(itertools.product(WRAPPED, FORMATS), lambda entry, formats: entry in NESTED and formats is FORMATS[0]),
    ids=str,
)
def test_in_linen_coded_states_of_narrow_weights_compile_once(entry, formats):
    tx, params = entry.make(1e-2, **formats), {"kernel": jnp.ones((32, 128), jnp.bfloat16), "bias": jnp.ones(5)}
    start = state = adamx.flax.TrainState.create(apply_fn=None, params=params, tx=tx)
    step = jax.jit(lambda state: state.apply_gradients(grads=halves(state.params), clip_norm=1.0))
    for _ in range(2):
        state = step(state)
    state = step(state.replace(opt_state=saved(state.opt_state)))
    assert types(state) == types(start)
    assert step._cache_size() == 1
    assert np.any(state.params["kernel"] != params["kernel"])
