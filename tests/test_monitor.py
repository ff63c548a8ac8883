"""A monitored optimizer does what the optimizer does, and says the truth about it without leaving the device."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx.diagnostics import monitor, read, spikes
from adamx.theory import worst_case_gradients

# By the kernel where it can; that XLA says the same is tested in test_sums.py.
pytestmark = pytest.mark.usefixtures("one_device")

RATE = 1e-2
PARAMS = {
    "dense": {"kernel": jnp.asarray(np.random.default_rng(0).standard_normal((64, 96)), jnp.float32)},
    "bias": jnp.linspace(-1.0, 1.0, 7),
}
BASE = {"gradient_norm", "update_norm", "parameter_norm", "update_ratio", "sign_agreement", "stalled", "nonfinite"}
STEP, HATS = {"step_mean", "step_max"}, {"snr", "eps_share", "idle"}


def gradients(t, dtype=jnp.float32):
    rng = np.random.default_rng(t + 1)
    return jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape) * 1e-3, dtype), PARAMS)


def trained(opt, steps=5, params=PARAMS, by="step"):
    """Parameters and state after some steps, by `step` or by `update`."""

    def updated(grads, state, params):
        updates, state = opt.update(grads, state, params)
        return jax.tree.map(lambda p, u: (p + u.astype(p.dtype)).astype(p.dtype), params, updates), state

    state, step = opt.init(params), jax.jit(opt.step if by == "step" else updated)
    for t in range(steps):
        params, state = step(jax.tree.map(lambda g, p: g.astype(p.dtype), gradients(t), params), state, params)
    return params, state


@functools.cache
def of_adam():
    """A monitor around Adam, and its step, compiled once for all that give it these leaves."""
    opt = monitor(adamx.adam(RATE))
    return opt, jax.jit(opt.step)


def metrics(values, group="all"):
    return {name.rpartition("/")[2] for name in values if name.startswith(f"{group}/")}


def by_hand(steps, name="bias", b1=0.9, b2=0.999, eps=1e-8):
    """What the monitor says of one leaf after Adam's last step, in float64."""
    p = np.asarray(PARAMS[name], np.float64)
    g = m = v = m_hat = root = change = np.zeros_like(p)
    for t in range(steps):
        p = p + change
        g = np.asarray(gradients(t)[name], np.float64)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        m_hat, root = m / (1 - b1 ** (t + 1)), np.sqrt(v / (1 - b2 ** (t + 1)))
        change = -RATE * m_hat / (root + eps)
    return {
        "gradient_norm": np.linalg.norm(g),
        "update_norm": np.linalg.norm(change),
        "parameter_norm": np.linalg.norm(p),
        "update_ratio": np.linalg.norm(change) / np.linalg.norm(p),
        "sign_agreement": np.mean(g * change < 0),
        "step_mean": np.mean(np.abs(change)) / RATE,
        "step_max": np.max(np.abs(change)) / RATE,
        "snr": np.mean(np.abs(m_hat) / root),
        "eps_share": np.mean(root < eps),
        "nonfinite": 0,
        "stalled": 0,
    }


@pytest.mark.parametrize("by", ["step", "update"])
def test_the_values_are_those_of_the_definitions(by):
    _, state = trained(monitor(adamx.adam(RATE)), 5, by=by)
    values = read(state)
    for name, wanted in by_hand(5).items():
        # A change of 1e-2 is the difference of weights of 1: 1e-5 of it is rounding of those.
        assert values[f"bias/{name}"] == pytest.approx(wanted, rel=3e-5), name


@pytest.mark.parametrize(
    "make", [adamx.prodigy, *(pytest.param(f, marks=pytest.mark.product) for f in (adamx.adam, adamx.rmsprop))]
)
@pytest.mark.parametrize("by", ["step", "update"])
def test_the_optimizer_does_what_it_does_without_a_monitor(make, by):
    alone, watched = trained(make(RATE), by=by), trained(monitor(make(RATE)), by=by)
    jax.tree.map(np.testing.assert_array_equal, alone, (watched[0], watched[1].inner))


def test_weights_that_are_changed_in_place_are_compared_with_what_they_were():
    opt = monitor(adamx.adam(RATE))
    step, told = jax.jit(opt.step, donate_argnums=(1, 2)), []
    params, state = jax.tree.map(jnp.array, PARAMS), opt.init(PARAMS)
    for t in range(5):
        params, state = step(gradients(t), state, params)
        told.append(read(state))
    for name, wanted in by_hand(5).items():
        assert told[-1][f"bias/{name}"] == pytest.approx(wanted, rel=3e-5), name


