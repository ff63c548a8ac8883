"""A run that moves between Optax, PyTorch and adamx goes on as if it had stayed."""

import copy
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

import adamx
from tests.following import start, stream
from tests.helpers import jitted_in_float64, product
from tests.test_optax_parity import PAIRS, OptaxAdan
from tests.test_presets_parity import TORCH, complex_run
from tests.test_presets_parity import torch as torch

FALLING = optax.linear_schedule(1e-2, 1e-4, 60)


def corrected(name, **more):
    """The estimates of step sizes, whose bias Optax always corrects."""
    return lambda lib: (
        getattr(adamx, name)(**more, bias_correction=True) if lib is adamx else getattr(optax.contrib, name)(**more)
    )


RUNS = PAIRS | {
    "prodigy": corrected("prodigy", estim_lr0=1e-3),
    "dadapt_adamw": corrected("dadapt_adamw", estim_lr0=1e-3),
    "yogi": lambda lib: lib.yogi(1e-2),
    "adan": lambda lib: adamx.optimizer(OptaxAdan(), 1e-2) if lib is adamx else optax.adan(1e-2),
    "adafactor": lambda lib: lib.adafactor(FALLING, min_dim_size_to_factor=2, momentum=0.9, weight_decay_rate=1e-3),
    "adafactor_whole": lambda lib: lib.adafactor(factored=False),
    "rmsprop_centered": lambda lib: lib.rmsprop(1e-2, centered=True, eps=1e-4, momentum=0.5),
    "stddev_corrected": lambda lib: optax.chain(lib.scale_by_stddev(bias_correction=True), optax.scale(-0.1)),
}
HARDEST = {"amsgrad", "schedule_free_adamw", "prodigy", "adafactor", "rmsprop_centered"}
KINDS = HARDEST | {
    *("adabelief_positional", "adagrad", "adadelta", "lion", "novograd", "adopt_unclipped", "ademamix"),
    *("simplified_ademamix", "schedule_free_sgd", "dadapt_adamw", "adan"),
}
"""One run for each kind of state."""

UNCOUNTED = {f"{rule}{which}" for rule in ("adagrad", "adadelta", "rmsprop") for which in ("", "_positional")}
UNCOUNTED |= {"rmsprop_centered"}
VARIANCE = {"rmsprop_positional", "rmsprop_centered", "stddev_corrected"}
"""Where ours keeps the variance, and Optax the mean square."""

TOLERANCES = {"adan": 1e-10, "adafactor": 1e-6, "adafactor_whole": 1e-6}
"""Of Adafactor Optax takes the decay rate and the momentum in float32, also for float64 weights."""


def run(opt, params, state, noise):
    """Parameters and states after each step."""

    def body(carry, e):
        params, state = carry
        grads = jax.tree.map(lambda p, e: 0.1 * p + e, params, e)
        updates, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    return jax.lax.scan(body, (params, state), noise)[1]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in HARDEST else product) for name in RUNS])
def test_a_run_of_optax_goes_on_from_steps_1_7_and_50_and_its_state_comes_back(name, x64, loose):
    tx, opt = RUNS[name](optax), RUNS[name](adamx)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.standard_normal((4, 3))), "bias": jnp.asarray(rng.standard_normal(3))}
    noise = {k: jnp.asarray(rng.standard_normal((60, *v.shape))) for k, v in params.items()}
    stayed = jitted_in_float64(lambda p: run(tx, p, tx.init(p), noise))(params)
    moves = []
    for t in (1, 7, 50):
        p, theirs = jax.tree.map(lambda x: x[t - 1], stayed)
        ours = adamx.from_optax(opt, theirs, p, **{"count": t} if name in UNCOUNTED else {})
        moves.append((p, ours, jax.tree.map(lambda x: x[t : t + 10], noise)))
        back = adamx.to_optax(opt, ours, tx, p)
        digits = 2**-52 if name in VARIANCE else 0
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=digits), back, theirs)
    moves = jax.tree.map(lambda *xs: jnp.stack(xs), *moves)
    moved, _ = jitted_in_float64(lambda moves: jax.lax.map(lambda move: run(opt, *move), moves))(moves)
    for i, t in enumerate((1, 7, 50)):
        for k in params:
            precision = TOLERANCES.get(name, 1e-12)
            np.testing.assert_allclose(moved[k][i], stayed[0][k][t : t + 10], rtol=precision, atol=precision)


