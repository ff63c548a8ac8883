"""A guarded run is the run without its bad steps, and its guard says what it skipped and why."""

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
from adamx.wrappers.guard import FLOOR
from tests.helpers import as_users_do, collectives, dtypes, needs_host_memory, some

SHAPES = {"w": (64, 128), "b": (7,)}


def drawn(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def poisoned(grads, value=jnp.nan):
    return grads | {"w": grads["w"].at[3, 5].set(value)}


def scalars(norms, losses=None, **kwargs):
    """The state after steps of one weight with gradients of these norms; and which were skipped."""
    opt = adamx.guard(adamx.adam(1e-3), **kwargs)
    params = jnp.zeros([])

    def step(carry, given):
        params, state = opt.step(given[0], carry[1], carry[0], **({} if losses is None else {"loss": given[1]}))
        return (params, state), state.in_a_row > 0

    given = jnp.asarray(norms, jnp.float32), jnp.asarray(norms if losses is None else losses, jnp.float32)
    (_, state), skipped = jax.jit(lambda *xs: jax.lax.scan(step, (params, opt.init(params)), xs))(*given)
    return state, np.flatnonzero(skipped).tolist()


def noisy(n, seed=0):
    return 1 + 0.1 * np.random.default_rng(seed).standard_normal(n)


MAKE = {
    "float32": lambda: adamx.adamw(1e-2),
    "int8": lambda: adamx.adamw(1e-2, moments="int8"),
    "split8": lambda: adamx.adamw(1e-2, weights="split8", moments="bfloat16"),
    "monitored": lambda: adamx.monitor(adamx.adamw(1e-2)),
    "accumulated": lambda: adamx.accumulate(adamx.adamw(1e-2), 2),
    "optax": lambda: optax.chain(optax.add_noise(0.1, 0.5, 0), optax.adam(1e-2)),
}
"""What is inside; `optax` has a random key in its state, and no `step`."""


@pytest.mark.parametrize(
    ("name", "jitted"),
    some(
        [*((name, True) for name in MAKE), ("float32", False), ("int8", False)],
        lambda name, jitted: jitted and name in ("int8", "optax"),
    ),
)
@jax.numpy_dtype_promotion("standard")  # for Optax's noise
def test_a_skipped_step_is_as_if_its_batch_had_not_been(name, jitted):
    opt, start = MAKE[name](), drawn(0, jnp.bfloat16 if name == "split8" else jnp.float32)
    if name == "split8":
        start, _ = adamx.from_master(drawn(0), opt)

    def run(opt, batches, loss=None):
        has_step = hasattr(opt, "step")
        step = opt.step if has_step else opt.update
        step = as_users_do(step) if jitted else step
        params, state = start, opt.init(start)
        for grads in batches:
            new, state = step(grads, state, params, **({} if loss is None else {"loss": loss}))
            params = new if has_step else optax.apply_updates(params, new)  # XLA would round both as one
        assert not jitted or step._cache_size() == 1
        return params, state

    good = [drawn(seed) for seed in (1, 2, 3)]
    bad = [good[0], poisoned(good[1]), good[1], poisoned(good[0], jnp.inf), good[2]]
    wanted, (params, state) = run(opt, good), run(adamx.guard(opt), bad, loss=1.0)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), (params, state.inner), wanted))
    assert adamx.guard_report(state)[:4] == (2, 0, False, "gradients not finite")


