"""Groups of leaves: numbers, formats and frozen leaves by path, in one state; regroup; µP."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.serialization import from_bytes, to_bytes

import adamx
from adamx import Group
from adamx.kernels import traced
from adamx.kernels.xla import shared_functions
from tests.helpers import some

RNG = np.random.default_rng(0)
SHAPES = {"embed": (6, 4), "layer": {"kernel": (4, 4), "bias": (4,)}, "head": (4, 6)}
PARAMS = jax.tree.map(lambda shape: RNG.standard_normal(shape), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def grads(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), float), PARAMS)


def run(opt, params, steps, state=None, first=0, part=lambda tree: tree):
    state, step = opt.init(params) if state is None else state, jax.jit(opt.step)
    for i in range(first, first + steps):
        params, state = step(part(grads(i)), state, params)
    return params, state


def slow(n):
    return 0.1 / (1 + jnp.asarray(n, float))


GROUPS = [
    Group("bias", weight_decay=0.0, b1=0.5),
    Group("head", learning_rate_scale=0.1, b2=0.9),
    Group(lambda path, leaf: path == "embed", frozen=True),
]


def test_groups_are_separate_optimizers_on_the_parts():
    """In float64, with a schedule: to rounding."""
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        whole, state = run(adamx.adamw(slow, weight_decay=0.3, groups=GROUPS), params, 5)
        parts = {
            "bias": (lambda t: t["layer"]["bias"], adamx.adamw(slow, b1=0.5, weight_decay=0.0)),
            "head": (lambda t: t["head"], adamx.adamw(lambda n: 0.1 * slow(n), b2=0.9, weight_decay=0.3)),
            "kernel": (lambda t: t["layer"]["kernel"], adamx.adamw(slow, weight_decay=0.3)),
        }
        for part, opt in parts.values():
            alone, _ = run(opt, part(params), 5, part=part)
            np.testing.assert_allclose(part(whole), alone, rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(whole["embed"], params["embed"])
        assert state.slots.mu["embed"] is None


@pytest.mark.parametrize(
    ("settings", "rate", "largest"),
    [
        ({"learning_rate_scale": 0.5}, lambda n: 0.5 * slow(n), 0.05),
        ({"learning_rate": 0.02}, 0.02, None),
        ({"learning_rate": slow, "lr_max": 0.2}, slow, 0.2),
    ],
    ids=["scale", "number", "schedule"],
)
def test_independent_decay_of_a_group_is_that_of_a_separate_optimizer(settings, rate, largest):
    """In float64, beside a schedule."""
    make = functools.partial(adamx.adamw, weight_decay=0.3, decay="independent")
    with jax.enable_x64(True):
        params = {name: jnp.asarray(PARAMS[name]) for name in ("embed", "head")}
        part = lambda tree: {name: tree[name] for name in params}  # noqa: E731
        whole, _ = run(make(slow, lr_max=0.1, groups=[Group("head", **settings)]), params, 3, part=part)
        alone, _ = run(make(rate, lr_max=largest), params["head"], 3, part=lambda t: t["head"])
        np.testing.assert_allclose(whole["head"], alone, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("scale", [0.0, np.float32(0), lambda n: jnp.zeros([])], ids=["0", "array", "schedule"])
def test_a_step_size_of_zero_stops_independent_decay(scale):
    groups = [Group("head", learning_rate_scale=scale)]
    opt = adamx.adamw(0.1, weight_decay=0.3, decay="independent", groups=groups)
    params, _ = opt.step(grads(0), opt.init(narrow()), narrow())
    np.testing.assert_array_equal(params["head"], narrow()["head"])


@functools.cache
def narrow():
    return jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)


def test_the_state_is_that_of_no_groups_and_goes_on_without_them():
    """Optax's partition has another tree."""
    plain, grouped = adamx.adamw(0.1), adamx.adamw(0.1, groups=GROUPS[:2])
    params, state = run(grouped, narrow(), 2)
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(narrow()))
    into = lambda opt, state: from_bytes(opt.init(narrow()), to_bytes(state))  # noqa: E731
    params, state = run(plain, params, 1, into(plain, state), 2)
    _, state = run(grouped, params, 1, into(grouped, state), 3)
    assert state.count == 4
    label = jax.tree_util.tree_map_with_path(lambda path, _: "head" if "head" in str(path) else "rest", narrow())
    optaxs = optax.partition({"head": optax.adamw(0.01), "rest": optax.adamw(0.1)}, label)
    assert jax.tree.structure(optaxs.init(narrow())) != jax.tree.structure(optax.adamw(0.1).init(narrow()))


