"""A state's shardings follow from those of the parameters, and every step keeps them, in host memory, too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx.kernels import offload
from tests.helpers import LEAFWISE, OPTIMIZERS, needs_host_memory, some

pytestmark = pytest.mark.devices
AUTO, EXPLICIT = (
    jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind,) * 2) for kind in (AxisType.Auto, AxisType.Explicit)
)
needs_jax_0_9 = pytest.mark.skipif(jax.__version_info__ < (0, 9), reason="JAX 0.8 does not tell the mesh's devices")
SHAPES = {"w": (64, 256), "b": (256,), "s": ()}
SPECS = {"w": P("x", "y"), "b": P("y"), "s": P()}
INT8 = adamx.adam(1e-2, moments="int8", kernel="xla")


def shapes(mesh=AUTO, **specs):
    """Parameters without values, cut as SPECS say, or otherwise."""
    named = {k: NamedSharding(mesh, spec) for k, spec in {**SPECS, **specs}.items()}
    return {k: jax.ShapeDtypeStruct(SHAPES[k], jnp.float32, sharding=named[k]) for k in SHAPES}


def params(mesh=AUTO, **specs):
    """The same with values."""
    return {
        k: jax.device_put(jnp.full(x.shape, 0.5, jnp.float32), x.sharding) for k, x in shapes(mesh, **specs).items()
    }


def specs(tree):
    return jax.tree.map(lambda x: x.spec, tree)


def test_slots_are_cut_as_weights_and_scales_as_codes_and_counts_are_everywhere():
    got = specs(adamx.state_shardings(INT8, shapes()))
    assert set(got.slots.nu["w"]) == set(got.slots.mu["w"]) == {P("x", "y")}
    assert (got.slots.mu["b"], got.slots.nu["s"], got.count) == (P("y"), P(), P())


def test_what_is_left_of_a_weight_keeps_its_cuts():
    factored = specs(adamx.state_shardings(adamx.adafactor(1e-3, min_dim_size_to_factor=2), shapes())).slots.nu
    assert (factored.row["w"], factored.col["w"], factored.full["b"]) == (P("x"), P("y"), P("y"))
    assert specs(adamx.state_shardings(adamx.adam_mini(1e-3), shapes())).slots.nu["w"] == P(None, "y")
    if jax.__version_info__ >= (0, 10):
        peers = specs(adamx.state_shardings(optax.adafactor(1e-3, min_dim_size_to_factor=2), shapes()))[0]
        assert (peers.v_row["w"], peers.v_col["w"], peers.v["b"]) == (P("x"), P("y"), P("y"))


def plain_zeros(params):
    """A state in whose arrays' types nothing is left of the parameters', and one that types cannot follow at all."""
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), params)
    return zeros, jnp.concatenate([p.ravel() for p in jax.tree.leaves(params)])


def test_what_types_do_not_tell_path_and_shape_do():
    zeros, flat = specs(adamx.state_shardings(optax.GradientTransformation(plain_zeros, lambda *_: None), shapes()))
    assert (zeros, flat) == (SPECS, P())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda opt: optax.chain(optax.trace(0.9), opt),
        lambda opt: optax.masked(opt, {"w": True, "b": False, "s": True}),
        lambda opt: optax.partition({"a": opt, "b": optax.adam(1e-3)}, {"w": "a", "b": "b", "s": "b"}),
        lambda opt: optax.MultiSteps(opt, 2),
        lambda opt: optax.inject_hyperparams(adamx.lamb)(1e-3),
        adamx.diagnostics.monitor,
        adamx.lookahead,
        lambda opt: optax.chain(adamx.schedule_free_adamw(1e-3), adamx.averaging()),
    ],
    ids=["chain", "masked", "partition", "MultiSteps", "inject", "monitor", "lookahead", "schedule_free"],
)
def test_in_wrappers_whatever_has_a_weights_shape_is_cut_as_it(wrap):
    opt = wrap(INT8)
    state, found = jax.eval_shape(opt.init, shapes()), adamx.state_shardings(opt, shapes())
    assert jax.tree.structure(state) == jax.tree.structure(found)
    for x, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert x.shape not in SHAPES.values() or sharding.spec == {v: SPECS[k] for k, v in SHAPES.items()}[x.shape]


@needs_jax_0_9
def test_specs_of_a_mesh_and_the_top_of_a_tree_do():
    bare = {k: jnp.zeros(shape) for k, shape in SHAPES.items() if k != "s"}
    with jax.set_mesh(AUTO):
        got = adamx.state_shardings(INT8, bare, P("x"))
    assert got == adamx.state_shardings(INT8, bare, NamedSharding(AUTO, P("x")))
    assert {x.spec for x in jax.tree.leaves(got.slots)} == {P("x")}


def test_zero_cuts_slots_along_an_axis_that_weights_are_not_cut_along():
    got = specs(adamx.state_shardings(INT8, shapes(w=P(None, "y"), b=P()), zero="x")).slots.nu
    assert (set(got["w"]), got["b"], got["s"]) == ({P("x", "y")}, P("x"), P())
    factored = adamx.adafactor(1e-3, min_dim_size_to_factor=2)
    for mesh, rows in ((AUTO, P("x")), (EXPLICIT, P(None))):
        nu = specs(adamx.state_shardings(factored, shapes(mesh, w=P(None, "y"), b=P(None)), zero="x")).slots.nu
        assert (nu.row["w"], nu.col["w"], nu.full["b"]) == (rows, P("y"), P("x"))
    # A row of 256 has two groups: the last axis is cut where the first cannot be, and not finer than groups.
    odd = {"w": jax.ShapeDtypeStruct((63, 256), jnp.float32, sharding=NamedSharding(AUTO, P()))}
    assert set(specs(adamx.state_shardings(INT8, odd, zero="x")).slots.nu["w"]) == {P(None, "x")}
    with pytest.raises(ValueError, match="zero = 'x' cuts nothing"):
        adamx.state_shardings(INT8, odd, {"w": P(None, "y")}, zero="x")


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (r"\('model',\) of params\['w'\] names 'model', but the mesh has 'x', 'y'", {"w": P("model")}),
        (r"params\['b'\] has 1 axes, but P.*\(None, 'x'\) is of 2", {"b": P(None, "x")}),
        (r"\('x',\) cuts params\['t'\], of shape \(3,\), into 2 parts", {"t": P("x")}),
        (r"params\['t'\] has no sharding: give `shardings`", {"t": None}),
        (r"params\['w'\] is on Mesh\('x': 2.*, but params\['t'\] on Mesh\('x': 4", {"t": "another"}),
        (r"zero = 'z' is no axis of the mesh, which has 'x', 'y'", {"zero": "z"}),
        (r"tree like the parameters", {"more": P()}),
    ],
)
def test_what_cannot_be_is_refused_with_the_leaf(error, options):
    other = NamedSharding(jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,)), P())
    given = {"w": SPECS["w"], "b": P(), "t": P(), **options}
    zero = given.pop("zero", None)
    named = {
        k: NamedSharding(AUTO, v) if v in SPECS.values() else other if v == "another" else v for k, v in given.items()
    }
    bare = {"w": jnp.zeros((64, 256)), "b": jnp.zeros(4), "t": jax.ShapeDtypeStruct((3,), jnp.float32)}
    with pytest.raises(ValueError, match=error):
        adamx.state_shardings(INT8, bare, named, zero=zero)


def test_groups_that_devices_would_share_are_refused_with_leaf_and_cure():
    wide = jax.ShapeDtypeStruct((64, 384), jnp.float32, sharding=NamedSharding(EXPLICIT, P(None, "y")))
    cure = r"of which 2 devices have 192 each: take moments=adamx\.Int8\(group=64\), cut another axis"
    with pytest.raises(ValueError, match=rf"params\['w'\], is stored in groups of 128 .* {cure}"):
        adamx.state_shardings(INT8, {"w": wide})
    with jax.set_mesh(EXPLICIT), pytest.raises(ValueError, match=rf"mu of params\['w'\] .* {cure}"):
        jax.eval_shape(INT8.init, {"w": wide})
    told = adamx.explain(INT8, {"w": wide})
    assert "192 each" in str(told) and "gathers of the slots" in told.spread.collectives


def test_explain_tells_bytes_and_collectives():
    told = adamx.explain(INT8, shapes(w=P("x")), zero="y")
    assert told.spread == (
        4,
        64 * 256 * 2 + 64 * 2 * 4 + 257 * 8 + 4,
        64 * 64 * 2 + 64 * 2 + 128 * 8 + 8 + 4,
        told.spread[-1],
    )
    assert told.spread.collectives == "an all-gather of the new weights of 1 leaves"
    assert adamx.explain(INT8, shapes()).spread.collectives == "none"
    assert "measures" in adamx.explain(adamx.prodigy(), shapes()).spread.collectives
    watched = adamx.explain(adamx.monitor(adamx.lamb(1e-2)), shapes())
    assert watched.spread.collectives.endswith("; an all-reduce of what the monitor sums up")
    assert adamx.explain(INT8, jax.eval_shape(lambda: {"w": jnp.zeros((64, 256))})).spread is None


@pytest.mark.skipif(adamx.kernels.available()["pallas"] != "yes", reason="no Pallas")
@pytest.mark.parametrize(
    ("platform", "mesh", "small", "large"),
    [("cuda", AUTO, "xla", "pallas"), ("tpu", AUTO, "xla", "xla"), ("tpu", EXPLICIT, "pallas", "pallas")],
)
def test_explain_tells_what_steps_leaves_that_are_cut(platform, mesh, small, large):
    plan = adamx.explain(adamx.adam(1e-2, moments="int8"), shapes(mesh), platform=platform)
    assert [leaf.kernel for leaf in plan] == [large, small, small]


@needs_jax_0_9
def test_the_metadata_of_flax_and_its_logical_rules_do():
    init = nn.initializers.zeros
    with jax.set_mesh(AUTO):
        model = nnx.eval_shape(
            lambda: nnx.Linear(64, 256, kernel_init=nnx.with_partitioning(init, ("x", "y")), rngs=nnx.Rngs(0))
        )
        variables = nnx.state(model, nnx.Param)
        got = adamx.state_shardings(INT8, variables)
        assert got == adamx.state_shardings(INT8, variables, nnx.get_named_sharding(variables, AUTO))
        assert {x.spec for x in jax.tree.leaves(got.slots.nu["kernel"])} == {P("x", "y")}
        assert [x.spec for x in jax.tree.leaves(got.slots.nu["bias"])] == [P()]
        boxes = {
            "w": nn.LogicallyPartitioned(jax.ShapeDtypeStruct((64, 256), jnp.float32), ("embed", "mlp")),
            "v": nn.Partitioned(jax.ShapeDtypeStruct((64, 256), jnp.float32), ("y", None)),
        }
        with pytest.raises(ValueError, match=r"names 'embed'.*or set Flax's rules"):
            adamx.state_shardings(INT8, boxes)
        with nn.logical_axis_rules((("mlp", "x"), ("embed", None))):
            nu = adamx.state_shardings(INT8, boxes).slots.nu
            told = adamx.explain(INT8, boxes)
        assert [{x.spec for x in jax.tree.leaves(nu[k])} for k in "wv"] == [{P(None, "x")}, {P("y")}]
    assert [leaf.device_bytes for leaf in told] == [64 * 256 + 64 * 2 * 2] * 2  # halves of two slots, and their scales


def test_steps_and_a_restart_are_one_compilation():
    """A count on one device, or a spec that is written in another way, would be another."""
    opt, start = adamx.adamw(1e-2, kernel="xla"), params(w=P("x"))
    placed = adamx.state_shardings(opt, start)
    state, step = opt.init(start), jax.jit(opt.step)
    now = start
    for _ in range(2):
        assert jax.tree.map(lambda x: x.sharding, state) == placed
        now, state = step(start, state, now)
    step(start, jax.device_put(jax.tree.map(np.asarray, state), placed), now)
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    "entry",
    some([(x,) for x in OPTIMIZERS if x.name not in LEAFWISE], lambda entry: entry.name == "amsgrad"),
    ids=str,
)
def test_elements_are_stepped_as_on_one_device_to_the_bit(entry):
    """In AMSGrad a rounding more in what is divided by the bias correction would be kept."""
    opt, given = entry.make(1e-2, kernel="xla"), params(w=P(None, "y"), b=P())
    alone = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), given)
    grads = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), alone)
    got, wanted = given, alone
    step, state, state_alone = jax.jit(opt.step), opt.init(given), opt.init(alone)
    for _ in range(2):
        got, state = step(jax.tree.map(lambda g, p: jax.device_put(g, p.sharding), grads, given), state, got)
        wanted, state_alone = step(grads, state_alone, wanted)
    jax.tree.map(np.testing.assert_array_equal, (got, state), (wanted, state_alone))


@needs_host_memory
def test_on_an_explicit_mesh_zero_in_host_memory_steps_as_one_device_does():
    """With the same codes; the only collectives are the gathers of the two weights that are whole along x."""
    cut = {"w": P(None, "y"), "b": P(None)}
    with jax.set_mesh(EXPLICIT):
        start = params(EXPLICIT, **cut)
        placed = adamx.state_shardings(INT8, start, zero="x", memory_kind="pinned_host")
        state, step = jax.jit(INT8.init, out_shardings=placed)(start), jax.jit(INT8.step)
        text, now = step.lower(start, state, start).compile().as_text(), start
        for _ in range(2):
            now, state = step(start, state, now)
            assert jax.tree.map(lambda x: x.sharding, state) == placed
        assert specs(jax.tree.map(lambda x: x.sharding, now)) == {**SPECS, **cut}
    assert step._cache_size() == 1
    assert {k: text.count(f" {k}(") for k in ("all-gather", "all-reduce", "all-to-all")} == {
        "all-gather": 2,
        "all-reduce": 0,
        "all-to-all": 0,
    }
    alone = now_alone = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, start))
    state_alone, step = INT8.init(alone), jax.jit(INT8.step)
    for _ in range(2):
        now_alone, state_alone = step(alone, state_alone, now_alone)
    jax.tree.map(np.testing.assert_array_equal, (now, state), (now_alone, state_alone))


@pytest.mark.parametrize("opt", [adamx.prodigy(), adamx.adafactor(1e-2, momentum=0.9), adamx.diagnostics.monitor(INT8)])
def test_what_looks_at_all_leaves_fetches_them_from_host_memory(opt):
    """Or JAX would refuse to mix the two kinds of memory; it does not while all arrays of an operation are there."""
    placed = adamx.state_shardings(opt, shapes(), memory_kind=lambda path: "pinned_host" if "/w" in path else None)
    state = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), jax.eval_shape(opt.init, shapes()), placed
    )
    grads = {k: jnp.ones(shape) for k, shape in SHAPES.items()}
    kept = jax.make_jaxpr(lambda state: opt.step(grads, state, grads)[1])(state).out_avals
    wanted = [offload.HOST if at.memory_kind == "pinned_host" else offload.DEVICE for at in jax.tree.leaves(placed)]
    assert [x.memory_space for x in kept] == wanted


def test_a_leaf_is_fetched_when_the_one_before_is_back():
    grads = {k: jnp.ones((8, 8)) for k in "abc"}
    host = NamedSharding(AUTO, P(), memory_kind="pinned_host")
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=host if x.ndim else None),
        jax.eval_shape(INT8.init, grads),
    )
    eqns = jax.make_jaxpr(INT8.step)(grads, state, grads).jaxpr.eqns
    puts = [(eqn.params["devices"][0], eqn) for eqn in eqns if eqn.primitive.name == "device_put"]
    there, here = [offload.HOST] * 2, [offload.DEVICE] * 2
    assert [to for to, _ in puts] == here + (there + here) * 2 + there
    sent = {v for to, eqn in puts if to == offload.HOST for v in eqn.outvars}
    waits = [eqn.invars for eqn in eqns if eqn.primitive.name == "optimization_barrier"]
    assert sum(len(sent.intersection(waited)) for waited in waits) == 4  # each slot of the second and the third leaf
