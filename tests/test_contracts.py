"""What every optimizer of the registry promises, whatever its rule.

What depends on the rule is asked of every optimizer, by one compiled program for all that it is asked. What depends on
the slots' structure is asked of one optimizer for each structure; `make test-all` asks it of all.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adamx._leaves import flatten
from adamx.diagnostics import MonitorState
from adamx.states.parts import states_in
from adamx.wrapper import frozen_in, parts_of
from adamx.wrappers.guard import guards_in
from tests.helpers import (
    LEAFWISE,
    OPTIMIZERS,
    dtypes,
    of_all_kinds,
    represented,
    small,
    tree,
    ulp,
    wrapped,
)

# The scope lets the tests of an optimizer follow each other, and use what one of them has compiled.
of = functools.partial(pytest.mark.parametrize, "entry", ids=str, scope="module")
every, represented_by_structure, first_of_structure = (
    of([*entries, *wrapped()])
    for entries in (OPTIMIZERS, represented(OPTIMIZERS), represented(OPTIMIZERS, mixing=False))
)
NARROW = [jnp.float16, jnp.bfloat16, jnp.float32]
MIXED = [
    (jnp.float32, jnp.float32),
    (jnp.float32, jnp.bfloat16),
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.float16),
    (jnp.complex64, jnp.complex64),
]


ALL_KINDS = of_all_kinds(of_parameters=False)


def name(dtype):
    return jnp.dtype(dtype).name


@functools.lru_cache(1)
def compiled(entry):
    """The optimizer, its update, jitted once, and trees of leaves of all kinds: parameters and their first state."""
    opt, params = entry.make(1e-2), of_all_kinds(of_parameters=True)
    return opt, jax.jit(opt.update), params, opt.init(params)


def check_compiled_once(update, grads, state, params):
    updates, after = update(grads, state, params)
    update(grads, after, params)
    assert dtypes(after) == dtypes(state)
    assert dtypes(updates) == dtypes(grads)
    assert update._cache_size() == 1


@every
def test_a_second_call_does_not_compile(entry):
    _, update, params, state = compiled(entry)
    check_compiled_once(update, of_all_kinds(of_parameters=False, seed=1), state, params)


@every
def test_zero_gradients_give_zero_updates(entry):
    opt, update, params, _ = compiled(entry)
    params = jax.tree.map(jnp.zeros_like, params)  # weight decay has nothing to shrink either
    grads, state = jax.tree.map(jnp.zeros_like, of_all_kinds(of_parameters=False)), opt.init(params)
    for _ in range(3):
        updates, state = update(grads, state, params)
        for u in jax.tree.leaves(updates):
            np.testing.assert_array_equal(u, np.zeros_like(u))


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_stay_visible(entry, bad):
    """Or nothing moves, where there is a guard; those of frozen leaves are not read."""
    opt, update, params, state = compiled(entry)
    still = dict(zip(sorted(params), frozen_in(opt, flatten(params, "params")), strict=True))
    ones = {name: None if p is None else np.ones(p.shape, p.dtype) for name, p in ALL_KINDS.items()}
    for leaf in ("matrix", "bias", "phase", "scalar"):
        grads, after = {**ones, leaf: ones[leaf].copy()}, state
        grads[leaf].flat[0] = bad
        _, after = update(grads, after, params)
        updates, after = update(grads, after, params)  # one that accumulates moves in the second
        if guards_in(after) and not still[leaf]:
            assert not any(np.any(u) for u in jax.tree.leaves(updates))
            jax.tree.map(np.testing.assert_array_equal, states_in(after), states_in(state))
            continue
        finite = np.isfinite(np.asarray(updates[leaf], np.complex64)).ravel()
        assert finite[0] == still[leaf]
        assert finite[1:].all() or entry.name in LEAFWISE


@every
@pytest.mark.parametrize(("p_dtype", "g_dtype"), MIXED, ids=lambda d: name(d))
def test_no_dtype_changes_in_update_step_and_scan(entry, p_dtype, g_dtype):
    """Known when it is traced; test_a_second_call_does_not_compile runs it. Leaves of every shape are of float32."""
    some = tree if p_dtype == g_dtype == jnp.float32 else small
    opt, params, grads = entry.make(1e-2), some(p_dtype), some(g_dtype, seed=1)
    state = jax.eval_shape(opt.init, params)
    updates, after = jax.eval_shape(opt.update, grads, state, params)
    assert dtypes(after) == dtypes(state)
    assert dtypes(updates) == dtypes(grads)

    def body(carry, _):
        return opt.step(grads, carry[1], carry[0], grad_scale=0.5), None

    new, after = jax.eval_shape(lambda carry: jax.lax.scan(body, carry, length=3)[0], (params, state))
    assert dtypes(after) == dtypes(state)
    assert dtypes(new) == dtypes(params)


@of(wrapped())
def test_no_dtype_changes_in_float64(entry, x64):
    opt, params = entry.make(1e-2), small(jnp.float64)
    state = jax.eval_shape(opt.init, params)
    new, after = jax.eval_shape(opt.step, params, state, params)
    assert dtypes((new, after)) == dtypes((params, state))


@every
@pytest.mark.product
@pytest.mark.parametrize(("p_dtype", "g_dtype"), MIXED, ids=lambda d: name(d))
def test_trees_of_one_dtype_compile_once(entry, p_dtype, g_dtype):
    opt, params, grads = entry.make(1e-2), tree(p_dtype), tree(g_dtype, seed=1)
    state, update = opt.init(params), jax.jit(opt.update)
    check_compiled_once(update, grads, state, params)


@every
@pytest.mark.product
@pytest.mark.parametrize("dtype", [*NARROW, jnp.float64], ids=name)
def test_zero_gradients_of_one_dtype_give_zero_updates(entry, dtype, x64):
    opt, params = entry.make(1e-2), tree(dtype)
    params = jax.tree.map(jnp.zeros_like, params)
    state, update = opt.init(params), jax.jit(opt.update)
    for _ in range(3):
        updates, state = update(params, state, params)
        for u in jax.tree.leaves(updates):
            np.testing.assert_array_equal(u, np.zeros_like(u))


@every
@pytest.mark.product
@pytest.mark.parametrize(("p_dtype", "g_dtype"), MIXED[1:3], ids=lambda d: name(d))
def test_parameters_and_state_are_a_scan_carry(entry, p_dtype, g_dtype):
    opt, params, grads = entry.make(1e-2), tree(p_dtype), tree(g_dtype, seed=1)

    def body(carry, _):
        return opt.step(grads, carry[1], carry[0]), None

    start = params, opt.init(params)
    assert dtypes(jax.lax.scan(body, start, length=3)[0]) == dtypes(start)


@every
def test_low_precision_parameters_have_a_float32_state(entry):
    state = entry.make(1e-2).init(tree(jnp.bfloat16))
    kept = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)}
    assert kept <= {jnp.dtype(jnp.float32)} | ({jnp.dtype(jnp.bfloat16)} if "bfloat16" in entry.name else set())


@first_of_structure
def test_absent_leaves_pass_through(entry):
    params, opt = {"matrix": jnp.ones(2), "scalar": jnp.ones(2), "absent": None}, entry.make(0.1)

    @jax.jit
    def two_steps(params, state):
        new, state = opt.step(params, state, params)
        return new, opt.step(dict.fromkeys(params), state, new)[0]

    new, still = two_steps(params, opt.init(params))
    assert new["absent"] is None
    jax.tree.map(np.testing.assert_array_equal, still, new)


def added(p, u):
    """What `optax.apply_updates` makes of a leaf, where promotion is not implicit."""
    wide = np.promote_types(p.dtype, u.dtype)
    return (p.astype(wide) + u.astype(wide)).astype(p.dtype)


def assert_near(got, wanted, roundings, of_largest=False):
    """Every number within so many roundings, of the leaf's own dtype: of itself, or of its leaf's largest."""

    def compare(a, b):
        rtol = roundings * float(jnp.finfo(a.dtype).eps) if jnp.issubdtype(a.dtype, jnp.inexact) else 0
        wide = np.complex64 if jnp.iscomplexobj(a) else np.float32
        a, b = np.asarray(a, wide), np.asarray(b, wide)
        if of_largest:
            np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.max(np.abs(b), initial=0.0))
        else:
            np.testing.assert_allclose(a, b, rtol=rtol)

    jax.tree.map(compare, got, wanted)


def unmonitored(state):
    """Without what monitors measure, of a step with more digits than of an update."""
    is_monitor = lambda x: isinstance(x, MonitorState)  # noqa: E731
    return jax.tree.map(lambda x: x.inner if is_monitor(x) else x, state, is_leaf=is_monitor)


@represented_by_structure
def test_step_equals_update_and_apply(entry):
    """To 2 roundings: the compiler may fuse the product with the step size and the addition."""
    opt, update, params, start = compiled(entry)
    updates, state = update(ALL_KINDS, start, params)
    stepped, stepped_state = jax.jit(opt.step)(ALL_KINDS, start, params)
    assert_near(stepped, jax.tree.map(added, params, updates), roundings=2)
    assert_near(unmonitored(stepped_state), unmonitored(state), roundings=2)


@represented_by_structure
def test_eager_equals_jitted(entry):
    """To 8 roundings: the compiler may fuse a multiplication and an addition, or reuse a reciprocal.

    Elements of products of matrices are rounded as the largest: 32, as iterations multiply them.
    """
    opt, update, params, state = compiled(entry)
    matrices = entry.name.startswith("muon")
    for _ in range(3):
        updates, after = opt.update(ALL_KINDS, state, params)
        jitted_updates, jitted_after = update(ALL_KINDS, state, params)
        assert_near((jitted_updates, jitted_after), (updates, after), 32 if matrices else 8, of_largest=matrices)
        state = after


@every
def test_one_count_and_each_moment_is_found(entry):
    opt = entry.make(optax.linear_schedule(1e-2, 1e-3, 10))
    found = states_in(opt.init(tree(jnp.float32)))
    assert len(found) == len(parts_of(opt))
    for state in found:
        assert optax.tree.get(state, "count") == 0
        for field in getattr(state.slots, "_fields", ()):
            assert optax.tree.get(state, field, default="missing") != "missing"


@first_of_structure
def test_map_params_reaches_every_slot(entry):
    opt, params = entry.make(1e-2), tree(jnp.float32)
    state = opt.init(params)
    mapped = optax.tree.map_params(opt, lambda x: x + 1, state)
    for own, was in zip(states_in(mapped), states_in(state), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), own.slots, was.slots)
        assert own.count == 0
    for x, was in zip(jax.tree.leaves(mapped), jax.tree.leaves(state), strict=True):
        assert x.shape != params["matrix"].shape or (x == was + 1).all()


def seven_steps(opt, params):
    """Where gradients of `params` lead in seven steps: some optimizers take none at first (ADOPT, RAdam)."""

    def body(_, carry):
        return opt.step(params, carry[1], carry[0])

    return jax.lax.fori_loop(0, 7, body, (params, opt.init(params)))[0]


@first_of_structure
def test_learning_rate_may_be_traced_vmapped_and_differentiated(entry):
    """Also of an optimizer that a map has gone over."""
    params = {"matrix": jnp.ones(3), "scalar": jnp.ones([])}

    def walk(learning_rate):
        return seven_steps(jax.tree.map(lambda x: x, entry.make(learning_rate)), params)["matrix"]

    rates = jnp.array([1e-3, 1e-2, 1e-1])
    together, slopes = jax.jit(jax.vmap(lambda r: jax.jvp(walk, (r,), (jnp.ones_like(r),))))(rates)
    alone = jax.jit(walk)
    np.testing.assert_allclose(together, jnp.stack([*map(alone, rates)]), rtol=8 * ulp(jnp.float32))
    assert slopes[-1].sum() < 0  # a larger step goes further down


@represented_by_structure
def test_state_has_the_parameters_sharding(entry):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    matrix = jax.device_put(jnp.ones((8, 3)), sharding)
    params, opt = {"matrix": matrix, "scalar": jnp.ones([])}, entry.make(1e-2)
    state = opt.init(params)
    for x in jax.tree.leaves((state, *jax.jit(opt.step)(params, state, params))):
        assert x.shape != matrix.shape or x.sharding.is_equivalent_to(sharding, x.ndim)


@every
def test_init_works_on_shapes_alone(entry):
    params = tree(jnp.bfloat16)
    shapes = jax.eval_shape(entry.make(1e-2).init, jax.eval_shape(lambda: params))
    assert dtypes(shapes) == dtypes(entry.make(1e-2).init(params))


@first_of_structure
def test_checkpoint_round_trip_is_exact(entry, tmp_path):
    import orbax.checkpoint as ocp

    opt, params = entry.make(1e-2), small(jnp.float32)
    state = jax.tree.map(lambda x: x + jnp.ones_like(x), opt.init(params))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", opt.init(params))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert dtypes(restored) == dtypes(state)
