"""Stepping the rows that a batch touched leaves what stepping the whole table would."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import adamx
import adamx.flax
from tests.helpers import as_users_do, collectives, product

ROWS, WIDTH, TAKEN = 24, 3, 5


class HeavyBall(adamx.Rule):
    """A user's rule, which declares what idle steps do."""

    b1: adamx.Beta = 0.9
    slots = (adamx.Slot(),)
    elementwise = True

    def step(self, g, s, at):
        mu = self.b1 * s[0] + g
        return mu, (mu,)

    def idle(self, s, at):
        b1 = at.rate("b1", self.b1)
        return s[0] * at.sum(lambda j, t: at.power(b1, j), b1), (s[0] * at.power(b1),)


def rate(count):
    """Warm-up and cosine, in the precision of the run."""
    t = jnp.asarray(count).astype(float)
    return 1e-2 * jnp.minimum(1.0, (t + 1) / 30) * (1 + jnp.cos(t / 100))


OPTIMIZERS = {
    "adam": adamx.adam(1e-2),
    "adam, large eps": adamx.adam(rate, 0.9, 0.95, eps=1e-3, eps_root=1e-8),
    "adamw, a schedule": adamx.adamw(rate, weight_decay=0.1),
    "adam, eps_hat": adamx.adamw(rate, eps=1e-4, eps_hat=True, weight_decay=0.1, decay="proximal"),
    "b1 = b2": adamx.adamw(1e-2, 0.95, 0.95, weight_decay=0.01, decay="independent"),
    "nadam": adamx.nadamw(rate, weight_decay=1e-3, decay="constant"),
    "nadam of Dozat": adamx.nadam(rate, momentum_decay=4e-3),
    "amsgrad": adamx.amsgrad(rate),
    "amsgrad, raw": adamx.amsgrad(1e-2, eps=1e-4, max_of="raw"),
    "adamax": adamx.adamaxw(rate, 0.8, 0.9, eps=1e-3),
    "adamax, eps outside": adamx.optimizer(adamx.AdaMax(eps=1e-3, eps_outside=True), rate),
    "lion": adamx.lion(rate, weight_decay=0.1),
    "lion without decay": adamx.lion(rate, weight_decay=0.0),
    "rmsprop": adamx.rmsprop(1e-2),
    "rmsprop with momentum": adamx.rmsprop(rate, momentum=0.9, nesterov=True, centered=True),
    "adagrad": adamx.adagrad(1e-2),
    "laprop": adamx.laprop(rate, weight_decay=0.1),
    "one second moment a row": adamx.adam_mini(rate, keep=(0,), weight_decay=0.1),
    "sgd": adamx.optimizer(adamx.SGD(), rate, weight_decay=0.1),
    "a user's rule": adamx.optimizer(HeavyBall(), rate, weight_decay=0.1),
}
CHEAP = {"adam", "adamw, a schedule"}
CASES = [name if name in CHEAP else pytest.param(name, marks=product) for name in OPTIMIZERS]


