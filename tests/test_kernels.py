"""The native kernel does what XLA does, for all that it takes, and says why it takes no more."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import kernels
from adamx.moments import is_code
from tests.helpers import MISSING, as_users_do, assert_close, needs_native, product, some

pytestmark = pytest.mark.usefixtures("one_device")
SHAPE = (33, 160)  # ragged groups, and an odd number of rows
OTHERS = {"b": (7,), "scalar": (), "cube": (3, 5, 300)}

RATE = 1e-2

RULES = {
    "adam": adamx.Adam(),
    "adam_nesterov": adamx.Adam(nesterov=True, b1=0.3),
    "adam_eps_hat": adamx.Adam(eps_hat=True, eps=1e-3, eps_root=1e-6),
    "adam_uncorrected": adamx.Adam(bias_correction=False),
    "adam_scheduled": adamx.Adam(b1=adamx.schedules.decayed_beta(0.9, 0.99)),
    "amsgrad": adamx.AMSGrad(),
    "amsgrad_raw": adamx.AMSGrad(max_of="raw", eps_hat=True),
    "amsgrad_paper": adamx.AMSGrad(bias_correction_mu=False, bias_correction_nu=False),
    "adamax": adamx.AdaMax(),
    "adamax_outside": adamx.AdaMax(eps_outside=True, eps=1e-3),
    "lion": adamx.Lion(),
    "rmsprop": adamx.RMSProp(),
    "rmsprop_everything": adamx.RMSProp(momentum=0.9, nesterov=True, bias_correction=True, eps_in_sqrt=False),
    "adagrad": adamx.AdaGrad(),
}


def tree(dtype, seed=0, others=True):
    rng = np.random.default_rng(seed)
    shapes = {"w": SHAPE} | (OTHERS if others else {})
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def few(dtype, seed=0):
    """A leaf worth coding and one that is not."""
    return {name: x for name, x in tree(dtype, seed).items() if name in ("w", "b")}


def both(rule, rate=RATE, **kwargs):
    return [adamx.optimizer(rule, rate, kernel=kernel, **kwargs) for kernel in ("xla", "native")]


def check_same(opts, params, grads_of, steps=4, rate=RATE):
    """From the same inputs, step after step: floats within 2 roundings, codes equal but for one place in 10^4."""
    state, (xla, native) = jax.jit(opts[0].init)(params), [as_users_do(opt.step) for opt in opts]
    told = jax.jit(lambda state, params: _told(opts[0], state, params))
    coded = any(map(is_code, jax.tree.leaves(state, is_leaf=is_code)))
    for t in range(steps):
        grads = grads_of(t)
        wanted, got = xla(grads, state, params), native(grads, state, params)
        assert jax.tree.structure(wanted) == jax.tree.structure(got)
        apart = total = 0
        # Weights are measured beside the step size, too, the scale of every change.
        before, xla_is, native_is = (told(s, p) for p, s in ((params, state), wanted, got))
        narrow = [p.dtype == jnp.bfloat16 for p in jax.tree.leaves(params)]
        weights = len(narrow)
        for i, (old, a, b) in enumerate(zip(before, xla_is, native_is, strict=True)):
            scale = rate if i < weights else 0.0
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            old, a, b = (np.asarray(x) for x in (old, a, b))
            if a.dtype.kind in "iu":
                places = np.abs(a.astype(int) - b.astype(int))
                assert places.max(initial=0) <= 1
                apart, total = apart + np.count_nonzero(places), total + places.size
                continue
            one = np.float32(2.0**-23 if a.dtype == np.float32 else 2.0**-7)
            if opts[0].engine.weights in ("kahan", "split8") and i < weights:
                one = np.float32(2.0**-16)  # the place of what is kept beside a bfloat16
            if opts[0].engine.weights == "stochastic" and i < weights and narrow[i]:
                one = np.float32(2.0**-7)  # nothing is
            old, a, b = (x.astype(np.float32) for x in (old, a, b))
            # Two roundings of the number and two of its change, which has its own where both nearly cancel; what a code
            # stands for comes out of a few more. A narrow number is off by one place, seldom.
            room = np.maximum(np.abs(a), np.abs(old)) + np.maximum(np.abs(a - old), scale)
            assert (np.abs(a - b) <= room * one * (1 if one > 1e-3 else 4 if coded else 2)).all()
            if one > 1e-3:
                apart, total = apart + np.count_nonzero(a != b), total + a.size
        assert apart <= max(2, 1e-4 * total)
        params, state = wanted


def _told(opt, state, params):
    """What is compared: masters in the place of weights and those residuals that a float32's last bit moves."""
    masters = adamx.master_params(opt, state, params)
    narrow = [p for p in jax.tree.leaves(params) if p.dtype != jnp.float32]
    if opt.engine.weights not in ("kahan", "split16") and jax.tree.leaves(state.residuals):
        # Near zero a weight is the difference of larger ones, whose last bits its code counts many of.
        far = jax.tree.map(lambda p, r: jnp.where(jnp.abs(p) < RATE, 0, r), params, state.residuals)
        narrow += jax.tree.leaves(far)
    return jax.tree.leaves((masters, narrow, state.slots))


