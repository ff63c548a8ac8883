"""What holds for all gradients: invariance to their scale, and how long a step can be."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
from hypothesis import given

import adamx
from tests.helpers import directions, ulp

NORMAL = st.floats(2**-20, 2**20, width=32) | st.floats(-(2**20), -(2**-20), width=32) | st.just(0.0)
STREAMS = hnp.arrays(np.float32, (12, 3), elements=NORMAL)
BETAS = st.tuples(st.sampled_from([0.0, 0.5, 0.9, 0.95]), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
RULES = {"adam": adamx.Adam(eps=0.0), "nesterov": adamx.Adam(eps=0.0, nesterov=True), "adamax": adamx.AdaMax(eps=0.0)}


@given(grads=STREAMS, power=st.integers(-20, 20), rule=st.sampled_from(sorted(RULES)))
def test_scaling_gradients_by_a_power_of_two_changes_no_bit(grads, power, rule):
    plain = directions(RULES[rule], jnp.asarray(grads))
    scaled = directions(RULES[rule], jnp.asarray(grads * np.float32(2.0**power)))
    np.testing.assert_array_equal(plain, scaled)


@given(grads=STREAMS, powers=hnp.arrays(np.int32, 3, elements=st.integers(-20, 20)))
def test_scaling_each_coordinate_by_its_own_power_of_two_changes_no_bit(grads, powers):
    plain = directions(RULES["adam"], jnp.asarray(grads))
    scaled = directions(RULES["adam"], jnp.asarray(grads * np.float32(2.0) ** powers))
    np.testing.assert_array_equal(plain, scaled)


def exact_bound(b1, b2, t):
    """The supremum of |m_hat| / sqrt(v_hat) over all gradient sequences, by Cauchy-Schwarz."""
    k = np.arange(t)
    series = np.sum((b1**2 / b2) ** k)
    return np.sqrt(1 - b2**t) / (1 - b1**t) * (1 - b1) / np.sqrt(1 - b2) * np.sqrt(series)


def paper_bound(b1, b2):
    """Section 2.1 of arXiv:1412.6980, as printed."""
    return max(1.0, (1 - b1) / np.sqrt(1 - b2))


@given(grads=STREAMS, betas=BETAS)
def test_no_step_exceeds_the_exact_bound(grads, betas):
    b1, b2 = betas
    steps = np.abs(directions(adamx.Adam(b1=b1, b2=b2, eps=0.0), jnp.asarray(grads)))
    bounds = np.array([exact_bound(b1, b2, t) for t in range(1, len(grads) + 1)])
    assert (steps <= bounds[:, None] * (1 + 16 * ulp(jnp.float32))).all()


def test_the_papers_bound_is_exceeded_and_the_exact_one_attained(x64):
    """Gradients that grow by b2 / b1 a step: the paper promises at most 3.16 step sizes at (.9, .999)."""
    b1, b2, t = 0.9, 0.999, 2_000
    grads = (b2 / b1) ** (np.arange(t) - t + 1.0)
    last = float(directions(adamx.Adam(b1=b1, b2=b2, eps=0.0), jnp.asarray(grads))[-1])
    assert last > 2 * paper_bound(b1, b2)
    np.testing.assert_allclose(last, exact_bound(b1, b2, t), rtol=1e-10)


def test_the_papers_bound_for_balanced_betas_is_exceeded_too(x64):
    """(.9, .99) fulfils 1 - b1 = sqrt(1 - b2), for which the paper promises steps below 1 step size."""
    grads = 1.1 ** np.arange(1_000.0)
    assert float(directions(adamx.Adam(b1=0.9, b2=0.99, eps=0.0), jnp.asarray(grads))[-1]) > 2.3


def test_adamax_steps_exceed_the_papers_bound_slightly(x64):
    """Gradients that fade by b2 a step keep the maximum alive; the paper promises |step| <= 1."""
    grads = 0.99 ** np.arange(300.0)
    last = float(directions(adamx.AdaMax(b1=0.9, b2=0.99, eps=0.0), jnp.asarray(grads))[-1])
    np.testing.assert_allclose(last, 1.1, rtol=1e-10)