def test_a_frozen_leaf_has_no_slots_and_its_gradient_is_not_read():
    opt = adamx.adam(0.1, moments="int8", groups=[Group("embed", frozen=True)])
    state, given = opt.init(narrow()), grads(0) | {"embed": jnp.full((6, 4), jnp.nan)}
    assert adamx.state_bytes(opt, narrow()).slots["mu"] == 4 * (16 + 4 + 24)
    for g in (given, given | {"embed": None}):
        params, after = opt.step(g, state, narrow(), clip_norm=1.0)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((params, after)))
        np.testing.assert_array_equal(params["embed"], narrow()["embed"])
    updates, _ = opt.update(given | {"embed": None}, state)
    assert updates["embed"] is None


@pytest.mark.parametrize("b2", [0.99, lambda n: 1 - 1 / (2 + jnp.asarray(n, float))], ids=["number", "schedule"])
def test_a_thawed_leaf_is_stepped_as_by_an_optimizer_that_begins_then(b2):
    """Bit for bit: its bias correction counts from there, schedules go on."""
    frozen, opt = adamx.adamw(slow, b2=b2, groups=[Group("head", frozen=True)]), adamx.adamw(slow, b2=b2)
    params, state = run(frozen, narrow(), 3)
    with pytest.raises(ValueError, match=r"adamx\.regroup"):
        opt.step(grads(0), state, params)
    state = adamx.regroup(opt, state, params)
    late = adamx.adamw(lambda n: slow(n + 3), b2=(lambda n: b2(n + 3)) if callable(b2) else b2)
    alone, _ = run(late, params["head"], 3, first=3, part=lambda t: t["head"])
    leaves, tree = jax.tree.flatten(state)
    params, state = run(opt, params, 3, tree.unflatten(leaves), 3)
    np.testing.assert_array_equal(params["head"], alone)
    with pytest.raises(ValueError, match=r"head'\] is frozen, but its state has slots: `adamx\.regroup`"):
        frozen.step(grads(0), state, params)
    again = adamx.regroup(frozen, state, params)
    assert again.slots.nu["head"] is None
    assert again.begun == ()
    assert jax.tree.structure(again) == jax.tree.structure(frozen.init(params))


def test_regrouped_slots_are_stored_as_the_new_groups_say():
    params = {"a": jnp.ones((64, 128), jnp.bfloat16), "b": jnp.ones((64, 128), jnp.bfloat16)}
    old = adamx.adam(0.1)
    opt = adamx.adam(0.1, groups=[Group("a", moments="int8", weights="split8")])
    _, state = old.step(params, old.init(params), params)
    new = adamx.regroup(opt, state, params)
    assert new.slots.mu["b"] is state.slots.mu["b"]
    assert jax.tree.structure(new) == jax.tree.structure(jax.eval_shape(opt.init, params))
    opt.step(params, new, params)
    exact = adamx.unpack_state(opt, new, params)
    np.testing.assert_allclose(exact.slots.mu["a"], state.slots.mu["a"], rtol=0.02)
    assert adamx.convert_state(new, opt, old, params).residuals == ()
    back = adamx.regroup(old, new, params)
    assert jax.tree.structure(back) == jax.tree.structure(state)