# The kernel's code for a format knows no rule, nor that for a rounding a format: some of each stand for the others.
CODED = {"adam", "amsgrad"}
FORMATS = ["float32", "bfloat16", "int8"]


@needs_native
@pytest.mark.parametrize(
    ("rule", "moments"),
    some(itertools.product(RULES, FORMATS), lambda rule, moments: moments == "float32" or rule in CODED),
)
def test_every_rule_and_format(rule, moments):
    opts = both(RULES[rule], weight_decay=0.1, moments=moments)
    # Momentum .9 adds up ten directions, which may cancel.
    rate = 10 * RATE if rule == "rmsprop_everything" else RATE
    others = rule in ("adam", "lion")  # XLA takes seconds to compile each coded leaf
    check_same(opts, tree(jnp.float32, 0, others), lambda t: tree(jnp.float32, t + 1, others), rate=rate)


ROUNDED = {("split16", "float32"), ("split8", "int8"), ("kahan", "bfloat16")}


@needs_native
@pytest.mark.parametrize(
    ("weights", "moments"),
    some(
        itertools.product(["nearest", "stochastic", "kahan", "split8", "split16"], FORMATS),
        lambda *these: these == ("stochastic", "float32"),
    ),
)
def test_every_rounding_of_bfloat16_weights(weights, moments):
    opts = both(adamx.Adam(), weight_decay=0.1, moments=moments, weights=weights)
    check_same(opts, tree(jnp.bfloat16), lambda t: tree(jnp.bfloat16 if t % 2 else jnp.float32, t + 1))


@needs_native
@pytest.mark.parametrize(("weights", "moments"), sorted(ROUNDED))
def test_roundings_where_gradients_are_bfloat16_throughout(weights, moments):
    """Gradients of one dtype, two leaves: a half of the programs of the test above, and the same formulas."""
    opts = both(adamx.Adam(), weight_decay=0.1, moments=moments, weights=weights)
    check_same(opts, few(jnp.bfloat16), lambda t: few(jnp.bfloat16, t + 1))


@needs_native
@pytest.mark.parametrize("decay", ["decoupled", "l2"])
def test_climbing_is_descending_along_the_negative_gradient(decay):
    """Weights decay all the same. To a rounding: with L2 the kernel adds gradient and penalty in one or in two."""
    params, grads = few(jnp.float32), few(jnp.float32, 1)
    downhill = jax.tree.map(jnp.negative, grads)
    options = dict(weight_decay=0.1, decay=decay)
    for up, down in zip(both(adamx.Adam(), maximize=True, **options), both(adamx.Adam(), **options), strict=True):
        wanted, got = down.step(downhill, down.init(params), params), up.step(grads, up.init(params), params)
        assert_close(got[0], wanted[0], 2)


