r"""Step-size and decay-rate schedules of the paper that Optax does not name.

A schedule maps the number of finished steps (int32, from 0) to a value, as Optax's do, and may stand for any
hyperparameter. A decay rate that follows a schedule is corrected for bias by $1 - \prod_i \beta_{1,i}$, not by
$1 - \beta_{1,t}^t$.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from ._annotations import Above, Array, Interval, Scalar, Schedule
from ._math import log_beta
from ._rule import refuse_traced, validate_value

__all__ = ["ademamix_alpha", "ademamix_b3", "decayed_beta", "inverse_sqrt", "live", "relative_step"]


def inverse_sqrt(alpha: float, every: int = 1) -> Schedule:
    r"""$\alpha/\sqrt{t}$, the step size of the paper's regret bound and of its logistic regression.

    Args:
        alpha: the first step size, $\alpha$.
        every: steps that share one `t`: 1 for a decay per step, the steps per epoch for one per epoch.

    Returns:
        A schedule: a function from the number of finished steps, from 0, to the step size.

    Raises:
        ValueError: `alpha` negative, or `every` not a positive whole number.

    Reference: Kingma & Ba, arXiv:1412.6980, section 4 and section 6.1.

    Examples:
        >>> import adamx
        >>> lr = adamx.schedules.inverse_sqrt(0.5, every=10)
        >>> float(lr(0)), float(lr(9)), float(lr(30))
        (0.5, 0.5, 0.25)
    """
    validate_value("alpha", alpha, Interval(0.0, float("inf")))
    _check_steps("every", every)

    def schedule(count: Array) -> Array:
        t = jnp.asarray(count) // int(every) + 1
        return alpha / jnp.sqrt(t.astype(float))

    return schedule


def decayed_beta(b1: float, decay: float) -> Schedule:
    r"""$\beta_{1,t} = \beta_1 \lambda^{t-1}$, the decaying momentum of the paper's Theorem 4.1.

    Args:
        b1: the first decay rate, $\beta_1$.
        decay: $\lambda$, in (0, 1]; the paper suggests 1 - 1e-8.

    Returns:
        A schedule: a function from the number of finished steps, from 0, to the decay rate.

    Raises:
        ValueError: `b1` outside [0, 1), or `decay` outside (0, 1].

    Reference: Kingma & Ba, arXiv:1412.6980, section 4.

    Examples:
        >>> import adamx
        >>> opt = adamx.adam(1e-3, b1=adamx.schedules.decayed_beta(0.9, decay=0.5))
        >>> round(float(adamx.schedules.decayed_beta(0.8, decay=0.5)(1)), 6)
        0.4
    """
    refuse_traced("b1", b1)
    refuse_traced("b1_decay", decay)
    validate_value("b1", b1, Interval(0.0, 1.0))
    validate_value("decay", decay, Above(0.0, float("inf")))
    if decay > 1:
        raise ValueError(f"decay = {decay} is outside (0, 1]")

    def schedule(count: Array) -> Array:
        return b1 * jnp.exp(jnp.asarray(count).astype(float) * log_beta(decay))

    return schedule


def relative_step(largest: float = 1e-2) -> Schedule:
    r"""$\min(\rho, 1/\sqrt t)$, Adafactor's step size in units of the weights.

    Args:
        largest: $\rho$, the largest step size.

    Returns:
        A schedule: a function from the number of finished steps, from 0, to the step size.

    Raises:
        ValueError: `largest` negative.

    Reference: Shazeer & Stern, arXiv:1804.04235, Algorithm 4.

    Examples:
        >>> import adamx
        >>> float(adamx.schedules.relative_step(0.5)(15))
        0.25
    """
    validate_value("largest", largest, Interval(0.0, float("inf")))
    decaying = inverse_sqrt(1.0)
    return lambda count: jnp.minimum(largest, decaying(count))


def ademamix_alpha(alpha: float, steps: int) -> Schedule:
    r"""$\min(\alpha t/T, \alpha)$, the warm-up of the weight of AdEMAMix's slow mean.

    Args:
        alpha: the final weight.
        steps: $T$, the length of the warm-up; the whole run in the paper.

    Returns:
        A schedule: a function from the number of finished steps, from 0, to the weight.

    Raises:
        ValueError: `alpha` negative, or `steps` not a positive whole number.

    Reference: Pagliardini, Ablin & Grangier, arXiv:2409.03137, section 3.

    Examples:
        >>> import adamx
        >>> float(adamx.schedules.ademamix_alpha(8.0, steps=4)(1))
        4.0
    """
    validate_value("alpha", alpha, Interval(0.0, float("inf")))
    _check_steps("steps", steps)
    return lambda count: alpha * jnp.minimum(1.0, (jnp.asarray(count).astype(float) + 1) / steps)


def ademamix_b3(b3: float, b1: float, steps: int) -> Schedule:
    r"""From $\beta_1$ to $\beta_3$, linearly in the half-life of the average, for AdEMAMix's slow mean.

    With $f(\beta) = \log(.5)/\log\beta - 1$: $\beta_3(t) = f^{-1}\big((1-t/T) f(\beta_1) + (t/T) f(\beta_3)\big)$.

    Args:
        b3: the final decay rate.
        b1: the decay rate to start from.
        steps: $T$, the length of the warm-up; the whole run in the paper.

    Returns:
        A schedule: a function from the number of finished steps, from 0, to the decay rate.

    Raises:
        ValueError: a decay rate outside (0, 1), or `steps` not a positive whole number.

    Reference: Pagliardini, Ablin & Grangier, arXiv:2409.03137, section 3.

    Examples:
        >>> import adamx
        >>> round(float(adamx.schedules.ademamix_b3(0.9999, b1=0.9, steps=1000)(999)), 6)
        0.9999
    """
    for name, b in (("b3", b3), ("b1", b1)):
        validate_value(name, b, Above(0.0, 1.0))
    _check_steps("steps", steps)
    first, last = (1 / log_beta(b) for b in (b1, b3))  # f and its inverse cancel but for this

    def schedule(count: Array) -> Array:
        share = jnp.minimum(1.0, (jnp.asarray(count).astype(float) + 1) / steps)
        return jnp.exp(1 / ((1 - share) * first + share * last))

    return schedule


def _check_steps(name: str, steps: int) -> None:
    if isinstance(steps, bool) or not math.isfinite(steps) or steps != int(steps) or steps < 1:
        raise ValueError(f"{name} = {steps} should be a positive whole number of steps")


class Live:
    """A schedule whose value is a number in the state of the optimizer that evaluates it; see `live`."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Scalar) -> None:
        self.name, self.value = name, value

    def __call__(self, count: Any = None) -> Array:
        """The number in the state of the optimizer."""
        del count
        read = _reader.get()
        if read is None:
            raise LookupError(
                f"{self!r} has its value in an optimizer's state: read it with `adamx.hyperparameters(opt, state)`. "
                "It is in place of optax.inject_hyperparams: leave that out"
            )
        return read(self)

    def __repr__(self) -> str:
        """`live('learning_rate', 0.001)`."""
        return f"live({self.name!r}, {self.value!r})"