def test_prodigy_thaws_nothing():
    opt = adamx.prodigy(groups=[Group("head", frozen=True)])
    _, state = opt.step(grads(0), opt.init(narrow()), narrow())
    with pytest.raises(ValueError, match=r"params/head is thawed, but the rule sums"):
        adamx.regroup(adamx.prodigy(), state, narrow())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamx.adam(0.1, groups=[Group("nope", b2=0.9)]), r"Group\('nope'\) has no leaf: .* embed, head"),
        (lambda: adamx.adam(0.1, groups=[Group("e", b2=0.9), Group("^head", b1=0.5)]), "are of groups before it"),
        (
            lambda: adamx.lion(0.1, groups=[Group("head", eps=1.0)]),
            r"of Lion: keyword = 'eps': choose from 'b1', .*'frozen', 'name'$",
        ),
        (
            lambda: adamx.adam(0.1, groups=[Group("head", learning_rate_scal=1.0)]),
            "of Adam: keyword = 'learning_rate_scal': did you mean 'learning_rate_scale'",
        ),
        (lambda: Group("head", frozen=True, b2=0.9), "is frozen"),
        (lambda: Group("head("), r"Group\('head\('\) has no regular expression"),
        (lambda: Group("head", learning_rate=0.1, learning_rate_scale=0.1), "learning_rate and its scale"),
        (lambda: Group("head", weight_decay_scale=-1.0), "weight_decay_scale = -1.0 is outside"),
        (lambda: adamx.adam(0.1, groups=[Group("head", b2=1.5)]), "b2 = 1.5 is outside"),
        (lambda: adamx.adam(0.1, groups=[Group("head", b2=slow)]), "b2 of a group is the same at all steps"),
        (
            lambda: adamx.adamw(0.1, decay="independent", groups=[Group("head", learning_rate=slow)]),
            r"against its largest value: give lr_max=",
        ),
        (lambda: adamx.adam(0.1, groups=["head"]), "should be adamx.Groups"),
        (lambda: adamx.adam(0.1, groups=Group("head", b2=0.9)), r"should be a list of groups: \[Group\('head'\)\]"),
        (lambda: Group("head", frozen="no"), r"Group\('head'\): frozen = 'no' should be True or False"),
        (lambda: adamx.optimizer(adamx.SGD(), 0.1, groups=[Group("head", moments="int8")]), "keeps none"),
        (
            lambda: adamx.adamw(
                0.1, mask={"embed": True, "layer": True, "head": False}, groups=[Group("head", weight_decay=0.1)]
            ),
            r"group 'head' gives params\['head'\] weight_decay = 0.1, and the mask leaves it out",
        ),
    ],
)
def test_a_group_that_cannot_be_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make().init(narrow())


@pytest.mark.parametrize("name", ["adamw", "lamb", "adopt", "novograd", "stable_adamw", "schedule_free_adamw", "adan"])
def test_a_scale_is_of_the_step_size_and_the_decay_that_the_optimizer_has(name):
    """Wherever the rule keeps them."""
    factory, params = getattr(adamx, name), {"a": narrow()["head"], "b": narrow()["head"]}
    opt = factory(0.1, weight_decay=0.2, groups=[Group("a", learning_rate_scale=0.5, weight_decay_scale=2.0)])
    alone = factory(0.05, weight_decay=0.4)
    g = {"a": grads(0)["head"], "b": grads(1)["head"]}
    state, own = opt.init(params), alone.init({"a": params["a"]})
    mine = {"a": params["a"]}
    for _ in range(2):
        params, state = opt.step(g, state, params)
        mine, own = alone.step({"a": g["a"]}, own, mine)
    np.testing.assert_allclose(params["a"], mine["a"], rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("moments", ["float32", "int8"])
def test_leaves_whose_groups_differ_in_numbers_share_their_function(moments, monkeypatch):
    """And are stepped as without sharing, to rounding; an infinite weight does not decay by 0.

    Of two shapes, that of the first group alone is traced in the second.
    """
    params = {f"g{i}": jnp.ones((32, 128)).at[0, 0].set(jnp.inf if i == 2 else 1) for i in range(4)}
    params |= {f"g{i}/long": jnp.ones((64, 128)) for i in range(4)}
    groups = [
        Group("g0", learning_rate_scale=0.5, b2=0.9),
        Group("g1", b1=0.5, eps=1e-3),
        Group("g2", weight_decay=0.0),
    ]
    opt = adamx.adamw(0.1, weight_decay=0.1, groups=groups, moments=moments, kernel="xla")
    shared = []

    def spy(functions):
        done = traced.with_shared_code(functions)
        shared.append((len(done), len({id(x.inside) for x in done})))
        return done

    monkeypatch.setattr(shared_functions, "with_shared_code", spy)
    given = jax.tree.map(jnp.ones_like, params)
    new, _ = jax.jit(opt.step)(given, opt.init(params), params)
    assert shared == [(4, 1)]
    wanted, _ = opt.step(given, opt.init(params), params)
    assert new["g2"][0, 0] == jnp.inf
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new, wanted)