@functools.cache
def told_in_float32():
    return read(trained(monitor(adamx.adam(1e-5)), 5)[1])


@pytest.mark.parametrize(
    ("weights", "moments"),
    [
        ("nearest", "float32"),
        ("split8", "int8"),
        pytest.param("stochastic", "bfloat16", marks=pytest.mark.product),
        pytest.param("kahan", "int8", marks=pytest.mark.product),
        pytest.param("split16", "bfloat16", marks=pytest.mark.product),
    ],
)
def test_narrow_weights_and_coded_moments_are_told_of(weights, moments):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    opt = adamx.adam(1e-5, weights=weights, moments=moments)
    alone, (stepped, state) = trained(opt, 5, params), trained(monitor(opt), 5, params)
    jax.tree.map(np.testing.assert_array_equal, alone[0], stepped)
    values, exact = read(state), told_in_float32()
    assert values["dense/snr"] == pytest.approx(exact["dense/snr"], rel=0.03)
    if weights == "nearest":
        assert values["dense/stalled"] > 0.95 and values["dense/update_norm"] < exact["dense/update_norm"]
    elif weights in ("kahan", "split16"):
        assert values["dense/stalled"] < 0.1
        assert values["dense/update_norm"] == pytest.approx(exact["dense/update_norm"], rel=0.05)


of_optimizers = pytest.mark.parametrize(
    ("opt", "wanted"),
    [
        (adamx.adam(RATE), BASE | STEP | HATS | {"bound_share"}),
        (adamx.adamw(RATE, b1=lambda t: 0.9), BASE | STEP | HATS),
        (adamx.cadamw(RATE), BASE | STEP | HATS | {"bound_share"}),
        (adamx.amsgrad(RATE), BASE | STEP | HATS),
        (adamx.adamax(RATE), BASE | STEP | {"snr", "idle"}),
        (adamx.adam_mini(RATE), BASE | STEP | HATS),
        (adamx.rmsprop(RATE), BASE | STEP),
        (adamx.schedule_free_adamw(RATE), BASE),
        (adamx.prodigy(), BASE),
    ],
    ids=["adam", "scheduled", "cautious", "amsgrad", "adamax", "adam_mini", "rmsprop", "schedule_free", "prodigy"],
)


@of_optimizers
def test_what_an_optimizer_does_not_have_is_absent(opt, wanted):
    """Known when a step is traced."""
    watched = monitor(opt)
    state = watched.init(PARAMS)
    after = jax.eval_shape(lambda *given: read(watched.step(*given)[1]), PARAMS, state, PARAMS)
    assert metrics(read(state)) == wanted == metrics(after)


@of_optimizers
@pytest.mark.product
def test_what_an_optimizer_does_not_have_is_absent_after_steps_too(opt, wanted):
    assert metrics(read(trained(monitor(opt), 2)[1])) == wanted


@pytest.mark.usefixtures("loose")
def test_a_transformation_of_optax_is_told_of_with_less():
    watched = monitor(optax.adam(RATE))
    assert not hasattr(watched, "step")
    assert metrics(read(trained(watched, 2, by="update")[1])) == BASE
    assert metrics(read(trained(monitor(optax.adam(RATE), learning_rate=RATE), 2, by="update")[1])) == BASE | STEP
    injected = monitor(optax.inject_hyperparams(optax.adam)(learning_rate=RATE))
    values, same = read(trained(injected, 2, by="update")[1]), read(trained(monitor(adamx.adam(RATE)), 2)[1])
    assert metrics(values) == BASE | STEP
    assert values["all/step_mean"] == pytest.approx(same["all/step_mean"], rel=1e-4)


def test_a_scheduled_step_size_is_that_of_the_step():
    rates = lambda t: jnp.where(t < 1, RATE, RATE / 10)  # noqa: E731
    for opt in (monitor(adamx.adam(rates)), monitor(adamx.adam(rates), learning_rate=rates)):
        state, params, step = opt.init(PARAMS), PARAMS, jax.jit(opt.step)
        for _ in range(3):
            params, state = step(gradients(0), state, params)
            assert read(state)["all/step_mean"] == pytest.approx(1, rel=1e-3)


