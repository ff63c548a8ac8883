"""Where Optax's definition is the same, so are the numbers; where it differs, the difference is pinned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import adamx
from tests.helpers import jitted_in_float64, product


def linear(first: float, last: float, steps: int) -> optax.Schedule:
    """Optax's, in float64: from JAX 0.11 on the quotient of an int32 count and a Python number is float32."""
    return lambda count: optax.linear_schedule(first, last, steps)(count.astype(float))


PAIRS = {
    "adam": lambda lib: lib.adam(1e-2),
    "adam_positional": lambda lib: lib.adam(1e-2, 0.8, 0.95, 1e-3, 1e-4, jnp.float64),
    "adam_nesterov": lambda lib: lib.adam(1e-2, nesterov=True),
    "adam_schedule": lambda lib: lib.adam(optax.cosine_decay_schedule(1e-2, 50)),
    "adamw": lambda lib: lib.adamw(1e-2),
    "adamw_mask": lambda lib: lib.adamw(1e-2, weight_decay=0.1, mask={"kernel": True, "bias": False}),
    "adamw_callable_mask": lambda lib: lib.adamw(
        1e-2, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
    ),
    "adamw_positional": lambda lib: lib.adamw(1e-2, 0.8, 0.95, 1e-3, 1e-4, None, 0.1, None, nesterov=True),
    "adamw_schedules": lambda lib: lib.adamw(linear(1e-2, 1e-3, 50), weight_decay=linear(0.1, 0.0, 50)),
    "adamax": lambda lib: lib.adamax(1e-2),
    "adamax_positional": lambda lib: lib.adamax(1e-2, 0.8, 0.95, 1e-3),
    "adamaxw": lambda lib: lib.adamaxw(1e-2),
    "adamaxw_positional": lambda lib: lib.adamaxw(1e-2, 0.8, 0.95, 1e-3, 0.1, {"kernel": False, "bias": True}),
    "amsgrad": lambda lib: lib.amsgrad(1e-2),
    "amsgrad_paper": lambda lib: lib.amsgrad(1e-2, bias_correction_mu=False, bias_correction_nu=False),
    "amsgrad_positional": lambda lib: lib.amsgrad(1e-2, 0.8, 0.95, 1e-3, 1e-4, None, True, False),
    "nadam": lambda lib: lib.nadam(1e-2),
    "nadam_positional": lambda lib: lib.nadam(1e-2, 0.8, 0.95, 1e-3, 1e-4),
    "nadamw": lambda lib: lib.nadamw(1e-2, weight_decay=0.1, mask={"kernel": True, "bias": False}),
    "radam": lambda lib: lib.radam(1e-2),
    "radam_positional": lambda lib: lib.radam(1e-2, 0.8, 0.95, 1e-3, 1e-4, 6.0, nesterov=True),
    "adabelief": lambda lib: lib.adabelief(1e-2),
    "adabelief_positional": lambda lib: lib.adabelief(1e-2, 0.8, 0.95, 1e-3, 1e-4, nesterov=True),
    "adagrad": lambda lib: lib.adagrad(1e-2),
    "adagrad_positional": lambda lib: lib.adagrad(1e-2, 0.2, 1e-3),
    "rmsprop": lambda lib: lib.rmsprop(1e-2),
    "rmsprop_positional": lambda lib: lib.rmsprop(1e-2, 0.8, 1e-3, 0.1, False, True, 0.9, True),
    "rmsprop_corrected": lambda lib: lib.rmsprop(1e-2, eps_in_sqrt=False, bias_correction=True),
    "rmsprop_momentum_schedule": lambda lib: lib.rmsprop(linear(1e-2, 1e-4, 60), momentum=0.9),
    "adadelta": lambda lib: lib.adadelta(1e-2),
    "adadelta_positional": lambda lib: lib.adadelta(1e-2, 0.8, 1e-3, 0.1, {"kernel": True, "bias": False}),
    "lion": lambda lib: lib.lion(1e-2),
    "lion_positional": lambda lib: lib.lion(1e-2, 0.8, 0.95, None, 0.1, {"kernel": True, "bias": False}),
    "novograd": lambda lib: lib.novograd(1e-2),
    "novograd_positional": lambda lib: lib.novograd(1e-2, 0.8, 0.95, 1e-3, 1e-4, 0.1),
    "lamb": lambda lib: lib.lamb(1e-2),
    "lamb_positional": lambda lib: lib.lamb(1e-2, 0.8, 0.95, 1e-3, 1e-4, 0.1, {"kernel": True, "bias": False}),
    "adopt": lambda lib: contrib(lib).adopt(1e-2),
    "adopt_unclipped": lambda lib: contrib(lib).adopt(1e-2, 0.8, 0.95, 1e-3, nesterov=True, use_clipping=False),
    "adopt_clip_value_fn": lambda lib: contrib(lib).adopt(1e-2, clip_value_fn=lambda t: 0.1 * t + 0.2),
    "lion_smooth": lambda lib: optax.chain(lib.scale_by_lion(mode="smooth", smooth_beta=2.0), optax.scale(-0.1)),
    "lion_refined": lambda lib: optax.chain(lib.scale_by_lion(mode="refined"), optax.scale(-0.1)),
    "ademamix": lambda lib: contrib(lib).ademamix(1e-2),
    "ademamix_positional": lambda lib: contrib(lib).ademamix(1e-2, 0.8, 0.95, 0.99, 2.0, 1e-3, 1e-4, None, 0.1),
    "simplified_ademamix": lambda lib: contrib(lib).simplified_ademamix(1e-3, alpha=2.0, weight_decay=0.1),
    "schedule_free_adamw": lambda lib: contrib(lib).schedule_free_adamw(1e-2, weight_decay=0.1),
    "schedule_free_sgd": lambda lib: contrib(lib).schedule_free_sgd(1e-2),
    "scale_by_adam": lambda lib: lib.scale_by_adam(0.8, 0.95, 1e-3, 1e-4),
    "scale_by_adamax": lambda lib: lib.scale_by_adamax(0.8, 0.95, 1e-3),
}