def run_of(steps, dtype=float, seed=0):
    """A table, ids by Zipf's law with some of none, and gradients over eight decades."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1.0, ROWS + 1) ** 2
    ids = rng.choice(ROWS, (steps, TAKEN), p=share / share.sum())
    ids[rng.random(ids.shape) < 0.1] = -1
    grads = rng.normal(size=(steps, TAKEN, WIDTH)) * 10.0 ** rng.uniform(-7, 1, (steps, TAKEN, 1))
    table = rng.normal(size=(ROWS, WIDTH)) / 100
    return jnp.asarray(table, dtype), (jnp.asarray(ids, jnp.int32), jnp.asarray(grads, dtype))


def by_rows(rows, carry, xs):
    def body(carry, x):
        (table, state), (ids, grads) = carry, x
        _, ticket = rows.take(ids, state, table)
        return rows.put(grads, state, table, ticket), None

    return jax.lax.scan(body, carry, xs)[0]


def whole(opt, carry, xs):
    def body(carry, x):
        (table, state), (ids, grads) = carry, x
        dense = jnp.zeros_like(table).at[jnp.where(ids < 0, ROWS, ids)].add(grads, mode="drop")
        return opt.step(dense, state, table), None

    return jax.lax.scan(body, carry, xs)[0]


@pytest.mark.parametrize("name", CASES)
def test_rows_move_as_under_steps_of_the_whole_table(name, x64):
    opt = OPTIMIZERS[name]
    rows = adamx.Rows(opt)
    table, xs = run_of(400)
    wanted, dense = jax.jit(functools.partial(whole, opt))((table, opt.init(table)), xs)
    after, state = jax.jit(lambda *args: by_rows(rows, *args))((table, rows.init(table)), xs)
    got, state = jax.jit(rows.flush)(state, after)
    moved = float(jnp.abs(wanted - table).max())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * moved)
    # Moments of long idle rows go through many more roundings in the whole table.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-290), state.state, dense)
    assert (state.last == 400).all()


def test_in_single_precision_they_are_as_near_to_that_as_it_is():
    opt, rows = OPTIMIZERS["adamw, a schedule"], adamx.Rows(OPTIMIZERS["adamw, a schedule"])
    table, xs = run_of(400, jnp.float32)
    after, state = jax.jit(lambda *args: by_rows(rows, *args))((table, rows.init(table)), xs)
    got, _ = rows.flush(state, after)
    with jax.enable_x64(True):
        wide = jnp.asarray(table, float)
        wanted, _ = jax.jit(functools.partial(whole, opt))((wide, opt.init(wide)), (xs[0], jnp.asarray(xs[1], float)))
        moved = np.abs(np.asarray(wanted) - np.asarray(wide)).max()
    np.testing.assert_allclose(np.asarray(got, float), wanted, rtol=0, atol=2e-6 * moved)


def test_a_row_that_slept_for_a_million_steps_is_where_its_sum_says():
    rows, table = adamx.Rows(adamx.adam(1e-3, eps=0.0)), jnp.zeros((4, 2))
    carry = (table, rows.init(table)), (jnp.array([[1]]), jnp.ones((1, 1, 2)))
    table, state = jax.jit(lambda *args: by_rows(rows, *args))(*carry)
    state = state._replace(state=state.state._replace(count=jnp.asarray(1_000_000, jnp.int32)))
    t = np.arange(2.0, 3000)
    terms = 0.1 * 0.9 ** (t - 1) / (1 - 0.9**t) / np.sqrt(0.001 * 0.999 ** (t - 1) / (1 - 0.999**t))
    values, _ = jax.jit(rows.take)(jnp.array([1]), state, table)
    np.testing.assert_allclose(values, np.full((1, 2), -1e-3 * (1 + terms.sum())), rtol=1e-6)


def test_a_row_of_which_decay_left_nothing_is_where_lion_brings_it():
    rows, table = adamx.Rows(adamx.lion(1e-3, weight_decay=1.0)), jnp.ones((2, 1))
    _, ticket = rows.take(jnp.array([1]), rows.init(table), table)
    table, state = rows.put(jnp.ones((1, 1)), rows.init(table), table, ticket)
    state = state._replace(state=state.state._replace(count=jnp.asarray(200_000, jnp.int32)))
    slots = jax.tree.map(lambda x: x.at[1].set(1.0), state.state.slots)  # as if its momentum had not underflown
    values, _ = rows.take(jnp.array([0, 1]), state._replace(state=state.state._replace(slots=slots)), table)
    np.testing.assert_allclose(values, [[0.0], [-1.0]], atol=1e-6)


def test_repeated_ids_add_up_and_padding_moves_nothing():
    rows, table = adamx.Rows(adamx.adam(0.5)), jnp.arange(8.0).reshape(4, 2)
    state = rows.init(table)
    values, ticket = jax.jit(rows.take)(jnp.array([[2, 0, 2], [-1, -1, 2]]), state, table)
    np.testing.assert_array_equal(values[0], table[jnp.array([2, 0, 2])])
    np.testing.assert_array_equal(values[1, :2], 0)
    grads = jnp.ones((2, 3, 2)).at[0, 0].set(-5)
    table_1, _ = jax.jit(rows.put)(grads, state, table, ticket)
    np.testing.assert_allclose(table_1 - table, [[-0.5, -0.5], [0, 0], [0.5, 0.5], [0, 0]], rtol=1e-6)


def test_lazy_is_the_algorithm_of_others():
    torch = pytest.importorskip("torch")
    table, (ids, grads) = run_of(20, jnp.float32)
    rows, ids = adamx.Rows(adamx.adam(1e-2, eps_hat=True), catch_up="lazy"), jnp.maximum(ids, 0)
    got, state = jax.jit(lambda *args: by_rows(rows, *args))((table, rows.init(table)), (ids, grads))
    assert rows.flush(state, got)[0] is got
    weight = torch.nn.Parameter(torch.tensor(np.array(table)))
    opt = torch.optim.SparseAdam([weight], lr=1e-2)
    for i, g in zip(np.array(ids), np.array(grads), strict=True):
        weight.grad = torch.sparse_coo_tensor(
            torch.tensor(i[None]), torch.tensor(g), (ROWS, WIDTH), check_invariants=True
        )
        opt.step()
    np.testing.assert_allclose(got, weight.detach().numpy(), atol=2e-6)


def test_ids_of_a_dtype_that_the_table_outgrows():
    rows, table = adamx.Rows(adamx.adam(0.5)), jnp.arange(300.0)[:, None]
    for ids in (jnp.array([3, 127, -1], jnp.int8), jnp.array([3, 255], jnp.uint8)):
        values, _ = rows.take(ids, rows.init(table), table)
        np.testing.assert_array_equal(values[:, 0], jnp.maximum(ids.astype(int), 0))


@pytest.mark.parametrize("weights", ["split16", pytest.param("stochastic", marks=product)])
def test_narrow_tables_and_coded_moments_keep_idle_rows_bit_for_bit(weights):
    opt = adamx.adam(1e-2, moments="int8", weights=weights)
    table = jax.random.normal(jax.random.key(0), (64, 64)).astype(jnp.bfloat16)
    rows, ids = adamx.Rows(opt), jnp.array([3, 60, 3])

    @jax.jit
    def step(table, state):
        values, ticket = rows.take(ids, state, table)
        return values, *rows.put(jnp.ones_like(values), state, table, ticket)

    start = rows.init(table)
    first, after, state = step(table, start)
    second, after, state = step(after, state)
    assert first.dtype == jnp.bfloat16
    assert not np.array_equal(first, second)
    others = np.delete(np.arange(64), [3, 60])
    same = lambda a, b: np.testing.assert_array_equal(a[others], b[others]) if a.ndim else None  # noqa: E731
    jax.tree.map(same, (table, start.state), (after, state.state))
    wanted, whole_state = table, opt.init(table)
    for _ in range(2):
        grads = jnp.zeros(table.shape, table.dtype).at[jnp.array([3, 60])].set(jnp.array([[2.0], [1.0]], table.dtype))
        wanted, whole_state = opt.step(grads, whole_state, wanted)
    np.testing.assert_array_equal(after[ids], wanted[ids])  # the random bits are those of the elements in the table


@pytest.mark.parametrize("kind", [AxisType.Explicit, pytest.param(AxisType.Auto, marks=product)], ids=str)
def test_a_resumed_run_on_rows_over_devices_goes_on_bit_for_bit(kind):
    rows = adamx.Rows(OPTIMIZERS["adamw, a schedule"])
    table, xs = run_of(12, jnp.float32)
    mesh = jax.make_mesh((4,), ("rows",), (kind,))
    spread = lambda x: jax.device_put(  # noqa: E731
        x, NamedSharding(mesh, PartitionSpec("rows") if x.ndim and x.shape[0] == ROWS else PartitionSpec())
    )

    @as_users_do
    def step(ids, grads, state, table):
        _, ticket = rows.take(ids, state, table)
        return rows.put(grads, state, table, ticket)

    def run(carry, xs, move=lambda x: x):
        carry = jax.tree.map(move, carry)
        for ids, grads in zip(*xs, strict=True):
            carry = step(move(ids), move(grads), carry[1], carry[0])
        return carry

    one = run((table, rows.init(table)), xs)
    half = [x[:6] for x in xs], [x[6:] for x in xs]
    other = run(jax.tree.map(np.asarray, run((table, rows.init(table)), half[0])), half[1], spread)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert other[0].sharding.spec[0] == "rows"
    text = step.lower(*map(spread, (xs[0][0], xs[1][0])), other[1], other[0]).compile().as_text()
    assert set(collectives(text)) <= {"all-reduce"}


def test_each_device_steps_its_own_rows_in_shard_map():
    rows = adamx.Rows(adamx.adam(0.5))
    table, mesh = jnp.arange(16.0).reshape(8, 2), jax.make_mesh((4,), ("rows",), (AxisType.Auto,))
    state, cut = rows.init(table), PartitionSpec("rows")
    specs = jax.tree.map(lambda x: cut if x.ndim else PartitionSpec(), state)

    def step(ids, state, table):
        _, ticket = rows.take(ids, state, table)
        return rows.put(jnp.ones((1, 2)), state, table, ticket)

    taken = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(cut, specs, cut), out_specs=(cut, specs)))
    new, _ = taken(jnp.array([0, 1, -1, 0]), state, table)
    np.testing.assert_allclose(table - new, np.repeat([[0.5], [0], [0], [0.5], [0], [0], [0.5], [0]], 2, 1), rtol=1e-6)
    assert not collectives(taken.lower(jnp.zeros(4, int), state, table).compile().as_text())


def test_nothing_of_the_size_of_the_table_is_copied():
    rows = adamx.Rows(OPTIMIZERS["adamw, a schedule"])
    table = jax.ShapeDtypeStruct((12345, 8), jnp.float32)
    state = jax.eval_shape(rows.init, table)

    @functools.partial(as_users_do, donate_argnums=(1, 2))
    def step(ids, state, table):
        values, ticket = rows.take(ids, state, table)
        table, state = rows.put(values, state, table, ticket)
        return state, table

    compiled = step.lower(jax.ShapeDtypeStruct((16,), jnp.int32), state, table).compile()
    sizes = compiled.memory_analysis()
    assert sizes.alias_size_in_bytes == sizes.output_size_in_bytes - 8 * len(jax.tree.leaves((state, table)))
    assert sizes.temp_size_in_bytes < 12345 * 4
    assert not [line for line in compiled.as_text().splitlines() if "copy(" in line and "[12345" in line]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: adamx.adam(1e-3, 0.98, 0.95), "b1 >= sqrt"),
        (lambda: adamx.adam(1e-3, b1=lambda n: 0.9), "b1 decides how many terms"),
        (lambda: adamx.adam(1e-3, eps=lambda n: 1e-8), "eps follows a schedule"),
        (lambda: adamx.adamw(1e-3, weight_decay=0.1, decay="cautious"), "'cautious'"),
        (lambda: adamx.adamw(1e-3, weight_decay=0.1, decay="l2"), "'l2'"),
        (lambda: adamx.lion(1e-3, mode="refined"), "mode='refined'"),
        (lambda: adamx.lion(1e-3, weight_decay=lambda n: 0.1), "relative to the step size"),
        (lambda: adamx.adam_mini(1e-3), "keep=\\(0,\\)"),
        (lambda: adamx.yogi(1e-3), "does not say what idle steps do"),
        (lambda: adamx.adam(1e-3, groups=[adamx.Group(".*", b1=0.8)]), "groups"),
    ],
)
def test_what_has_no_closed_form_is_refused_when_it_is_built(make, why):
    with pytest.raises(ValueError, match=why):
        adamx.Rows(make())


def test_what_does_not_fit_is_named():
    rows, table = adamx.Rows(adamx.adam(0.5)), jnp.zeros((4, 2))
    state = rows.init(table)
    with pytest.raises(TypeError, match="state of adamx"):
        rows.take(jnp.array([1]), adamx.adam(0.5).init(table), table)
    with pytest.raises(TypeError, match="float32"):
        rows.take(jnp.array([1.0]), state, table)
    with pytest.raises(ValueError, match="id 4 is not a row of a table of 4"):
        rows.take(jnp.array([1, 4]), state, table)
    with pytest.raises(ValueError, match="id -2"):
        rows.take(np.array([-2]), state, table)
    with pytest.raises(ValueError, match="id 4294967297"):  # row 1, where JAX cuts it down to 32 bits
        rows.take(np.array([2**32 + 1]), state, table)
    with pytest.raises(ValueError, match=r"\(5, 2\).* 4 rows"):
        rows.take(jnp.array([1]), state, jnp.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        rows.init(jnp.zeros(2))
    values, ticket = jax.eval_shape(rows.take, jnp.array([1, 1]), state, table)
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(2, 2\)"):
        rows.put(jnp.zeros((1, 2)), state, table, ticket)
    with pytest.raises(TypeError, match="schedule"):
        rows.put(values, state, table, ticket, learning_rate=0.1)
    for other in ({"table": table}, np.zeros((4, 2)), state):
        with pytest.raises(TypeError, match="the table is a "):
            rows.take(jnp.array([1]), state, other)
    with pytest.raises(TypeError, match="wraps"):
        adamx.Rows(adamx.guard(adamx.adam(0.5)))
    for lazily in (adamx.adafactor(1e-3), adamx.lamb(1e-3)):
        with pytest.raises(ValueError, match="does not say what idle steps do"):
            adamx.Rows(lazily, catch_up="lazy")
    dropped, _ = jax.jit(rows.take)(jnp.array([1, 4, -7]), state, table + 1)
    np.testing.assert_array_equal(dropped, [[1, 1], [0, 0], [0, 0]])


def test_an_nnx_model_with_its_table_trains_as_with_flaxs_own():
    class Model(nnx.Module):
        def __init__(self, embed, rngs):
            self.embed, self.out = embed, nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, values):
            return self.out(values.mean(axis=1))

    opt, ids = adamx.adam(1e-2), jnp.array([[1, 5, 1], [0, 2, 5]])
    ours = Model(adamx.flax.Embed(8, 3, tx=opt, rngs=nnx.Rngs(1)), nnx.Rngs(2))
    theirs = Model(nnx.Embed(8, 3, rngs=nnx.Rngs(1)), nnx.Rngs(2))
    np.testing.assert_array_equal(ours.embed(ids), theirs.embed(ids))
    optimizers = [adamx.flax.Optimizer(model, opt, wrt=nnx.Param) for model in (ours, theirs)]

    @nnx.jit
    def step(ours, theirs, optimizers, ids):
        values, ticket = ours.embed.take(ids)
        grads, of_values = nnx.grad(lambda model, x: jnp.sum(model(x)), argnums=(0, 1))(ours, values)
        optimizers[0].update(ours, grads)
        ours.embed.put(of_values, ticket)
        optimizers[1].update(theirs, nnx.grad(lambda model: jnp.sum(model(model.embed(ids))))(theirs))

    for at in (ids, ids + 1, ids):
        step(ours, theirs, nnx.List(optimizers) if hasattr(nnx, "List") else optimizers, at)
    ours.embed.flush()
    np.testing.assert_allclose(ours.embed.embedding[...], theirs.embed.embedding[...], atol=2e-7)
    np.testing.assert_allclose(ours.out.kernel[...], theirs.out.kernel[...], atol=2e-7)


def test_a_ticket_of_an_earlier_step_is_refused():
    rows, table = adamx.Rows(adamx.adam(0.1)), jnp.zeros((4, 1))
    state = rows.init(table)
    (_, first), (_, second) = rows.take(jnp.array([1, 2]), state, table), rows.take(jnp.array([2, 3]), state, table)
    table, state = rows.put(jnp.ones((2, 1)), state, table, first)
    with pytest.raises(ValueError, match="the ticket is of step 0, the state of step 1"):
        rows.put(jnp.ones((2, 1)), state, table, second)
