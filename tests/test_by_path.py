"""Different optimizers by path are, leaf for leaf, those optimizers: with one clip, and nothing kept for others'."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
import adamx.flax
from tests.helpers import dtypes, needs_native, product

NAMES = ("embed|bias", ".*")


def tree(dtype, seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    return {"embed": {"w": draw(64, 128)}, "dense": {"kernel": draw(64, 256), "bias": draw(64)}, "absent": None}


PARAMS, GRADS = tree(jnp.float32, 0), tree(jnp.float32, 1)
NARROW, NARROW_GRADS = tree(jnp.bfloat16, 0), tree(jnp.bfloat16, 1)


def part(values, name):
    """The leaves of the first pattern, or of the second, with `None` in place of others."""
    first = name == NAMES[0]
    keep = lambda x, mine: x if mine == first else None  # noqa: E731
    dense = {"kernel": keep(values["dense"]["kernel"], False), "bias": keep(values["dense"]["bias"], True)}
    return {"embed": {"w": keep(values["embed"]["w"], True)}, "dense": dense, "absent": None}


def both(*opts):
    return adamx.by_path(dict(zip(NAMES, opts, strict=True)))


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def stepped(opt, params, grads, method="step", steps=2, **options):
    """What two jitted calls give, compiled once."""
    run = jax.jit(lambda grads, state, params: getattr(opt, method)(grads, state, params, **options))
    state, new = jax.jit(opt.init)(params), None
    before = dtypes(state)
    for _ in range(steps):
        new, state = run(grads, state, params)
        params = new if method == "step" else params
    assert run._cache_size() == 1
    assert dtypes(state) == before
    return new, state


@pytest.mark.parametrize("kernel", [pytest.param("xla", marks=product), pytest.param("native", marks=needs_native)])
def test_equal_optimizers_are_the_one_optimizer_bit_for_bit(kernel):
    """Codes and random bits, too, and whichever leaf is of which part."""
    one = adamx.adamw(1e-2, moments="int8", weights="stochastic", kernel=kernel)
    wanted, state = stepped(one, NARROW, NARROW_GRADS, clip_norm=0.5, grad_scale=2.0)
    new, own = stepped(both(one, one), NARROW, NARROW_GRADS, clip_norm=0.5, grad_scale=2.0)
    equal(new, wanted)
    for name in NAMES:
        equal(own.parts[name].slots, jax.tree.map(lambda x, n=name: part(x, n), state.slots, is_leaf=_is_tree))
    if kernel == "xla":
        equal(*(stepped(opt, NARROW, NARROW_GRADS, "update")[0] for opt in (both(one, one), one)))


def _is_tree(x):
    return isinstance(x, dict)


def test_it_is_separate_optimizers_on_the_parts(x64):
    params, grads = tree(jnp.float64, 0), tree(jnp.float64, 1)
    opts = adamx.adamw(1e-2, weight_decay=0.1), adamx.prodigy(estim_lr0=1e-3)
    new, state = stepped(both(*opts), params, grads, steps=3)
    for name, opt in zip(NAMES, opts, strict=True):
        wanted, own = stepped(opt, part(params, name), part(grads, name), steps=3)
        for got, want in ((part(new, name), wanted), (state.parts[name], own)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-300), got, want)


def test_one_clip_is_over_all_and_reaches_optax_as_well():
    opt, size = both(adamx.optimizer(adamx.SGD(), 1.0), optax.sgd(1.0)), optax.tree.norm(GRADS)
    new, _ = opt.step(GRADS, opt.init(PARAMS), PARAMS, clip_norm=1.0, grad_scale=3.0)
    moved = jax.tree.map(lambda p, q: p - q, PARAMS, new)
    jax.tree.map(lambda d, g: np.testing.assert_allclose(d, g / size, rtol=0, atol=1e-6), moved, GRADS)
    given, _ = opt.step(GRADS, opt.init(PARAMS), PARAMS, clip_norm=1.0, grad_scale=3.0, grad_norm=size)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), given, new)


def test_frozen_leaves_are_not_in_the_norm():
    still = adamx.adamw(1e-2, groups=[adamx.Group("bias", frozen=True)])
    grads = {**GRADS, "dense": {**GRADS["dense"], "bias": jnp.full(64, 1e6)}}
    opt = both(still, adamx.adamw(1e-2))
    new, _ = opt.step(grads, opt.init(PARAMS), PARAMS, clip_norm=1.0)
    one = adamx.adamw(1e-2, groups=[adamx.Group("bias", frozen=True)])
    equal(new, one.step(grads, one.init(PARAMS), PARAMS, clip_norm=1.0)[0])
    assert jax.eval_shape(adamx.accumulate(opt, 2).init, PARAMS).sums["dense"]["bias"] is None


def test_nothing_stands_in_the_state_for_leaves_of_others_as_it_does_in_optax():
    opts = adamx.adamw(1e-2), adamx.lion(1e-3)
    state = jax.eval_shape(both(*opts).init, PARAMS)
    sizes = [sum(x.size for x in jax.tree.leaves(state.parts[name].slots)) for name in NAMES]
    assert sizes == [2 * (64 * 128 + 64), 64 * 256]
    assert optax.tree.get(state.parts[".*"], "mu")["embed"]["w"] is None
    labels = {"embed": {"w": NAMES[0]}, "dense": {"kernel": NAMES[1], "bias": NAMES[0]}, "absent": None}
    theirs = jax.eval_shape(optax.partition(dict(zip(NAMES, opts, strict=True)), labels).init, PARAMS)
    inner = theirs.inner_states[".*"].inner_state
    assert isinstance(inner.slots.mu["embed"]["w"], optax.MaskedNode)
    assert jax.tree.structure(inner) != jax.tree.structure(state.parts[".*"])


def test_step_sizes_are_given_to_all_or_by_pattern():
    opt = both(adamx.optimizer(adamx.SGD(), 1.0), adamx.optimizer(adamx.SGD(), 1.0))
    state = opt.init(PARAMS)
    for given, rates in ((0.5, (0.5, 0.5)), ({".*": 0.25}, (1.0, 0.25))):
        new, _ = opt.step(GRADS, state, PARAMS, learning_rate=given)
        updates, _ = opt.update(GRADS, state, PARAMS, learning_rate=given)
        for leaves in (new, optax.apply_updates(PARAMS, updates)):
            for name, rate in zip(NAMES, rates, strict=True):
                jax.tree.map(
                    lambda q, p, g, rate=rate: np.testing.assert_allclose(q, p - rate * g, rtol=1e-6, atol=1e-6),
                    *(part(x, name) for x in (leaves, PARAMS, GRADS)),
                )
    with pytest.raises(ValueError, match="pattern = 'head'"):
        opt.step(GRADS, state, PARAMS, learning_rate={"head": 1.0})


def by_matrix(path, p):
    return p.ndim > 1


def other_matrix(path, p):
    return p.ndim > 1


other_matrix.__qualname__ = by_matrix.__qualname__


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"embed": adamx.adam(1e-3)}, ValueError, r"dense/bias matches none of 'embed': add '\.\*'"),
        ({"nix": adamx.adam(1e-3), ".*": adamx.adam(1e-3)}, ValueError, r"'nix'.* matches none of the paths.*embed/w"),
        ({".*": adamx.adam(1e-3), "embed": adamx.adam(1e-3)}, ValueError, "are of groups before it"),
        ({"absent": adamx.adam(1e-3), ".*": adamx.adam(1e-3)}, ValueError, "'absent'.* no leaf"),
        ({}, TypeError, "should map patterns to optimizers"),
        ({".*": 1e-3}, TypeError, r"0\.001, of '\.\*', is not a gradient transformation"),
        ({"(": adamx.adam(1e-3)}, TypeError, "no regular expression"),
        ({by_matrix: adamx.adam(1e-3), other_matrix: adamx.adam(1e-3)}, ValueError, "two patterns are called"),
        (
            {"bias": adamx.adam(1e-3, groups=[adamx.Group("kernel", b2=0.9)]), ".*": adamx.adam(1e-3)},
            ValueError,
            r"Group\('kernel'\) has no leaf.* The paths are dense/bias$",
        ),
    ],
)
def test_mistakes_are_errors_with_their_cure(given, kind, message):
    with pytest.raises(kind, match=message):
        adamx.by_path(given).init(PARAMS)


def test_a_clip_of_sums_that_are_not_known_is_refused():
    opt = both(adamx.guard(adamx.accumulate(adamx.adam(1e-3), 2)), adamx.adam(1e-3))
    with pytest.raises(ValueError, match=r"'embed\|bias' accumulates.*around adamx\.by_path"):
        opt.step(GRADS, opt.init(PARAMS), PARAMS, clip_norm=1.0)


def test_what_a_part_does_not_read_and_states_of_others_are_refused():
    opt = both(adamx.adam(1e-3), optax.sgd(0.1))
    state = opt.init(PARAMS)
    for options, message in (({"loss": 1.0}, "loss"), ({"axis_name": "x"}, "axis_name")):
        with pytest.raises((TypeError, ValueError), match=message):
            opt.step(GRADS, state, PARAMS, **options)
    with pytest.raises(TypeError, match=r"not of these patterns, embed\|bias, \.\*"):
        opt.step(GRADS, state.parts[".*"], PARAMS)
    with pytest.raises(TypeError, match=r"state\.parts\['embed\|bias'\]"):
        _ = opt.engine
    with pytest.raises(TypeError, match=r"ByPath wraps an optimizer: put it around adamx\.in_shard_map"):
        adamx.in_shard_map(opt, P())
    with pytest.raises(TypeError, match=r"adamx\.by_path has 2 optimizers: give one of them alone"):
        adamx.diagnostics.suggest_eps(both(adamx.adam(1e-3), adamx.adam(1e-3)).init(PARAMS), opt)


SMALL = both(
    adamx.adamw(1e-2, moments="int8", weights="split8", kernel="xla"), adamx.lion(1e-3, weights="kahan", kernel="xla")
)


@functools.cache
def trained():
    params, state = adamx.from_master(PARAMS, SMALL)
    return jax.jit(SMALL.step)(NARROW_GRADS, state, params)


def test_masters_and_formats_are_read_and_changed_part_by_part():
    params, state = trained()
    masters = adamx.master_params(SMALL, state, params)
    assert {x.dtype for x in jax.tree.leaves(masters)} == {np.dtype(np.float32)}
    alone = [adamx.adamw(1e-2, moments="int8", weights="split8"), adamx.lion(1e-3, weights="kahan")]
    for name, opt in zip(NAMES, alone, strict=True):
        equal(part(masters, name), adamx.master_params(opt, state.parts[name], part(params, name)))
    exact = both(adamx.adamw(1e-2), adamx.lion(1e-3))
    dense = adamx.unpack_state(SMALL, state, params)
    converted = adamx.convert_state(state, SMALL, exact, params)
    without = {name: x._replace(residuals=()) for name, x in dense.parts.items()}
    equal(converted, dense._replace(parts=without))
    packed = adamx.pack_state(SMALL, dense, params)
    assert jax.tree.structure(packed) == jax.tree.structure(state)
    again, moved = adamx.from_master(masters, SMALL, state=converted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=2**-7), again, params)
    assert dtypes(moved) == dtypes(state)
    shapes = adamx.map_slots(lambda x, p: p.shape, SMALL, state, params)
    assert shapes.parts[NAMES[0]].slots.nu["embed"]["w"].low == (64, 128)
    with pytest.raises(ValueError, match="divide the leaves otherwise"):
        adamx.convert_state(state, SMALL, adamx.adam(1e-3), params)
    stalls = adamx.diagnostics.stalls(SMALL, state, NARROW_GRADS, params)
    assert float(stalls.weights.share) < 0.1
    thawed = both(adamx.adamw(1e-2, groups=[adamx.Group("bias", frozen=True)]), adamx.lion(1e-3))
    frozen = adamx.regroup(thawed, exact.init(PARAMS), PARAMS)
    assert dtypes(frozen) == dtypes(thawed.init(PARAMS))


def test_averages_of_all_optimizers_are_read_as_one_tree():
    of = lambda opt, **kwargs: adamx.averaged(opt, (0.5, None), **kwargs)  # noqa: E731
    opt = adamx.guard(both(of(adamx.lion(0.1)), of(adamx.adam(0.2), moments="bfloat16")))
    params, state = stepped(opt, PARAMS, GRADS, steps=3)
    for index in (0, 1):
        whole = adamx.averaged_params(state, params, index=index)
        for name in NAMES:
            equal(part(whole, name), part(adamx.averaged_params(state.inner.parts[name], params, index=index), name))
    some = both(adamx.averaged(adamx.lion(0.1)), optax.sgd(0.1))
    params, state = stepped(some, PARAMS, GRADS)
    message = (
        r"by_path has 1 averages of 'embed\|bias', and 0 of \.\*: wrap all alike, or .*state\.parts\['embed\|bias'\]"
    )
    for given in ((), (params,)):
        with pytest.raises(ValueError, match=message):
            adamx.averaged_params(state, *given)
    equal(adamx.averaged_params(state.parts[NAMES[0]], params)["dense"]["kernel"], params["dense"]["kernel"])


def test_explain_tells_who_steps_each_leaf():
    some = adamx.adamw(1e-2, groups=[adamx.Group("bias", b2=0.9)], kernel="xla")
    plan = {leaf.path: leaf for leaf in adamx.explain(adamx.guard(both(some, optax.sgd(0.1))), PARAMS)}
    embed, *dense = (plan[f"params{path}"] for path in ("['embed']['w']", "['dense']['kernel']", "['dense']['bias']"))
    kernel, bias = dense
    assert (embed.pattern, embed.formats) == ("embed|bias", {"mu": "float32", "nu": "float32"})
    assert (kernel.pattern, kernel.kernel, kernel.bytes) == (".*", "optax", 12 * 64 * 256)
    assert bias.group == "bias: b2 = 0.9"
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    inside = both(adamx.diagnostics.monitor(some), optax.sgd(0.1))
    spread = adamx.explain(inside, PARAMS, shardings=NamedSharding(mesh, P("x"))).spread
    assert "unknown, of an Optax transformation; an all-reduce of what the monitor sums up" in spread.collectives
    assert re.search(r"pattern +group\n", str(adamx.explain(both(some, optax.sgd(0.1)), PARAMS)))
    assert adamx.state_bytes(both(some, optax.sgd(0.1)), PARAMS).slots["nu"] == 4 * (64 * 128 + 64)


@pytest.mark.usefixtures("loose")
def test_states_of_the_partition_with_the_same_labels_move_from_optax_and_back():
    labels = {"embed": {"w": NAMES[0]}, "dense": {"kernel": NAMES[1], "bias": NAMES[0]}, "absent": None}
    theirs = optax.partition(dict(zip(NAMES, (optax.adamw(1e-2), optax.lion(1e-3)), strict=True)), labels)
    opt = both(adamx.adamw(1e-2), adamx.lion(1e-3))
    saved = jax.jit(theirs.update)(GRADS, theirs.init(PARAMS), PARAMS)[1]
    moved = adamx.from_optax(opt, saved, PARAMS)
    equal(moved.parts[".*"].slots.mu["dense"]["kernel"], saved.inner_states[".*"].inner_state[0].mu["dense"]["kernel"])
    assert dtypes(moved) == dtypes(opt.init(PARAMS))
    equal(adamx.to_optax(opt, moved, theirs, PARAMS), saved)


WRAPPERS = {
    "guard": adamx.guard,
    "accumulate": lambda opt: adamx.accumulate(opt, 2),
    "monitor": adamx.diagnostics.monitor,
    "lookahead": adamx.lookahead,
}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrappers_go_around_it_and_inside(wrap):
    """What is inside sees its own leaves, in the whole tree; none of them changes a first step (or its absence)."""
    opts = adamx.adam(1e-2, kernel="xla"), adamx.lion(1e-2, kernel="xla")
    out, inside = WRAPPERS[wrap](both(*opts)), both(WRAPPERS[wrap](opts[0]), opts[1])
    options = {} if wrap == "accumulate" else {"clip_norm": 1.0}
    new, state = stepped(out, PARAMS, GRADS, **options)
    other, own = stepped(inside, PARAMS, GRADS, **options)
    equal(part(new, NAMES[0]), part(other, NAMES[0]))
    assert adamx.state_bytes(out, PARAMS).slots == adamx.state_bytes(both(*opts), PARAMS).slots
    if wrap == "monitor":
        told = adamx.diagnostics.read(own.parts[NAMES[0]])
        assert told["all/snr"] > 0
        assert adamx.diagnostics.read(state)["embed/update_norm"] == pytest.approx(told["embed/update_norm"], rel=1e-6)
        assert adamx.diagnostics.read(state)["all/stalled"] == 0


def test_a_monitor_adds_what_each_part_keeps_beside_weights():
    opt = adamx.diagnostics.monitor(SMALL)
    params, state = adamx.from_master(PARAMS, opt)
    tiny = jax.tree.map(lambda g: 1e-3 * g, NARROW_GRADS)
    told = adamx.diagnostics.read(jax.jit(opt.step)(tiny, state, params)[1])
    assert told["all/stalled"] < 0.1  # of bfloat16 alone, most stay


def test_nnx_and_flax_and_a_checkpoint(tmp_path):
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    opt = adamx.by_path({"kernel$": adamx.adamw(1e-2, weights="split8", kernel="xla"), ".*": optax.sgd(0.1)})
    optimizer = adamx.flax.Optimizer.from_master(model, opt, wrt=nnx.Param)
    update = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.state(model, nnx.Param), clip_norm=1.0))
    update(model, optimizer)
    masters = adamx.master_params(opt, optimizer.opt_state, nnx.state(model, nnx.Param))
    assert (masters["kernel"].dtype, masters["bias"].dtype) == (jnp.float32, jnp.bfloat16)
    saved = jax.tree.map(np.asarray, nnx.state(optimizer))
    update(model, optimizer)
    nnx.update(optimizer, saved)
    equal(jax.tree.map(np.asarray, nnx.state(optimizer)), saved)
    update(model, optimizer)
    ocp = pytest.importorskip("orbax.checkpoint")
    state = both(adamx.adam(1e-3), adamx.lion(1e-3)).init(PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        equal(checkpointer.restore(tmp_path / "state", state), state)
    train = adamx.flax.TrainState.create(apply_fn=None, params=PARAMS, tx=both(adamx.adam(1e-3), optax.sgd(0.1)))
    assert int(train.apply_gradients(grads=GRADS, clip_norm=1.0).step) == 1


@pytest.mark.devices
@pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, marks=product), AxisType.Explicit], ids=str)
def test_on_a_mesh_bits_are_those_of_one_device_and_nothing_compiles_twice(kind):
    one = adamx.adamw(1e-2, moments="int8", weights="stochastic", kernel="xla")
    opt, mesh = both(one, one), jax.make_mesh((4,), ("x",), axis_types=(kind,))
    wanted, _ = stepped(opt, NARROW, NARROW_GRADS, clip_norm=1.0, grad_norm=50.0)
    with jax.set_mesh(mesh):
        ends = [None] if kind == AxisType.Explicit else []  # as results have them
        put = lambda x: jax.device_put(x, NamedSharding(mesh, P("x", *ends * (x.ndim - 1))))  # noqa: E731
        params, grads = (jax.tree.map(put, tree) for tree in (NARROW, NARROW_GRADS))
        shardings = adamx.state_shardings(opt, params)
        state = jax.jit(opt.init, out_shardings=shardings)(params)
        assert state.parts[".*"].slots.nu["dense"]["kernel"].code.sharding.spec[0] == "x"
        run = jax.jit(lambda g, s, p: opt.step(g, s, p, clip_norm=1.0, grad_norm=50.0))
        for _ in range(2):
            params, state = run(grads, state, params)
        assert run._cache_size() == 1
        equal(jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, wanted))


@pytest.mark.devices
def test_in_shard_map_goes_around_each_optimizer():
    one = adamx.adamw(1e-2, moments="int8", weights="stochastic", kernel="xla")
    opt, mesh = both(one, one), jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    options = {"clip_norm": 1.0, "grad_norm": 50.0}
    parts, state = adamx.in_shard_map(one, P("x")), jax.jit(opt.init)(NARROW)
    specs = jax.tree.map(lambda x: P("x") if x.ndim else P(), state)
    step = functools.partial(both(parts, parts).step, **options)
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P("x"), specs, P("x")), out_specs=(P("x"), specs))
    new, _ = jax.jit(mapped)(NARROW_GRADS, state, NARROW)
    wanted, _ = stepped(opt, NARROW, NARROW_GRADS, steps=1, **options)
    equal(jax.tree.map(np.asarray, new), jax.tree.map(np.asarray, wanted))


def test_a_step_size_for_optaxs_part_is_refused():
    opt, params = adamx.by_path({"a": adamx.adam(0.1), ".*": optax.sgd(1.0)}), {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(TypeError, match="an Optax transformation does not read it"):
        opt.step(params, opt.init(params), params, learning_rate=0.0)
    new, _ = opt.step(params, opt.init(params), params, learning_rate={"a": 0.0})
    assert float(new["a"][0]) == 1 and float(new["b"][0]) == 0