@needs_native
def test_lion_without_the_sign_is_left_to_xla():
    params = jnp.ones(SHAPE)
    assert adamx.explain(adamx.lion(RATE), params)[0].kernel == "native"
    plan = adamx.explain(adamx.lion(RATE, mode="smooth"), params)[0]
    assert (plan.kernel, plan.why) == ("xla", "it knows Lion with mode='hard', not 'smooth'")


@needs_native
@pytest.mark.parametrize("moments", ["float32", "bfloat16", "int8"])
def test_a_leaf_that_several_threads_step(moments):
    """More than 8,192 elements, in rows that end within a group."""
    weights = "split8" if moments == "int8" else "nearest"
    opts = both(adamx.Adam(), weight_decay=0.1, moments=moments, weights=weights)
    big = {seed: {"w": jnp.asarray(np.random.default_rng(seed).standard_normal((70, 1025)))} for seed in range(3)}
    dtype = jnp.bfloat16 if moments == "int8" else jnp.float32
    big = jax.tree.map(lambda x: x.astype(dtype), big)
    check_same(opts, big[0], lambda t: big[t + 1], steps=2)


@needs_native
@pytest.mark.parametrize("decay", ["decoupled", "independent", "cautious", "proximal", "after", "constant", "l2"])
def test_every_weight_decay_and_masks(decay):
    mask = {"w": True, "b": False, "scalar": False, "cube": True}
    lr_max = {"lr_max": 0.1} if decay == "independent" else {}
    rate = adamx.schedules.inverse_sqrt(0.1) if decay == "independent" else 0.1
    opts = both(adamx.Adam(), rate, weight_decay=0.1, decay=decay, mask=mask, **lr_max)
    check_same(opts, tree(jnp.float32), lambda t: tree(jnp.float32, t + 1), rate=0.1)


@needs_native
def test_mixed_formats_and_traced_numbers():
    opts = both(adamx.Adam(), weight_decay=0.1, moments=("bfloat16", "int8"))
    check_same(opts, few(jnp.float32), lambda t: few(jnp.float32, t + 1))
    params, grads = few(jnp.float32), few(jnp.float32, 1)

    @jax.jit
    def step(rate, b2, seed):
        opts = both(adamx.Adam(b2=b2), rate, moments="int8", seed=seed)
        return [opt.step(grads, opt.init(params), params)[0] for opt in opts]

    wanted, got = step(1e-2, 0.99, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7, atol=1e-8), wanted, got)


@needs_native
@pytest.mark.parametrize("groups", [(32, 64), pytest.param((64, 32), marks=product)])
def test_groups_of_other_sizes(groups):
    """Of mu and nu; their last ones are shorter, and one leaf's rows are groups."""
    opts = both(adamx.Adam(), weight_decay=0.1, moments=[adamx.Int8(group=group) for group in groups])
    shapes = {"ragged": (33, 150), "rows": (96, 64)}
    made = [
        {
            name: jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
            for name, shape in shapes.items()
        }
        for seed in range(3)
    ]
    check_same(opts, made[0], lambda t: made[t + 1], steps=2)


@functools.cache
def jitted_amsgrads(moments):
    return [(opt, jax.jit(opt.step)) for opt in both(adamx.AMSGrad(), moments=moments)]


@needs_native
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e-38, 1e30, 0.0])
@pytest.mark.parametrize("moments", ["float32", "bfloat16", "int8"])
def test_extreme_gradients(bad, moments):
    params = {"w": jnp.ones(SHAPE)}
    grads = {"w": tree(jnp.float32)["w"].at[0, 3].set(bad).at[5].set(bad)}
    results = []
    for opt, step in jitted_amsgrads(moments):
        p, state = params, opt.init(params)
        for _ in range(3):
            p, state = step(grads, state, p)
        results.append(np.asarray(p["w"]))
    np.testing.assert_array_equal(*(np.isfinite(x) for x in results))
    np.testing.assert_allclose(*results, rtol=1e-3)