LABELS = {"kernel": "matrix", "bias": "vector", "absent": "vector"}
TREE = {"kernel": jnp.ones((64, 128)), "bias": jnp.ones(3), "absent": None}


def in_everything(lib):
    injected = optax.inject_hyperparams(lib.adamw)(learning_rate=FALLING, weight_decay=0.1)
    return optax.MultiSteps(optax.chain(optax.zero_nans(), optax.clip(1.0), optax.apply_if_finite(injected, 2)), 2)


WRAPPED = {
    "everything": in_everything,
    "partition": lambda lib: optax.partition({"matrix": lib.adam(FALLING), "vector": lib.lion(0.1)}, LABELS),
    "masked": lambda lib: optax.masked(lib.novograd(0.1), {"kernel": True, "bias": False, "absent": False}),
    "chained": lambda lib: optax.chain(lib.adafactor(momentum=0.9), optax.ema(0.9)),
}


def of_a_run(tx, params, count=7):
    """A state as after some steps: random numbers, counts alike."""
    rng = np.random.default_rng(0)

    def drawn(x):
        if x.dtype == jnp.int32:
            return x + count
        return x if x.size == 1 else jnp.asarray(np.abs(rng.standard_normal(x.shape)), x.dtype)

    return jax.tree.map(drawn, tx.init(params))


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize("name", [*WRAPPED, *sorted(KINDS - VARIANCE)])
def test_states_are_found_in_what_wraps_them_and_come_back_bit_for_bit(name):
    make = (RUNS | WRAPPED)[name]
    tx, opt = make(optax), make(adamx)
    theirs = of_a_run(tx, TREE)
    ours = adamx.from_optax(opt, theirs, TREE, **{"count": 7} if name in UNCOUNTED else {})
    assert types(ours) == types(opt.init(TREE))
    jax.tree.map(np.testing.assert_array_equal, adamx.to_optax(opt, ours, tx, TREE), theirs)


