"""Pallas kernels do what XLA does, for every rule that keeps elements apart, and are lowered for GPUs and TPUs.

No device is needed: kernels are interpreted. `make test-accelerators` compiles them for devices that are not there.
"""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh
from jax.sharding import PartitionSpec as P

import adamx
from adamx import _leaves, kernels
from adamx._transform import engine_of
from adamx.kernels import pallas
from adamx.kernels.pallas import call
from adamx.wrapper import parts_of
from tests.compiling import AS_USERS_DO
from tests.helpers import SoftSign, as_users_do, product, some

RATE = 1e-2
PLATFORMS = {"gpu": "cuda", "tpu": "tpu"}
ABSENT = {"cuda": ("NVIDIA H100", 132), "tpu": ("TPU v5 lite", 1)}
ODD = {"w": (33, 160), "thin": (1, 5000), "cube": (3, 15, 129), "row": (4500,), "narrow": (70, 65)}
SMALL = {f"b{i}": (7,) for i in range(3)} | {"c": (3, 5), "d": (3, 5), "scalar": ()}


class Elementwise(SoftSign):
    """A user's rule that declares what kernels need to know."""

    elementwise = True


MAKERS = {name: getattr(adamx, name) for name in adamx.list()} | {
    "of_a_user": lambda rate, **options: adamx.optimizer(Elementwise(), rate, **options)
}
ELEMENTWISE = [
    name for name in MAKERS if all(part[0].rule.elementwise is True for part in parts_of(MAKERS[name](RATE)))
]


def representatives(*names: str) -> list:
    """All rules, of which `make test` takes these only."""
    return [name if name in names else pytest.param(name, marks=product) for name in ELEMENTWISE]


def tree(shapes, seed, dtype=jnp.float32):
    """Gradients of many scales, or weights."""
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 0, shape), dtype)
        for name, shape in shapes.items()
    }


@pytest.fixture
def older_jax(monkeypatch):
    """As if this JAX were one whose Pallas is not taken."""
    monkeypatch.setattr(pallas, "_OLDEST", (99, 1))


@pytest.fixture(autouse=True)
def there(request):
    """Nothing to test with a JAX whose Pallas is not taken but that it is not."""
    if "older_jax" not in request.fixturenames and (reason := kernels.available()["pallas"]) != "yes":
        pytest.skip(reason)


@pytest.fixture
def interpreted(monkeypatch):
    """Kernels of a device, interpreted on the CPU in the place of the backends that are there."""

    def use(device: str, interpret=True) -> None:
        backend = (pallas.GPU if device == "gpu" else pallas.TPU)._replace(
            platforms=("cpu",), apply=functools.partial(call.apply, device, interpret)
        )
        monkeypatch.setattr(kernels, "BACKENDS", (backend, kernels.BACKENDS[-1]))

    return use


def bits(x):
    """What an array holds, NaN by NaN."""
    return np.asarray(x).view(np.uint8) if np.ndim(x) else np.asarray(x).tobytes()


def check_same(make, shapes, dtype=jnp.float32, steps=3, **options):
    """From the same inputs, step after step: everything stored equal to the bit, float32 weights within 2 roundings.

    A weight near zero is measured beside the step size.

    LLVM contracts products and sums differently in different programs, but not at all without optimization.
    """
    opts = [make(RATE, kernel=kernel, **options) for kernel in ("xla", "pallas")]
    unoptimized = {**AS_USERS_DO, "xla_backend_optimization_level": 0}
    params = tree(shapes, 0, dtype)
    state = opts[0].init(params)
    xla, mine = (jax.jit(functools.partial(opt.step, grad_scale=0.5), compiler_options=unoptimized) for opt in opts)
    for t in range(steps):
        grads = tree(shapes, 1 + t, dtype)
        wanted, got = xla(grads, state, params), mine(grads, state, params)
        assert jax.tree.structure(wanted) == jax.tree.structure(got)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), got[1], wanted[1])
        eps = 2.0**-23 if dtype == jnp.float32 else 0.0
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2 * eps, 2 * eps * RATE), got[0], wanted[0])
        params, state = wanted


REPRESENTATIVES = {"gpu": ("radam", "of_a_user"), "tpu": ("adam", "lion", "schedule_free_sgd")}