def contrib(lib):
    return lib if lib is adamx else lib.contrib


def trajectory(opt, steps=60):
    """Parameters after each step, pulled by their own gradient and by noise."""
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.standard_normal((4, 3))), "bias": jnp.asarray(rng.standard_normal(3))}
    noise = {k: jnp.asarray(rng.standard_normal((steps, *v.shape))) for k, v in params.items()}

    def body(carry, e):
        params, state = carry
        grads = jax.tree.map(lambda p, e: 0.1 * p + e, params, e)
        updates, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jitted_in_float64(lambda params: jax.lax.scan(body, (params, opt.init(params)), noise)[1])(params)


# Where arguments stand, signatures say, too; a plain pair is in that of the same optimizer with a schedule or a mask.
LEFT_OUT = {"adam", "adamw", "adamw_callable_mask", "rmsprop", "adopt"} | {n for n in PAIRS if "positional" in n}


@pytest.mark.parametrize(
    "make", [pytest.param(make, marks=product if name in LEFT_OUT else (), id=name) for name, make in PAIRS.items()]
)
def test_float64_trajectories_agree_to_1e_12(make, x64, loose):
    ours, theirs = trajectory(make(adamx)), trajectory(make(optax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)


def distance(a, b):
    """How far two trajectories part, relative to how far they go."""
    a, b = (jnp.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves(t)], axis=1) for t in (a, b))
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a - a[:1])))


def test_adafactor_is_optaxs_but_for_its_decay_rate_in_float32(x64, loose):
    """Optax takes 1 - t^-.8 in float32 also for float64 leaves: 3e-8 off, and so is everything after. Ours is exact."""
    falling = optax.linear_schedule(1e-2, 1e-4, 60)
    for more in ({}, {"momentum": 0.9, "weight_decay_rate": 1e-3}):
        ours, theirs = (trajectory(lib.adafactor(falling, min_dim_size_to_factor=2, **more)) for lib in (adamx, optax))
        assert 1e-12 < distance(ours, theirs) < 1e-6, more  # the momentum is float32 in Optax, too


def test_the_estimates_are_optaxs_once_the_bias_is_corrected(x64, loose):
    """The official code does not correct it by default, and so neither do we; Optax always does."""
    for name, tolerance in (("prodigy", 1e-9), ("dadapt_adamw", 1e-9)):
        theirs = trajectory(getattr(optax.contrib, name)())
        make = getattr(adamx, name)
        assert distance(trajectory(make(bias_correction=True)), theirs) < tolerance, name
        assert distance(trajectory(make()), theirs) > 1e-3, name


