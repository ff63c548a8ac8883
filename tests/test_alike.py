"""Leaves that are alike are traced once and share a function, whatever is done with the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from tests.helpers import ulp

SHAPE = (64, 128)
FORMATS = [("float32", "nearest"), ("bfloat16", "nearest"), ("int8", "nearest"), ("int8", "split8")]


def leaves(count, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {f"w{i}": jnp.asarray(rng.standard_normal(SHAPE), dtype) for i in range(count)}


def optimizer(moments="int8", weights="nearest"):
    return adamx.adamw(1e-2, weight_decay=0.1, moments=moments, weights=weights, kernel="xla")


def assert_near(got, wanted, roundings):
    """Every number within so many roundings of itself and of 1, the size of what it is a difference of."""
    tolerance = roundings * ulp(jnp.float32)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, wanted)


class Counted(adamx.Adam):
    """Adam that says how often it is traced."""

    def step(self, g, s, at):
        traced.append(g.shape)
        return super().step(g, s, at)


traced: list[tuple[int, ...]] = []


def test_twenty_leaves_of_two_kinds_are_traced_twice():
    params = leaves(10) | {f"b{i}": jnp.ones(5) for i in range(10)}
    opt = adamx.optimizer(Counted(), 1e-2, kernel="xla")
    traced.clear()
    jax.jit(opt.step).lower(params, opt.init(params), params)
    assert sorted(traced) == [(5,), SHAPE]


@pytest.mark.parametrize(("moments", "weights"), FORMATS)
def test_they_step_as_each_does_by_itself(moments, weights):
    """Codes and narrow weights to the bit; others to 2 roundings of numbers of about 1, as products fuse with sums."""
    dtype = jnp.float32 if weights == "nearest" else jnp.bfloat16
    opt, params, grads = optimizer(moments, weights), leaves(2, dtype), leaves(2, dtype, seed=1)
    step = jax.jit(opt.step)
    start = lambda tree: step(tree, opt.init(tree), tree)  # noqa: E731
    (together, after), alone = start(params), {k: start({k: p}) for k, p in params.items()}
    together, after = step(grads, after, together)
    for k, (p, state) in alone.items():
        wanted, wanted_after = step({k: grads[k]}, state, p)
        got = jax.tree.map(lambda x, k=k: x[k], (together, after.slots), is_leaf=lambda x: isinstance(x, dict))
        pairs = zip(jax.tree.leaves(got), jax.tree.leaves((wanted, wanted_after.slots)), strict=True)
        for a, b in pairs:
            tolerance = 2 * ulp(jnp.float32) if a.dtype == jnp.float32 else 0
            np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (a, b)), rtol=tolerance, atol=tolerance)


@pytest.mark.devices
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded_leaves_stay_where_they_are(kind):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        place = lambda tree: jax.device_put(tree, NamedSharding(mesh, P("x")))  # noqa: E731
        opt, params, grads = optimizer(), place(leaves(3)), place(leaves(3, seed=1))
        state = opt.init(params)
        step = jax.jit(opt.step, donate_argnums=(1, 2))
        text = step.lower(grads, state, params).compile().as_text()
        assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))
        new, after = step(grads, state, params)
    wanted, wanted_after = jax.jit(optimizer().step)(leaves(3, seed=1), optimizer().init(leaves(3)), leaves(3))
    assert all(x.sharding.is_equivalent_to(NamedSharding(mesh, P("x")), 2) for x in jax.tree.leaves(new))
    assert_near(new, wanted, roundings=2)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after.slots), jax.device_get(wanted_after.slots))


@pytest.mark.parametrize("moments", ["float32", "int8"])
def test_they_can_be_batched_and_differentiated(moments):
    opt, params = optimizer(moments), leaves(2)

    def length(scale, params):
        new, _ = opt.step(jax.tree.map(lambda p: scale * p, params), opt.init(params), params)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(new))

    scales = jnp.array([1.0, 2.0])
    together = jax.jit(jax.vmap(length, (0, None)))(scales, params)
    each = jnp.stack([jax.jit(length)(s, params) for s in scales])
    np.testing.assert_allclose(together, each, rtol=64 * ulp(jnp.float32))  # sums of 16,384 squares
    slopes = jax.jit(jax.grad(length, 1))(scales[0], params)
    apart = {k: jax.jit(jax.grad(length, 1))(scales[0], {k: p})[k] for k, p in params.items()}
    assert_near(slopes, apart, roundings=8)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_programs_for_other_machines_are_lowered_without_what_is_for_cpus(platform):
    opt, params = optimizer(), leaves(2)
    text = jax.jit(opt.step).trace(params, opt.init(params), params).lower(lowering_platforms=(platform,)).as_text()
    assert "inlineable" not in text
    assert "while" not in text