def test_optax_lets_what_is_not_finite_through_and_counts_on_where_guard_skips_and_says_so():
    grads, params = drawn(1), drawn(0)
    ours, theirs = adamx.guard(adamx.adam(1e-2), max_in_a_row=2), optax.apply_if_finite(adamx.adam(1e-2), 2)
    ours_step, theirs_step = jax.jit(ours.update), jax.jit(theirs.update)
    state, other = ours.init(params), theirs.init(params)
    for given in (grads, poisoned(grads), poisoned(grads), grads):
        update, state = ours_step(given, state, params)
        wanted, other = theirs_step(given, other, params)
        jax.tree.map(np.testing.assert_array_equal, update, wanted)
    assert adamx.guard_report(state)[:3] == (2, 0, True)
    for _ in range(3):
        update, state = ours_step(poisoned(grads), state, params)
        wanted, other = theirs_step(poisoned(grads), other, params)
    assert not any(np.any(u) for u in jax.tree.leaves(update)) and adamx.guard_report(state).in_a_row == 3
    assert np.isnan(wanted["w"]).any() and other.notfinite_count == 3  # of which two were skipped: optax#1746


def test_a_spike_is_skipped_and_training_goes_on():
    norms = noisy(100)
    norms[[40, 80]] = 50, 50  # half of the window is 64
    assert scalars(norms)[1] == [80]
    losses = noisy(100)
    losses[80] = 2.5
    state, skipped = scalars(noisy(100), losses)
    assert skipped == [80]
    assert adamx.guard_report(state)[:4] == (1, 0, False, "loss stands out")
    losses[80] = np.nan
    state, skipped = scalars(noisy(100), losses)
    assert skipped == [80] and adamx.guard_report(state).reason == "loss not finite"
    assert scalars(norms, window=None)[1] == []


@pytest.mark.parametrize("level", [3.0, 1e3, 1e30])
def test_a_lasting_level_is_soon_the_usual_one(level):
    state, skipped = scalars(np.concatenate([noisy(200), level * noisy(100, 1)]))
    assert skipped[0] == 200 and skipped[-1] < 210 and len(skipped) <= 5  # 128/(6^2+1) and one
    assert not adamx.guard_report(state).too_many


def test_the_rule_is_that_of_olmo_core():
    rng = np.random.default_rng(3)
    values = np.exp(rng.standard_normal(300) * 0.3) * (1 + 20 * (rng.random(300) < 0.03))
    wanted = []
    for i in range(len(values)):
        before = values[max(0, i - 16) : i]
        if len(before) >= 8 and values[i] > before.mean() + 3 * max(before.std(ddof=1), FLOOR * before.mean()):
            wanted.append(i)
    assert len(wanted) > 5
    assert scalars(values, window=16, sigmas=3.0)[1] == wanted


def test_numbers_that_hardly_vary_do_not_stand_out():
    assert scalars(np.full(200, 0.1) + 1e-4 * (np.arange(200) > 150))[1] == []


def test_a_norm_beyond_the_largest_number_is_finite_if_gradients_are():
    largest = jnp.finfo(jnp.float32).max
    opt, params = adamx.guard(adamx.adam(1e-3)), jnp.ones(8)
    _, state = opt.step(jnp.full(8, largest), opt.init(params), params, clip_norm=1.0)
    assert adamx.guard_report(state).skipped == 0 and adamx.last_norm(state) == largest
    _, state = opt.step(jnp.full(8, jnp.inf), state, params, clip_norm=1.0)
    assert adamx.guard_report(state).skipped == 1


def test_last_norm_is_after_grad_scale_and_found_in_any_state():
    params, grads = drawn(0), drawn(1)
    wanted = 0.5 * optax.tree.norm(grads)
    for opt in (
        adamx.guard(adamx.adam(1e-2)),
        adamx.monitor(adamx.adam(1e-2)),
        adamx.monitor(adamx.guard(adamx.adam(1e-2))),
        adamx.accumulate(adamx.guard(adamx.adam(1e-2)), 1),
    ):
        _, state = opt.step(grads, opt.init(params), params, grad_scale=0.5, clip_norm=1.0)
        np.testing.assert_allclose(adamx.last_norm({"opt": state}), wanted, rtol=1e-6)
    with pytest.raises(ValueError, match=r"0 guards or monitors: wrap .*adamx\.guard\(opt\)` or `adamx\.monitor"):
        adamx.last_norm(adamx.adam(1e-2).init(params))
    with pytest.raises(ValueError, match="0 guards: wrap"):
        adamx.guard_report(state.inner.inner)