def test_the_bound_is_reached_by_the_worst_gradients_and_not_passed():
    opt, worst = monitor(adamx.adam(1e-3, eps=0.0)), worst_case_gradients(0.9, 0.999, 200)
    params, grads = jnp.zeros(2), jnp.asarray(np.stack([worst, np.cos(np.arange(200))], 1), jnp.float32)

    def step(carry, g):
        params, state = opt.step(g, carry[1], carry[0])
        return (params, state), read(state)["all/bound_share"]

    _, shares = jax.lax.scan(step, (params, opt.init(params)), grads)
    assert float(shares[-1]) == pytest.approx(1, rel=1e-4)
    assert float(shares.max()) < 1 + 1e-4


def test_the_share_that_eps_dominates_counts_elements():
    opt = monitor(adamx.adam(1e-3, eps=1e-4))
    params = jnp.zeros(8)
    grads = jnp.asarray([0.0, 1e-6, 1e-5, 0.9e-4, 1.1e-4, 1e-3, 1e-2, 1.0])
    _, state = jax.jit(opt.step)(grads, opt.init(params), params)
    values = read(state)
    assert values["all/eps_share"] == pytest.approx(3 / 7) and values["all/idle"] == 1 / 8
    assert values["all/snr"] == pytest.approx(1)


@pytest.mark.parametrize("max_of", ["corrected", "raw"])
def test_amsgrad_is_told_of_by_the_moment_it_divides_by(max_of):
    opt, p = monitor(adamx.amsgrad(1e-3, b2=0.5, eps=1e-3, max_of=max_of)), jnp.zeros(2)
    state, step = opt.init(p), jax.jit(opt.step)
    for g in (1.0, *[1e-6] * 60):
        p, state = step(jnp.full(2, g), state, p)
    values = read(state)
    assert values["all/eps_share"] == 0
    assert values["all/snr"] == pytest.approx(values["all/step_mean"], rel=2e-3)
    assert adamx.diagnostics.suggest_eps(state, adamx.amsgrad(1e-3, b2=0.5, eps=1e-3, max_of=max_of)).eps == 1e-3


def test_gradients_that_are_not_finite_are_counted_in_their_group_alone():
    opt, step = of_adam()
    grads = gradients(0) | {"bias": jnp.asarray([1.0, jnp.nan, jnp.inf, 0.0, 1.0, -jnp.inf, 2.0])}
    values = read(step(grads, opt.init(PARAMS), PARAMS)[1])
    assert values["bias/nonfinite"] == values["all/nonfinite"] == 3
    assert values["dense/nonfinite"] == 0 and np.isfinite(values["dense/gradient_norm"])


def test_clipping_and_scaling_inside_the_step_pass_through():
    opt = adamx.adam(RATE)
    grads = jax.tree.map(lambda g: 1e3 * g, gradients(0))
    inside = {"clip_norm": 0.5, "grad_scale": 0.25}
    watched = monitor(opt)
    (alone, _), (stepped, state) = (
        jax.jit(functools.partial(each.step, **inside))(grads, each.init(PARAMS), PARAMS) for each in (opt, watched)
    )
    jax.tree.map(np.testing.assert_array_equal, alone, stepped)
    wanted = 0.25 * optax.tree.norm(grads)
    assert read(state)["all/gradient_norm"] == pytest.approx(float(wanted), rel=1e-5)


def test_every_looks_at_every_so_many_steps_and_keeps_what_it_saw():
    seldom, told = monitor(adamx.adam(RATE), every=3), []
    for opt, step in (of_adam(), (seldom, jax.jit(seldom.step))):
        state, params = opt.init(PARAMS), PARAMS
        values = []
        for t in range(7):
            params, state = step(gradients(t), state, params)
            values.append(read(state)["all/update_norm"])
        told.append(values)
    assert told[1] == [told[0][t - t % 3] for t in range(7)]
    assert len(set(told[0])) == 7


@pytest.mark.parametrize("every", [1, pytest.param(4, marks=pytest.mark.product)])
def test_nothing_leaves_the_device(every):
    opt = monitor(adamx.adam(RATE, kernel="xla"), every=every)
    state = opt.init(PARAMS)
    for step in (opt.step, lambda g, s, p: opt.update(g, s, p)):
        traced = jax.jit(step).trace(gradients(0), state, PARAMS)
        assert "callback" not in str(traced.jaxpr)
        hlo = traced.lower().compile().as_text()
        assert not re.search(r"\b(infeed|outfeed|send|recv|send-done|recv-done)\(|custom-call.*callback", hlo)


