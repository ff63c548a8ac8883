r"""How long one step can be: exact suprema of $|\Delta_t|/\alpha$ over gradient sequences, which attain them.

The numerator of a step is linear in the gradients and its denominator is a norm of them, so the supremum is a dual
norm: by Cauchy-Schwarz for Adam, which divides by a weighted 2-norm, and by Hölder for AdaMax, which divides by a
weighted maximum.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Interval
from .._rule import validate_value

ADAMAX_PAPER_BOUND = 1.0
r"""What arXiv:1412.6980, section 7.1, gives as AdaMax's bound on $|\Delta_t|/\alpha$; see `adamax_update_bound`."""


def update_bound(b1: float, b2: float, t: Any = math.inf) -> Any:
    r"""The least upper bound of $|\Delta_t|/\alpha$, Adam's step number $t$ in units of the step size, with ε = 0.

    $$\sup_{g_1 \dots g_t} \frac{|\hat m_t|}{\sqrt{\hat v_t}} = \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}
      \frac{1-\beta_1}{\sqrt{1-\beta_2}} \sqrt{\sum_{k<t} \Big(\frac{\beta_1^2}{\beta_2}\Big)^k}
      \xrightarrow{t \to \infty} \frac{1-\beta_1}{\sqrt{(1-\beta_2)(1-\beta_1^2/\beta_2)}}$$

    At least 1, and for $t > 1$ equal to 1 only if $\beta_1 = \beta_2$; unbounded in $t$ if $\beta_1^2 \ge \beta_2$. A
    positive ε makes steps shorter. `worst_case_gradients` attains it.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        t: the number of the step, from 1; `math.inf` (the default) for the supremum over all steps; or an array of
            them, which may be traced by JAX.

    Returns:
        A float, or an array of `t`'s shape and library.

    Raises:
        ValueError: a decay rate outside [0, 1), or `t` below 1.
        TypeError: a decay rate that is a JAX array.

    Reference: Cauchy-Schwarz for the claim of Kingma & Ba, arXiv:1412.6980, section 2.1, which `paper_bound` gives.

    Examples:
        >>> from adamx import theory
        >>> round(theory.update_bound(0.9, 0.999), 3), round(theory.update_bound(0.9, 0.999, t=100), 3)
        (7.27, 2.243)
        >>> theory.update_bound(0.95, 0.9)
        inf
    """
    _check(b1, b2)
    xp, t = _steps(t)
    with np.errstate(over="ignore"):
        weight = xp.sqrt(-xp.expm1(t * _log(b2))) / -xp.expm1(t * _log(b1))
        root = xp.sqrt(_geometric_sum(_log_ratio(b1, b2), t, xp))
        return _plain(weight * root * ((1 - b1) / math.sqrt(1 - b2)))


def paper_bound(b1: float, b2: float) -> float:
    r"""The bound on $|\Delta_t|/\alpha$ that the paper states: right for one gradient after zeros only.

    $(1-\beta_1)/\sqrt{1-\beta_2}$ where $1-\beta_1 > \sqrt{1-\beta_2}$, else 1. `update_bound` is the true one.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).

    Returns:
        The bound, in units of the step size.

    Raises:
        ValueError: a decay rate outside [0, 1).

    Reference: Kingma & Ba, arXiv:1412.6980, section 2.1.

    Examples:
        >>> from adamx import theory
        >>> b1, b2 = 0.9, 0.999
        >>> round(theory.paper_bound(b1, b2), 3), round(theory.update_bound(b1, b2) / theory.paper_bound(b1, b2), 2)
        (3.162, 2.3)
    """
    _check(b1, b2)
    return max(1.0, (1 - b1) / math.sqrt(1 - b2))


def worst_case_gradients(b1: float, b2: float, t: int) -> np.ndarray:
    r"""The gradients that make Adam's step `t` as long as it can be: $g_{t-k} \propto (\beta_1/\beta_2)^k$.

    Where $\beta_1 < \beta_2$ they grow by $\beta_2/\beta_1$ from step to step, 11 % for (.9, .999).

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in (0, 1); 0 is allowed if `b1` is 0.
        t: the number of gradients, and of the step that is as long as it can be.

    Returns:
        Float64, shape (t,); the largest is 1.

    Raises:
        ValueError: a decay rate out of range, or `t` not a positive whole number.

    Reference: equality in the Cauchy-Schwarz inequality behind `update_bound`.

    Examples:
        >>> from adamx import theory
        >>> theory.worst_case_gradients(0.5, 0.8, t=3)
        array([0.390625, 0.625   , 1.      ])
    """
    _check_attained(b1, b2, t)
    if b1 == 0:
        return np.eye(1, t, t - 1)[0]
    exponents = np.arange(t - 1, -1, -1) * (_log(b1) - _log(b2))
    return np.exp(exponents - exponents.max())


