"""Averages of the weights follow every optimizer, and change nothing of it."""

import dataclasses
import functools
from typing import Any

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
from adamx.trajectories.posthoc import WIDEST, coefficients, exponent_of
from adamx.wrappers.averaged import AveragedState
from tests.helpers import jitted_in_float64, needs_host_memory, needs_native, some

SHAPES = {"w": (64, 100), "b": (5,)}
STEPS = 12


def tree(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


class Around(adamx.Wrapper):
    """A wrapper that does nothing: averages around it follow its steps."""

    def init(self, params):
        return self.opt.init(params)

    def update(self, updates, state, params=None, **extra_args):
        return self.opt.update(updates, state, params, **extra_args)

    def step(self, grads, state, params, **options):
        return self.opt.step(grads, state, params, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class EverySecond(Around):
    """A wrapper that moves in every second step only, as `accumulate` does."""

    def init(self, params):
        return self.opt.init(params), jnp.zeros([], jnp.int32)

    def step(self, grads, state, params, **options):
        inner, n = state
        step = lambda: self.opt.step(grads, inner, params, **options)  # noqa: E731
        new, inner = jax.lax.cond(n % 2 == 1, step, lambda: (params, inner))
        return new, (inner, n + 1)


def around(opt: Any) -> Any:
    return Around(opt).optimizer()


def run(opt, params, steps=STEPS):
    """The last weights and state, and the weights after each step, of one compiled step."""
    state, step, path = jax.jit(opt.init)(params), jax.jit(opt.step), []
    for i in range(steps):
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), tree(i + 1), params)
        params, state = step(grads, state, params)
        path.append(params)
    assert step._cache_size() == 1
    return params, state, path


def weights_of(kind, n):
    """How much each of `n` iterates weighs in an average, by its definition."""
    k = np.arange(1, n + 1, dtype=np.float64)
    if kind is None:
        weights = np.ones(n)
    elif kind > 0.5:
        weights = kind ** (n - k)
    else:
        weights = k ** (exponent_of(kind) + 1) - (k - 1) ** (exponent_of(kind) + 1)
    return weights / weights.sum()


def test_averages_are_those_of_their_definitions(x64):
    opt = adamx.averaged(adamx.adam(0.1), (0.9, None), sigma_rel=0.1, start=3)
    raw = adamx.averaged(around(adamx.adam(0.1)), 0.9, debias=False)
    params = jax.tree.map(lambda p: p.astype(float), tree(0))

    def body(carry, g):
        (p, s), (q, r) = carry
        p, s = opt.step(g, s, p)
        q, r = raw.step(g, r, q)
        return ((p, s), (q, r)), p

    grads = jax.tree.map(lambda *x: jnp.stack(x).astype(float), *map(tree, range(1, 41)))
    start = ((params, opt.init(params)), (params, raw.init(params)))
    ((_, state), (_, other)), path = jitted_in_float64(lambda c, g: jax.lax.scan(body, c, g))(start, grads)
    assert (state.moves, state.inner.count) == (40, 40)
    for name, x in path.items():
        for i, kind in enumerate((0.9, None, 0.1)):
            wanted = np.tensordot(weights_of(kind, 37), np.asarray(x)[3:], 1)
            np.testing.assert_allclose(adamx.averaged_params(state, index=i)[name], wanted, rtol=1e-12, atol=1e-13)
        wanted = np.asarray(x)[0]
        for y in np.asarray(x)[1:]:
            wanted = 0.9 * wanted + 0.1 * y
        np.testing.assert_allclose(adamx.averaged_params(other)[name], wanted, rtol=1e-12, atol=1e-13)


def test_before_the_start_the_average_is_the_weights_and_at_it_forgets_them():
    opt = adamx.averaged(adamx.optimizer(adamx.SGD(), 1.0), start=2)
    params, state = jnp.full(3, 1e8), opt.init(jnp.full(3, 1e8))
    for grads in (1e8 - 7, 2.0, 4.0, 2.0):
        params, state = opt.step(jnp.full(3, grads), state, params)
        average = adamx.averaged_params(state)
        if state.moves <= 3:
            np.testing.assert_array_equal(average, params)
    np.testing.assert_allclose(average, 1.0, atol=1e-3)  # of 2 and 0


COMBINED = [
    ("float32", {}, jnp.float32),
    ("bfloat16", {"moments": "int8", "weights": "split8"}, jnp.bfloat16),
    ("int8", {"weights": "stochastic"}, jnp.bfloat16),
]


