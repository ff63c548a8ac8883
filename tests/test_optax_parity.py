"""Where Optax's definition is the same, so are the numbers; where it differs, the difference is pinned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx

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
    "adamw_schedules": lambda lib: lib.adamw(
        optax.linear_schedule(1e-2, 1e-3, 50), weight_decay=optax.linear_schedule(0.1, 0.0, 50)
    ),
    "adamax": lambda lib: lib.adamax(1e-2),
    "adamax_positional": lambda lib: lib.adamax(1e-2, 0.8, 0.95, 1e-3),
    "adamaxw": lambda lib: lib.adamaxw(1e-2),
    "adamaxw_positional": lambda lib: lib.adamaxw(1e-2, 0.8, 0.95, 1e-3, 0.1, {"kernel": False, "bias": True}),
    "scale_by_adam": lambda lib: lib.scale_by_adam(0.8, 0.95, 1e-3, 1e-4),
    "scale_by_adamax": lambda lib: lib.scale_by_adamax(0.8, 0.95, 1e-3),
}


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

    return jax.jit(lambda params: jax.lax.scan(body, (params, opt.init(params)), noise)[1])(params)


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS.keys())
def test_float64_trajectories_agree_to_1e_12(make, x64, loose):
    ours, theirs = trajectory(make(adamx)), trajectory(make(optax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)


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