@pytest.mark.parametrize(
    ("name", "device"),
    some(itertools.product(ELEMENTWISE, PLATFORMS), lambda name, device: name in REPRESENTATIVES[device]),
)
def test_every_rule_that_keeps_elements_apart(name, device, interpreted):
    interpreted(device)
    check_same(MAKERS[name], {"w": ODD["w"], "b": (7,)}, steps=2, moments="int8")


class Counts(adamx.Rule):
    """A rule with two slots for a whole leaf: the number of its steps, and a constant."""

    slots = adamx.Moments(*(adamx.Slot(init=lambda p, dtype: jnp.zeros([], dtype)) for _ in range(2)))
    elementwise = True

    def step(self, g, s, at):
        return g / (1 + s.mu), adamx.Moments(s.mu + 1, jnp.float32(3))


@pytest.mark.parametrize("device", PLATFORMS)
@pytest.mark.parametrize("make", [adamx.adamx, lambda *args, **options: adamx.optimizer(Counts(), *args, **options)])
def test_slots_for_a_whole_leaf_also_where_it_is_a_scalar(make, device, interpreted):
    interpreted(device)
    check_same(make, {"scalar": (), "one": (1,), "b": (7,)}, steps=2)


WAYS = [
    (moments, weights)
    for moments in ("float32", "bfloat16", "int8")
    for weights in ("nearest", "stochastic", "kahan", "split8", "split16")
]


# `auto` takes bfloat16 moments on TPUs only.
@pytest.mark.parametrize(
    ("moments", "weights", "device"),
    [("int8", "split8", "gpu"), ("int8", "split8", "tpu"), ("bfloat16", "kahan", "tpu")],
)
def test_formats_and_roundings(moments, weights, device, interpreted):
    interpreted(device)
    shapes = {name: (ODD | SMALL)[name] for name in ("w", "c", "d")}
    check_same(adamx.adamw, shapes, jnp.bfloat16, steps=2, moments=moments, weights=weights)


@product
@pytest.mark.parametrize("device", PLATFORMS)
@pytest.mark.parametrize(("moments", "weights"), WAYS)
def test_every_format_and_rounding_in_odd_shapes(moments, weights, device, interpreted):
    interpreted(device)
    dtype = jnp.float32 if weights == "nearest" else jnp.bfloat16
    check_same(adamx.adamw, ODD | SMALL, dtype, moments=moments, weights=weights)


def test_under_the_tpu_simulator():
    opt = adamx.adamw(RATE, kernel="xla", moments="int8")
    params = tree({"w": (40, 256), "b": (7,), "c": (7,)}, 0)
    grads, state = tree({"w": (40, 256), "b": (7,), "c": (7,)}, 1), opt.init(params)

    def simulated(grads, state, params):
        work = engine_of(opt).prepare(_leaves.flatten(grads, "grads"), state, params)
        return call.apply("tpu", pltpu.InterpretParams(), work.steps, work.total)

    new = dict(zip(sorted(params), jax.jit(simulated)(grads, state, params), strict=True))
    wanted, after = jax.jit(opt.step)(grads, state, params)
    for name, (p, (mu, nu), _) in new.items():
        np.testing.assert_allclose(p, wanted[name], 3e-7, 3e-7 * RATE)
        if name == "w":
            jax.tree.map(np.testing.assert_array_equal, (mu, nu), (after.slots.mu[name], after.slots.nu[name]))


@pytest.mark.parametrize("device", PLATFORMS)
def test_what_is_not_finite_stays_so(device, interpreted):
    interpreted(device)
    make = functools.partial(adamx.adamw, kernel="pallas", moments="int8")
    params = tree({"w": ODD["w"]}, 0)
    grads = {"w": params["w"].at[0, 3].set(jnp.nan).at[1, 159].set(jnp.inf)}
    opt = make(RATE)
    new, state = jax.jit(opt.step)(grads, opt.init(params), params)
    assert not np.isfinite(new["w"][0, 3]) and not np.isfinite(new["w"][1, 159])
    wanted = jax.jit(adamx.adamw(RATE, kernel="xla", moments="int8").step)(grads, opt.init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), state.slots, wanted[1].slots)