def test_pieces_that_optax_chains_are_one_optimizer_and_wrappers_without_a_state_may_go():
    tx = optax.chain(optax.clip(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(FALLING))
    theirs = of_a_run(tx, TREE)
    for opt in (adamx.adam(FALLING), optax.chain(adamx.monitor(adamx.adam(FALLING)), optax.identity())):
        ours = adamx.from_optax(opt, theirs, TREE)
        assert types(ours) == types(opt.init(TREE))
        np.testing.assert_array_equal(optax.tree.get(ours, "nu")["bias"], theirs[1].nu["bias"])


def test_a_partition_becomes_groups_and_comes_back():
    tx = optax.partition({"a": optax.adamw(0.1), "b": optax.adamw(0.1, weight_decay=0.0)}, {"w": "a", "b": "b"})
    opt = adamx.guard(adamx.adamw(0.1, groups=[adamx.Group("b", weight_decay=0.0)]))
    theirs = of_a_run(tx, PLAIN)
    ours = adamx.from_optax(opt, theirs, PLAIN)
    jax.tree.map(np.testing.assert_array_equal, adamx.to_optax(opt, ours, tx, PLAIN), theirs)
    assert types(ours) == types(opt.init(PLAIN)) and int(ours.inner.count) == 7


@pytest.mark.parametrize(
    "tx",
    [
        optax.masked(optax.adamw(0.1), {"w": True, "b": False}),
        optax.partition({"a": optax.adamw(0.1), "b": optax.set_to_zero()}, {"w": "a", "b": "b"}),
        optax.adamw(0.1),
    ],
)
def test_what_optax_does_not_move_is_frozen(tx):
    opt = adamx.adamw(0.1, groups=[adamx.Group("b", frozen=True)])
    theirs = of_a_run(tx, PLAIN)
    ours = adamx.from_optax(opt, theirs, PLAIN)
    assert types(ours) == types(opt.init(PLAIN))
    np.testing.assert_array_equal(ours.slots.mu["w"], optax.tree.get(theirs, "mu")["w"])
    back = adamx.to_optax(opt, ours, tx, PLAIN)
    np.testing.assert_array_equal(optax.tree.get(back, "mu")["w"], ours.slots.mu["w"])


def test_numbers_that_optax_injects_live_on_and_come_back():
    tx = optax.inject_hyperparams(optax.adamw)(0.3, weight_decay=0.2)
    opt = adamx.adamw(adamx.live("rate", 0.1), weight_decay=0.2)
    ours = adamx.from_optax(opt, tx.init(PLAIN), PLAIN)
    assert ours.live == {"rate": np.float32(0.3)}
    back = adamx.to_optax(opt, adamx.set_hyperparameters(ours, rate=0.05), tx, PLAIN)
    assert back.hyperparams["learning_rate"] == np.float32(0.05) and back.hyperparams["weight_decay"] == np.float32(0.2)


def rates(rate, *groups):
    """The rate of all, then groups' ways to set that of "w"."""
    return adamx.adamw(rate, weight_decay=1e-4, groups=[adamx.Group("w", **group) for group in groups])


class Seeded(adamx.Wrapper):
    """One of a user's, whose state looks like that of a chain of three."""

    def init(self, params):
        return self.opt.init(params), jnp.zeros(3), jnp.ones([])


def test_wrappers_of_a_user_begin_anew_and_are_passed_over():
    tx, wrapped = optax.adamw(0.1), Seeded(adamx.adamw(0.1)).optimizer()
    theirs = of_a_run(tx, PLAIN)
    for opt in (wrapped, optax.chain(optax.clip(1.0), adamx.guard(wrapped))):
        ours = adamx.from_optax(opt, theirs, PLAIN)
        assert types(ours) == types(opt.init(PLAIN)) and optax.tree.get(ours, "count") == 7
        jax.tree.map(np.testing.assert_array_equal, adamx.to_optax(opt, ours, tx, PLAIN), theirs)


def test_numbers_injected_in_parts_are_those_of_the_leaves_there():
    tx, opt = injected_in_parts(0.25, 0.5), rates(adamx.live("rate", 0.1), {"learning_rate": adamx.live("first", 0.1)})
    ours = adamx.from_optax(opt, tx.init(PLAIN), PLAIN)
    assert ours.live == {"first": 0.25, "rate": 0.5}
    back = adamx.to_optax(opt, adamx.set_hyperparameters(ours, first=0.125), tx, PLAIN).inner_states
    told = [back[label].inner_state.hyperparams["learning_rate"] for label in ("first", "second")]
    assert told == [0.125, 0.5]


def test_a_live_number_of_a_group_is_taken_over_where_the_others_have_it_fixed():
    tx, opt = injected(0.25), rates(0.25, {"learning_rate": adamx.live("first", 0.1)})
    ours = adamx.from_optax(opt, tx.init(PLAIN), PLAIN)
    assert ours.live == {"first": 0.25}
    assert adamx.to_optax(opt, ours, tx, PLAIN).hyperparams["learning_rate"] == 0.25
    with pytest.raises(ValueError, match=r"groups, it is 0\.25 and 0\.125"):
        adamx.to_optax(opt, adamx.set_hyperparameters(ours, first=0.125), tx, PLAIN)


def test_multi_steps_become_accumulate_between_two_moves():
    opt = adamx.accumulate(adamx.adam(0.1), 2)
    theirs = of_a_run(STEPS, PLAIN)._replace(mini_step=jnp.int32(0))
    ours = adamx.from_optax(opt, theirs, PLAIN)
    assert types(ours) == types(opt.init(PLAIN)) and int(ours.inner.count) == 7
    jax.tree.map(np.testing.assert_array_equal, ours.inner.slots.mu, theirs.inner_opt_state[0].mu)
    back = adamx.to_optax(opt, ours, STEPS, PLAIN)
    assert types(back) == types(theirs) and int(back.mini_step) == 0 and int(back.gradient_step) == 7
    jax.tree.map(np.testing.assert_array_equal, back.inner_opt_state, theirs.inner_opt_state)
    traced = jax.jit(lambda state: adamx.from_optax(opt, state, PLAIN))(theirs)
    jax.tree.map(np.testing.assert_array_equal, traced.inner.slots, ours.inner.slots)


@pytest.mark.parametrize("moments", ["int8", "bfloat16"])
def test_slots_are_stored_as_the_optimizer_stores_them(moments):
    tx, small = optax.adam(0.1), adamx.adam(0.1, moments=moments, weights="split8")
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), TREE)
    theirs = of_a_run(tx, TREE)
    ours = adamx.from_optax(small, theirs, params)
    assert types(ours) == types(small.init(params))
    dense = adamx.unpack_state(small, ours, params).slots
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05), dense.nu, theirs[0].nu)
    assert float(jnp.abs(dense.mu["kernel"] - theirs[0].mu["kernel"]).mean()) < 0.03
    back = adamx.to_optax(small, ours, tx, adamx.master_params(small, ours, params))
    jax.tree.map(np.testing.assert_array_equal, back[0].mu, dense.mu)


