"""The optimizers of the paper's first three figures, and grids of step sizes.

Adam is this library's, its peers are Optax's, each as its paper has it: AdaGrad's sum of squares begins at 0 rather
than at Optax's .1, which would drown the small gradients of rare words; RMSProp's ε stands beside the root; AdaDelta
has ρ = .95 and ε = 1e-6 (arXiv:1212.5701), and the step size 1 that its paper does without is one of its grid.
"""

from collections.abc import Callable

import jax
import optax

import adamx

MakeScheduled = Callable[[float | jax.Array | optax.Schedule], optax.GradientTransformation]
"""From a step size, or a schedule of them, to an optimizer."""

MOMENTUM = 0.9

# kernel="xla": the step of a whole grid is one `vmap`ped loop, which the compiler fuses with what surrounds it.
OPTIMIZERS: dict[str, MakeScheduled] = {
    "Adam": lambda rate: adamx.adam(rate, kernel="xla"),
    # Optax's ε stands inside the root: this is 1e-8 beside it.
    "AdaGrad": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-16),
    "RMSProp": lambda rate: optax.rmsprop(rate, decay=0.9, eps=1e-8, eps_in_sqrt=False),
    "SGD + Nesterov": lambda rate: optax.sgd(rate, momentum=MOMENTUM, nesterov=True),
    "AdaDelta": lambda rate: optax.adadelta(rate, rho=0.95, eps=1e-6),
}
"""The optimizers by name."""

SETTINGS = {
    "Adam": "b1 .9, b2 .999, eps 1e-8",
    "AdaGrad": "accumulator from 0, eps 1e-8",
    "RMSProp": "decay .9, eps 1e-8",
    "SGD + Nesterov": f"momentum {MOMENTUM}",
    "AdaDelta": "rho .95, eps 1e-6",
}
"""What is not searched."""


def half_decades(low: float, high: float) -> tuple[float, ...]:
    """1, 3, 10, … times a power of ten, from `low` to `high`, both included.

    >>> half_decades(1e-3, 0.1)
    (0.001, 0.003, 0.01, 0.03, 0.1)
    """
    steps = (float(f"{digit}e{power}") for power in range(-8, 8) for digit in (1, 3))
    return tuple(step for step in steps if low <= step <= high)
