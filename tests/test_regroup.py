"""Leaves are frozen and thawed, and formats changed, under every wrapper: what wrappers keep follows."""

import dataclasses
import functools

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
from adamx import Group

PARAMS = {"a": jnp.arange(1.0, 5.0), "b": jnp.full(3, 2.0)}
GRADS = {"a": jnp.full(4, 0.5), "b": jnp.array([1.0, -2.0, 3.0])}


@dataclasses.dataclass(frozen=True, eq=False)
class Last(adamx.Wrapper):
    """A user's wrapper, whose state is a tuple: of the optimizer, and the last gradients of leaves that move."""

    def init(self, params):
        leaves, tree = jax.tree.flatten(params, is_leaf=lambda x: x is None)
        frozen = self.frozen(adamx._leaves.flatten(params, "params"))
        return self.opt.init(params), tree.unflatten([None if f else x for f, x in zip(frozen, leaves, strict=True)])

    def update(self, updates, state, params=None, **extra_args):
        updates, inner = self.opt.update(updates, state[0], params, **extra_args)
        return updates, (inner, state[1])

    def step(self, grads, state, params, **options):
        params, inner = self.opt.step(grads, state[0], params, **options)
        return params, (
            inner,
            jax.tree.map(lambda x, g: x if x is None else g, state[1], grads, is_leaf=lambda x: x is None),
        )


def make(kind, frozen, every=1):
    """An optimizer of the kind that does or does not freeze `b`."""
    opt = adamx.adam(0.1, groups=[Group("b", frozen=True)] if frozen else (), kernel="xla")
    averaged = functools.partial(adamx.averaged, decay=(0.9, None))
    accumulate = functools.partial(adamx.accumulate, every=every)
    by_path = lambda x: adamx.by_path({"a": adamx.averaged(adamx.adam(0.2)), ".*": x})  # noqa: E731
    return {
        "accumulate": accumulate,
        "lookahead(user)": lambda x: adamx.lookahead(Last(x).optimizer()),
        "guard(accumulate(averaged))": lambda x: adamx.guard(accumulate(averaged(x))),
        "averaged(guard)": lambda x: averaged(adamx.guard(x)),
        "by_path(averaged)": lambda x: by_path(averaged(x)),
        "averaged(by_path)": lambda x: averaged(by_path(x)),
        "monitor(user(averaged))": lambda x: adamx.monitor(Last(averaged(x)).optimizer()),
    }[kind](opt)


KINDS = [
    "lookahead(user)",
    "guard(accumulate(averaged))",
    "averaged(guard)",
    "by_path(averaged)",
    "averaged(by_path)",
    "monitor(user(averaged))",
]


def step(opt, state, params):
    return jax.jit(opt.step)(GRADS, state, params)


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_freeze_and_thaw_under_wrappers_and_their_nestings(kind):
    frozen, thawed = make(kind, frozen=True), make(kind, frozen=False)
    params, state = step(frozen, frozen.init(PARAMS), PARAMS)
    state = adamx.regroup(thawed, state, params)
    form = lambda opt: jax.tree.map(lambda x: (x.shape, x.dtype), jax.eval_shape(opt.init, PARAMS))  # noqa: E731
    is_state = lambda x: isinstance(x, adamx.State)  # noqa: E731
    bare = jax.tree.map(lambda x: x._replace(begun=()) if is_state(x) else x, state, is_leaf=is_state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), bare) == form(thawed)
    new, state = step(thawed, state, params)
    np.testing.assert_array_equal(params["b"], PARAMS["b"])
    np.testing.assert_allclose(new["b"], params["b"] - 0.1 * np.sign(GRADS["b"]), rtol=1e-6)
    again = adamx.regroup(frozen, state, new)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == form(frozen)
    last, _ = step(frozen, again, new)
    np.testing.assert_array_equal(last["b"], new["b"])
    assert (last["a"] != new["a"]).all()