def adamax_update_bound(b1: float, b2: float, t: Any = math.inf) -> Any:
    r"""The least upper bound of $|\Delta_t|/\alpha$ for AdaMax, with ε = 0; the paper's is 1.

    $$\sup_{g_1 \dots g_t} \frac{|m_t|}{(1-\beta_1^t) u_t} = \frac{1-\beta_1}{1-\beta_1^t}
      \sum_{k<t} \Big(\frac{\beta_1}{\beta_2}\Big)^k
      \xrightarrow{t \to \infty} \frac{1-\beta_1}{1-\beta_1/\beta_2}$$

    1 if $\beta_1 = 0$ or $t = 1$, and in the limit $\beta_2 \to 1$; unbounded in $t$ if $\beta_1 \ge \beta_2$.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        t: the number of the step, from 1; `math.inf` for the supremum over all steps; or an array of them.

    Returns:
        A float, or an array of `t`'s shape and library.

    Raises:
        ValueError: a decay rate outside [0, 1), or `t` below 1.
        TypeError: a decay rate that is a JAX array.

    Reference: Hölder's inequality for the claim of Kingma & Ba, arXiv:1412.6980, section 7.1.

    Examples:
        >>> from adamx import theory
        >>> round(theory.adamax_update_bound(0.9, 0.999), 5)
        1.00909
    """
    _check(b1, b2)
    xp, t = _steps(t)
    with np.errstate(over="ignore"):
        total = _geometric_sum(-math.inf if b1 == 0 else _log(b1) - _log(b2), t, xp)
        return _plain((1 - b1) / -xp.expm1(t * _log(b1)) * total)


def adamax_worst_case_gradients(b1: float, b2: float, t: int) -> np.ndarray:
    r"""The gradients that make AdaMax's step `t` as long as it can be: $g_i \propto \beta_2^i$, all of one weight.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in (0, 1); 0 is allowed if `b1` is 0.
        t: the number of gradients, and of the step that is as long as it can be.

    Returns:
        Float64, shape (t,); the largest is 1.

    Raises:
        ValueError: a decay rate out of range, or `t` not a positive whole number.

    Reference: equality in the Hölder inequality behind `adamax_update_bound`.

    Examples:
        >>> from adamx import theory
        >>> theory.adamax_worst_case_gradients(0.5, 0.75, t=3)
        array([1.    , 0.75  , 0.5625])
    """
    _check_attained(b1, b2, t)
    return np.ones(t) if b2 == 0 else np.exp(np.arange(t) * _log(b2))


def _log(b: float) -> float:
    return math.log(b) if b > 0 else -math.inf


def _log_ratio(b1: float, b2: float) -> float:
    """log(b1^2 / b2); 0 also where it differs from 0 by rounding only, as for .9 and .81."""
    if b1 == 0:
        return -math.inf
    square, other = 2 * _log(b1), _log(b2)
    return 0.0 if math.isclose(square, other, rel_tol=1e-15) else square - other


def _geometric_sum(log_q: float, t: Any, xp: Any) -> Any:
    """1 + q + ... + q^(t-1), accurate to rounding also for q near 1."""
    if log_q == 0:
        return t
    if log_q == math.inf:
        return xp.where(t == 1, 1.0, xp.inf)
    return xp.expm1(t * log_q) / math.expm1(log_q)


def _check(b1: float, b2: float) -> None:
    for name, b in (("b1", b1), ("b2", b2)):
        if isinstance(b, jax.Array):
            raise TypeError(f"{name} is a JAX array: bounds are computed from Python numbers, give float({name})")
        validate_value(name, b, Interval(0.0, 1.0))


def _steps(t: Any) -> tuple[Any, Any]:
    """The array library of `t` (JAX or NumPy), and `t` as floats."""
    if isinstance(t, jax.Array):
        return jnp, t.astype(float)
    t = np.asarray(t, float)
    if not np.all(t >= 1):
        raise ValueError(f"t = {t} should be the number of a step, from 1, or math.inf for all of them")
    return np, t


def _plain(x: Any) -> Any:
    return x if isinstance(x, jax.Array) or np.ndim(x) else float(x)


def _check_attained(b1: float, b2: float, t: int) -> None:
    _check(b1, b2)
    if t != int(t) or t < 1:
        raise ValueError(f"t = {t} should be a positive whole number of steps")
    if b2 == 0 < b1:
        raise ValueError("b2 = 0 forgets all gradients but the last, and the step has no bound to attain: give b2 > 0")
