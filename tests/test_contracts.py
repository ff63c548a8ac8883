"""What every optimizer of the registry promises, whatever its rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers import LEAFWISE, OPTIMIZERS, assert_close, dtypes, tree, ulp

pytestmark = pytest.mark.parametrize("entry", OPTIMIZERS, ids=str)
NARROW = [jnp.float16, jnp.bfloat16, jnp.float32]
MIXED = [
    (jnp.float32, jnp.float32),
    (jnp.float32, jnp.bfloat16),
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.float16),
    (jnp.complex64, jnp.complex64),
]


def name(dtype):
    return jnp.dtype(dtype).name


@pytest.mark.parametrize(("p_dtype", "g_dtype"), MIXED, ids=lambda d: name(d))
def test_no_dtype_changes_and_a_second_call_does_not_compile(entry, p_dtype, g_dtype):
    opt, params, grads = entry.make(1e-2), tree(p_dtype), tree(g_dtype, seed=1)
    state, update = opt.init(params), jax.jit(opt.update)
    updates, after = update(grads, state, params)
    update(grads, after, params)
    assert dtypes(after) == dtypes(state)
    assert dtypes(updates) == dtypes(grads)
    assert update._cache_size() == 1


@pytest.mark.parametrize(("p_dtype", "g_dtype"), MIXED[1:3], ids=lambda d: name(d))
def test_parameters_and_state_are_a_scan_carry(entry, p_dtype, g_dtype):
    opt, params, grads = entry.make(1e-2), tree(p_dtype), tree(g_dtype, seed=1)

    def body(carry, _):
        return opt.step(grads, carry[1], carry[0]), None

    (new, state), _ = jax.lax.scan(body, (params, opt.init(params)), length=3)
    assert state.count == 3
    assert dtypes(new) == dtypes(params)


def test_low_precision_parameters_have_a_float32_state(entry):
    state = entry.make(1e-2).init(tree(jnp.bfloat16))
    kept = {x.dtype for x in jax.tree.leaves(state.slots)}
    assert kept <= {jnp.dtype(jnp.float32)} | ({jnp.dtype(jnp.bfloat16)} if "bfloat16" in entry.name else set())


@pytest.mark.parametrize("dtype", [*NARROW, jnp.float64], ids=name)
def test_zero_gradients_give_zero_updates(entry, dtype, x64):
    opt, params = entry.make(1e-2), tree(dtype)
    params = jax.tree.map(jnp.zeros_like, params)  # weight decay has nothing to shrink either
    state, update = opt.init(params), jax.jit(opt.update)
    for _ in range(3):
        updates, state = update(params, state, params)
        for u in jax.tree.leaves(updates):
            np.testing.assert_array_equal(u, np.zeros_like(u))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_stay_visible(entry, bad):
    opt, params = entry.make(1e-2), jnp.ones(2)
    updates, _ = jax.jit(opt.update)(jnp.array([bad, 1.0]), opt.init(params), params)
    assert not jnp.isfinite(updates[0])
    if entry.name not in LEAFWISE:
        assert jnp.isfinite(updates[1])


def test_absent_leaves_pass_through(entry):
    params = {"a": jnp.ones(2), "b": None}
    opt = entry.make(0.1)
    new, state = opt.step({"a": jnp.ones(2), "b": None}, opt.init(params), params)
    assert new["b"] is None
    frozen, state = opt.step({"a": None, "b": None}, state, new)
    np.testing.assert_array_equal(frozen["a"], new["a"])


def test_step_equals_update_and_apply(entry):
    """To 2 roundings: the compiler may fuse the product with the step size and the addition."""
    opt, params, grads = entry.make(1e-2), tree(jnp.float32), tree(jnp.float32, seed=1)
    updates, state = jax.jit(opt.update)(grads, opt.init(params), params)
    stepped, stepped_state = jax.jit(opt.step)(grads, opt.init(params), params)
    assert_close(stepped, optax.apply_updates(params, updates), roundings=2)
    assert_close(stepped_state, state, roundings=2)


def test_eager_equals_jitted(entry):
    """To 8 roundings: the compiler may fuse a multiplication and an addition, or reuse a reciprocal."""
    opt, params, grads = entry.make(1e-2), tree(jnp.float32), tree(jnp.float32, seed=1)
    state = opt.init(params)
    for _ in range(3):
        updates, after = opt.update(grads, state, params)
        jitted, jitted_after = jax.jit(opt.update)(grads, state, params)
        assert_close((jitted, jitted_after.slots), (updates, after.slots), roundings=8)
        state = after


def test_one_count_and_each_moment_is_found(entry):
    opt = entry.make(optax.linear_schedule(1e-2, 1e-3, 10))
    state = opt.init(tree(jnp.float32))
    assert optax.tree.get(state, "count") == 0
    for field in getattr(state.slots, "_fields", ()):
        assert optax.tree.get(state, field, default="missing") != "missing"


def test_map_params_reaches_every_slot(entry):
    opt, params = entry.make(1e-2), tree(jnp.float32)
    state = opt.init(params)
    mapped = optax.tree.map_params(opt, lambda x: x + 1, state)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), mapped.slots, state.slots)
    assert mapped.count == 0


def seven_steps(opt, params):
    """Where gradients of `params` lead in seven steps: some optimizers take none at first (ADOPT, RAdam)."""

    def body(_, carry):
        return opt.step(params, carry[1], carry[0])

    return jax.lax.fori_loop(0, 7, body, (params, opt.init(params)))[0]


def test_optimizer_survives_a_map_over_it(entry):
    opt = jax.tree.map(lambda x: x, entry.make(1e-2))
    assert (seven_steps(opt, jnp.ones(2)) < 1).all()


def test_learning_rate_may_be_traced_vmapped_and_differentiated(entry):
    params = jnp.ones(3)

    def walk(learning_rate):
        return seven_steps(entry.make(learning_rate), params)

    rates = jnp.array([1e-3, 1e-2, 1e-1])
    together = jax.jit(jax.vmap(walk))(rates)
    np.testing.assert_allclose(together, jnp.stack([jax.jit(walk)(r) for r in rates]), rtol=8 * ulp(jnp.float32))
    _, slope = jax.jvp(lambda r: walk(r).sum(), (jnp.float32(0.1),), (jnp.float32(1.0),))
    assert slope < 0  # a larger step goes further down


def test_state_has_the_parameters_sharding(entry):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = jax.device_put(jnp.ones((8, 3)), sharding)
    opt = entry.make(1e-2)
    state = opt.init(params)
    stepped, after = jax.jit(opt.step)(params, state, params)
    slots = jax.tree.leaves((state.slots, after.slots))
    for x in (stepped, *(x for x in slots if x.shape == params.shape)):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)


def test_init_works_on_shapes_alone(entry):
    params = tree(jnp.bfloat16)
    shapes = jax.eval_shape(entry.make(1e-2).init, jax.eval_shape(lambda: params))
    assert dtypes(shapes) == dtypes(entry.make(1e-2).init(params))


def test_checkpoint_round_trip_is_exact(entry, tmp_path):
    import orbax.checkpoint as ocp

    opt, params, grads = entry.make(1e-2), tree(jnp.float32), tree(jnp.float32, seed=1)
    del params["empty"], grads["empty"]  # Orbax refuses arrays of size zero
    update = jax.jit(opt.update)
    _, state = update(grads, opt.init(params), params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", opt.init(params))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    jax.tree.map(np.testing.assert_array_equal, update(grads, restored, params), update(grads, state, params))