def test_functions_of_one_text_differ_in_shapes_alone():
    def text(function, size):
        inside, nothing = jax.make_jaxpr(function)(jnp.ones(size)), jax.make_jaxpr(lambda: [])()
        return traced.text(traced.Traced(nothing, [], inside, structure=None))

    for function in (lambda y: jax.jit(lambda x: x * float(y)), lambda y: lambda x: x**y):
        assert text(function(2), 4) == text(function(2), 5) != text(function(3), 5)


def test_a_step_with_groups_has_the_derivatives_of_separate_optimizers():
    params = {"head": jnp.full(4, 2.0), "trunk": jnp.arange(1.0, 5)}

    def after_two(opt, params):
        new, state = opt.step(params, opt.init(params), params)
        new, _ = opt.step(new, state, new)
        return sum(jnp.sum(x) for x in new.values())

    def apart(rate):
        head, trunk = ({name: x} for name, x in params.items())
        return after_two(make(rate, b2=0.95), head) + after_two(make(rate), trunk)

    make = functools.partial(adamx.adam, kernel="xla")
    got = jax.grad(lambda rate: after_two(make(rate, groups=[Group("head", b2=0.95)]), params))
    np.testing.assert_allclose(jax.jit(got)(0.1), jax.jit(jax.grad(apart))(0.1), rtol=1e-5)


