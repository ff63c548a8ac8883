"""What every optimizer promises on a mesh, whether XLA chooses shardings or types have them.

Types have an entry for each axis in a spec, and results of `jax.jit` none at its end for axes that are whole: for what
is the same in other words JAX compiles a second time.
"""

import functools
import itertools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from tests.helpers import OPTIMIZERS, WRAPPED, some

pytestmark = [pytest.mark.devices, pytest.mark.usefixtures("cut")]
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SPECS = {
    "auto": {"w": P("x", "y"), "t": P(None, "x"), "bias": P()},
    "explicit": {"w": P("x", "y"), "t": P(None, "x", None), "bias": P(None)},
}
SHAPES = {"w": (32, 256), "t": (3, 8, 4), "bias": (6,)}


@pytest.fixture(params=KINDS)
def cut(request):
    """Four devices in two axes: the sharding of each leaf."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(KINDS[request.param],) * 2)
    with jax.set_mesh(mesh):
        yield {name: NamedSharding(mesh, spec) for name, spec in SPECS[request.param].items()}


def of(tree):
    """Types and shardings of the arrays of a tree."""
    return [(x.shape, x.dtype, *_entries(x.sharding.spec, x.ndim)) for x in jax.tree.leaves(tree)]


def _entries(spec, ndim):
    return (*spec, *[None] * ndim)[:ndim]


def parameters(cut, seed):
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return jax.tree.map(jax.device_put, values, cut)


STAND = ("adam_scheduled_betas", "adafactor_factored", "lamb", "novograd", "schedule_free_adamw", "prodigy")


@pytest.mark.parametrize(
    ("entry", "moments"),
    some(
        itertools.product([x for x in (*OPTIMIZERS, *WRAPPED) if x.name != "users_rule"], ["float32", "int8"]),
        lambda entry, moments: entry.name == "guard_accumulate_averaged" if moments == "int8" else entry.name in STAND,
    ),
    ids=str,
)
def test_types_and_shardings_stay_and_a_restart_compiles_nothing(entry, moments, cut):
    opt = entry.make(1e-2, moments=moments)
    params, grads = parameters(cut, 0), parameters(cut, 1)
    state = opt.init(params)
    shardings = adamx.state_shardings(opt, params)
    compiled = jax.jit(opt.init, out_shardings=shardings)(params)
    assert of(compiled) == of(state)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        return opt.step(grads, state, params)

    before = of((params, state))
    for _ in range(2):
        params, state = step(params, state, grads)
        assert of((params, state)) == before
    saved = jax.device_get(state)
    state = jax.tree.map(jax.device_put, saved, shardings)  # as a checkpoint is restored
    params, state = step(params, state, grads)
    assert step._cache_size() == 1
    scanned = lambda carry, grads: jax.lax.scan(lambda c, _: (opt.step(grads, c[1], c[0]), None), carry, None, 2)  # noqa: E731
    carried, _ = jax.eval_shape(scanned, (params, state), grads)
    assert jax.tree.structure(carried) == jax.tree.structure((params, state))