def test_a_thawed_leafs_average_begins_at_its_present_weight_and_others_go_on():
    """In codes, of narrow weights, which are cut out of a chain by a mask; the average of a frozen one is gone."""
    params = {"a": jnp.ones((64, 64), jnp.bfloat16), "b": jnp.full((64, 64), 3.0, jnp.bfloat16), "c": jnp.ones(2)}
    options = {"weights": "split8", "kernel": "xla", "moments": "int8"}
    both = [
        adamx.averaged(adamx.adam(0.1, groups=groups, **options), (0.9, None), moments="int8")
        for groups in ([Group("b", frozen=True)], ())
    ]
    frozen, thawed = (optax.chain(optax.masked(opt, {"a": True, "b": True, "c": False})) for opt in both)
    state = frozen.init(params)
    _, state = frozen.update(params, state, params)
    new = adamx.regroup(both[1], state, params)
    like = jax.tree.structure(jax.eval_shape(thawed.init, params))
    assert jax.tree.structure(new[0].inner_state.averages) == like.children()[0].children()[0].children()[2]
    for now, was in zip(new[0].inner_state.averages, state[0].inner_state.averages, strict=True):
        assert now.average["a"].code is was.average["a"].code
    average = adamx.averaged_params(new[0].inner_state, {**params, "c": optax.MaskedNode()}, index=0)
    np.testing.assert_allclose(average["b"].astype(float), 3.0, rtol=0.02)
    thawed.update(params, new, params)
    again = adamx.regroup(both[0], new, params)
    assert again[0].inner_state.averages[1].average["b"] is None


def test_a_leaf_that_thaws_within_a_window_has_no_gradients_of_before_it():
    frozen, thawed = (make("accumulate", frozen, every=2) for frozen in (True, False))
    params, state = step(frozen, frozen.init(PARAMS), PARAMS)
    state = adamx.regroup(thawed, state, params)
    np.testing.assert_array_equal(state.sums["a"], GRADS["a"])
    np.testing.assert_array_equal(state.sums["b"], 0)
    assert (state.position, state.weight) == (1, 1)


@pytest.mark.usefixtures("loose")
def test_nnx_models_freeze_and_thaw_under_wrappers():
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    make = lambda *groups: adamx.guard(adamx.averaged(adamx.adam(0.1, groups=groups), moments="int8"))  # noqa: E731
    frozen, thawed = make(Group("kernel", frozen=True)), make()
    optimizer, first = adamx.flax.Optimizer(model, frozen, wrt=nnx.Param), model.kernel[...]
    update = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.state(model, nnx.Param)))
    update(model, optimizer)
    np.testing.assert_array_equal(model.kernel[...], first)
    state = adamx.regroup(thawed, optimizer.opt_state, nnx.state(model, nnx.Param))
    optimizer = adamx.flax.Optimizer(model, thawed, wrt=nnx.Param, opt_state=state)
    assert nnx.state(optimizer)  # all arrays are in variables
    average = adamx.averaged_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    np.testing.assert_allclose(average["kernel"][...], first, atol=0.02 * np.abs(first).max())
    update(model, optimizer)
    assert (model.kernel[...] != first).all()
    state = adamx.regroup(frozen, optimizer.opt_state, nnx.state(model, nnx.Param))
    now, optimizer = model.kernel[...], adamx.flax.Optimizer(model, frozen, wrt=nnx.Param, opt_state=state)
    update(model, optimizer)
    np.testing.assert_array_equal(model.kernel[...], now)


@pytest.mark.parametrize(
    "wrap",
    [
        adamx.lookahead,
        adamx.monitor,
        lambda opt: adamx.averaged(adamx.guard(opt)),
        lambda opt: adamx.guard(adamx.accumulate(adamx.averaged(opt), 2)),
    ],
)
def test_wrappers_are_put_around_a_running_state(wrap):
    """They begin, what is within them goes on."""
    bare = adamx.adam(0.1)
    opt, state, params = wrap(bare), bare.init(PARAMS), PARAMS
    with pytest.raises(TypeError, match=r"State is not the state of adamx\..*\(grads, state, params\).*adamx\.regroup"):
        opt.step(GRADS, state, params)
    new = adamx.regroup(opt, state, params)
    forms = [jax.tree.map(lambda x: (x.shape, x.dtype), x) for x in (new, jax.eval_shape(opt.init, PARAMS))]
    assert forms[0] == forms[1]
    assert optax.tree.get(new, "mu")["a"] is state.slots.mu["a"]
    jax.eval_shape(opt.step, GRADS, new, params)