def test_products_of_scheduled_decay_rates_are_made_up_for():
    rising = adamx.schedules.decayed_beta(0.9, 0.9)
    theirs = of_a_run(optax.adam(0.1), TREE)
    products = adamx.from_optax(adamx.adam(0.1, b1=rising), theirs, TREE).log_products
    wanted = sum(np.log(float(rising(t))) for t in range(7))
    np.testing.assert_allclose(products["rule.b1"].total, wanted, rtol=1e-6)


@pytest.mark.devices
def test_shardings_are_kept_eagerly_and_under_jit():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    cut, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("x",), ()))
    params = {"w": jax.device_put(jnp.ones((8, 4)), cut)}
    tx, opt = optax.adam(0.1), adamx.adam(0.1)
    theirs = jax.tree.map(lambda x: jax.device_put(x, cut if x.ndim else everywhere), tx.init(params))
    for move in (adamx.from_optax, jax.jit(adamx.from_optax, static_argnums=0)):
        ours = move(opt, theirs, params)
        assert ours.slots.mu["w"].sharding.is_equivalent_to(cut, 2)
        assert ours.count.sharding.is_equivalent_to(everywhere, 0)


def test_a_model_of_nnx_takes_over_its_state():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    theirs, params = nnx.Optimizer(model, optax.adamw(0.1), wrt=nnx.Param), nnx.state(model, nnx.Param)
    opt = optax.chain(optax.clip(1.0), adamx.adamw(0.1))
    ours = adamx.from_optax(opt, theirs.opt_state, params)
    assert jax.tree.structure(ours) == jax.tree.structure(opt.init(params))
    back = adamx.to_optax(opt, ours, optax.adamw(0.1), params)
    assert jax.tree.structure(back) == jax.tree.structure(optax.adamw(0.1).init(params))


PLAIN = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
ADAM = optax.adam(0.1).init(PLAIN)
TWO = {"w": "first", "b": "second"}
STEPS = optax.MultiSteps(optax.adam(0.1), 2)


def injected(rate):
    return optax.inject_hyperparams(optax.adamw)(rate)


def injected_in_parts(first, second):
    return optax.partition({"first": injected(first), "second": injected(second)}, TWO)


def two(lib):
    return optax.partition({"first": lib.adam(0.1), "second": lib.adam(0.2)}, TWO)