@functools.lru_cache(3)
def combined(average, options, dtype):
    """The same steps without averages, with them in the same pass, and with them in a second one."""
    opt, params = adamx.adamw(1e-2, **dict(options)), tree(0, dtype)
    with_average = functools.partial(adamx.averaged, decay=0.8, moments=average)
    return opt, run(opt, params), run(with_average(opt), params), run(with_average(around(opt)), params)


@pytest.mark.parametrize(("average", "options", "dtype"), COMBINED)
def test_weights_and_state_are_bit_for_bit_those_without_averages(average, options, dtype):
    _, (params, state, _), *others = combined(average, tuple(options.items()), dtype)
    for new, after, _ in others:
        jax.tree.map(np.testing.assert_array_equal, (new, after.inner), (params, state))


@pytest.mark.parametrize(("average", "options", "dtype"), COMBINED)
def test_averages_are_of_the_weights_with_what_rounding_took(average, options, dtype):
    """Of weights that are rounded at random, before that. A code is up to its distance to the next off, either way."""
    opt, (params, state, _), (_, within, _), (_, after, _) = combined(average, tuple(options.items()), dtype)
    first = adamx.averaged(opt, 0.0)  # the newest weights
    newest = run(first, tree(0, dtype))[1].averages[0].average
    masters = adamx.master_params(opt, state, params)
    off = {"float32": 2**-20, "bfloat16": 2**-5, "int8": 0.2}[average]
    for name, master in masters.items():
        rounding = 0 if dtype == jnp.float32 else 2**-15 if options["weights"] == "split8" else 2**-7
        np.testing.assert_allclose(newest[name], master, rtol=rounding)
        a, b = (adamx.averaged_params(x)[name] for x in (within, after))
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=off)
        assert 0 < np.abs(a - master).max() < 0.2


def test_coded_averages_are_as_far_off_as_is_said():
    """For .99 and steps of a percent, from .004 in bfloat16 to .016 in int8; rounded to nearest they would not move."""
    opts = {m: adamx.averaged(adamx.adam(3e-3), 0.99, moments=m) for m in ("float32", "bfloat16", "int8")}
    params = tree(0)

    def body(carry, key):
        grads = jax.tree.map(lambda p: 0.3 * p + jax.random.normal(key, p.shape), carry[0][0])
        return [opt.step(grads, s, p) for opt, (p, s) in zip(opts.values(), carry, strict=True)], None

    start = [(params, opt.init(params)) for opt in opts.values()]
    done, _ = jax.jit(lambda c: jax.lax.scan(body, c, jax.random.split(jax.random.key(0), 400)))(start)
    (exact, two, one) = (np.asarray(adamx.averaged_params(s)["w"]) for _, s in done)
    size, lag = np.linalg.norm(exact), np.linalg.norm(done[0][0]["w"] - exact)
    assert np.linalg.norm(two - exact) < 0.008 * size < 0.2 * lag
    assert np.linalg.norm(one - exact) < 0.05 * size < lag
    assert done[2][1].averages[0].average["w"].code.dtype == jnp.int8


@needs_native
@pytest.mark.parametrize(
    ("average", "options", "dtype"),
    some(
        [
            (average, *how)
            for average in ("float32", "bfloat16", "int8")
            for how in (({}, jnp.float32), ({"moments": "int8", "weights": "split8"}, jnp.bfloat16))
        ],
        lambda average, options, dtype: (average == "int8") == bool(options),
    ),
)
def test_the_kernel_moves_averages_as_xla_does(average, options, dtype):
    params, grads = tree(0, dtype), tree(1, dtype)
    opts = [
        adamx.averaged(adamx.adamw(1e-2, kernel=kernel, **options), (0.9, None), moments=average)
        for kernel in ("xla", "native")
    ]
    state = opts[0].init(params)._replace(moves=jnp.asarray(1, jnp.int32))
    exact, ours = (jax.jit(opt.step)(grads, state, params)[1].averages for opt in opts)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(ours), strict=True):
        if a.dtype == jnp.float32:
            np.testing.assert_allclose(a, b, rtol=2**-21, atol=2**-24)
        else:
            assert np.mean(a != b) <= 1e-3  # a number between two codes, rounded otherwise


def test_averages_do_not_move_where_the_weights_do_not():
    opt, params = adamx.averaged(EverySecond(adamx.adam(0.1)).optimizer(), None), tree(0)
    _, state, path = run(opt, params, 6)
    assert (state.moves, state.inner[0].count) == (3, 3)
    wanted = np.mean([x["w"] for x in path[1::2]], 0)
    np.testing.assert_allclose(adamx.averaged_params(state)["w"], wanted, atol=2**-20)


