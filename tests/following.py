"""Two optimizers given the same gradients, and how far apart they come."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import jitted_in_float64

STEPS = 100
PRECISION = 1e-10


def start():
    """Weights of either sign and of no size; a leaf that starts at 0 shows the smallest of steps."""
    rng = np.random.default_rng(1)
    return {"scalar": np.array(0.7), "vector": np.zeros(3), "matrix": rng.standard_normal((4, 5))}


def stream():
    """Gradients of 1e-9 to 1e3, each element of its own scale, one in five 0; some from the start, one for ever."""
    rng = np.random.default_rng(2)

    def draw(p):
        scale = 10 ** rng.uniform(-9, 3, p.shape)
        g = rng.standard_normal((STEPS, *p.shape)) * scale * rng.choice([0.0, 1.0], (STEPS, *p.shape), p=[0.2, 0.8])
        if p.ndim == 2:
            g[:, 0, 0] = 0.0
            g[:10, 1, 1] = 0.0
            g[:, 2, 2] = 10 ** np.linspace(-9, 3, STEPS)
        return g

    return {name: draw(p) for name, p in start().items()}


def follow(opt):
    """Weights after each step of adamx."""
    params, grads = jax.tree.map(jnp.asarray, (start(), stream()))

    def body(carry, g):
        params, state = opt.step(g, carry[1], carry[0])
        return (params, state), params

    return jitted_in_float64(lambda p: jax.lax.scan(body, (p, opt.init(p)), grads)[1])(params)


def deviation(ours, theirs):
    """The largest distance of two trajectories, element by element in units of how far that element has come.

    Allowed for is what adding steps to a weight rounds away: half a spacing of the weight, at each step and in each of
    the two. A weight that starts at 0 is hardly allowed any.
    """
    worst = 0.0
    for name, p in start().items():
        a, b = np.asarray(ours[name]), np.asarray(theirs[name])
        assert np.isfinite(b).all()
        come = np.maximum.accumulate(np.abs(b - p))
        steps = np.arange(1, STEPS + 1).reshape(-1, *[1] * p.ndim)
        rounding = steps * np.spacing(np.maximum(np.abs(p), np.maximum.accumulate(np.abs(b))))
        beyond = np.maximum(np.abs(a - b) - rounding, 0)
        assert (beyond[come == 0] == 0).all()
        worst = max(worst, (beyond[come > 0] / come[come > 0]).max())
    return worst


def assert_follows(ours, theirs):
    assert deviation(ours, theirs) <= PRECISION