def test_prodigy_safeguards_a_warm_up_as_optax_does(x64, loose):
    warm_up = optax.linear_schedule(0.1, 1.0, 60)
    arguments = dict(learning_rate=warm_up, estim_lr0=1e-3, safeguard_warmup=True)
    theirs = trajectory(optax.contrib.prodigy(**arguments))
    assert distance(trajectory(adamx.prodigy(**arguments, bias_correction=True)), theirs) < 1e-12
    assert distance(trajectory(optax.contrib.prodigy(warm_up, estim_lr0=1e-3)), theirs) > 1e-3


def test_schedule_free_keeps_z_in_a_dtype_of_its_own(x64, loose):
    """Float32 beside float64 weights, as in Optax, which rounds (1 - b1) z to it once more."""
    for name in ("schedule_free_adamw", "schedule_free_sgd"):
        ours, theirs = (
            getattr(contrib(lib), name)(1e-2, state_dtype=jnp.float32, weight_decay=0.1) for lib in (adamx, optax)
        )
        assert ours.init(jnp.ones(2)).slots.z.dtype == jnp.float32
        assert distance(trajectory(ours), trajectory(theirs)) < 2**-23, name


def test_schedule_free_averages_the_z_that_it_keeps(loose):
    """Read at any step, the average is that of all z so far, each rounded to bfloat16, to float32's rounding."""
    opt, y = adamx.schedule_free_sgd(0.1, state_dtype=jnp.bfloat16), jnp.linspace(1, 2, 64)
    state, step, kept = opt.init(y), jax.jit(opt.step), []
    for t in range(30):
        y, state = step(jnp.cos(t + 10 * y), state, y)
        assert state.slots.z.dtype == jnp.bfloat16
        kept.append(np.asarray(state.slots.z, np.float64))
    np.testing.assert_allclose(adamx.schedule_free_eval_params(state, y), np.mean(kept, axis=0), rtol=30 * 2**-24)


@pytest.mark.parametrize("reset_state", [False, True])
def test_lookahead_takes_the_fast_and_slow_weights_where_optaxs_does(reset_state, x64, loose):
    rng = np.random.default_rng(0)
    start, noise = jnp.asarray(rng.standard_normal(5)), jnp.asarray(rng.standard_normal((40, 5)))

    def weights(p):
        return (p.fast, p.slow) if isinstance(p, optax.LookaheadParams) else (p, None)

    def follow(opt, params, step):
        def body(carry, e):
            params, state = step(0.1 * weights(carry[0])[0] + e, carry[1], carry[0])
            fast, slow = weights(params)
            return (params, state), (fast, optax.tree.get(state, "slow") if slow is None else slow)

        return jax.jit(lambda p: jax.lax.scan(body, (p, opt.init(p)), noise)[1])(params)

    def by_update(opt):
        def step(grads, state, params):
            updates, state = opt.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        return step

    theirs = optax.lookahead(optax.adam(0.1), 6, 0.3, reset_state)
    wanted = follow(theirs, optax.LookaheadParams.init_synced(start), by_update(theirs))
    for fast in (optax.adam(0.1), adamx.adam(0.1)):
        opt = adamx.lookahead(fast, 6, 0.3, reset_state)
        got = [follow(opt, start, by_update(opt))]
        if isinstance(opt, adamx.Optimizer):
            got.append(follow(opt, start, opt.step))
        for a in got:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), a, wanted)


def test_optaxs_adan_takes_1_minus_b2_where_b2_is_meant(x64, loose):
    """Its .08 for .92 (optax#1715) is all there is to it, besides another eps; the official code agrees with us."""
    theirs = trajectory(optax.adan(1e-2))
    assert distance(trajectory(adamx.adan(1e-2, decay="decoupled")), theirs) > 1e-3
    assert distance(trajectory(adamx.optimizer(OptaxAdan(), 1e-2)), theirs) < 1e-10


