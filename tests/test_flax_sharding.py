"""In NNX and Linen, arrays of a state are cut as the names of their weights' axes say that are left in them."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.linen.spmd import logical_to_mesh_sharding
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import adamx
import adamx.flax
from adamx._factory import FACTORIES
from benchmarks.hlo import exchanges
from tests.helpers import some

pytestmark = pytest.mark.devices
MESHES = {
    kind: jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind,) * 2) for kind in (AxisType.Auto, AxisType.Explicit)
}
MESH = MESHES[AxisType.Auto]
RULES = (("embed", "x"), ("mlp", "y"))
SHAPE = (128, 256)

REPRESENTATIVES = ("adam", "adafactor", "adam_mini", "novograd")
"""Slots like their weights, factored, one number a column, one a leaf; in int8 the momenta of three have scales."""
FORMATS = (("float32", "nearest"), ("bfloat16", "nearest"), ("int8", "nearest"), ("int8", "split8"))
TOGETHER = {"representatives": [(name, *FORMATS[-1]) for name in REPRESENTATIVES]}
TOGETHER |= {name: [(name, *form) for form in FORMATS] for name in FACTORIES}
"""What one program steps."""
CASES = [*itertools.product(TOGETHER, MESHES)]


def optimizer(name, moments="int8", weights="split8"):
    return FACTORIES[name](learning_rate=1e-2, moments=moments, weights=weights, kernel="xla")


def layer(names=("embed", "mlp"), dtype=jnp.bfloat16, **metadata):
    init = nnx.with_partitioning(nnx.initializers.normal(), names, **metadata)
    return nnx.Linear(*SHAPE, use_bias=False, kernel_init=init, param_dtype=dtype, rngs=nnx.Rngs(0))


def in_nnx(tx, **kwargs):
    model = layer(**kwargs)
    return model, adamx.flax.Optimizer(model, tx, wrt=nnx.Param)


def halve(runs):
    """A step of each (model, optimizer), with the weights' halves as gradients."""
    for model, opt in runs:
        opt.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))


def types(tree):
    return [(x.shape, x.dtype, x.weak_type, x.sharding) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    ("name", "kind"), some(CASES, lambda name, kind: name == "representatives" and kind == AxisType.Explicit)
)
def test_nnx_keeps_the_sharding_that_names_say_and_compiles_once(name, kind):
    """Made and stepped under `nnx.jit`, and restored from the host: the types of the arrays never change."""
    txs = [optimizer(*each) for each in TOGETHER[name]]
    with jax.set_mesh(MESHES[kind]), nnx.logical_axis_rules(RULES):
        create, step = nnx.jit(lambda: [in_nnx(tx) for tx in txs]), nnx.jit(halve)
        runs = create()
        start = nnx.state(runs)
        shardings = nnx.get_named_sharding(start, MESHES[kind])
        for x, sharding in zip(jax.tree.leaves(start), jax.tree.leaves(shardings), strict=True):
            assert len(sharding.spec) <= x.ndim and x.sharding.is_equivalent_to(sharding, x.ndim)
        for _ in range(2):
            step(runs)
        saved, runs = jax.tree.map(np.asarray, nnx.state(runs)), create()
        nnx.update(runs, jax.device_put(saved, shardings))
        step(runs)
    assert types(nnx.state(runs)) == types(start)
    assert step.jitted_fn._cache_size() == 1


def test_each_array_of_a_state_has_the_names_of_its_own_axes():
    def made(tx):
        return nnx.eval_shape(lambda: in_nnx(tx))[1].opt_state

    def said(tree):
        return jax.tree.map(lambda box: box.out_sharding, tree, is_leaf=lambda x: isinstance(x, nnx.Variable))

    with jax.set_mesh(MESH), nnx.logical_axis_rules(RULES):
        adam, factored, mini = (made(optimizer(name)).slots for name in ("adam", "adafactor", "adam_mini"))
        assert said(adam.nu["kernel"]) == (("embed", "mlp"),) * 3
        assert said((factored.nu.row["kernel"], factored.nu.col["kernel"])) == (("embed",), ("mlp",))
        assert said(mini.nu["kernel"]) == (None, "mlp")
        assert not hasattr(made(optimizer("novograd")).slots.nu["kernel"], "out_sharding")
        chained = made(optax.chain(optax.clip(1.0), optax.MultiSteps(optimizer("adafactor"), 2)))
        assert said(chained[1].inner_opt_state.slots.nu.row["kernel"]) == ("embed",)
        narrowed = nnx.eval_shape(
            lambda: adamx.flax.Optimizer.from_master(layer(dtype=jnp.float32), optimizer("adam"), wrt=nnx.Param)
        ).opt_state
        assert said((narrowed.residuals["kernel"], narrowed.slots.mu["kernel"].scale)) == (("embed", "mlp"),) * 2


