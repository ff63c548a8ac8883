"""Abstract and section 1: what Adam is said to be good for, and what introductions to it say."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import adamx

from ..claims import Claim
from .running import Found, directions, evidence, trajectory, verdict


def algorithm_1(g: np.ndarray, m: np.ndarray, v: np.ndarray, t: int, b1: float, b2: float, eps: float) -> Any:
    """The paper's box, in NumPy."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / (1 - b1**t)
    v_hat = v / (1 - b2**t)
    return m_hat / (np.sqrt(v_hat) + eps), m, v


def implementation(quick: bool) -> Found:
    """The box, the state, the arithmetic."""
    del quick
    grads = np.random.default_rng(0).standard_normal((300, 8)) * 10.0 ** np.linspace(-9, 3, 8)
    m = v = np.zeros(8)
    box = []
    for t, g in enumerate(grads, start=1):
        u, m, v = algorithm_1(g, m, v, t, 0.9, 0.999, 1e-8)
        box.append(u)
    off = float(np.abs(directions(adamx.scale_by_adam(), grads) - np.array(box)).max())
    lines = len(inspect.getsource(algorithm_1).splitlines()) - 2
    params = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    of = {
        "Adam": adamx.adam(1e-3),
        "AdaMax": adamx.adamax(1e-3),
        "AMSGrad": adamx.amsgrad(1e-3),
        "AdaGrad": adamx.adagrad(1e-3),
    }
    numbers = {name: adamx.state_bytes(opt, params).per_parameter / 4 for name, opt in of.items()}
    operations = _operations(1024 * 1024)
    return Found(
        [
            Claim(
                "abstract",
                "Straightforward to implement",
                evidence(),
                verdict(off < 1e-11 and lines <= 10),
                f"{lines} lines of NumPy",
                f"They are adamx to {off:.0e}, over 300 steps of gradients from 10⁻⁹ to 10³.",
            ),
            Claim(
                "abstract",
                "Needs little memory",
                evidence(),
                verdict(numbers["Adam"] < 2.1),
                f"{numbers['Adam']:.1f} numbers for each parameter",
                "Of the others: " + ", ".join(f"{name} {n:.1f}" for name, n in numbers.items() if name != "Adam") + ".",
            ),
            Claim(
                "abstract",
                "Computationally efficient",
                evidence() + ", `python -m benchmarks.step_time --full`",
                verdict(operations < 30),
                f"{operations:.0f} floating-point operations for each parameter",
                "The gradient of a minibatch of n takes 6 n in a matrix; in time a step is 28 bytes of memory traffic.",
            ),
        ],
        {},
    )


def _operations(size: int) -> float:
    """Floating-point operations of a step for each parameter, as XLA counts them."""
    opt, leaf = adamx.adam(1e-3, kernel="xla"), jax.ShapeDtypeStruct((size,), jnp.float32)
    compiled = jax.jit(opt.step).lower(leaf, jax.eval_shape(opt.init, leaf), leaf).compile()
    costs = compiled.cost_analysis()
    return float(costs["flops"]) / size if costs else float("nan")


def introductions(quick: bool) -> Found:
    """The window of the second moment, and what introductions say."""
    del quick
    doubled = np.repeat([1.0, 2.0], 20_000)[:, None]
    windows = {}
    for b2 in (0.9, 0.99, 0.999):
        u = directions(adamx.scale_by_adam(0.0, b2, eps=0.0), doubled)[20_000:, 0]
        windows[b2] = int(np.argmax(4 / u**2 - 1 >= 3 * (1 - np.exp(-1)))) + 1
    past = np.random.default_rng(0).standard_normal((50, 4))
    signs = np.where(np.arange(50) % 2 == 0, 1.0, -1.0)[:, None]
    signs[-1] = 1.0
    flips = float(
        np.abs(directions(adamx.scale_by_rms(), past * signs)[-1] - directions(adamx.scale_by_rms(), past)[-1]).max()
    )
    mean = float(np.abs((past * signs).mean(0) - past.mean(0)).max())
    small = {eps: float(directions(adamx.scale_by_adam(eps=eps), np.full(1, 1e-7))[0]) for eps in (1e-8, 1e-7)}
    large = float(directions(adamx.scale_by_adam(eps=1.0), np.full(1, 1e-3))[0])
    path = trajectory(adamx.adam(0.1, eps=0.0), lambda x, t: jnp.zeros_like(x), np.ones(3), 5)
    return Found(
        [
            Claim(
                "abstract",
                "The hyperparameters are intuitive: β₂ remembers about 1/(1−β₂) gradients",
                evidence(),
                verdict(all(abs(n * (1 - b2) - 1) < 0.2 for b2, n in windows.items())),
                ", ".join(f"{n} steps at β₂ = {b2:g}" for b2, n in windows.items()),
                "So long v̂ takes to follow a jump of the gradients, to 1−1/e of it.",
            ),
            Claim(
                "introductions",
                "RMSProp adapts to the average of the first moment, the mean of the gradient",
                evidence(),
                verdict(flips > 1e-3),
                f"{flips:g} α of change where past gradients have other signs",
                f"Their mean changes by {mean:.2f}: it adapts to the mean of the square.",
            ),
            Claim(
                "introductions",
                "ε is only there to prevent a division by zero",
                evidence(),
                verdict(small[1e-8] > 0.99 and large > 0.99, "holds with a correction"),
                f"{small[1e-8]:.2f} α is the step of a gradient 10⁻⁷ with ε = 1e-8",
                f"It damps the steps of small gradients, too: with ε = 1 that of 10⁻³ is {large:.3f} α. ε = 0 divides "
                f"nothing by zero here ({np.abs(path - 1).max():g} α for zero gradients).",
            ),
            Claim(
                "introductions",
                "The default is ε = 10E-8",
                evidence(),
                verdict(10e-8 == 1e-8),
                "10E-8 is 1e-7, the paper's 1e-8",
                f"A gradient 10⁻⁷ makes a first step of {small[1e-7]:.2f} α with the one, {small[1e-8]:.2f} α with the "
                "other.",
            ),
        ],
        {},
    )
