r"""Weight decay: how far a weight shrinks besides the rule's step, as functions of one signature.

L2 is not among them: it is the gradient of a penalty, enters before the rule and therefore into its moments. The others
leave the moments alone (arXiv:1711.05101).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._annotations import Array, Scalar, ScalarOrSchedule

Decay: TypeAlias = Literal["decoupled", "independent", "cautious", "proximal", "after", "constant", "l2"]
"""The kinds of weight decay: those of `SHRINK`, and L2."""


class Strength(NamedTuple):
    """The numbers of a decay: λ, the step size α_t, and the largest step size of the run."""

    weight_decay: Scalar
    learning_rate: Scalar
    lr_max: Scalar


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


def after(p: Array, direction: Array, by: Strength) -> Array:
    r"""$\alpha_t\lambda (p - \alpha_t u_t)$: decoupled decay of the weight that the step leads to (SOAP)."""
    return decoupled(p - by.learning_rate * direction, direction, by)


def proximal(p: Array, direction: Array, by: Strength) -> Array:
    r"""What dividing $p - \alpha_t u_t$ by $1 + \alpha_t\lambda$ takes, an implicit step of the penalty (Adan)."""
    pull = by.learning_rate * by.weight_decay
    return pull / (1 + pull) * (p - by.learning_rate * direction)


def constant(p: Array, direction: Array, by: Strength) -> Array:
    r"""$\lambda p$ at every step, whatever the step size is and does (Chainer, Adafactor in Optax)."""
    del direction
    return by.weight_decay * p


SHRINK: Mapping[str, Callable[[Array, Array, Strength], Array]] = MappingProxyType(
    {f.__name__: f for f in (decoupled, independent, cautious, proximal, after, constant)}
)
"""Every kind of decay besides L2, by name."""


def largest_rate(learning_rate: ScalarOrSchedule, lr_max: Any) -> Any:
    """The largest step size of the run; a constant step size is its own largest."""
    if lr_max is None:
        if callable(learning_rate) or isinstance(learning_rate, Tracer):
            raise ValueError("decay='independent' measures the step size against its largest value: give lr_max=")
        lr_max = learning_rate
    if not isinstance(lr_max, Tracer) and not np.asarray(lr_max) > 0:
        raise ValueError(f"decay='independent' divides by the largest step size, {lr_max}: it should be positive")
    if isinstance(learning_rate, (int, float)) and isinstance(lr_max, (int, float)) and learning_rate > lr_max:
        raise ValueError(f"learning_rate = {learning_rate} exceeds lr_max = {lr_max}")
    return lr_max