def test_live_numbers_and_wrappers_are_added_around_and_within_and_taken_away():
    fixed, live = adamx.adamw(0.1), adamx.adamw(adamx.live("rate", 0.1))
    guarded, opt = adamx.guard(fixed), adamx.accumulate(adamx.guard(live), 2)
    state = guarded.init(PARAMS)._replace(norm=jnp.float32(3.0))
    new = adamx.regroup(adamx.guard(adamx.averaged(fixed)), state, PARAMS)
    assert new.norm is state.norm and new.inner.inner.count is state.inner.count
    np.testing.assert_array_equal(adamx.averaged_params(new)["a"], PARAMS["a"])
    new = adamx.regroup(opt, state, PARAMS)
    assert new.inner.norm is state.norm and new.inner.inner.live == {"rate": np.float32(0.1)}
    jax.eval_shape(opt.step, GRADS, new, PARAMS)
    kept = adamx.regroup(opt, adamx.set_hyperparameters(new, rate=0.2), PARAMS)
    assert kept.inner.inner.live == {"rate": np.float32(0.2)}
    assert jax.tree.structure(adamx.regroup(fixed, new.inner.inner, PARAMS)) == jax.tree.structure(fixed.init(PARAMS))
    with pytest.raises(ValueError, match=r"adamx\.regroup\(opt, state, params\)"):
        live.step(GRADS, state.inner, PARAMS)


def test_a_state_of_other_wrappers_is_refused():
    adam = adamx.adam(0.1)
    averaged, guarded = adamx.averaged(adam), adamx.guard(adam)
    states = {opt: opt.init(PARAMS) for opt in (adam, averaged, guarded)}
    for opt, was, match in [
        (averaged, guarded, r"1 GuardState, that of the optimizer 0: give what is within it, state\.inner"),
        (adam, guarded, r"GuardState.*give what is within it, state\.inner"),
        (adamx.averaged(averaged, 0.5), averaged, r"ambiguous: the state has 1 AveragedState, .* 2: regroup the inner"),
        (adamx.by_path({".*": adam}), adam, "there is no ByPathState in the State: give the optimizer with"),
        (adamx.guard(adam, window=None), guarded, r"state/recent is in one .* only: .* `window` of adamx\.guard that"),
        (adamx.guard(adam, window=64), guarded, r"\(2, 128\), and would have \(2, 64\): .* `window` of adamx\.guard"),
        (
            adamx.averaged(adam, (0.9, 0.5)),
            averaged,
            r"averages/1.* only: .*`decay` and `sigma_rel` of adamx\.averaged",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            adamx.regroup(opt, states[was], PARAMS)
    with pytest.raises(ValueError, match=r"AveragedState, GuardState, from outside in.*another order"):
        adamx.regroup(adamx.guard(averaged), adamx.averaged(guarded).init(PARAMS), PARAMS)


def test_wrappers_begin_in_parts_of_by_path():
    make = lambda wrap: adamx.by_path({"b": wrap(adamx.adam(0.1)), ".*": optax.sgd(0.1)})  # noqa: E731
    state = make(adamx.guard).init(PARAMS)
    new = adamx.regroup(opt := make(lambda x: adamx.averaged(adamx.guard(x))), state, PARAMS)
    assert jax.tree.structure(new) == jax.tree.structure(jax.eval_shape(opt.init, PARAMS))
    np.testing.assert_array_equal(new.parts["b"].averages[0].average["b"], PARAMS["b"])
    assert new.parts["b"].inner.norm is state.parts["b"].norm


def test_a_decay_rate_begins_to_be_live_and_to_follow_a_schedule():
    """As if it had always done so, also for leaves that were thawed; and back."""
    make = lambda b1, frozen: adamx.adam(0.1, b1=b1, groups=[Group("b", frozen=True)] if frozen else (), kernel="xla")  # noqa: E731
    live, fixed = adamx.live("b1", 0.8), make(0.8, frozen=False)

    def go(b1):
        first, opt = make(b1, frozen=True), make(b1, frozen=False)
        params, state = step(first, first.init(PARAMS), PARAMS)
        return step(opt, adamx.regroup(opt, state, params), params)

    params, state = go(0.8)
    for rate in (live, lambda _: 0.8):
        got, (_, wanted) = adamx.regroup(make(rate, frozen=False), state, params), go(rate)
        assert jax.tree.structure(got) == jax.tree.structure(wanted)
        assert got.slots.mu["a"] is state.slots.mu["a"]
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7), got, wanted)
        jax.tree.map(np.testing.assert_array_equal, adamx.regroup(fixed, got, params), state)
    with pytest.raises(ValueError, match=r"adamx\.regroup\(opt, state, params\)"):
        jax.eval_shape(make(lambda _: 0.8, frozen=False).step, GRADS, state, params)