@pytest.mark.devices
def test_a_number_that_varies_over_devices_and_one_of_a_group_that_does_not():
    """What is stepped with the latter alone does not vary."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, whole = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()
    params = {name: jnp.ones(2) for name in ("head", "other", "trunk")}

    def step(rates, params):
        groups = [Group("head", learning_rate=0.5), Group("other", b2=0.5)]
        opt = adamx.lion(rates[0], weight_decay=0.0, groups=groups, kernel="xla")
        return opt.step(params, opt.init(params), params)[0]

    outs = {"head": whole, "other": spec, "trunk": spec}
    stepped = jax.shard_map(step, mesh=mesh, in_specs=(spec, whole), out_specs=outs)
    rates = jnp.arange(4) / 8
    new = jax.jit(stepped)(rates, params)
    np.testing.assert_array_equal(new["head"], [0.5, 0.5])
    np.testing.assert_array_equal(new["trunk"], jnp.repeat(1 - rates, 2))


def test_explain_and_the_monitor_see_groups():
    opt = adamx.adamw(0.1, weight_decay=0.1, groups=GROUPS)
    told = {leaf.path: leaf.group for leaf in adamx.explain(opt, narrow())}
    assert told["params['head']"] == "head: learning_rate x 0.1, b2 = 0.9"
    assert told["params['layer']['bias']"] == "bias: weight_decay = 0, b1 = 0.5"
    assert "frozen" in str(adamx.explain(opt, narrow()))
    assert "group" not in str(adamx.explain(adamx.adam(0.1), narrow()))
    watched, alone = adamx.monitor(opt), adamx.monitor(adamx.adamw(0.01, b2=0.9, weight_decay=0.1), groups=0)
    _, state = run(watched, narrow(), 2)
    _, other = run(alone, {"head": narrow()["head"]}, 2, part=lambda t: {"head": t["head"]})
    many, one = adamx.diagnostics.read(state), adamx.diagnostics.read(other)
    for name, x in one.items():
        np.testing.assert_allclose(many[name.replace("all/", "head/")], x, rtol=1e-6)


def test_flax_models_take_groups():
    groups = [Group("bias", weight_decay=0.0), Group("kernel", learning_rate_scale=0.5)]
    opt = adamx.adamw(0.1, groups=groups)
    params = nn.Dense(3).init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    new, _ = opt.step(params, opt.init(params), params)
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    nnx.update(model, nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, opt, wrt=nnx.Param)
    model.kernel[...] = params["kernel"]
    model.bias[...] = params["bias"]
    optimizer.update(model, nnx.state(model, nnx.Param))
    np.testing.assert_allclose(model.kernel[...], new["kernel"], rtol=1e-6)


def test_shardings_follow_frozen_leaves_and_formats():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    opt = adamx.adamw(0.1, groups=[Group("a", frozen=True), Group("b", moments="int8", learning_rate_scale=0.5)])
    with jax.set_mesh(mesh):
        params = {k: jax.device_put(jnp.ones((64, 256)), jax.P("data")) for k in "abc"}
        shardings = adamx.state_shardings(opt, params)
        state = jax.jit(opt.init, out_shardings=shardings)(params)
        assert shardings.slots.mu["a"] is None
        assert shardings.slots.nu["b"].code.spec == jax.P("data", None)
        new, after = jax.jit(opt.step)(params, state, params)
    assert jax.tree.map(lambda x: x.sharding, after) == jax.tree.map(lambda x: x.sharding, state)
    alone, _ = opt.step(
        {k: jnp.ones((64, 256)) for k in "abc"}, opt.init(params), {k: jnp.ones((64, 256)) for k in "abc"}
    )
    np.testing.assert_allclose(new["b"], alone["b"], rtol=1e-6)


# µP


def mlp(n):
    keys = jax.random.split(jax.random.key(0), 2)
    kernel, hidden = jax.random.normal(keys[0], (8, n)) / 8**0.5, jax.random.normal(keys[1], (n, n)) * (2 / n) ** 0.5
    return {"in": {"kernel": kernel, "bias": jnp.zeros(n)}, "hidden": {"kernel": hidden}, "out": jnp.zeros((n, 4))}


def mlp_activations(params, x):
    h = jax.nn.relu(x @ params["in"]["kernel"] + params["in"]["bias"][None])
    h = jax.nn.relu(h @ params["hidden"]["kernel"])
    return [h, h @ params["out"]]


def transformer(n):
    keys = jax.random.split(jax.random.key(0), 5)
    normal = lambda key, *shape, fan_in=1: jax.random.normal(key, shape) / fan_in**0.5  # noqa: E731
    qkv = {name: normal(key, n, 4, n // 4, fan_in=n) for name, key in zip("qkv", keys, strict=False)}
    rest = {"proj": normal(keys[4], 4, n // 4, n, fan_in=n), "head": jnp.zeros((n, 32))}
    return {"embed": normal(keys[3], 32, n), **qkv, **rest}


def transformer_activations(params, tokens):
    x = params["embed"][tokens]
    q, k, v = (jnp.einsum("td,dhe->the", x, params[name]) for name in "qkv")
    scores = jax.nn.softmax(8 * jnp.einsum("the,she->hts", q, k) / q.shape[-1], -1)
    x = x + jnp.einsum("hts,she,hed->td", scores, v, params["proj"])
    return [q, x, x @ params["head"]]


@pytest.mark.parametrize(
    ("init", "activations", "data"),
    some(
        [
            (mlp, mlp_activations, jax.ShapeDtypeStruct((16, 8), jnp.float32)),
            (transformer, transformer_activations, jax.ShapeDtypeStruct((16,), jnp.int32)),
        ],
        lambda init, *_: init is mlp,
    ),
    ids=["mlp", "transformer"],
)
def test_a_step_size_stays_right_from_width_64_to_1024(init, activations, data):
    """By how much four steps change activations: as much in a wide model, and by much more without `mup_groups`."""
    rng = np.random.default_rng(1)
    inputs = jnp.asarray(
        rng.integers(0, 32, data.shape) if data.dtype == jnp.int32 else rng.standard_normal(data.shape)
    )
    labels = jnp.arange(16) % 4

    def change(n, mup):
        params = init(n)
        groups = adamx.mup_groups(params, jax.eval_shape(lambda: init(64))) if mup else ()
        opt, first = adamx.adam(0.01, eps=1e-12, groups=groups), activations(params, inputs)

        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(activations(params, inputs)[-1], labels).mean()

        step, state = jax.jit(lambda p, s: opt.step(jax.grad(loss)(p), s, p)), opt.init(params)
        for _ in range(4):
            params, state = step(params, state)
        return np.array([jnp.mean(jnp.abs(a - b)) for a, b in zip(activations(params, inputs), first, strict=True)])

    growth = [np.log(change(1024, mup) / change(64, mup)) / np.log(16) for mup in (True, False)]  # exponents
    assert np.all(np.abs(growth[0]) < 0.25), growth[0]
    assert np.all(growth[1] > 0.35), growth[1]


def test_what_mup_cannot_tell_is_asked_for():
    base, wide = ({"w": jax.ShapeDtypeStruct((n, n, n), jnp.float32)} for n in (4, 8))
    with pytest.raises(ValueError, match=r"params\['w'\], of shape \(8, 8, 8\), grows along several axes"):
        adamx.mup_groups(wide, base)
    (group,) = adamx.mup_groups(wide, base, fan_in=lambda path, leaf: (0,), keep_decay=False)
    assert dict(group.scales) == {"learning_rate": 0.5}
    with pytest.raises(ValueError, match="other axes"):
        adamx.mup_groups(wide, {"w": jax.ShapeDtypeStruct((4, 4), jnp.float32)})
    with pytest.raises(
        ValueError, match=r"params\['w'\] has no counterpart in the base_params: give those of one model"
    ):
        adamx.mup_groups(wide, {})
    assert adamx.mup_groups(base, base) == []


def test_mup_keeps_what_other_groups_set():
    """Their step sizes are scaled, their own ones too; where nothing grows they are as they were."""
    shapes = lambda n: {"attn": (n, n), "head": (n, 8), "out": (n, 4), "embed": (8, n), "norm": (n,)}  # noqa: E731
    wide, base = ({name: jnp.ones(shape) for name, shape in shapes(n).items()} for n in (16, 4))
    own = [
        Group("attn|norm", b2=0.95, learning_rate_scale=0.5, name="trunk"),
        Group("head", learning_rate=adamx.live("rate", 0.5), weight_decay=0.0),
        Group("embed", frozen=True),
    ]
    opt = adamx.adamw(0.1, weight_decay=0.2, groups=adamx.mup_groups(wide, base, groups=own))
    told = adamx.hyperparameters(opt, opt.init(wide))
    assert {name: float(x) for name, x in told.items() if "/" in name} == pytest.approx(
        {"trunk/b2": 0.95, "trunk/learning_rate": 0.05, "head, fan-in x 4/learning_rate": 0.125}
        | {"head, fan-in x 4/weight_decay": 0.0, "fan-in x 4/learning_rate": 0.025, "fan-in x 4/weight_decay": 0.8}
        | {
            "trunk, fan-in x 4/b2": 0.95,
            "trunk, fan-in x 4/learning_rate": 0.0125,
            "trunk, fan-in x 4/weight_decay": 0.8,
        }
    )
    with pytest.raises(ValueError, match=r"Group\('nrom', name='trunk'\) has no leaf"):
        adamx.mup_groups(wide, base, groups=[Group("nrom", name="trunk")])


def test_boxed_parameters_have_the_groups_of_bare_ones():
    box = lambda n: {"dense": nn.Partitioned(jnp.ones((n, n)), (None, "m"))}  # noqa: E731
    linear = lambda n: nnx.eval_shape(lambda: nnx.state(nnx.Linear(n, n, rngs=nnx.Rngs(0)), nnx.Param))  # noqa: E731
    for make in (box, linear):
        opt = adamx.adamw(0.1, groups=adamx.mup_groups(make(8), make(4)))
        assert [leaf.group[:10] for leaf in adamx.explain(opt, make(8)) if leaf.group] == ["fan-in x 2"]


def test_functions_of_one_name_are_told_apart():
    groups = [adamx.Group(lambda path, leaf, name=name: name == path, b2=b2) for name, b2 in (("a", 0.5), ("b", 0.6))]
    opt, params = adamx.adam(0.1, groups=groups), {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
    told = adamx.hyperparameters(opt, opt.init(params))
    assert [x for name, x in told.items() if name.endswith("/b2")] == [0.5, 0.6]


def test_biases_of_several_axes_keep_their_step_size():
    wide, narrow = ({"query": {"bias": jnp.ones((n // 16, 16))}} for n in (256, 64))
    assert adamx.mup_groups(wide, narrow) == []