@pytest.mark.parametrize("device", some([(device,) for device in PLATFORMS], lambda device: device == "tpu"))
def test_under_vmap_traced_numbers_and_schedules(device, interpreted):
    interpreted(device)
    schedule = adamx.schedules.decayed_beta(0.9, 0.99)

    def steps(kernel, rate, params):
        opt = adamx.adamw(rate, b1=schedule, moments="int8", kernel=kernel)
        state = opt.init(params)
        for t in range(2):
            params, state = opt.step(tree(shapes, t), state, params, clip_norm=1.0)
        return params, state

    shapes = {"w": (33, 160), "b": (7,)}
    rates, params = jnp.asarray([1e-3, 1e-2]), jax.tree.map(lambda p: jnp.stack([p, -p]), tree(shapes, 9))
    many = as_users_do(jax.vmap(functools.partial(steps, "pallas")))(rates, params)
    by_xla = as_users_do(functools.partial(steps, "xla"))
    for i in range(2):
        alone = by_xla(rates[i], jax.tree.map(lambda p: p[i], params))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b, 1e-6, 1e-8), many[0], alone[0])
        for a, b in zip(jax.tree.leaves(many[1].slots), jax.tree.leaves(alone[1].slots), strict=True):
            if b.dtype == jnp.float32:
                np.testing.assert_allclose(a[i], b, 1e-6, 1e-12)
            else:
                assert np.mean(np.asarray(a[i]) != np.asarray(b)) < 1e-3


def lowered(opt, params, platform: str) -> str:
    step = jax.jit(opt.step).trace(params, opt.init(params), params)
    return step.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", PLATFORMS.values())
@pytest.mark.parametrize("name", representatives("lion", "radam", "of_a_user"))
def test_every_rule_is_lowered_for_devices_that_are_not_here(name, platform):
    params = tree({"w": ODD["w"], "b": (7,)}, 0)
    assert "pallas_step" in lowered(MAKERS[name](RATE, moments="int8"), params, platform)


@pytest.mark.parametrize(
    ("moments", "weights", "platform", "taken_by"),
    [
        ("float32", "nearest", "tpu", "xla"),
        ("bfloat16", "nearest", "tpu", "pallas"),
        ("float32", "split8", "tpu", "pallas"),
        ("bfloat16", "nearest", "cuda", "xla"),
        ("float32", "split8", "cuda", "xla"),
        ("int8", "nearest", "cuda", "pallas"),
        ("int8", "nearest", "tpu", "pallas"),
        ("int8", "nearest", "rocm", "xla"),
    ],
)
def test_auto_takes_kernels_where_they_are_better(moments, weights, platform, taken_by):
    params = tree({"w": ODD["w"]}, 0, jnp.float32 if weights == "nearest" else jnp.bfloat16)
    opt = adamx.adamw(RATE, moments=moments, weights=weights)
    assert ("pallas_step" in lowered(opt, params, platform)) == (taken_by == "pallas")
    (plan,) = adamx.explain(opt, params, platform=platform)
    assert plan.kernel == taken_by
    assert plan.why == ("XLA makes one pass over memory itself" if taken_by == "xla" and platform != "rocm" else "")


@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_with_older_jax_all_is_left_to_xla(platform, older_jax):
    why = f"this is JAX {jax.__version__}, and kernels are for 99.1 or later"
    params, opt = tree({"w": ODD["w"]}, 0), adamx.adamw(RATE, moments="int8")
    assert kernels.available()["pallas"] == why
    assert "pallas_step" not in lowered(opt, params, platform)
    (plan,) = adamx.explain(opt, params, platform=platform)
    assert (plan.kernel, plan.why) == ("xla", why)
    with pytest.raises(ValueError, match=why):
        lowered(adamx.adamw(RATE, moments="int8", kernel="pallas"), params, platform)


@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_small_leaves_share_kernels(platform):
    shapes = {f"b{i}": (64,) for i in range(200)}
    found = lowered(adamx.adamw(RATE), tree(shapes, 0), platform)
    assert 4 <= found.count("call @pallas_step") <= 13