def test_the_average_of_a_leaf_without_a_gradient_stays_in_one_pass_or_two():
    opt, params = adamx.adam(0.1, kernel="xla"), tree(0)
    for given in (opt, around(opt)):
        averaged = adamx.averaged(given, 0.5, debias=False)
        new, state = averaged.step(tree(1), averaged.init(params), params)
        new, state = averaged.step(tree(2), state, new)
        for _, after in (f(tree(3) | {"b": None}, state, new) for f in (averaged.step, averaged.update)):
            (was,), (now,) = state.averages, after.averages
            np.testing.assert_array_equal(now.average["b"], was.average["b"])
            assert (now.average["w"] != was.average["w"]).all()


@pytest.mark.usefixtures("loose")  # Optax's need it
@pytest.mark.parametrize(
    "wrap",
    [
        lambda opt: optax.MultiSteps(opt, 2).gradient_transformation(),
        lambda opt: optax.chain(optax.clip(0.5), opt),
        lambda opt: adamx.averaged(opt, None),
        lambda opt: adamx.diagnostics.monitor(opt),
        lambda _: adamx.prodigy(),
        lambda _: adamx.schedule_free_adamw(0.1),
        lambda _: optax.adam(0.1),
    ],
    ids=["MultiSteps", "chain", "averaged", "monitor", "prodigy", "schedule_free", "optax"],
)
def test_whatever_it_wraps_update_averages_what_the_updates_lead_to(wrap):
    opt, params, path = adamx.averaged(wrap(adamx.adam(0.1)), None), tree(0), []
    state, update = opt.init(params), jax.jit(opt.update)
    for i in range(4):
        updates, state = update(tree(i + 1), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params["w"])
    assert isinstance(state, AveragedState) and update._cache_size() == 1
    moved = [p for p, before in zip(path, [tree(0)["w"], *path], strict=False) if (p != before).any()]
    assert state.moves == len(moved)
    outer = len(state.inner.averages) if isinstance(state.inner, AveragedState) else 0
    np.testing.assert_allclose(adamx.averaged_params(state, index=outer)["w"], np.mean(moved, 0), atol=2**-20)


def test_it_stands_in_other_wrappers():
    inside = adamx.averaged(adamx.adam(0.1), None)
    lookahead = adamx.lookahead(inside, sync_period=100)
    monitored = adamx.diagnostics.monitor(inside)
    _, wanted, _ = run(inside, tree(0), 3)
    for opt in (lookahead, monitored, EverySecond(inside).optimizer()):
        _, state, _ = run(opt, tree(0), 3)
        if opt.update.__self__.__class__ is not EverySecond:
            jax.tree.map(np.testing.assert_array_equal, adamx.averaged_params(state), adamx.averaged_params(wanted))
    assert state[0].moves == 1


def test_frozen_leaves_have_no_average_and_are_given_back():
    opt = adamx.averaged(adamx.adam(0.1, groups=[adamx.Group("b", frozen=True)]))
    for of in (opt, adamx.averaged(around(opt.update.__self__.opt))):
        params, state, _ = run(of, tree(0), 2)
        assert state.averages[0].average["b"] is None
        with pytest.raises(ValueError, match=r"such as frozen ones.*averaged_params\(state, params\)"):
            adamx.averaged_params(state)
        averages = adamx.averaged_params(state, params)
        assert (averages["w"] != params["w"]).all()
        jax.tree.map(lambda x: x.delete(), params)  # as a donated step does
        np.testing.assert_array_equal(averages["b"], tree(0)["b"])


def test_averages_come_in_the_dtypes_of_the_parameters_and_one_at_a_time():
    opt, params = adamx.averaged(adamx.adam(0.1), (0.9, 0.99)), tree(0, jnp.bfloat16)
    state = opt.init(params)
    assert {x.dtype for x in jax.tree.leaves(adamx.averaged_params(state, params, index=1))} == {params["w"].dtype}
    assert {x.dtype for x in jax.tree.leaves(adamx.averaged_params(state, index=0))} == {jnp.dtype(jnp.float32)}
    for index in (None, 2):
        with pytest.raises(ValueError, match="holds 2 averages of iterates: give index=, from 0 to 1"):
            adamx.averaged_params(state, index=index)