@needs_host_memory
@pytest.mark.parametrize("platform", ["default", "tpu"])
def test_state_in_host_memory_is_left_there_by_a_skipped_step(platform, monkeypatch):
    """On TPUs no branch may carry it, and the step itself chooses: here that is what the CPU runs, too."""
    chosen = lambda *xs, default, **on: on.get(platform, default)(*xs)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    opt, mesh = adamx.guard(adamx.adamw(1e-2, moments="int8")), jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    start = jax.device_put(drawn(0), NamedSharding(mesh, P()))
    placed = adamx.state_shardings(opt, start, memory_kind="pinned_host")
    by_step = jax.jit(functools.partial(opt.step, clip_norm=1.0), out_shardings=(None, placed))

    def by_update(grads, state, params):
        updates, state = opt.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for step in (by_step, jax.jit(by_update, out_shardings=(None, placed))):
        params, state = start, jax.device_put(opt.init(start), placed)
        params, state = step(drawn(1), state, params)
        now, after = step(poisoned(drawn(1)), state, params)
        assert adamx.guard_report(after)[:2] == (1, 1) and adamx.guard_report(state).skipped == 0
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), (now, after.inner), (params, state.inner)))
        assert jax.tree.map(lambda x: x.sharding, after) == placed
        assert np.any(now["w"] != start["w"])


def test_flax_takes_the_loss():
    grads = {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}
    make = functools.partial(adamx.guard, adamx.adam(0.1))
    state = adamx.flax.TrainState.create(apply_fn=None, params=grads, tx=make())
    state = state.apply_gradients(grads=grads, loss=jnp.nan)
    assert adamx.guard_report(state).reason == "loss not finite"
    assert state.params["bias"] == 1 and state.apply_gradients(grads=grads, loss=1.0).params["bias"] < 1
    with pytest.raises(TypeError, match="loss"):
        adamx.flax.TrainState.create(apply_fn=None, params=grads, tx=optax.scale(0.1)).apply_gradients(
            grads=grads, loss=1.0
        )

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer, before = adamx.flax.Optimizer(model, make(), wrt=nnx.Param), nnx.to_pure_dict(nnx.state(model))
    step = nnx.jit(
        lambda model, optimizer, loss: optimizer.update(model, nnx.state(model, nnx.Param), loss=loss) and None
    )
    step(model, optimizer, jnp.inf)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model)), before)
    step(model, optimizer, jnp.float32(1.0))
    assert model.kernel[0, 0] != before["kernel"][0, 0]
    assert adamx.guard_report(optimizer.opt_state)[:2] == (1, 0)
    assert isinstance(adamx.last_norm(optimizer.opt_state), jax.Array)


def test_gradients_of_frozen_leaves_are_not_read_and_a_norm_that_is_given_is_taken():
    opt = adamx.guard(adamx.adam(1e-2, groups=[adamx.Group("w", frozen=True)]))
    params, grads = drawn(0), poisoned(drawn(1))
    new, state = opt.step(grads, opt.init(params), params)
    np.testing.assert_allclose(adamx.last_norm(state), jnp.linalg.norm(grads["b"]), rtol=1e-6)
    assert np.any(new["b"] != params["b"])
    _, state = opt.step(grads, state, params, grad_norm=7.0)
    assert adamx.last_norm(state) == 7