@pytest.mark.parametrize("name", some(((name,) for name in FACTORIES), lambda name: name in REPRESENTATIVES))
def test_names_and_state_shardings_say_the_same(name):
    with jax.set_mesh(MESH), nnx.logical_axis_rules(RULES):
        model, opt = nnx.eval_shape(lambda: in_nnx(optimizer(name)))
        named = nnx.get_named_sharding(opt.opt_state, MESH)
        derived = adamx.state_shardings(optimizer(name), nnx.state(model, nnx.Param))
    for one, other in zip(jax.tree.leaves(named), jax.tree.leaves(derived), strict=True):
        assert one.is_equivalent_to(other, len(SHAPE))


def test_groups_that_devices_would_share_are_refused():
    by_four = jax.make_mesh((4,), ("y",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(by_four), pytest.raises(ValueError, match=r"\['kernel'\].* groups of 128 .* 4 devices have 64"):
        nnx.eval_shape(lambda: in_nnx(optimizer("adam"), names=(None, "y")))


@pytest.mark.parametrize("kind", MESHES, ids=str)
def test_slots_that_are_cut_otherwise_cost_the_gather_of_new_weights_alone(kind):
    """Weights stay where they were, and the change that `update` returns costs nothing."""
    with jax.set_mesh(MESHES[kind]):
        model, opt = nnx.jit(lambda: in_nnx(optimizer("adam"), names=(None, "y"), optimizer_sharding=("x", "y")))()
        before = types(nnx.state((model, opt)))

        @nnx.jit
        def step(model, opt):
            return opt.update(model, jax.tree.map(lambda p: p * 0.5, nnx.state(model, nnx.Param)))

        text = step.lower(model, opt).compile().as_text()
        change = step(model, opt)
    assert opt.opt_state.slots.mu["kernel"].code.sharding.spec == P("x", "y")
    assert model.kernel.sharding.spec == change["kernel"].sharding.spec == P(None, "y")
    assert types(nnx.state((model, opt))) == before
    assert [opcode for opcode, _ in exchanges(text)] == ["all-gather"]


@pytest.mark.parametrize(
    ("name", "kind"), some(CASES, lambda name, kind: name == "representatives" and kind == AxisType.Auto)
)
def test_linen_keeps_the_sharding_that_names_say_and_compiles_once(name, kind):
    """As Flax's guide has it: the shardings of a train state that is only traced, no mesh being known yet."""
    txs = [optimizer(*each) for each in TOGETHER[name]]
    init = linen.with_logical_partitioning(linen.initializers.normal(), ("embed", "mlp"))
    model = linen.Dense(SHAPE[1], use_bias=False, kernel_init=init, param_dtype=jnp.bfloat16)

    def create(key):
        params = model.init(key, jnp.ones((1, SHAPE[0]), jnp.bfloat16))["params"]
        return [adamx.flax.TrainState.create(apply_fn=model.apply, params=params, tx=tx) for tx in txs]

    def halve(states):
        return [s.apply_gradients(grads=jax.tree.map(lambda p: p * 0.5, s.params)) for s in states]

    said = linen.get_partition_spec(jax.eval_shape(create, jax.random.key(0)))
    shardings = logical_to_mesh_sharding(said, MESHES[kind], RULES)
    with jax.set_mesh(MESHES[kind]):
        start = states = jax.jit(create, out_shardings=shardings)(jax.random.key(0))
        step = jax.jit(halve, out_shardings=shardings)
        for _ in range(2):
            states = step(states)
        states = step(jax.device_put(jax.tree.map(np.asarray, states), shardings))
    assert jax.tree.structure(states) == jax.tree.structure(start)
    assert types(states) == types(start)
    assert step._cache_size() == 1
    for (optimizer_name, *_), state in zip(TOGETHER[name], start, strict=True):
        cuts = {x.shape: x.sharding.spec for x in jax.tree.leaves(state.opt_state)}
        assert cuts.get(SHAPE, P("x", "y")) == P("x", "y")
        if optimizer_name == "adafactor":
            assert (cuts[SHAPE[:1]], cuts[SHAPE[1:]]) == (P("x"), P("y"))


@pytest.mark.parametrize(
    ("name", "shares"),
    some(
        [("fsdp", [8]), ("tensor_parallel", [4]), ("zero1", [1, 8])],
        lambda name, shares: name == "zero1",
    ),
)
def test_the_examples_train_with_their_share_of_bytes_on_each_of_eight_devices(name, shares):
    """Of everything; of hidden units over half of the devices; of ZeRO's weights and of its state."""
    run = subprocess.run(
        [sys.executable, f"docs/scaling/{name}.py"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
        cwd=Path(__file__).parents[1],
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    held = [int(here.replace(",", "")) for here in re.findall(r"(\S+) bytes a device", run.stdout)]
    whole = [int(there.replace(",", "")) for there in re.findall(r"device, of (\S+)", run.stdout)]
    assert all(n * share == pytest.approx(total, rel=0.02) for n, total, share in zip(held, whole, shares, strict=True))
    losses = [float(x) for x in re.findall(r"\d\.\d+", run.stdout)]
    assert all(last < 0.2 < 0.9 < first for first, last in zip(losses[::2], losses[1::2], strict=True))