@needs_native
@pytest.mark.parametrize("moments", ["bfloat16", *(pytest.param(x, marks=product) for x in ("float32", "int8"))])
def test_under_vmap_scan_donation_and_eagerly(moments):
    opt, other = both(adamx.AdaMax(), moments=moments, weights="stochastic")[::-1]
    params = [few(jnp.bfloat16, seed) for seed in range(3)]
    many = jax.tree.map(lambda *x: jnp.stack(x), *params)
    grads = jax.tree.map(lambda p: p * 2, many)
    states = jax.vmap(opt.init)(many)
    together = jax.jit(jax.vmap(opt.step))(grads, states, many)
    for i, p in enumerate(params):
        alone = opt.step(jax.tree.map(lambda p: p * 2, p), opt.init(p), p)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(_raw(a[i]), _raw(b)), together, alone)

    rates = jnp.asarray([1e-3, 1e-2])
    by_rate = jax.vmap(lambda r: adamx.adam(r, kernel="native").step(params[0], opt_init(params[0]), params[0])[0])
    opt_init = adamx.adam(1e-3).init
    together = by_rate(rates)
    for i, p in enumerate(rates):
        alone = adamx.adam(p, kernel="native").step(params[0], opt_init(params[0]), params[0])[0]
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(_raw(a[i]), _raw(b)), together, alone)

    def run(opt, p):
        body = lambda carry, _: (opt.step(carry[0], carry[1], carry[0]), None)  # noqa: E731
        return jax.lax.scan(body, (p, opt.init(p)), None, length=5)[0]

    scanned, wanted = jax.jit(lambda p: run(opt, p))(params[0]), jax.jit(lambda p: run(other, p))(params[0])
    stepped, state, step = params[0], opt.init(params[0]), jax.jit(opt.step, donate_argnums=(1, 2))
    for _ in range(5):
        stepped, state = step(jax.tree.map(lambda x: x + 0, stepped), state, jax.tree.map(lambda x: x + 0, stepped))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(_raw(a), _raw(b)), scanned[0], stepped)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(_wide(a), _wide(b), rtol=0.02, atol=1e-3), wanted[0], stepped)


@needs_native
def test_small_leaves_share_calls_and_step_as_they_do_alone():
    """Those that are stored alike, 64 to a call; 8,192 elements are small and one more has a call of its own."""
    dtypes = (jnp.float32, jnp.bfloat16)
    sizes = [(33,)] * 130 + [(64, 128), (8193,)]
    params = {f"p{i:03}": jnp.full(n, 0.5 + i / 200, dtypes[i % 2]) for i, n in enumerate(sizes)}
    grads = jax.tree.map(lambda p: p * 2, params)
    opt = adamx.adamw(1e-2, moments="int8", weights="split8", kernel="native")
    state = opt.init(params)
    program = jax.jit(opt.step).lower(grads, state, params)
    assert program.as_text().count("stablehlo.custom_call @adamx_step") == 2 + 2 + 2
    together, after = program.compile()(grads, state, params)
    masters = adamx.master_params(opt, after, together)
    for name in ("p000", "p001", "p063", "p128", "p129", "p130", "p131"):
        one = {name: params[name]}
        alone, after_alone = opt.step({name: grads[name]}, opt.init(one), one)
        np.testing.assert_array_equal(_raw(together[name]), _raw(alone[name]))
        np.testing.assert_array_equal(masters[name], adamx.master_params(opt, after_alone, alone)[name])


def _raw(x):
    return np.asarray(x).view(np.uint16) if x.dtype == jnp.bfloat16 else np.asarray(x)


def _wide(x):
    return np.asarray(x, np.float32)