MISFITS = {
    "a leaf of another shape": (
        lambda: adamx.from_optax(adamx.adam(0.1), ADAM, {**PLAIN, "w": jnp.ones((3, 4))}),
        "optax_state[0].mu['w'] is float32[4, 3], but mu of params['w'] is float32[3, 4]",
    ),
    "integers": (
        lambda: adamx.from_optax(adamx.adam(0.1), jax.tree.map(lambda x: x.astype(int), ADAM), PLAIN),
        "optax_state[0].mu['b'] is int32[3], but mu of params['b'] is float32[3]",
    ),
    "a leaf too few": (
        lambda: adamx.from_optax(adamx.adam(0.1), ADAM, {**PLAIN, "c": jnp.ones(2)}),
        "optax_state[0].mu has nothing for params['c']",
    ),
    "a leaf too many": (
        lambda: adamx.from_optax(adamx.adam(0.1), ADAM, {"w": PLAIN["w"]}),
        "optax_state[0].mu['b'] is of no parameter",
    ),
    "another optimizer's": (
        lambda: adamx.from_optax(adamx.lion(0.1), ADAM, PLAIN),
        "mu is kept by Optax in a ScaleByLionState, of which optax_state has 0 (it has ScaleByAdamState)",
    ),
    "another variant's": (
        lambda: adamx.from_optax(adamx.amsgrad(0.1, max_of="raw"), optax.amsgrad(0.1).init(PLAIN), PLAIN),
        "Optax has no optimizer that keeps what this AMSGrad does, mu, nu, nu_max",
    ),
    "no optimizer of Optax's": (
        lambda: adamx.from_optax(adamx.laprop(0.1), ADAM, PLAIN),
        "Optax has no optimizer that keeps what this LaProp does, mu, nu",
    ),
    "no optimizer of ours": (
        lambda: adamx.from_optax(optax.adam(0.1), ADAM, PLAIN),
        "there is no adamx optimizer in opt",
    ),
    "types that were lost": (
        lambda: adamx.from_optax(adamx.adam(0.1), {"count": 1, "mu": PLAIN, "nu": PLAIN}, PLAIN),
        "of which optax_state has 0 (it has nothing): give the state of the same optimizer, in the types that",
    ),
    "two for one": (
        lambda: adamx.from_optax(adamx.adam(0.1), (ADAM, ADAM), PLAIN),
        "in a ScaleByAdamState, of which optax_state has 2",
    ),
    "one for two": (
        lambda: adamx.from_optax(two(adamx), ADAM, PLAIN),
        "optax_state[0] is ScaleByAdamState, where the state with adamx's has dict of 'first', 'second': wrap both",
    ),
    "a momentum without a place": (
        lambda: adamx.from_optax(adamx.rmsprop(0.1), optax.rmsprop(0.1, momentum=0.9).init(PLAIN), PLAIN, count=1),
        "optax_state[2].trace['b'], float32[3], has no place in the state of the adamx optimizer",
    ),
    "gradients without a place": (
        lambda: adamx.from_optax(adamx.accumulate(adamx.adam(0.1), 2), of_a_run(STEPS, PLAIN, 1), PLAIN),
        "optax_state has gradients of the mini_step 1: move it where that is 0",
    ),
    "gradients without a place, back": (
        lambda: adamx.to_optax(*in_the_middle(), STEPS, PLAIN),
        "state has gradients of the position 1: move it where that is 0",
    ),
    "labels that are not the patterns": (
        lambda: adamx.from_optax(adamx.by_path(dict.fromkeys("wb", adamx.adam(0.1))), two(optax).init(PLAIN), PLAIN),
        "is dict of 'first', 'second', where the state with adamx's has dict of 'b', 'w': the labels of",
    ),
    "two numbers for one": (
        lambda: adamx.from_optax(rates(RATE), injected_in_parts(0.25, 0.5).init(PLAIN), PLAIN),
        "is 0.25, optax_state.inner_states['second'].inner_state.hyperparams['learning_rate'] is 0.5, but both are the",
    ),
    "a number other than the optimizer's": (
        lambda: adamx.from_optax(rates(0.1), injected(0.25).init(PLAIN), PLAIN),
        "optax_state.hyperparams['learning_rate'] is 0.25, but the adamx optimizer has 0.1 there",
    ),
    "a number within a schedule": (
        lambda: adamx.from_optax(rates(lambda count: RATE(count) * 1.0), injected(0.25).init(PLAIN), PLAIN),
        "hyperparams['learning_rate'] has no place in the state of the adamx optimizer, whose learning_rate is",
    ),
    "a number within a schedule, back": (
        lambda: to_injected(rates(lambda count: RATE(count) * 1.0)),
        "hyperparams['learning_rate'] has no place in the state of the adamx optimizer, whose learning_rate is",
    ),
    "a number that is scaled": (
        lambda: adamx.from_optax(
            rates(RATE, {"learning_rate_scale": 2}), injected_in_parts(0.5, 0.25).init(PLAIN), PLAIN
        ),
        "'first'].inner_state.hyperparams['learning_rate'] has no place",
    ),
    "a slot that Optax does not keep": (
        lambda: adamx.from_optax(*narrow_schedule_free()),
        "Optax keeps no x, as this optimizer does for weights of less than float32",
    ),
    "no count": (
        lambda: adamx.from_optax(adamx.adagrad(0.1), optax.adagrad(0.1).init(PLAIN), PLAIN),
        "optax_state counts no steps: give their number, from_optax(..., count=...)",
    ),
    "less than no steps": (
        lambda: adamx.from_optax(adamx.adam(0.1), optax.tree.set(ADAM, count=jnp.asarray(-1)), PLAIN),
        "the state's count is -1, not a number of finished steps",
    ),
    "two counts": (
        lambda: adamx.from_optax(adamx.adam(FALLING), (ADAM[0], optax.ScaleByScheduleState(jnp.asarray(9))), PLAIN),
        "optax_state[0].count is 0, optax_state[1].count is 9, but an adamx optimizer counts once",
    ),
    "to another optimizer": (
        lambda: adamx.to_optax(adamx.adam(0.1), adamx.adam(0.1).init(PLAIN), optax.amsgrad(0.1), PLAIN),
        "in a ScaleByAdamState, of which tx.init(params) has 0 (it has ScaleByAmsgradState)",
    ),
    "Optax's to Optax": (
        lambda: adamx.to_optax(adamx.adam(0.1), ADAM, optax.adam(0.1), PLAIN),
        "there are 0 adamx states in state, and 1 in that of opt",
    ),
}