def test_mistakes_are_told():
    adam = adamx.adam(0.1)
    for wrong, error, match in [
        (lambda: adamx.averaged(adam, 1.0), ValueError, r"decay = 1\.0 is outside \[0, 1\)"),
        (lambda: adamx.averaged(adam, lambda t: 0.9), TypeError, "decay = .* should be a number"),
        (lambda: adamx.averaged(adam, ()), ValueError, "keeps no average"),
        (lambda: adamx.averaged(adam, None, debias=False), ValueError, "debias=False is of an exponential average"),
        (
            lambda: adamx.averaged(adam, sigma_rel=0.3),
            ValueError,
            r"sigma_rel = 0\.3 should be above 0 and at most 0\.2887",
        ),
        (lambda: adamx.averaged(adam, start=-1), ValueError, "start = -1 should be a number of moves"),
        (lambda: adamx.averaged(adam, moments="int4"), ValueError, "moments = 'int4'"),
        (lambda: adamx.averaged(len), TypeError, "is not a gradient transformation"),
        (
            lambda: adamx.averaged(adam).step(tree(0), adam.init(tree(0)), tree(0)),
            TypeError,
            "is not the state of adamx.averaged",
        ),
        (lambda: adamx.averaged(adam).update(tree(0), None), ValueError, "averages are of the parameters"),
    ]:
        with pytest.raises(error, match=match):
            wrong()


def test_averages_that_are_read_outlive_the_state_that_is_donated():
    state = adamx.averaged(adamx.adam(0.1)).init(jnp.ones(3))
    averages = [adamx.averaged_params(state), adamx.averaged_params(state, jnp.ones(3))]
    jax.tree.map(lambda x: x.delete(), state)  # what a donated step does
    np.testing.assert_array_equal(averages, 1.0)


def test_a_state_of_other_averages_is_refused():
    one, two = (adamx.averaged(adamx.adam(0.1), decay) for decay in (0.9, (0.9, 0.99)))
    with pytest.raises(ValueError, match="the state's slots are"):
        two.step(tree(1), one.init(tree(0)), tree(0))
    coded = adamx.averaged(adamx.adam(0.1), 0.9, moments="int8")
    with pytest.raises(ValueError, match=r"averages\.0\.average of grads\['w'\] is stored as RatioCode of int8"):
        one.step(tree(1), coded.init(tree(0)), tree(0))


# Post-hoc


def test_exponents_are_those_of_relative_widths():
    """arXiv:2312.02696 names 6.94 and 16.97; the width of a profile over many moves is what it is called."""
    assert [round(exponent_of(x), 2) for x in (0.1, 0.05)] == [6.94, 16.97]
    assert exponent_of(WIDEST) == pytest.approx(0, abs=1e-12)
    for sigma_rel in (0.03, 0.1, 0.2, 0.28):
        weights, k = weights_of(sigma_rel, 10**5), np.arange(10**5)
        width = np.sqrt((weights * k**2).sum() - (weights * k).sum() ** 2) / 10**5
        np.testing.assert_allclose(width, sigma_rel, rtol=1e-6)


def test_any_width_is_reconstructed_from_two():
    """As well as by any combination, from sixteen snapshots of the paper's two; also before the last of them."""
    moves = np.linspace(250, 4000, 16).astype(int)
    have = [(t, exponent_of(x)) for t in moves for x in (0.05, 0.1)]

    def profile(t, gamma):
        k = np.arange(1, 4001.0)
        return np.where(k <= t, k ** (gamma + 1) - (k - 1) ** (gamma + 1), 0) / float(t) ** (gamma + 1)

    basis = np.stack([profile(*x) for x in have])
    for sigma_rel, t, off in [(0.07, 4000, 0.004), (0.15, 4000, 0.01), (0.03, 4000, 0.04), (0.08, 3000, 0.006)]:
        wanted = profile(t, exponent_of(sigma_rel))
        shares = coefficients(have, (t, exponent_of(sigma_rel)))
        found = np.linalg.norm(shares @ basis - wanted) / np.linalg.norm(wanted)
        best = np.linalg.lstsq(basis.T, wanted, rcond=None)[0] @ basis
        assert found <= 1.01 * np.linalg.norm(best - wanted) / np.linalg.norm(wanted)
        assert found < off
        np.testing.assert_allclose(shares.sum(), 1)


