"""Kernels on leaves that are cut over devices: what one device computes, bit for bit, and nothing gathered."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx import kernels
from adamx.kernels.operands import axes_of
from adamx.kernels.partitioned import MIN_SIZE, part_at
from adamx.moments.noise import Noise
from tests.helpers import some

MISSING = kernels.available()["native"]
needs_native = pytest.mark.skipif(MISSING != "yes", reason=f"no C++ kernel: {MISSING}")
pytestmark = pytest.mark.devices

COLLECTIVE = re.compile(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SPECS = {
    "rows": {"w": P("x"), "t": P("x"), "b": P("x")},
    "columns": {"w": P(None, "y"), "t": P(None, "x"), "b": P("y")},
    "both": {"w": P("x", "y"), "t": P("x", None, "y"), "b": P(("x", "y"))},
    "none": {"w": P(), "t": P(), "b": P()},
}
FORMATS = {
    "float32": {},
    "bfloat16": {"moments": "bfloat16"},
    "int8, split8": {"moments": "int8", "weights": "split8"},
    "stochastic": {"weights": "stochastic"},
}


def tree(dtype):
    rng = np.random.default_rng(0)
    shapes = {"w": (32, 512), "t": (2, 16, 256), "b": (1024,), "s": ()}
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def put(tree, mesh, specs):
    """Arrays on a mesh, each cut as the leaf that it belongs to."""

    def placed(path, x):
        name = next((key.key for key in path if isinstance(key, jax.tree_util.DictKey)), None)
        return jax.device_put(np.asarray(x), NamedSharding(mesh, specs.get(name, P()) if x.ndim else P()))

    return jax.tree_util.tree_map_with_path(placed, tree)


def mesh_of(kind):
    return jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind,) * 2)


@functools.cache
def on_one_device(form):
    """An optimizer, what it is given, and its step."""
    opt = adamx.adamw(1e-2, kernel="native", **FORMATS[form])
    params = tree(jnp.bfloat16 if "weights" in FORMATS[form] else jnp.float32)
    given = params, opt.init(params), params
    return opt, given, jax.jit(opt.step)(*given)


@needs_native
@pytest.mark.parametrize(
    ("cut", "form", "kind"),
    some(
        itertools.product(SPECS, FORMATS, (AxisType.Auto, AxisType.Explicit)),
        lambda cut, form, kind: kind == AxisType.Auto or cut == "both" or form == "int8, split8",
    ),
    ids=str,
)
def test_the_step_is_that_of_one_device(cut, form, kind):
    (opt, given, wanted), mesh = on_one_device(form), mesh_of(kind)
    with jax.set_mesh(mesh):
        given = [put(x, mesh, SPECS[cut]) for x in given]
        step = jax.jit(opt.step).lower(*given).compile()
    text, got = step.as_text(), step(*given)
    assert "adamx_step" in text
    assert not COLLECTIVE.findall(text)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    for new, old in zip(jax.tree.leaves(got), jax.tree.leaves((given[2], given[1])), strict=True):
        assert new.sharding.is_equivalent_to(old.sharding, new.ndim)


@needs_native
def test_small_leaves_are_left_to_xla_and_no_mesh_has_to_be_set():
    opt, mesh = adamx.adamw(1e-2), mesh_of(AxisType.Auto)
    params = tree(jnp.float32)
    given = [put(x, mesh, SPECS["rows"]) for x in (params, opt.init(params), params)]
    text = jax.jit(opt.step).lower(*given).compile().as_text()
    assert text.count('custom_call_target="adamx_step"') == sum(x.size >= MIN_SIZE for x in params.values()) == 2
    assert not COLLECTIVE.findall(text)


@pytest.mark.parametrize("kernel", ["xla", pytest.param("native", marks=needs_native)])
def test_inside_shard_map_the_bits_are_those_of_one_device(kernel):
    opt, mesh = adamx.adamw(1e-2, moments="int8", weights="split8", kernel=kernel), mesh_of(AxisType.Auto)
    params = {"w": tree(jnp.bfloat16)["w"]}
    state = opt.init(params)
    spec = P("x", "y")
    specs = jax.tree.map(lambda x: spec if x.ndim else P(), state)
    local = adamx.in_shard_map(opt, {"w": spec})
    step = jax.shard_map(local.step, mesh=mesh, in_specs=(spec, specs, spec), out_specs=(spec, specs))
    wanted, got = (jax.jit(one)(params, state, params) for one in (opt.step, step))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    wrong = adamx.in_shard_map(opt, {"v": spec}).step
    with pytest.raises(ValueError, match=r"specs has none for params\['w'\]"):
        jax.shard_map(wrong, mesh=mesh, in_specs=(spec, specs, spec), out_specs=(spec, specs))(params, state, params)
    with pytest.raises(ValueError, match="names an axis of no enclosing"):
        local.step(params, state, params)
    with pytest.raises(ValueError, match="make the state of whole leaves"):
        local.init(params)
    with pytest.raises(TypeError, match="Monitor wraps an optimizer"):
        adamx.in_shard_map(adamx.monitor(opt), spec)


@pytest.mark.parametrize(
    ("shape", "spec", "told", "check_vma", "error"),
    [
        ((64, 400), P(None, "x"), P(None, "x"), False, r"a slot of params\['w'\] is .*in groups of 128 .* 200 each"),
        ((64, 256), P("x"), P("x", None, None), False, r"spec of params\['w'\], which is of 2 axes"),
        ((64, 256), P("x"), P(), True, r"spec of params\['w'\], which is cut along x: give the `in_specs`"),
        ((64, 256), P("x"), P("y"), True, r"spec of params\['w'\], which is cut along x"),
        ((64, 256), P(), P("x"), True, r"spec of params\['w'\], which is cut along nothing"),
    ],
)
def test_inside_shard_map_what_leaves_are_not_cut_by_is_refused(shape, spec, told, check_vma, error):
    opt, mesh = adamx.adam(1e-2, moments="int8"), mesh_of(AxisType.Auto)
    params = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    state = jax.eval_shape(opt.init, params)
    specs = jax.tree.map(lambda x: spec if x.ndim else P(), state)
    step = adamx.in_shard_map(opt, told).step
    parts = {"in_specs": (spec, specs, spec), "out_specs": (spec, specs), "check_vma": check_vma}
    with pytest.raises(ValueError, match=error):
        jax.eval_shape(jax.shard_map(step, mesh=mesh, **parts), params, state, params)


def test_a_part_draws_the_bits_of_its_elements():
    noise, shape = Noise(np.uint32(7), jnp.int32(3)), (6, 4, 10)
    whole = noise.uniform(shape)
    for start, size in (((2, 0, 0), (2, 4, 10)), ((0, 1, 0), (6, 2, 10)), ((1, 2, 5), (3, 1, 5))):
        part = noise._replace(part=part_at(start, shape)).uniform(size)
        np.testing.assert_array_equal(part, jax.lax.dynamic_slice(whole, start, size))


def test_axes_that_lie_as_one_are_taken_together():
    part = part_at((0, 0, 0), (6, 4, 10))
    assert axes_of(part, (6, 4, 10)) == [(240, 1)]
    assert axes_of(part, (3, 4, 10)) == [(120, 1)]
    assert axes_of(part, (6, 2, 10)) == [(6, 40), (20, 1)]
    assert axes_of(part, (6, 4, 5)) == [(24, 10), (5, 1)]
    assert axes_of(part, (6, 2, 5)) == [(6, 40), (2, 10), (5, 1)]
    assert axes_of(part, (1, 1, 1)) == [(1, 1)]


def test_gradients_that_are_cut_otherwise_are_moved_and_nothing_else():
    opt, mesh = adamx.adamw(1e-2, moments="int8"), mesh_of(AxisType.Auto)
    params = {"w": tree(jnp.float32)["w"]}
    specs, others = {"w": P("x", "y")}, {"w": P("y", "x")}
    given = [put(params, mesh, others), put(opt.init(params), mesh, specs), put(params, mesh, specs)]
    step = jax.jit(opt.step)
    assert {"all-gather", "all-reduce"}.isdisjoint(COLLECTIVE.findall(step.lower(*given).compile().as_text()))
    assert step(*given)[0]["w"].sharding.spec == specs["w"]


def test_parameters_on_a_mesh_may_be_closed_over_and_clipping_be_exported():
    opt, mesh = adamx.adam(1e-2), mesh_of(AxisType.Auto)
    params = put({"w": tree(jnp.float32)["w"]}, mesh, SPECS["rows"])
    state = jax.jit(lambda: opt.init(params))()
    step = jax.jit(lambda grads, state: opt.step(grads, state, params, clip_norm=0.1)[0])
    exported = jax.export.export(step)(params, state)
    np.testing.assert_allclose(exported.call(params, state)["w"], step(params, state)["w"], rtol=1e-6, atol=2e-9)


def test_sums_along_no_axis_stay_on_their_device():
    """Adam-mini has a number for each element of a vector."""
    opt, mesh = adamx.adam_mini(1e-2), mesh_of(AxisType.Auto)
    params = {"b": tree(jnp.float32)["b"]}
    state = opt.init(params)
    specs = jax.tree.map(lambda x: P("x") if x.ndim else P(), state)
    inside = jax.shard_map(
        lambda *args: opt.step(*args, axis_name="x"),
        mesh=mesh,
        in_specs=(P("x"), specs, P("x")),
        out_specs=(P("x"), specs),
    )
    got, wanted = jax.jit(inside)(params, state, params), jax.jit(opt.step)(params, state, params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=5e-7), got, wanted)