@pytest.mark.parametrize(
    ("opt", "why"),
    [
        (adamx.lamb(RATE, kernel="pallas"), "TrustRatio does not declare that an element's step depends on"),
        (adamx.adafactor(RATE, kernel="pallas"), "Adafactor does not declare"),
        (adamx.optimizer(SoftSign(), RATE, kernel="pallas"), "SoftSign does not declare"),
    ],
)
def test_what_kernels_do_not_take_is_refused_by_name_and_left_to_xla_by_auto(opt, why):
    params = tree({"w": ODD["w"]}, 0)
    with pytest.raises(ValueError, match=rf"kernel='pallas' cannot take the step of params\['w'\]: {why}"):
        jax.eval_shape(opt.step, params, opt.init(params), params)
    assert adamx.explain(opt, params, platform="tpu")[0].kernel == "none"


@pytest.mark.parametrize(
    ("dtype", "shape", "why"),
    [(jnp.float16, (64, 128), "float16"), (jnp.complex64, (64, 128), "complex64"), (jnp.float32, (0, 3), "nothing")],
)
def test_dtypes_and_shapes_that_kernels_do_not_take(dtype, shape, why):
    params = {"w": jnp.ones(shape, dtype)}
    opt = adamx.adamw(RATE, kernel="pallas")
    with pytest.raises(ValueError, match=why):
        jax.eval_shape(opt.step, params, opt.init(params), params)


class Special(adamx.Adam):
    """A rule with an operation that kernels do not know."""

    def step(self, g, s, at):
        direction, s = super().step(g, s, at)
        return jax.scipy.special.digamma(1 + jnp.abs(direction)), s


def test_a_rule_that_kernels_cannot_do_is_left_to_xla_with_a_warning():
    params = tree({"w": ODD["w"]}, 0)
    for platform in PLATFORMS.values():
        with pytest.warns(UserWarning, match="a step is left to XLA: .*digamma"):
            assert "pallas_step" not in lowered(adamx.optimizer(Special(), RATE, moments="int8"), params, platform)
        with pytest.raises(NotImplementedError, match="digamma"):
            lowered(adamx.optimizer(Special(), RATE, moments="int8", kernel="pallas"), params, platform)


@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_whatever_pallas_raises_the_step_is_left_to_xla(platform):
    class Table(adamx.Adam):
        def step(self, g, s, at):
            return g * np.full(g.shape, 2.0, np.float32), s

    params = tree({"w": ODD["w"]}, 0)
    with pytest.warns(UserWarning, match="a step is left to XLA: Pallas cannot compile Table: .*constants"):
        assert "pallas_step" not in lowered(adamx.optimizer(Table(), RATE, moments="int8"), params, platform)


@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_a_rule_with_derivatives_of_its_own(platform):
    cubed = jax.custom_vjp(lambda x: x * x * x)
    cubed.defvjp(lambda x: (cubed(x), x), lambda x, dy: (3 * x * x * dy,))

    class Cubed(adamx.Adam):
        def step(self, g, s, at):
            return super().step(cubed(g), s, at)

    opt = adamx.optimizer(Cubed(), RATE, moments="int8")
    assert "pallas_step" in lowered(opt, tree({"w": ODD["w"]}, 0), platform)


@pytest.mark.parametrize(
    ("shape", "options", "why"),
    [
        ((1024,), {}, ""),
        ((16, 128), {}, ""),
        ((1024,), {"mu_dtype": jnp.bfloat16}, "other dtypes than float32 would be copied"),
        ((64, 16), {}, "more rows than columns, would be copied"),
        ((3, 3, 3, 16), {}, "more than two axes"),
        ((1000, 4), {}, "one pass over memory itself"),  # of 128 columns in VMEM: too large to share
        ((2048, 1024), {"moments": "int8"}, ""),
        ((4096, 16), {"moments": "int8"}, r"(4096, 16) lie transposed and would be copied"),
        ((2048, 10000), {"moments": "bfloat16"}, r"(2048, 10000) lie transposed and would be copied"),
        ((2048, 10000), {"moments": "int8"}, ""),  # which XLA takes in more than two passes
        ((2**18,), {"moments": "int8"}, "arrays of 1 rows would be cut into blocks of less than a tile"),
        ((8, 2**18), {"moments": "int8"}, "rows of 262144 elements are too long"),
    ],
)
def test_auto_leaves_to_xla_what_tpus_lay_out_otherwise(shape, options, why):
    params = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    (plan,) = adamx.explain(adamx.adamw(RATE, **options), params, platform="tpu")
    assert plan.kernel == ("xla" if why else "pallas")
    assert why in plan.why