def test_batches_decide_for_themselves_and_half_of_the_weights_may_be_absent():
    opt = adamx.guard(adamx.adam(1e-2, moments="int8"))
    params = drawn(0) | {"absent": None}
    grads = jax.tree.map(lambda a, b: jnp.stack([a, b]), poisoned(drawn(1)), drawn(1)) | {"absent": None}
    step = jax.jit(lambda g: opt.step(g, opt.init(params), params))
    both, states = jax.vmap(step)(grads)
    alone, state = step(jax.tree.map(lambda g: g[1], grads))
    jax.tree.map(lambda x, a, p: np.testing.assert_array_equal(x, jnp.stack([p, a])), both, alone, params)
    assert states.skipped.tolist() == [1, 0]
    jax.tree.map(lambda x, a: np.testing.assert_array_equal(x[1], a), states, state)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_devices_one_all_reduce_decides_and_clips(kind):
    opt = adamx.guard(adamx.adamw(1e-2, moments="int8"))
    mesh, specs = jax.make_mesh((4,), ("x",), axis_types=(kind,)), {"w": P("x", None), "b": P(None)}
    put = lambda tree: {name: jax.device_put(x, NamedSharding(mesh, specs[name])) for name, x in tree.items()}  # noqa: E731
    step = jax.jit(functools.partial(opt.step, clip_norm=1.0, loss=1.0))
    one = drawn(0)
    wanted, alone = step(drawn(1), opt.init(one), one)
    with jax.set_mesh(mesh):
        params, grads = put(drawn(0)), [put(g) for g in (drawn(1), poisoned(drawn(1)))]
        state = jax.jit(opt.init, out_shardings=adamx.state_shardings(opt, params))(params)
        kinds = dtypes(state)
        compiled = step.lower(grads[0], state, params).compile()
        assert collectives(compiled.as_text()) == {"all-reduce": 1}
        for g in grads:
            params, state = step(g, state, params)
        assert dtypes(state) == kinds
    assert adamx.guard_report(state)[:2] == (1, 1)
    np.testing.assert_allclose(params["w"], wanted["w"], atol=1e-6)
    np.testing.assert_array_equal(state.inner.count, alone.inner.count)


def test_under_shard_map_devices_decide_alike_or_are_refused():
    opt, mesh = adamx.guard(adamx.adam(1e-2)), jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params, grads = drawn(0)["w"], poisoned(drawn(1))["w"]
    state = opt.init(params)
    specs = jax.tree.map(lambda x: P("x") if x.shape == params.shape else P(), state)

    def by_parts(**options):
        step = functools.partial(opt.step, **options)
        return jax.shard_map(step, mesh=mesh, in_specs=(P("x"), specs, P("x")), out_specs=(P("x"), specs))

    new, after = jax.jit(by_parts(axis_name="x", clip_norm=1.0))(grads, state, params)
    np.testing.assert_array_equal(new, params)
    assert adamx.guard_report(after)[:4] == (1, 1, False, "gradients not finite")
    with pytest.raises(ValueError, match="differs along x"):
        by_parts()(grads, state, params)


@pytest.mark.parametrize(
    ("error", "what", "kwargs"),
    [
        (ValueError, "window = 1 should be at least 2", {"window": 1}),
        (ValueError, "warm_up = 9 numbers are never in a window of 8", {"window": 8, "warm_up": 9}),
        (TypeError, "max_in_a_row = 2.5", {"max_in_a_row": 2.5}),
        (ValueError, "sigmas", {"sigmas": 0.0}),
        (ValueError, "sigmas = 6.0 is of a window", {"window": None, "sigmas": 6.0}),
        (ValueError, "warm_up = 8 is of a window", {"window": None, "warm_up": 8}),
    ],
)
def test_what_makes_no_guard_is_refused(error, what, kwargs):
    with pytest.raises(error, match=what):
        adamx.guard(adamx.adam(1e-3), **kwargs)


def test_inputs_that_it_cannot_read_are_refused():
    opt, params = adamx.guard(adamx.adam(1e-3)), jnp.ones(3)
    with pytest.raises(ValueError, match=r"loss has shape \(2,\)"):
        opt.step(params, opt.init(params), params, loss=jnp.ones(2))
    with pytest.raises(TypeError, match=r"State is not the state of adamx\.guard"):
        opt.step(params, opt.init(params).inner, params)
    with pytest.raises(TypeError, match="grad_norm"):
        opt.update(params, opt.init(params), params, grad_norm=1.0)