def test_its_state_stays_what_it_is_through_scan_and_donation():
    opt = monitor(adamx.adamw(RATE, moments="int8"), every=2)
    state = opt.init(PARAMS)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)
    step = jax.jit(opt.step, donate_argnums=(1, 2))
    params, state = step(gradients(0), state, jax.tree.map(jnp.array, PARAMS))
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == shapes
    params, state = step(gradients(1), state, params)
    assert step._cache_size() == 1

    def body(carry, _):
        return opt.step(gradients(2), carry[1], carry[0]), read(carry[1])["all/update_norm"]

    (params, state), norms = jax.lax.scan(body, (params, state), None, length=4)
    assert int(state.count) == 6 and (norms > 0).all()


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda opt: optax.chain(optax.clip_by_global_norm(1.0), monitor(opt)), marks=pytest.mark.product),
        pytest.param(lambda opt: optax.masked(monitor(opt), {"dense": True, "bias": False}), marks=pytest.mark.product),
        lambda opt: optax.partition(
            {"a": monitor(opt), "b": optax.set_to_zero()}, {"dense": {"kernel": "a"}, "bias": "b"}
        ),
        lambda opt: optax.MultiSteps(monitor(opt), 2).gradient_transformation(),
        lambda opt: monitor(optax.chain(optax.clip(1.0), opt), learning_rate=RATE),
    ],
    ids=["in chain", "masked", "partition", "MultiSteps", "around chain"],
)
@pytest.mark.usefixtures("loose")
def test_it_chains_and_is_found_wherever_it_is(wrap):
    whole = wrap(adamx.adam(RATE))
    params, state, update = PARAMS, whole.init(PARAMS), jax.jit(whole.update)
    for t in range(2):
        updates, state = update(gradients(t), state, params)
        params = optax.apply_updates(params, updates)
    assert read(state)["all/step_mean"] > 0.1


@pytest.mark.usefixtures("loose")
def test_it_works_in_flax():
    from flax import nnx, serialization

    import adamx.flax

    tx = monitor(adamx.adamw(RATE))
    state = adamx.flax.TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    state = jax.jit(lambda state: state.apply_gradients(grads=gradients(0), clip_norm=1.0))(state)
    values = read(state.opt_state)
    assert values["all/update_norm"] > 0
    restored = serialization.from_bytes(state, serialization.to_bytes(state))
    assert read(restored.opt_state) == values

    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = adamx.flax.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: ((model(jnp.ones((2, 3))) - 1) ** 2).mean())(model))

    step(model, optimizer)
    assert read(optimizer.opt_state)["kernel/step_mean"] == pytest.approx(1, rel=0.05)


def test_leaves_may_be_absent_complex_empty_or_lack_a_gradient():
    params = {
        "z": jnp.asarray([1 + 1j, 2.0]),
        "e": jnp.zeros((0, 2)),
        "none": None,
        "w": jnp.ones(3),
        "s": jnp.ones(()),
    }
    grads = {"z": jnp.asarray([3j, 1.0]), "e": jnp.zeros((0, 2)), "none": None, "w": None, "s": jnp.ones(())}
    opt = monitor(adamx.adam(RATE))
    stepped, state = jax.jit(opt.step)(grads, opt.init(params), params)
    values = read(state)
    assert values["z/sign_agreement"] == values["s/sign_agreement"] == 1
    assert values["z/gradient_norm"] == pytest.approx(np.sqrt(10), rel=1e-6)
    assert values["e/update_norm"] == values["w/update_norm"] == 0
    assert not any(name.startswith("none") for name in values)
    np.testing.assert_array_equal(stepped["w"], params["w"])


def test_groups_are_first_keys_that_differ_or_as_many_as_asked_or_what_a_function_says():
    tree = {"params": {"a": {"w": jnp.ones(2), "b": jnp.ones(2)}, "c": jnp.ones(2)}}

    def of(groups):
        return {name.rpartition("/")[0] for name in read(monitor(adamx.adam(RATE), groups=groups).init(tree))}

    assert of(None) == {"all", "params/a", "params/c"}
    assert of(0) == {"all"}
    assert of(1) == {"all", "params"}
    assert of(3) == {"all", "params/a/w", "params/a/b", "params/c"}
    assert of(lambda path: "biases" if path.endswith("b") else None) == {"all", "biases"}
    opt = monitor(adamx.adam(RATE), groups=lambda path: "biases" if path.endswith("b") else None)
    values = read(jax.jit(opt.step)(tree, opt.init(tree), tree)[1])
    assert values["biases/parameter_norm"] == pytest.approx(np.sqrt(2))
    assert values["all/parameter_norm"] == pytest.approx(np.sqrt(6))


