"""Every rule against its paper's box in extended precision (tests/reference), free-running."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._math import bias_correction
from tests import reference
from tests.helpers import hostile, ulp

CASES = {
    "adam": (adamx.Adam(), reference.adam),
    "adam_b2_.99999": (adamx.Adam(b2=0.99999), functools.partial(reference.adam, b2=0.99999)),
    "adam_b1_0": (adamx.Adam(b1=0.0), functools.partial(reference.adam, b1=0.0)),
    "adam_eps_root": (adamx.Adam(eps_root=1e-3), functools.partial(reference.adam, eps_root=1e-3)),
    "adam_no_eps": (adamx.Adam(eps=0.0), functools.partial(reference.adam, eps=0.0)),
    "adam_nesterov": (adamx.Adam(nesterov=True), functools.partial(reference.adam, nesterov=True)),
    "adam_eps_hat": (adamx.Adam(eps=1e-4, eps_hat=True), functools.partial(reference.adam, eps=1e-4, eps_hat=True)),
    "adam_eps_hat_root": (
        adamx.Adam(eps_root=1e-4, eps_hat=True, nesterov=True),
        functools.partial(reference.adam, eps_root=1e-4, eps_hat=True, nesterov=True),
    ),
    "adam_biased": (adamx.Adam(bias_correction=False), functools.partial(reference.adam, bias=False)),
    "adam_biased_nesterov": (
        adamx.Adam(bias_correction=False, nesterov=True),
        functools.partial(reference.adam, bias=False, nesterov=True),
    ),
    "adamax": (adamx.AdaMax(), functools.partial(reference.adamax, eps=1e-8)),
    "adamax_as_printed": (adamx.AdaMax(eps=0.0), reference.adamax),
}
every_case = pytest.mark.parametrize(("rule", "box"), CASES.values(), ids=CASES.keys())


def directions(rule, grads):
    tx = adamx.scale_by(rule)

    def body(state, g):
        u, state = tx.update(g, state)
        return state, u

    return jax.jit(lambda grads: jax.lax.scan(body, tx.init(grads[0]), grads)[1])(grads)


def worst(got, wanted):
    """The largest error of a step relative to the largest direction so far of the same coordinate.

    Relative to the coordinate and not to the step: where an alternating gradient makes the mean cross zero, the
    step is a difference of large numbers, and its own size says nothing about rounding.
    """
    wanted = np.asarray(wanted)
    scale = np.maximum.accumulate(np.abs(wanted), axis=0)
    return float(np.max(np.abs(got - wanted) / np.where(scale == 0, 1, scale)))


@every_case
def test_float64_follows_the_box_through_hostile_gradients_to_1e_12(rule, box, x64):
    grads = hostile((7, 5), steps=300)
    got = np.asarray(directions(rule, jnp.asarray(grads)))
    assert worst(got, list(box(grads))) <= 1e-12


@every_case
def test_float64_follows_the_box_on_complex_leaves_to_1e_12(rule, box, x64):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((300, 5)) + 1j * rng.standard_normal((300, 5))
    got = np.asarray(directions(rule, jnp.asarray(grads)))
    assert worst(got, list(box(grads))) <= 1e-12


@every_case
def test_float32_follows_the_box_within_rounding(rule, box):
    """20 roundings: an average forgets its own, and holds about sqrt(1 / (1 - b)) of those it has not forgotten."""
    grads = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    got = np.asarray(directions(rule, jnp.asarray(grads)), np.float64)
    assert worst(got, list(box(grads))) <= 20 * ulp(jnp.float32)


@pytest.mark.parametrize(("b2", "bound"), [(0.99, 1e-6), (0.999, 1e-6), (0.9999, 3e-6), (0.99999, 3e-6)])
def test_float32_is_exact_to_rounding_over_ten_thousand_steps(b2, bound):
    """Optax at its best is 7e-6 off at b2=.999 and 7e-4 at .99999 (`python -m benchmarks.exactness`)."""
    grads = np.random.default_rng(0).standard_normal((10_000, 64)).astype(np.float32)
    got = np.asarray(directions(adamx.Adam(b2=b2), jnp.asarray(grads)), np.float64)
    wanted = np.asarray(list(reference.adam(grads, b2=b2)))
    for t in (1, 10, 100, 1_000, 10_000):
        error = np.linalg.norm(got[t - 1] - wanted[t - 1]) / np.linalg.norm(wanted[t - 1])
        assert error <= bound, t


@pytest.mark.parametrize("b2", [0.99, 0.999, 0.9999, 0.99999])
def test_constant_gradients_stay_within_what_float32_storage_can_hold(b2):
    grads = np.full((10_000, 4), [1.0, -0.3, 1e-6, 1e6], np.float32)
    got = np.asarray(directions(adamx.Adam(b2=b2), jnp.asarray(grads)), np.float64)
    assert worst(got, list(reference.adam(grads, b2=b2))) <= 1e-5


@pytest.mark.parametrize("b", [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999])
def test_bias_correction_is_within_2e_7(b):
    t = np.unique(np.round(np.logspace(0, 6, 20_000)))
    exact = -np.expm1(t * np.log(b))
    got = np.asarray(jax.jit(lambda t: bias_correction(b, t))(jnp.asarray(t, jnp.float32)), np.float64)
    assert np.max(np.abs(got / exact - 1)) <= 2e-7
    rounded = np.float32(b)
    exact = -np.expm1(t * np.log(np.float64(rounded)))
    got = np.asarray(jax.jit(bias_correction)(rounded, jnp.asarray(t, jnp.float32)), np.float64)
    assert np.max(np.abs(got / exact - 1)) <= 2 * 2e-7  # the logarithm is taken in float32, too