_reader: ContextVar[Callable[[Live], Array] | None] = ContextVar("reader", default=None)


def reading(numbers: Any) -> AbstractContextManager[None]:
    """A context in which live numbers have these values, by name; () if there are none.

    Raises:
        ValueError: inside, of a schedule that reads another.
    """

    def read(number: Live) -> Array:
        if number.name not in numbers:
            raise ValueError(f"the state keeps no {number!r}: `adamx.regroup(opt, state, params)` puts it there")
        return numbers[number.name]

    return _read_by(read)


def first_values(schedules: Iterable[Schedule]) -> Any:
    """The first values of the live numbers that the schedules read, by name; () if there are none.

    Raises:
        ValueError: two of one name differ.
    """
    found: dict[str, Live] = {}

    def note(number: Live) -> Array:
        if (other := found.setdefault(number.name, number)).value is not number.value and other.value != number.value:
            raise ValueError(f"{number!r} and {other!r} are one number in the state: give one value, or two names")
        return jnp.asarray(number.value, jnp.float32)

    with _read_by(note), jax.numpy_dtype_promotion("standard"):
        for schedule in schedules:
            schedule(jnp.zeros([], jnp.int32))
    return {name: note(found[name]) for name in sorted(found)} or ()


@contextlib.contextmanager
def _read_by(reader: Callable[[Live], Array]) -> Iterator[None]:
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


def live(name: str, value: Scalar) -> Schedule:
    """A hyperparameter that lives in the optimizer's state, where `adamx.set_hyperparameters` changes it.

    It is a float32 scalar there, whatever the weights are, and travels with checkpoints; a change compiles nothing
    anew. It may stand wherever a schedule may, also inside one, but not within `optax.inject_hyperparams`, in whose
    place it is. A decay rate that lives in the state is corrected for bias by the product of its values so far.

    Args:
        name: its name in the state. Two of one name are one number.
        value: the first value; a number, or an array of shape ().

    Returns:
        A schedule that reads the number: give it wherever a hyperparameter may follow a schedule.

    Raises:
        TypeError: `value` is not a number.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> opt = adamx.adamw(adamx.live("learning_rate", 0.5), weight_decay=adamx.live("weight_decay", 0.0))
        >>> params = jnp.array([1.0, 2.0])
        >>> state = adamx.set_hyperparameters(opt.init(params), learning_rate=0.25)
        >>> jax.jit(opt.step)(params, state, params)[0]
        Array([0.75, 1.75], dtype=float32)

        With a warm-up:

        >>> rate = adamx.live("learning_rate", 1e-3)
        >>> opt = adamx.adam(lambda count: rate(count) * jnp.minimum(1.0, (count + 1) / 100))
        >>> float(adamx.hyperparameters(opt, opt.init(params))["learning_rate"])
        1.0000000656873453e-05
    """
    if not isinstance(name, str):
        raise TypeError(f"name = {name!r} should be the number's name in the state, such as 'learning_rate'")
    validate_value(name, value, Interval(-float("inf"), float("inf")))
    return Live(name, value)