@pytest.mark.parametrize("kernel", ["xla", pytest.param("native", marks=needs_native)])
def test_clipping_and_scaling_are_those_chained_in_front(kernel):
    params, grads = tree(jnp.float32), tree(jnp.float32, 1)
    norm = float(optax.tree.norm(grads))
    opt = adamx.adamw(1e-2, weight_decay=0.1, eps=1.0, kernel=kernel)
    for clip, scale in (
        (norm / 3, None),
        (norm * 3, None),
        (norm / 3, 0.25),
        (None, 0.25),
        (norm / 8, 0.25),
        (norm / 8, -0.25),
    ):
        chained = optax.chain(
            *([optax.scale(scale)] if scale else []), *([optax.clip_by_global_norm(clip)] if clip else []), opt
        )
        updates, _ = chained.update(grads, chained.init(params), params)
        wanted = optax.apply_updates(params, updates)
        got, _ = opt.step(grads, opt.init(params), params, clip_norm=clip, grad_scale=scale)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-8), wanted, got)
    with pytest.raises(ValueError, match="clip_norm = 0"):
        opt.step(grads, opt.init(params), params, clip_norm=0.0)
    with pytest.raises(ValueError, match=r"grad_scale should be one number, but has shape \(160,\)"):
        opt.step(grads, opt.init(params), params, grad_scale=jnp.ones(160))
    with pytest.raises(ValueError, match="grad_scale = inf"):
        opt.step(grads, opt.init(params), params, grad_scale=float("inf"))


@needs_native
def test_numbers_that_a_loop_computes():
    """And no traced array outlives its trace, which `jax.checking_leaks` would find."""
    halved = lambda n: jax.lax.scan(lambda x, _: (x / 2, None), jnp.float32(n), length=3)[0]  # noqa: E731
    params = {"a": jnp.ones(4)}
    opt = adamx.lion(lambda n: halved(n + 1), weight_decay=0.0, kernel="native")
    with jax.checking_leaks():
        new, _ = jax.jit(opt.step)(params, opt.init(params), params)
    np.testing.assert_array_equal(new["a"], 1 - np.float32(1 / 8))


@needs_native
@pytest.mark.devices
def test_under_shard_map_auto_is_native():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")
    opt = adamx.adam(1e-2)
    params = jnp.asarray(np.random.default_rng(0).standard_normal((64, 128)), jnp.float32)
    state = opt.init(params)
    specs = jax.tree.map(lambda x: spec if x.ndim else jax.sharding.PartitionSpec(), state)
    step = jax.jit(
        jax.shard_map(opt.step, mesh=mesh, in_specs=(spec, specs, spec), out_specs=(spec, specs), check_vma=False)
    )
    assert "adamx_step" in step.lower(params, state, params).as_text()
    np.testing.assert_allclose(step(params, state, params)[0], opt.step(params, state, params)[0], rtol=3e-7, atol=1e-8)


@needs_native
@pytest.mark.devices
@pytest.mark.parametrize("moments", ["float32", "int8"])
def test_under_shard_map_results_vary_as_what_went_in_does(moments):
    """So that gradients after a step are right, a loop of steps is one, and a forgotten psum is found."""
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, whole = jax.sharding.PartitionSpec("x"), jax.sharding.PartitionSpec()
    data = jnp.asarray(np.random.default_rng(1).standard_normal((8, 640)), jnp.float32)
    params = {"cut": jnp.ones((8, 640)), "bias": jnp.ones(3), "whole": jnp.full(3, 2.0)}
    specs = {"cut": spec, "bias": whole, "whole": whole}

    def trained(opt):
        def loss(params, data):
            return ((params["cut"] * data + params["bias"].sum()) ** 2).sum() + (params["whole"] ** 2).sum()

        def body(data, carry, _):
            params, state = carry
            grads = jax.grad(loss)(params, data)
            return opt.step(grads, state, params), grads["cut"]

        def run(params, data):
            return jax.lax.scan(lambda carry, x: body(data, carry, x), (params, opt.init(params)), None, length=3)

        def both(params, data):
            (after, _), grads = run(params, data)
            return after, grads

        outs = (specs, jax.sharding.PartitionSpec(None, "x"))
        return jax.jit(jax.shard_map(both, mesh=mesh, in_specs=(specs, spec), out_specs=outs))

    wanted, got = (
        trained(adamx.adam(1e-2, moments=moments, kernel=kernel))(params, data) for kernel in ("xla", "auto")
    )
    text = trained(adamx.adam(1e-2, moments=moments)).lower(params, data).as_text()
    assert text.count("custom_call @adamx_step") == 2  # one call for what is cut, one for what is whole
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), wanted, got)

    def forgotten(params, data):
        opt = adamx.adam(1e-2)
        return opt.step({"w": data[0, :3]}, opt.init(params), params)[0]

    small = {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"out_specs|replicat"):
        jax.jit(jax.shard_map(forgotten, mesh=mesh, in_specs=(whole, spec), out_specs=whole))(small, data)


