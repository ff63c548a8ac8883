r"""Weight decay: how far a weight shrinks besides the rule's step, as functions of one signature.

`l2` is not among them: it is the gradient of a penalty, enters before the rule and therefore into its moments.
The others leave the moments alone (arXiv:1711.05101).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp

from ._typing import Array, Scalar


class Strength(NamedTuple):
    """The numbers of a decay: λ, the step size α_t, and the largest step size of the run."""

    weight_decay: Scalar
    learning_rate: Scalar
    lr_max: Scalar


def l2(g: Array, p: Array, weight_decay: Scalar) -> Array:
    r"""$g + \lambda p$: the gradient of $\frac{\lambda}{2}|p|^2$ added to `g`."""
    return g + weight_decay * p


def decoupled(p: Array, direction: Array, by: Strength) -> Array:
    r"""$\alpha_t \lambda p$: proportional to the step size, as in PyTorch and Optax."""
    del direction
    return by.learning_rate * (by.weight_decay * p)


def independent(p: Array, direction: Array, by: Strength) -> Array:
    r"""$\lambda p\,\alpha_t / \alpha_{\max}$: follows the schedule but not the size of the step size."""
    del direction
    return (by.learning_rate / by.lr_max) * (by.weight_decay * p)


def cautious(p: Array, direction: Array, by: Strength) -> Array:
    r"""$\alpha_t \lambda p$ where the rule's step shrinks the weight, too, and 0 elsewhere (arXiv:2510.12402)."""
    agrees = (direction * p.conj()).real >= 0
    return jnp.where(agrees, decoupled(p, direction, by), 0)


SHRINK: Mapping[str, Callable[[Array, Array, Strength], Array]] = MappingProxyType(
    {"decoupled": decoupled, "independent": independent, "cautious": cautious}
)
