"""A run that moves between Optax, PyTorch and adamx goes on as if it had stayed."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import adamx
from tests.helpers import jitted_in_float64, product
from tests.test_optax_parity import PAIRS, OptaxAdan

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
STATES = """adam_schedule amsgrad adabelief_positional adagrad adadelta lion novograd adopt_clip_value_fn ademamix
    simplified_ademamix schedule_free_adamw schedule_free_sgd prodigy dadapt_adamw adan adafactor rmsprop_centered""".split()
"""One run for each kind of state; others differ by the rule that reads it."""


def run(opt, params, state, noise):
    """Parameters and states after each step."""

    def body(carry, e):
        params, state = carry
        grads = jax.tree.map(lambda p, e: 0.1 * p + e, params, e)
        updates, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    return jax.lax.scan(body, (params, state), noise)[1]


UNCOUNTED = ("adagrad", "adadelta", "rmsprop", "adagrad_positional", "adadelta_positional", "rmsprop_positional")
UNCOUNTED += ("rmsprop_centered",)
CENTERED = ("rmsprop_positional", "rmsprop_centered", "stddev_corrected")
"""Adamx keeps the variance."""
FLOAT32 = {"adafactor": 1e-6, "adafactor_whole": 1e-6}
"""Optax takes the decay rate and the momentum of Adafactor in float32, also for float64 weights."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in STATES else product) for n in RUNS])
def test_a_run_of_optax_goes_on_from_steps_1_7_and_50(name, x64, loose):
    tx, opt = RUNS[name](optax), RUNS[name](adamx)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.standard_normal((4, 3))), "bias": jnp.asarray(rng.standard_normal(3))}
    noise = {k: jnp.asarray(rng.standard_normal((60, *v.shape))) for k, v in params.items()}
    stayed = jitted_in_float64(lambda p: run(tx, p, tx.init(p), noise))(params)
    begun = []
    for t in (1, 7, 50):
        p, theirs = jax.tree.map(lambda x: x[t - 1], stayed)
        ours = adamx.from_optax(opt, theirs, p, **{"count": t} if name in UNCOUNTED else {})
        begun.append((p, ours, jax.tree.map(lambda x: x[t : t + 10], noise)))
        back, digits = adamx.to_optax(opt, ours, tx, p), 2**-52 if name in CENTERED else 0
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=digits), back, theirs)
    both = jax.tree.map(lambda *xs: jnp.stack(xs), *begun)
    moved, _ = jitted_in_float64(lambda begun: jax.lax.map(lambda x: run(opt, *x), begun))(both)
    for i, t in enumerate((1, 7, 50)):
        for k in params:
            tolerance = FLOAT32.get(name, 1e-12 if name != "adan" else 1e-10)
            np.testing.assert_allclose(moved[k][i], stayed[0][k][t : t + 10], rtol=tolerance, atol=tolerance)