@needs_native
@pytest.mark.devices
@pytest.mark.skipif(jax.__version_info__ < (0, 9), reason="JAX 0.8 forgets the sharding of an FFI call's results")
def test_explicit_shardings_stay(monkeypatch):
    """As on the one device of a machine where a program for several is tried out."""
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    mesh, spec = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,)), ("x", None)
    opt = adamx.adam(1e-2, kernel="native")
    with jax.set_mesh(mesh):
        params = jax.device_put(jnp.ones((64, 128)), jax.sharding.PartitionSpec(*spec))

        def run(params):
            body = lambda carry, _: (opt.step(carry[0], carry[1], carry[0]), None)  # noqa: E731
            return jax.lax.scan(body, (params, opt.init(params)), length=3)[0]

        after, state = jax.jit(run)(params)
    assert jax.typeof(after).sharding.spec == jax.typeof(state.slots.mu).sharding.spec == params.sharding.spec
    assert float(after.max()) == pytest.approx(0.97, rel=1e-3)


@pytest.mark.parametrize("kernel", ["xla", pytest.param("native", marks=needs_native)])
def test_a_state_of_other_weights_or_codes_is_refused(kernel):
    params = {"w": jnp.ones((8, 640), jnp.bfloat16)}
    kahan = adamx.adam(1e-2, weights="kahan", moments="int8", kernel=kernel)
    nearest = adamx.adam(1e-2, moments="int8", kernel=kernel)
    state = kahan.init(params)
    with pytest.raises(ValueError, match=r"keeps bfloat16\[8, 640\], the optimizer nothing"):
        nearest.step(params, state, params)
    wide = adamx.master_params(kahan, state, params)
    with pytest.raises(ValueError, match=r"keeps bfloat16\[8, 640\], the optimizer nothing"):
        kahan.step(wide, state, wide)
    cut = state._replace(residuals={"w": state.residuals["w"][:1]})
    with pytest.raises(ValueError, match=r"keeps bfloat16\[1, 640\], the optimizer bfloat16\[8, 640\]"):
        kahan.step(params, cut, params)
    cast = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, nearest.init(params))
    with pytest.raises(ValueError, match=r"mu of grads\['w'\] is stored as RatioCode whose scale is float32"):
        nearest.step(params, cast, params)


@needs_native
def test_the_kernel_itself_refuses_what_is_not_as_said(monkeypatch):
    """Whatever gets past the checks in Python must not be written over memory."""
    opt, params = adamx.adam(1e-2, kernel="native"), jnp.ones(300)
    state = opt.init(params)
    for name, wrong, message in (
        ("formats", np.asarray([0, 1], np.int64), "types and sizes"),
        ("formats", np.asarray([0, 4], np.int64), "operands that are not those"),
        ("version", 0, "another version"),
    ):
        true = kernels.cpu.step._attributes
        monkeypatch.setattr(kernels.cpu.step, "_attributes", lambda step, n=name, w=wrong, t=true: t(step) | {n: w})
        with pytest.raises(Exception, match=message):
            jax.block_until_ready(jax.jit(lambda *args: opt.step(*args))(params, state, params))
        monkeypatch.undo()
        monkeypatch.setattr(jax, "device_count", lambda *_: 1)