RATE = adamx.live("rate", 0.1)


def in_the_middle():
    opt = adamx.accumulate(adamx.adam(0.1), 2)
    return opt, opt.init(PLAIN)._replace(position=jnp.int32(1))


def to_injected(opt):
    return adamx.to_optax(opt, opt.init(PLAIN), injected(0.25), PLAIN)


def narrow_schedule_free():
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PLAIN)
    return adamx.schedule_free_sgd(0.1), optax.contrib.schedule_free_sgd(0.1).init(narrow), narrow


@pytest.mark.parametrize("what", MISFITS)
def test_what_does_not_fit_is_named(what):
    move, message = MISFITS[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        move()


OF_TORCH = {"adamw_amsgrad", "nadam_l2", "rmsprop_both", "adafactor_options"}
"""Those with what the others have not."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in OF_TORCH else product) for name in TORCH])
def test_a_run_of_pytorch_goes_on_from_step_7(name, torch, x64):
    """Real and complex leaves at once, where PyTorch takes these."""
    ours, theirs, arguments = TORCH[name]
    weights, grads = (start(), stream()) if theirs == "Adafactor" else complex_run()
    tensors = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in weights.items()}
    reference = getattr(torch.optim, theirs)([*tensors.items()], **arguments)
    opt = adamx.preset("pytorch", ours, **arguments)
    step = jitted_in_float64(opt.step)
    params = state = None
    for t in range(12):
        for k, p in tensors.items():
            p.grad = torch.tensor(grads[k][t])
        if t == 7:
            params = {k: jnp.asarray(p.detach().numpy().copy()) for k, p in tensors.items()}
            state = adamx.from_torch(opt, reference.state_dict(), params, lambda leaf: leaf)
            assert types(state) == types(opt.init(params))
        reference.step()
        if t >= 7:
            params, state = step({k: jnp.asarray(g[t]) for k, g in grads.items()}, state, params)
            for k, p in tensors.items():
                np.testing.assert_allclose(params[k], p.detach().numpy(), rtol=1e-10, atol=1e-12)


LAYER = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}


def saved(steps=(7, 7), **more):
    """What PyTorch saves of AdamW on a linear layer, in NumPy arrays."""
    shapes = {0: (3, 2), 1: (3,)}
    arrays = {i: np.arange(np.prod(shape)).reshape(shape) / 10 for i, shape in shapes.items()}
    states = {i: {"step": steps[i], "exp_avg": x, "exp_avg_sq": x, **more} for i, x in arrays.items()}
    return {"state": states, "param_groups": [{"params": [0, 1], "param_names": ["weight", "bias"]}]}


ADAMW = adamx.preset("pytorch", "adamw")
NAMES = [("dense.kernel", np.transpose), "dense.bias"]


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        {"dense.kernel": (0, np.transpose), "dense.bias": 1},
        {"dense.kernel": ("weight", lambda x: x.T), "dense.bias": "bias"},
        lambda leaf: {"dense.kernel": ("weight", np.transpose), "dense.bias": "bias"}[leaf],
    ],
    ids=["sequence", "numbers", "names", "function"],
)
def test_leaves_are_named_in_four_ways_and_transposed_where_it_is_said(names):
    wrapped = optax.chain(optax.clip(1.0), ADAMW)
    for opt in (ADAMW, wrapped):
        state = adamx.from_torch(opt, saved(), LAYER, names)
        assert types(state) == types(opt.init(LAYER))
        assert optax.tree.get(state, "count") == 7
        np.testing.assert_allclose(optax.tree.get(state, "mu")["dense"]["kernel"], [[0, 0.2, 0.4], [0.1, 0.3, 0.5]])


def test_tensors_of_bfloat16_are_read(torch):
    theirs = copy.deepcopy(saved())
    for entry in theirs["state"].values():
        entry |= {k: torch.tensor(x).to(torch.bfloat16) for k, x in entry.items() if k != "step"}
    state = adamx.from_torch(ADAMW, theirs, LAYER, NAMES)
    np.testing.assert_allclose(state.slots.mu["dense"]["bias"], [0, 0.1, 0.2], rtol=2**-8)


STRANGERS = {
    "not transposed": (
        LAYER,
        ADAMW,
        saved(),
        [n[0] if isinstance(n, tuple) else n for n in NAMES],
        "exp_avg of parameter 0 is",
    ),
    "a name too many": (LAYER, ADAMW, saved(), [*NAMES, "x"], "names has 'x', which is no leaf"),
    "claimed twice": (LAYER, ADAMW, saved(), {"dense.kernel": 1, "dense.bias": 1}, "is claimed by two leaves"),
    "no name": (LAYER, ADAMW, saved(), {"dense.bias": 1}, "names has nothing for params 'dense.kernel'"),
    "no state": (
        LAYER,
        ADAMW,
        saved(),
        {"dense.bias": 1, "dense.kernel": 2},
        "PyTorch has no state of 2 for params 'dense.kernel'",
    ),
    "a parameter too many": (
        {"dense": {"bias": LAYER["dense"]["bias"]}},
        ADAMW,
        saved(),
        {"dense.bias": 1},
        "PyTorch's parameter 0 is no leaf",
    ),
    "steps that differ": (
        LAYER,
        ADAMW,
        saved((7, 5)),
        NAMES,
        "PyTorch has stepped 'dense.kernel' 7 times and 'dense.bias' 5 times",
    ),
    "another optimizer": (
        LAYER,
        adamx.preset("pytorch", "rmsprop"),
        saved(),
        NAMES,
        "PyTorch's state of parameter 1 has step, exp_avg, exp_avg_sq, but for params 'dense.bias' the optimizer",
    ),
    "no steps": (
        LAYER,
        ADAMW,
        {"state": {i: {k: x for k, x in entry.items() if k != "step"} for i, entry in saved()["state"].items()}}
        | {"param_groups": []},
        NAMES,
        "PyTorch's state of parameter 1 counts no steps",
    ),
    "another variant": (
        LAYER,
        ADAMW,
        saved(max_exp_avg_sq=np.ones(3)),
        NAMES,
        "max_exp_avg_sq of parameter 1 has no place in the state",
    ),
    "no optimizer of PyTorch's": (
        LAYER,
        adamx.lion(0.1),
        saved(),
        NAMES,
        "PyTorch has no optimizer that keeps what this Lion",
    ),
    "rows that would become columns": (
        LAYER,
        adamx.preset("pytorch", "adafactor"),
        {
            "state": {
                0: {"step": 7, "row_var": np.ones((3, 1)), "col_var": np.ones((1, 2))},
                1: {"step": 7, "variance": np.ones(3)},
            },
            "param_groups": [],
        },
        NAMES,
        "row_var of parameter 0 is of rows or columns, which trade places",
    ),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_what_does_not_fit_of_pytorchs_is_named(what):
    params, opt, theirs, names, message = STRANGERS[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        adamx.from_torch(opt, theirs, params, names)
