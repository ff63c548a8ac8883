"""Sums over what a step did are the same in C++ and by XLA, and are taken in C++ where nothing is lost by it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx.diagnostics import monitor, read
from adamx.diagnostics._hats import Numbers
from adamx.diagnostics._sums import COUNTS, LARGEST, LeafRecord, Sums, table
from adamx.kernels.cpu.interface import VERSION
from tests.helpers import as_users_do, needs_native, product, some

pytestmark = pytest.mark.usefixtures("one_device")

SIZES = (1, 15, 16, 17, 1023, 1025, 70_001, 0)
NUMBERS = Numbers(jnp.float32(1.0), jnp.float32(2.0), jnp.float32(0.3), None, True)
PARAMS = {"kernel": jnp.linspace(-1.0, 1.0, 9000).reshape(90, 100), "bias": jnp.linspace(0.5, 1.0, 7)}


def seen(size, update, moments, wild=False):
    """A leaf in which every so many-th element is one of the special cases."""
    rng = np.random.default_rng(size)
    g, old, change, mu, nu = (rng.standard_normal(size).astype(np.float32) for _ in range(5))
    nu = nu**2 + np.float32(0.01)
    change[::10], g[3::10], mu[4::10], nu[5::10] = 0, 0, 0, 0
    if wild:
        g[6::100], g[7::100], nu[8::100], mu[8::100], old[9::100] = np.nan, -np.inf, np.inf, np.inf, 3e30
    new, wanted = old + change, np.where(np.arange(size) % 20 == 0, np.float32(1e-9), change)
    g, old, new, wanted, mu, nu = (jnp.asarray(x) for x in (g, old, new, wanted, mu, nu))
    return LeafRecord(
        g, old, new, wanted if update else None, mu if moments else None, nu if moments else None, not update
    )


def by_hand(leaf, numbers, scale):
    """The sums of one leaf in float64."""
    g, old, new = (np.asarray(x) for x in leaf[:3])
    update, mu, nu = (None if x is None else np.asarray(x) for x in leaf[3:6])
    g = g if scale is None else g * np.float32(scale)
    change = new - old if update is None else update
    wanted = (g if mu is None else mu) if update is None else update
    wide_g, wide_old, wide_change = (x.astype(np.float64) for x in (g, old, change))
    told = {
        "size": g.size,
        "gradient": (wide_g**2).sum(),
        "update": (wide_change**2).sum(),
        "weight": (wide_old**2).sum(),
        "moved": abs(wide_change).sum(),
        "pulled": (g != 0).sum(),
        "against": (np.sign(g) * np.sign(change) < 0).sum(),
        "stalled": ((wanted != 0) & (new == old)).sum(),
        "nonfinite": (~np.isfinite(g)).sum(),
        "step_max": abs(change).max(initial=0),
    }
    if numbers is not None:
        assert mu is not None and nu is not None
        root = np.sqrt(nu) if numbers.squared else nu
        ratio = np.divide(abs(mu), root, out=np.zeros_like(mu), where=root != 0)
        told |= {"ratio": ratio.astype(np.float64).sum(), "ratio_max": ratio.max(initial=0), "idle": (root == 0).sum()}
        told["dominated"] = ((root != 0) & (root * np.float32(numbers.root) < np.float32(numbers.eps))).sum()
    return Sums(**dict.fromkeys(Sums._fields, 0) | told)


def jitted_table(leaves, numbers, scale, kernel):
    """`table`, of one program."""
    told = jax.jit(lambda arrays: table([LeafRecord(*x, leaves[0].plain) for x in arrays], numbers, scale, kernel))
    return told([leaf[:-1] for leaf in leaves])


@needs_native
@pytest.mark.parametrize(
    ("scale", "moments", "update"),
    some(
        itertools.product([None, 0.5], ["none", "squared", "root"], [False, True]),
        lambda *these: these in {(0.5, "squared", True), (None, "root", False)},
    ),
)
def test_every_sum_is_the_same(update, moments, scale):
    numbers = None if moments == "none" else NUMBERS._replace(squared=moments == "squared")
    leaves = [seen(n, update, moments != "none") for n in SIZES]
    wanted = Sums(*np.array([by_hand(leaf, numbers, scale) for leaf in leaves]).T)
    for kernel, precision in (("xla", 1e-4),) if update else (("auto", 1e-6), ("xla", 1e-4)):
        got = Sums(*np.asarray(jitted_table(leaves, numbers, scale, kernel)).T)
        for name in Sums._fields:
            rtol = 0 if name in COUNTS else 3e-7 if name in LARGEST else precision
            np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=rtol, err_msg=f"{kernel} {name}")
    for name in ("pulled", "against", "stalled", *(["idle", "dominated"] if numbers else [])):
        assert 0 < getattr(wanted, name)[-2] < 70_001, name


@needs_native
def test_what_is_not_finite_is_told_alike():
    leaves = [seen(n, False, True, wild=True) for n in (70_001, 500)]
    xla, native = (Sums(*np.asarray(table(leaves, NUMBERS, None, kernel)).T) for kernel in ("xla", "auto"))
    for name in Sums._fields:
        np.testing.assert_allclose(getattr(native, name), getattr(xla, name), rtol=1e-4, err_msg=name)
    assert native.nonfinite.tolist() == [1400, 10]
    assert np.isnan(native.gradient).all() and np.isnan(native.ratio_max).all() and np.isinf(native.weight).all()


@needs_native
def test_neither_threads_nor_neighbours_change_a_bit():
    """A large leaf is told of by several threads, a small one in a call with others."""
    leaf = seen(2**20 + 5, False, True)
    (first,), (again,) = (np.asarray(table([leaf], NUMBERS, None, "auto")) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    small = [seen(n, False, True) for n in range(1, 80)]
    together = np.asarray(table(small, NUMBERS, None, "auto"))
    for i in (0, 1, 14, 15, 16, 62, 63, 64, 65, 78):  # sizes by and beside 16, and places in a call by and beside 64
        np.testing.assert_array_equal(together[i], np.asarray(table([small[i]], NUMBERS, None, "auto"))[0])


def test_leaves_keep_their_order_whoever_tells_of_them():
    leaves = [seen(n, False, True) for n in (40_000, 3, 9000, 5)]
    mixed = [leaves[0], None, leaves[1]._replace(plain=False), leaves[2], leaves[3]]
    assert Sums(*table(mixed, NUMBERS, None, "auto").T).size.tolist() == [40_000, 0, 3, 9000, 5]


def text(opt, params=PARAMS, grads=None):
    return jax.jit(opt.step).lower(grads or params, opt.init(params), params).as_text()


@needs_native
def test_they_are_taken_in_cxx_where_a_step_leaves_everything_in_memory_in_float32():
    assert text(monitor(adamx.adam(1e-2))).count("custom_call @adamx_sums") == 2  # a large leaf has its own call
    assert "adamx_sums" in text(monitor(adamx.prodigy(1.0)))
    assert "adamx_sums" not in text(monitor(adamx.adam(1e-2, kernel="xla")))
    assert "adamx_sums" not in text(monitor(adamx.adam(1e-2, moments="int8")), {"w": jnp.ones(9000)})
    narrow, wide = {"w": jnp.ones(9, jnp.bfloat16)}, {"w": jnp.ones(9)}
    assert "adamx_sums" not in text(monitor(adamx.adam(1e-2)), narrow)
    assert "adamx_sums" not in text(monitor(adamx.adam(1e-2, weights="kahan")), narrow, wide)
    assert "adamx_sums" not in text(monitor(adamx.adam_mini(1e-2)), {"w": PARAMS["kernel"]})  # v is one for many


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize("make", [optax.adam, adamx.adam])
def test_an_update_stays_xlas_and_can_be_exported(make):
    opt = monitor(make(1e-2))
    exported = jax.export.export(jax.jit(opt.update), platforms=["cpu", "cuda"])(PARAMS, opt.init(PARAMS), PARAMS)
    assert "adamx_" not in exported.mlir_module()


@pytest.mark.parametrize(
    "make", [adamx.adam, *(pytest.param(f, marks=product) for f in (adamx.adamax, adamx.lion)), adamx.amsgrad]
)
def test_a_monitor_says_the_same(make):
    told = []
    for kernel in ("xla", "auto"):
        opt = monitor(make(1e-2, kernel=kernel))
        params, state = PARAMS, opt.init(PARAMS)
        step = jax.jit(opt.step)
        for t in range(4):
            params, state = step(jax.tree.map(lambda p, t=t: jnp.sin(9 * p + t), PARAMS), state, params, grad_scale=0.5)
        told.append(read(state))
    assert told[1] == pytest.approx(told[0], rel=3e-5)  # XLA adds 9,000 terms one after the other in float32


def test_under_vmap_each_is_told_of_by_itself():
    opt = monitor(adamx.adam(1e-2))
    scales = jnp.asarray([1.0, 10.0, 0.1])

    def values(scale):
        grads = jax.tree.map(lambda p: jnp.sin(9 * p) * scale, PARAMS)
        return opt.step(grads, opt.init(PARAMS), PARAMS)[1].values

    together, alone = as_users_do(jax.vmap(values))(scales), [as_users_do(values)(s) for s in scales]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-6)


@pytest.mark.usefixtures("loose")
def test_a_gradient_through_a_step_goes_past_the_account_of_it():
    def stepped(b1, wrap):
        opt = wrap(adamx.adam(1e-2, b1=b1, kernel="xla"))
        first = opt.step(PARAMS, opt.init(PARAMS), PARAMS, grad_scale=b1)
        return jnp.sum(opt.step(jax.tree.map(jnp.cos, PARAMS), first[1], first[0])[0]["bias"] ** 2)

    def updated(rate, wrap):
        opt = wrap(optax.sgd(rate))
        return jnp.sum(opt.update(PARAMS, opt.init(PARAMS), PARAMS)[0]["bias"] ** 2)

    def told(rate):
        opt = monitor(adamx.adam(rate, kernel="xla"))
        return opt.step(PARAMS, opt.init(PARAMS), PARAMS)[1].values

    assert not jax.jit(jax.jacfwd(told))(1e-2).any()
    for after in (stepped, updated):
        watched, alone = (jax.jit(jax.grad(lambda x, w=wrap: after(x, w)))(0.7) for wrap in (monitor, lambda opt: opt))
        assert watched == alone != 0


@needs_native
@pytest.mark.devices
def test_under_shard_map_a_device_tells_of_its_own_part():
    mesh, spec = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,)), jax.sharding.PartitionSpec("x")
    data = jnp.arange(1.0, 5)[:, None] * jnp.ones((4, 300))

    def norms(kernel):
        opt = monitor(adamx.adam(1e-2, kernel=kernel))

        def run(p):
            tree = {"cut": p, "whole": jnp.ones(5)}
            return opt.step(tree, opt.init(tree), tree)[1].values[None]

        return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))

    assert "adamx_sums" in norms("auto").lower(data).as_text()
    np.testing.assert_allclose(norms("auto")(data), norms("xla")(data), rtol=1e-5)


@needs_native
def test_the_kernel_itself_refuses_what_is_not_as_said():
    numbers, x = jnp.ones(3), jnp.ones(40)
    for operands, given, version, message in (
        ((numbers, x, x, x), 0, 0, "another version"),
        ((numbers, x, x), 0, VERSION, "operands that are not those"),
        ((numbers, x, x, x), 1, VERSION, "operands that are not those"),
        ((numbers, x, x, x[:9]), 0, VERSION, "not of their leaf's size"),
        ((numbers, x, x, x.astype(jnp.bfloat16)), 0, VERSION, "not float32"),
        ((numbers[:0], x, x, x), 0, VERSION, "not of their leaf's size"),
    ):
        call = jax.ffi.ffi_call("adamx_sums", jax.ShapeDtypeStruct((1, 14), jnp.float32))
        with pytest.raises(Exception, match=message):
            jax.block_until_ready(call(*operands, version=version, given=given))