def test_what_the_kernel_does_not_take_goes_to_xla_or_is_refused_by_name():
    assert kernels.available()["xla"] == "yes"
    if MISSING is not None:
        with pytest.raises(ValueError, match="kernel='native' cannot take the step of params: it was not built"):
            opt = adamx.adam(1e-3, kernel="native")
            opt.step(jnp.ones(3), opt.init(jnp.ones(3)), jnp.ones(3))
        return
    for opt, params, why in [
        (adamx.adabelief(1e-3), jnp.ones(3), None),
        (adamx.optimizer(adamx.Yogi(), 1e-3, kernel="native"), jnp.ones(3), "it knows Adam, AMSGrad, .*, not Yogi"),
        (adamx.adam(1e-3, kernel="native"), jnp.ones(3, jnp.float16), "parameter is float16"),
        (adamx.adam(1e-3, kernel="native"), jnp.ones(3, jnp.complex64), "parameter is complex64"),
        (adamx.adam(1e-3, kernel="native", mu_dtype=jnp.float16), jnp.ones(3), "mu is stored in float16"),
        (adamx.scale_by(adamx.Adam(), kernel="native"), jnp.ones(3), "it computes whole steps"),
        (adamx.rmsprop(1e-3, centered=True, kernel="native"), jnp.ones(3), "without `centered`"),
    ]:
        if why is None:
            opt.step(params, opt.init(params), params)
            continue
        with pytest.raises(ValueError, match=rf"cannot take the step of params.*{why}"):
            opt.step(params, opt.init(params), params)
    with pytest.raises(ValueError, match="did you mean 'native'"):
        adamx.adam(1e-3, kernel="nativ")


def test_explain_names_kernel_formats_bytes_and_reasons():
    params = {"w": jnp.ones((64, 128), jnp.bfloat16), "b": jnp.ones(64), "c": jnp.ones(3, jnp.complex64), "none": None}
    plan = adamx.explain(adamx.adamw(1e-3, moments="int8", weights="split8"), params)
    by_path = {leaf.path: leaf for leaf in plan}
    w = by_path["params['w']"]
    assert w.formats == {"mu": "int8", "nu": "int8"} and w.weights == "split8"
    assert w.bytes == 64 * 128 * (2 + 2 * (2 + 1 + 1 + 1)) + 2 * 64 * 4
    assert by_path["params['b']"].bytes == 64 * 28
    assert "complex64" in by_path["params['c']"].why or MISSING
    assert "XLA steps" in str(plan) and "3 leaves" in str(plan)
    if MISSING is None:
        assert w.kernel == "native" and w.why == ""


@needs_native
@pytest.mark.parametrize("moments", ["int8", pytest.param("bfloat16", marks=product)])
@pytest.mark.parametrize("kernel", [pytest.param("xla", marks=product), "native"])
def test_a_part_of_a_leaf_is_stored_as_the_whole(kernel, moments):
    """Under `vmap` a part may be smaller than what is worth coding; its state is coded all the same."""
    opt = adamx.adam(1e-2, moments=moments, kernel=kernel)
    params = jnp.asarray(np.random.default_rng(0).standard_normal((8, 8, 128)), jnp.float32)
    state = opt.init(params)
    axes = jax.tree.map(lambda x: 0 if x.ndim else None, state)
    got, _ = jax.jit(jax.vmap(opt.step, in_axes=(0, axes, 0), out_axes=(0, axes)))(params, state, params)
    np.testing.assert_allclose(got, opt.step(params, state, params)[0], rtol=1e-6, atol=1e-8)
    cut = jax.tree.map(lambda x: x[..., :3] if x.shape[-1:] == (128,) else x, state)
    if moments == "int8":
        with pytest.raises(ValueError, match="cut the last axis in multiples of 128"):
            opt.step(params[..., :3], cut._replace(slots=_wider(cut.slots)), params[..., :3])


def _wider(slots):
    """Two groups where one is."""
    return jax.tree.map(lambda x: jnp.concatenate([x, x], -1) if x.shape[-1] == 1 else x, slots)


def test_what_is_no_optimizer_of_adamx_is_named():
    chained = optax.chain(optax.clip(1.0), adamx.adam(1e-3))
    with pytest.raises(TypeError, match=r"is not an adamx optimizer: give the part of the chain"):
        adamx.explain(chained, jnp.ones(3))