@pytest.mark.parametrize("method", ["step", "update"])
def test_lookahead_counts_the_steps_that_are_taken_and_leaves_frozen_leaves_alone(method):
    """Around `accumulate` it is lookahead of the mean gradients, bit for bit; a skipped step is no step."""
    groups = [Group("b", frozen=True)]
    fast = adamx.optimizer(adamx.SGD(), 0.5, groups=groups)
    alone, within, guarded = (
        adamx.lookahead(x, 2, 0.25, reset_state=True) for x in (fast, adamx.accumulate(fast, 2), adamx.guard(fast))
    )

    def go(opt, calls):
        params, state = PARAMS, opt.init(PARAMS)
        state = state._replace(slow_weights=jax.tree.map(lambda x: x + 1, state.slow_weights))
        for scale in calls:
            g = jax.tree.map(lambda x, scale=scale: x * scale, GRADS)
            if method == "step":
                params, state = opt.step(g, state, params)
            else:
                updates, state = opt.update(g, state, params)
                params = optax.apply_updates(params, updates)
        return params, state.slow_weights, state.steps

    wanted = go(alone, (1, 1, 1))
    assert wanted[2] == 3 and (wanted[0]["a"] != PARAMS["a"]).all()
    np.testing.assert_array_equal(wanted[0]["b"], PARAMS["b"])
    for got in (go(within, (1,) * 6), go(guarded, (1, jnp.nan, 1, jnp.nan, jnp.nan, 1))):
        jax.tree.map(np.testing.assert_array_equal, got, wanted)


def test_what_wrappers_keep_of_leaves_is_in_their_bytes():
    params = {"w": jnp.ones((64, 64)), "b": jnp.ones(4), "frozen": jnp.ones(2)}
    adam = adamx.adam(0.1, groups=[Group("frozen", frozen=True)], kernel="xla")
    opt = adamx.guard(adamx.accumulate(adamx.averaged(adam, (0.9, None), moments="int8"), 2, jnp.bfloat16))
    one, bare = adamx.state_bytes(opt, params), adamx.state_bytes(adam, params)
    code = 64 * 64 + 2 * 64
    assert one.wrappers == {
        "inner.sums": 2 * 64 * 64 + 16,
        "inner.inner.averages.0.average": code + 16,
        "inner.inner.averages.1.average": code + 16,
    }
    assert (one.slots, bare.wrappers) == (bare.slots, {})
    w, b, frozen = adamx.explain(opt, params)
    before = {leaf.path: leaf.bytes for leaf in adamx.explain(adam, params)}
    assert w.bytes == before[w.path] + 2 * (2 * code + 2 * 64 * 64) and b.bytes == before[b.path] + 2 * 3 * 16
    assert w.formats["inner.inner.averages.1.average"] == "int8" and w.formats["inner.sums"] == "bfloat16"
    assert (frozen.bytes, frozen.formats) == (0, {})


@pytest.mark.devices
def test_what_thaws_is_cut_as_its_weight():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params = jax.device_put({"a": jnp.ones((8, 4)), "b": jnp.ones((4, 2))}, NamedSharding(mesh, P("x")))
    frozen, thawed = (make("guard(accumulate(averaged))", frozen) for frozen in (True, False))
    new = adamx.regroup(thawed, jax.jit(frozen.init)(params), params)
    kept = [new.inner.sums["b"], *(x.average["b"] for x in new.inner.inner.averages)]
    assert {x.sharding.spec for x in kept} == {P("x")}
