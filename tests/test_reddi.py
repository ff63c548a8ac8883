"""The counterexamples of arXiv:1904.09237: where Adam ends at the wrong end of [-1, 1], and what ends at the right one.

Iterates are projected onto [-1, 1] after each step; the step size is .5 / sqrt(t). Slopes come from tests/reference.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from tests.reference import reddi

RATE = adamx.schedules.inverse_sqrt(0.5)
PAPERS_AMSGRAD = {"bias_correction_mu": False, "bias_correction_nu": False}


def last_iterate(opt, slopes):
    """Where `opt` is after it has seen every slope, from 0."""

    def body(carry, slope):
        x, state = opt.step(slope, carry[1], carry[0])
        return (jnp.clip(x, -1, 1), state), None

    start = jnp.zeros(())
    return float(jax.jit(lambda s: jax.lax.scan(body, (start, opt.init(start)), s)[0][0])(jnp.asarray(slopes)))


@pytest.fixture(scope="module")
def example_a():
    """5 every third step, else -1: the sum of the functions slopes up, its minimum is at -1."""
    return reddi.example_a(300_000, c=5)


@pytest.fixture(scope="module")
def example_b():
    """1010 every 101st step, else -10."""
    return reddi.example_b(300_000)


A = {"b1": 0.0, "b2": 1 / (1 + 5**2)}
B = {"b1": 0.9, "b2": 0.99}


def test_a_adam_ends_at_the_wrong_end(example_a, x64):
    assert last_iterate(adamx.adam(RATE, **A), example_a) > 0.999


@pytest.mark.parametrize(
    "opt",
    [
        adamx.amsgrad(RATE, **A, **PAPERS_AMSGRAD),
        adamx.amsgrad(RATE, **A, max_of="raw"),
        adamx.adamx(RATE, **A),
        adamx.adopt(RATE, **A),
    ],
    ids=["amsgrad", "amsgrad_pytorch", "adamx", "adopt"],
)
def test_a_its_repairs_end_at_the_right_end(opt, example_a, x64):
    assert last_iterate(opt, example_a) < -0.995


def test_a_a_larger_b2_is_enough_here(example_a, x64):
    """Zhang et al., arXiv:2208.09632: Adam converges if b2 is large enough for the problem."""
    assert last_iterate(adamx.adam(RATE, b1=0.9, b2=0.999), example_a) < -0.995


def test_b_adam_ends_at_the_wrong_end(example_b, x64):
    assert last_iterate(adamx.adam(RATE, **B), example_b) > 0.99


@pytest.mark.parametrize(
    "opt",
    [
        adamx.amsgrad(RATE, **B, **PAPERS_AMSGRAD),
        adamx.amsgrad(RATE, **B, max_of="raw"),
        adamx.adamx(RATE, **B),
        adamx.adopt(RATE, **B),
    ],
    ids=["amsgrad", "amsgrad_pytorch", "adamx", "adopt"],
)
def test_b_its_repairs_end_at_the_right_end(opt, example_b, x64):
    assert last_iterate(opt, example_b) < -0.99


def test_c_adam_ends_at_the_wrong_end_and_amsgrad_well_below(x64):
    """Slope 1010 with probability .01, else -10: .2 in the mean. AMSGrad takes about 6 million steps to get to -1."""
    slopes = reddi.example_c(1_000_000, np.random.default_rng(0))
    adam = last_iterate(adamx.adam(RATE, **B), slopes)
    assert adam > 0.99
    assert last_iterate(adamx.amsgrad(RATE, **B, **PAPERS_AMSGRAD), slopes) < adam - 0.5
