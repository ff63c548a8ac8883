"""Sums over leaves that are cut over devices: as few collectives as they need, and the results of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from tests.helpers import collectives, some

monitor = adamx.diagnostics.monitor
SHAPES = {"in": (8, 16), "out": (16, 8), "bias": (8,)}
MAKE = {
    "adam": lambda: adamx.adam(1e-2),
    "lamb": lambda: adamx.lamb(1e-2, weight_decay=0.1),
    "novograd": lambda: adamx.novograd(1e-2),
    "stable_adamw": lambda: adamx.stable_adamw(1e-2),
    "prodigy": lambda: adamx.prodigy(estim_lr0=1e-2),
    "dadapt_adamw": lambda: adamx.dadapt_adamw(estim_lr0=1e-2),
    "adafactor": lambda: adamx.adafactor(1e-2, min_dim_size_to_factor=8),
    "came": lambda: adamx.came(1e-2),
    "monitored": lambda: monitor(adamx.adam(1e-2)),
    "monitored_lamb": lambda: monitor(adamx.lamb(1e-2)),
}
SPECS = {
    "first": {"in": P("x", None), "out": P("x", None), "bias": P("x")},
    "last": {"in": P(None, "x"), "out": P(None, "x"), "bias": P("x")},
    "tensor": {"in": P(None, "x"), "out": P("x", None), "bias": P(None)},
    "both": {"in": P("x", "y"), "out": P(("x", "y"), None), "bias": P("y")},
    "zero": {"in": P(None, None), "out": P(None, None), "bias": P(None)},
}
"""How leaves are cut: FSDP by first and last axes, tensor parallel, over two axes; "zero" cuts their moments only."""

NEEDED = {"adafactor": 2, "came": 3, "monitored_lamb": 2}
"""All-reduces, where one is not enough: the second reads the result of the first."""


def mesh_of(layout, kind=AxisType.Auto):
    shape = {"x": 2, "y": 2} if layout == "both" else {"x": 4}
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(kind,) * len(shape))


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def put(tree, mesh, specs):
    return {name: jax.device_put(x, NamedSharding(mesh, specs[name])) for name, x in tree.items()}


@functools.cache
def on_one_device(name, clip):
    opt, params = MAKE[name](), jax.tree.map(jnp.asarray, drawn(0))
    return jax.jit(functools.partial(opt.step, clip_norm=clip))(drawn(1), opt.init(params), params)


def assert_alike(got, wanted):
    """Within the rounding of sums: 40 roundings of numbers about 1."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6), got, wanted)


CASES = [
    (name, clip, layout, kind)
    for name in MAKE
    for clip in ((1.0, None) if name == "lamb" else (1.0,) if name == "adam" else (None,))
    for layout in SPECS
    for kind in (AxisType.Auto, AxisType.Explicit)
    if layout != "both" or name in ("adam", "monitored")  # XLA joins what is reduced over the same devices
]
STANDING = {
    *(("adam", layout, AxisType.Auto) for layout in ("first", "both")),
    *(("monitored", layout, kind) for layout, kind in (("zero", AxisType.Auto), ("both", AxisType.Explicit))),
    *(("lamb", "tensor", AxisType.Auto), ("prodigy", "first", AxisType.Explicit)),
    *(("adafactor", "first", AxisType.Auto), ("came", "last", AxisType.Explicit)),
}


@pytest.mark.parametrize(("name", "clip", "layout", "kind"), some(CASES, lambda n, c, la, k: (n, la, k) in STANDING))
def test_sums_of_all_leaves_share_an_all_reduce_and_nothing_else_moves(name, clip, layout, kind):
    opt, mesh = MAKE[name](), mesh_of(layout, kind)
    with jax.set_mesh(mesh):
        params, grads = (put(drawn(seed), mesh, SPECS[layout]) for seed in (0, 1))
        zero = "x" if layout == "zero" else None
        state = jax.device_put(opt.init(params), adamx.state_shardings(opt, params, zero=zero))
        kept = jax.tree.map(lambda x: x.sharding, (params, state)) if kind == AxisType.Auto else None
        step = jax.jit(functools.partial(opt.step, clip_norm=clip), out_shardings=kept)
        compiled = step.lower(grads, state, params).compile()
    reduced = NEEDED.get(name, 1) + (clip is not None and name != "adam")
    replicated = layout == "zero" and name not in ("monitored", "monitored_lamb")
    found = collectives(compiled.as_text())
    gathers = found.pop("all-gather", 0)
    # Rows and columns of two leaves, which follow from a momentum in parts.
    factors = 4 if name == "came" and kind == AxisType.Explicit else 0
    assert gathers <= (len(SHAPES) + factors if layout == "zero" else 0)  # the new weights
    assert set(found) <= {"all-reduce"}
    assert found.get("all-reduce", 0) == reduced or (replicated and found.get("all-reduce", 0) < reduced)
    assert_alike(compiled(grads, state, params), on_one_device(name, clip))