@pytest.mark.parametrize("at", [25, 60])
def test_a_spike_is_told_with_its_leaf_and_its_step(at):
    opt, step = of_adam()
    state, params = opt.init(PARAMS), PARAMS
    for t in range(80):
        grads = gradients(t)
        if t == at - 1:
            grads["dense"]["kernel"] *= 30.0
        params, state = step(grads, state, params)
    found = spikes(state)
    assert [(spike.leaf, spike.step) for spike in found] == [("['dense']['kernel']", at)]
    assert found[0].z > 20


def test_a_spike_of_several_steps_is_one_and_a_nan_is_the_largest():
    opt = monitor(adamx.adamax(RATE))
    state, params, step = opt.init(PARAMS), PARAMS, jax.jit(opt.step)
    for t in range(60):
        grads = gradients(t)
        if 30 <= t < 35:
            grads["bias"] *= 100.0 * (1 + (t == 32))
        if t == 50:
            grads["dense"]["kernel"] = grads["dense"]["kernel"].at[0, 0].set(jnp.nan)
        params, state = step(grads, state, params)
    first, second = spikes(state)
    assert (first.leaf, first.step, first.z) == ("['dense']['kernel']", 51, np.inf)
    assert second.leaf == "['bias']" and 31 <= second.step <= 35


def test_an_infinity_hides_no_later_spike_nor_a_large_spike_a_small_one():
    opt, step = of_adam()
    state, params = opt.init(PARAMS), PARAMS
    factor = {1: jnp.inf, 2: jnp.inf, 31: 1e3, 71: 1e20, 101: 1e4}
    for t in range(1, 120):
        grads = gradients(t)
        grads["bias"] *= factor.get(t, 1.0)
        params, state = step(grads, state, params)
    assert [(spike.step, np.isinf(spike.z)) for spike in spikes(state)] == [(2, True), (71, False), (101, False)]
    assert {spike.leaf for spike in spikes(state)} == {"['bias']"}


def test_a_calm_run_has_no_spikes_though_gradients_shrink():
    opt, step = of_adam()
    state, params = opt.init(PARAMS), PARAMS
    for t in range(100):
        params, state = step(jax.tree.map(lambda g, t=t: g * 0.97**t, gradients(t)), state, params)
    assert spikes(state) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: monitor(adamx.Adam()), TypeError, r"give an optimizer, such as adamx\.adam"),
        (lambda: monitor(adamx.adam(RATE), every=0), ValueError, "every = 0 should be at least 1"),
        (lambda: monitor(adamx.adam(RATE), every=2.0), TypeError, r"every = 2\.0 should be a number of steps"),
        (lambda: monitor(adamx.adam(RATE), groups=-1).init(PARAMS), ValueError, "groups = -1"),
        (lambda: monitor(adamx.adam(RATE), groups="a").init(PARAMS), TypeError, "groups = 'a' should be"),
        (lambda: monitor(adamx.adam(RATE), groups=len).init(PARAMS), TypeError, "should be the name of a group"),
        (lambda: monitor(adamx.adam(RATE)).init({"all": jnp.ones(1)}), ValueError, "that of all leaves"),
        (lambda: monitor(adamx.adam(RATE)).update(PARAMS, None), ValueError, r"call `update\(grads, state, params\)`"),
        (lambda: monitor(adamx.adam(RATE)).step(PARAMS, (), PARAMS), TypeError, r"make it with `init\(params\)`"),
        (lambda: read(adamx.adam(RATE).init(PARAMS)), ValueError, r"holds 0 monitors: wrap"),
        (lambda: spikes([monitor(adamx.adam(RATE)).init(PARAMS)] * 2), ValueError, "holds 2 monitors: give the part"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_asks_an_optimizer_about_itself_asks_the_one_under_the_monitor():
    opt, params = (
        adamx.monitor(adamx.adamw(1e-2, moments="int8", weights="split8")),
        {"w": jnp.ones((64, 128), "bfloat16")},
    )
    state = opt.init(params)
    params, state = jax.jit(opt.step)(params, state, params)
    assert adamx.explain(opt, params)[0].formats == {"mu": "int8", "nu": "int8"}
    np.testing.assert_allclose(adamx.master_params(opt, state, params)["w"], 0.99, atol=2e-4)