class OptaxAdan(adamx.Rule):
    """Optax's rule: the change of the gradient weighs 1 - b2 = .08 where the paper looks ahead by b2 = .92."""

    slots = adamx.Adan.slots
    optax_slots = adamx.Adan.optax_slots

    def step(self, g, s, at):
        d = jnp.where(at.t == 1, 0, g - s.previous)
        mu, delta = 0.98 * s.mu + 0.02 * g, 0.92 * s.delta + 0.08 * d
        nu = 0.99 * s.nu + 0.01 * (g + 0.08 * d) ** 2
        ahead = mu / (1 - 0.98**at.t) + 0.08 * delta / (1 - 0.92**at.t)
        return ahead / (jnp.sqrt(nu / (1 - 0.99**at.t) + 1e-8) + 1e-8), type(s)(mu, delta, nu, g)


def test_optaxs_yogi_starts_the_mean_at_1e_6_too(x64, loose):
    """The paper starts it at 0. A zero gradient then moves weights in Optax."""
    zero = jnp.zeros(2)
    ours, theirs = adamx.yogi(1e-2), optax.yogi(1e-2)
    assert (ours.update(zero, ours.init(zero), zero)[0] == 0).all()
    assert (theirs.update(zero, theirs.init(zero), zero)[0] != 0).all()
    assert 1e-9 < distance(trajectory(ours), trajectory(theirs)) < 1e-2


def test_pytorchs_amsgrad_is_neither_of_optaxs(x64, loose):
    """PyTorch takes the maximum of the raw moment and corrects that (tests/test_presets.py follows it to 1e-10)."""
    pytorchs = trajectory(adamx.amsgrad(1e-2, max_of="raw"))
    for flag in (True, False):
        assert distance(trajectory(optax.amsgrad(1e-2, bias_correction_nu=flag)), pytorchs) > 1e-3


def test_optaxs_radam_rectifies_too_early_in_float32(loose):
    """At t=2 instead of 6 for b2=.9999, the steps in between being 100 times too short; ours are plain until t=6."""
    one = jnp.ones(1)
    steps = {}
    for lib in (adamx, optax):
        tx = lib.scale_by_radam(b2=0.9999)
        state, steps[lib] = tx.init(one), []
        for _ in range(6):
            u, state = tx.update(one, state)
            steps[lib].append(float(u[0]))
    np.testing.assert_allclose(steps[adamx][:5], 1.0, rtol=1e-6)
    assert max(steps[optax][1:5]) < 0.05
    assert steps[adamx][5] < 0.05


def test_optaxs_schedule_free_warm_up_lags_a_step_behind_its_weights(x64, loose):
    """optax#1744; ours takes the same step size in the step and in the weight, as the paper has it."""
    ours = trajectory(adamx.schedule_free_adamw(1e-2, warmup_steps=10))
    assert distance(ours, trajectory(optax.contrib.schedule_free_adamw(1e-2, warmup_steps=10))) > 1e-4


def test_optax_state_of_the_same_name_means_the_same(x64, loose):
    grads = jnp.asarray([1.0, -2.0])
    ours, theirs = (lib.scale_by_adam() for lib in (adamx, optax))
    _, a = ours.update(grads, ours.init(grads), grads)
    _, b = theirs.update(grads, theirs.init(grads), grads)
    for field in ("count", "mu", "nu"):
        np.testing.assert_allclose(optax.tree.get(a, field), optax.tree.get(b, field), rtol=1e-15)


def test_float16_zero_gradients_are_nan_in_optax_and_zero_here(loose):
    """Optax adds eps=1e-8 in float16, where it is 0, and divides 0 by it."""
    zero = jnp.zeros(2, jnp.float16)
    theirs, ours = optax.adam(1e-3), adamx.adam(1e-3)
    assert jnp.isnan(theirs.update(zero, theirs.init(zero), zero)[0]).all()
    assert (ours.update(zero, ours.init(zero), zero)[0] == 0).all()


def test_bfloat16_state_stalls_in_optax_and_is_float32_here(loose):
    """A step of b2=.999 moves nu by a tenth of a percent, less than half a bfloat16 spacing."""
    one = jnp.ones((), jnp.bfloat16)

    def nu_after(opt, steps=3_000):
        def body(state, _):
            return opt.update(one, state, one)[1], None

        state = jax.jit(lambda s: jax.lax.scan(body, s, length=steps)[0])(opt.init(one))
        return float(optax.tree.get(state, "nu"))

    exact = 1 - 0.999**3_000
    assert nu_after(optax.scale_by_adam()) < 0.6 * exact
    assert abs(nu_after(adamx.scale_by_adam()) / exact - 1) < 1e-5