@pytest.mark.devices
@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_on_several_devices_kernels_step_parts_and_on_tpus_under_shard_map(platform):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params = {"w": jnp.ones((128, 256)), "b": jnp.ones(8), "c": jnp.ones(8)}
    specs = {"w": P("x"), "b": P("x"), "c": P()}
    spread = jax.tree.map(lambda x, spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), params, specs)
    opt = adamx.adamw(RATE, moments="int8")
    assert "pallas_step" not in lowered(opt, spread, platform)
    by_name = adamx.adamw(RATE, moments="int8", kernel="pallas")
    if platform == "tpu":
        with pytest.raises(NotImplementedError, match=r"spread over 4 devices: use `jax\.shard_map`"):
            lowered(by_name, spread, platform)
    else:  # what each device does is asked for by the compiler
        assert lowered(by_name, spread, platform).count("@CustomSPMDPartitioning(") == 3

    def mapped(opt):
        step = lambda params: opt.step(params, opt.init(params), params)[0]  # noqa: E731
        function = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(specs,), out_specs=specs))
        return function.trace(spread).lower(lowering_platforms=(platform,)).as_text()

    assert "pallas_step" in mapped(opt)
    with pytest.warns(UserWarning, match="a step is left to XLA: .*digamma"):
        assert "pallas_step" not in mapped(adamx.optimizer(Special(), RATE, moments="int8"))


@pytest.mark.devices
@pytest.mark.parametrize("device", some([(device,) for device in PLATFORMS], lambda device: device == "gpu"))
def test_a_part_of_a_leaf_is_stepped_as_in_the_whole(device, interpreted):
    """Cut along columns and an axis between others, with the random bits of the whole leaf."""
    interpreted(device)
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    specs, shapes = (
        {"columns": P(None, "y"), "between": P(None, "x", "y")},
        {"columns": (8, 512), "between": (2, 8, 256)},
    )
    opt, params = adamx.adamw(RATE, moments="int8", weights="split8", kernel="pallas"), tree(shapes, 0, jnp.bfloat16)
    state, grads = opt.init(params), tree(shapes, 1, jnp.bfloat16)
    wanted = jax.jit(opt.step)(grads, state, params)

    def cut(path, x):
        name = next((key.key for key in path if isinstance(key, jax.tree_util.DictKey)), None)
        return jax.device_put(x, jax.NamedSharding(mesh, specs.get(name, P()) if x.ndim else P()))

    given = jax.tree_util.tree_map_with_path(cut, (grads, state, params))
    got = jax.jit(opt.step)(*given)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), got, wanted)


def test_triton_is_used_without_its_warning_which_others_get():
    """Newer JAX warns of it whoever lowers it."""

    def others(x):
        copy = lambda x, y: plgpu.store(y.at[:], plgpu.load(x.at[:]))  # noqa: E731
        types = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return pl.pallas_call(copy, out_shape=types, compiler_params=plgpu.CompilerParams())(x)

    def heard(function, *arguments):
        absent = AbstractMesh((), (), abstract_device=AbstractDevice(*ABSENT["cuda"], "cuda"))
        with warnings.catch_warnings(record=True) as caught, use_abstract_mesh(absent):
            warnings.simplefilter("always")
            text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
        return text, [str(w.message) for w in caught]

    before = heard(others, jnp.ones(128))
    params = tree({"w": ODD["w"]}, 0)
    opt = adamx.adamw(RATE, moments="int8")
    text, of_step = heard(opt.step, params, opt.init(params), params)
    assert "pallas_step" in text and not of_step
    after = heard(lambda x: others(x + 1), jnp.ones(128))
    assert after[1] == before[1]


def test_what_is_missing_for_one_device_is_told_of_both(monkeypatch):
    broken = pallas.TPU._replace(missing=lambda: "no Mosaic")
    monkeypatch.setattr(kernels, "BACKENDS", (pallas.GPU, broken, kernels.BACKENDS[-1]))
    assert "no Mosaic" in kernels.available()["pallas"]
    monkeypatch.setattr(kernels, "BACKENDS", (broken, pallas.GPU, kernels.BACKENDS[-1]))
    assert "no Mosaic" in kernels.available()["pallas"]