def by_shard_map(opt, clip, mesh, specs, axis_name="x", check_vma=True):
    """One step of parts, from the state of whole leaves."""

    def of(x, name):
        return specs[name] if np.shape(x) == SHAPES.get(name) else P()

    params, grads = drawn(0), drawn(1)
    state = opt.init(jax.tree.map(jnp.asarray, params))
    cut = jax.tree_util.tree_map_with_path(lambda path, x: of(x, getattr(path[-1], "key", None)), state)

    def step(grads, state, params):
        return opt.step(grads, state, params, clip_norm=clip, axis_name=axis_name)

    parts = (specs, cut, specs)
    call = jax.shard_map(step, mesh=mesh, in_specs=parts, out_specs=(specs, cut), check_vma=check_vma)
    return jax.jit(call)(grads, state, params)


@pytest.mark.parametrize("name", ["monitored_lamb", "novograd", "prodigy"])
def test_axis_name_makes_sums_of_parts_global(name):
    got = by_shard_map(MAKE[name](), 1.0, mesh_of("tensor"), SPECS["tensor"])  # the bias is whole, and counts once
    assert_alike(got, on_one_device(name, 1.0))


def test_updates_of_parts_take_axis_name():
    opt, mesh, specs = monitor(adamx.scale_by(adamx.StableAdamW())), mesh_of("first"), SPECS["first"]

    def update(grads, params):
        updates, state = opt.update(grads, opt.init(params), params, axis_name=("x",))
        return updates, adamx.diagnostics.read(state)

    call = jax.shard_map(update, mesh=mesh, in_specs=(specs, specs), out_specs=(specs, P()))
    whole = jax.jit(lambda g, p: opt.update(g, opt.init(p), p))(drawn(1), drawn(0))
    assert_alike(jax.jit(call)(drawn(1), drawn(0)), (whole[0], adamx.diagnostics.read(whole[1])))


def test_an_axis_name_that_cannot_be_meant_is_refused():
    opt, mesh, specs = adamx.adam(1e-2), mesh_of("first"), SPECS["first"]
    with pytest.raises(ValueError, match=r"axis_name = 'y' is no axis of an enclosing jax.shard_map, whose axes are x"):
        by_shard_map(opt, 1.0, mesh, specs, axis_name="y")
    with pytest.raises(ValueError, match=r"leave check_vma of jax.shard_map on"):
        by_shard_map(opt, 1.0, mesh, specs, check_vma=False)
    with pytest.raises(ValueError, match=r"under plain jax.jit leave it out"):
        opt.step(drawn(1), opt.init(drawn(0)), drawn(0), axis_name="x")
    mini = adamx.scale_by(adamx.AdamMini())
    with pytest.raises(
        ValueError, match=r"x: this rule sums along an axis of a leaf of which jax.shard_map shows a part"
    ):
        update = lambda g: mini.update(g, mini.init(g), axis_name="x")[0]  # noqa: E731
        jax.eval_shape(jax.shard_map(update, mesh=mesh, in_specs=(specs,), out_specs=specs), drawn(1))


@pytest.mark.skipif(jax.__version_info__ < (0, 9), reason="JAX 0.8 fails to transpose the sum of parts")
def test_clipping_by_a_norm_of_parts_has_derivatives():
    def loss(grads, params):
        params, _ = adamx.optimizer(adamx.SGD(), 1.0).step(
            grads, adamx.scale_by(adamx.SGD()).init(params), params, clip_norm=1.0
        )
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    mesh = mesh_of("first", AxisType.Explicit)
    with jax.set_mesh(mesh):
        cut = [put(drawn(seed), mesh, SPECS["first"]) for seed in (1, 0)]
        got = jax.jit(jax.grad(loss))(*cut)
    assert_alike(got, jax.jit(jax.grad(loss))(drawn(1), drawn(0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, 1e-30])
def test_norms_of_leaves_in_parts_are_those_of_one_device_whatever_the_gradient(bad):
    (opt, step), mesh = _descent(), mesh_of("first")
    grads = jax.tree.map(lambda g: g * (bad if abs(bad) < 1 else 1), drawn(1))
    grads["in"][3, 5] = bad
    params = drawn(0)
    with jax.set_mesh(mesh):
        got = step(put(grads, mesh, SPECS["first"]), opt.init(params), put(params, mesh, SPECS["first"]))
    assert_alike(got, step(grads, opt.init(params), params))


@functools.cache
def _descent():
    opt = monitor(adamx.optimizer(adamx.SGD(), 1.0))
    return opt, jax.jit(functools.partial(opt.step, clip_norm=1.0))