def test_posthoc_params_are_the_average_that_a_run_would_have_kept():
    widths = (0.05, 0.1, 0.07)
    opt, params = adamx.averaged(adamx.adam(0.02), sigma_rel=widths), {"w": jnp.ones(64)}

    def body(carry, key):
        params, state = carry
        grads = {"w": params["w"] + jax.random.normal(key, (64,))}
        params, state = opt.step(grads, state, params)
        return (params, state), [x.average for x in state.averages]

    keys = jax.random.split(jax.random.key(0), 800)
    _, kept = jax.jit(lambda c: jax.lax.scan(body, c, keys))((params, opt.init(params)))
    at = lambda i, t: jax.tree.map(lambda x: x[t - 1], kept[i])  # noqa: E731
    snapshots = [adamx.Snapshot(at(i, t), t, widths[i]) for t in range(100, 801, 100) for i in (0, 1)]
    lazy = [x._replace(params=lambda x=x: x.params) for x in snapshots]
    got, wanted = adamx.posthoc_params(lazy, 0.07)["w"], at(2, 800)["w"]
    assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(at(0, 800)["w"] - wanted)
    assert (adamx.posthoc_params(snapshots, 0.07, 500)["w"] != got).all()
    with pytest.raises(ValueError, match="1 snapshots: give at least two"):
        adamx.posthoc_params(snapshots[:1], 0.07)
    with pytest.raises(ValueError, match="two snapshots are of one width after as many moves"):
        adamx.posthoc_params(snapshots[:2] * 2, 0.07)


# Models and devices


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize(("kind", "moments"), [(adamx.flax.Optimizer, "int8"), (nnx.Optimizer, "float32")])
def test_an_nnx_model_is_evaluated_at_its_average_and_goes_on(kind, moments):
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    optimizer = kind(model, adamx.averaged(adamx.adam(0.1), None, moments=moments), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        grads = nnx.grad(lambda model: model(jnp.ones((2, 64))).sum())(model)
        optimizer.update(model, grads)

    path = []
    for _ in range(3):
        train(model, optimizer)
        path.append(model.kernel[...])
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    evaluated = nnx.merge(graph, adamx.averaged_params(optimizer.opt_state, params), rest)
    np.testing.assert_allclose(evaluated.kernel[...], path[1], atol=2**-20 if moments == "float32" else 0.05)
    np.testing.assert_array_equal(model.kernel[...], path[-1])
    train(model, optimizer)
    nnx.update(model, adamx.averaged_params(optimizer.opt_state))
    assert np.abs(model.kernel[...] - path[1]).max() > 0.04


def test_a_train_state_is_evaluated_at_its_average():
    tx = adamx.averaged(adamx.adam(0.1), None)
    state = adamx.flax.TrainState.create(apply_fn=None, params=tree(0), tx=tx)
    step, path = jax.jit(lambda state: state.apply_gradients(grads=tree(1), clip_norm=1.0)), []
    for _ in range(3):
        state = step(state)
        path.append(state.params["w"])
    evaluated = state.replace(params=adamx.averaged_params(state.opt_state, state.params))
    np.testing.assert_allclose(evaluated.params["w"], np.mean(path, 0), atol=2**-20)


@needs_host_memory
@pytest.mark.devices
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_averages_are_cut_as_their_weights_and_may_be_in_host_memory(kind):
    mesh, opt = jax.make_mesh((4,), ("x",), axis_types=(kind,)), adamx.averaged(adamx.adam(0.1), None)
    alone, wanted, _ = run(opt, tree(0), 2)
    with jax.set_mesh(mesh):
        specs = (P("x"), P()) if kind == AxisType.Auto else (P("x", None), P(None))  # as results of jit have them
        cut = {name: NamedSharding(mesh, spec) for name, spec in zip(SHAPES, specs, strict=True)}
        params = jax.device_put(tree(0), cut)
        placed = adamx.state_shardings(
            opt, params, memory_kind=lambda path: "pinned_host" if "average" in path else None
        )
        assert placed.averages[0].average["w"].spec == placed.inner.slots.mu["w"].spec
        state, step = jax.jit(opt.init, out_shardings=placed)(params), jax.jit(opt.step)
        for i in range(2):
            grads = jax.device_put(tree(i + 1), cut)
            params, state = step(grads, state, params)
            kept = state.averages[0].average["w"].sharding
            assert (kept, kept.memory_kind) == (placed.averages[0].average["w"], "pinned_host")
    assert step._cache_size() == 1
    averages = jax.tree.map(np.asarray, (params, adamx.averaged_params(state)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2**-21), averages, (alone, adamx.averaged_params(wanted))
    )
