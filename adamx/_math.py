r"""Functions that rules are written in, each in the form with the least rounding error."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ._annotations import Array, Scalar


def abs_sq(x: Array) -> Array:
    """$|x|^2$, real also for complex `x`."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def dtype_of(x: Any) -> np.dtype:
    """The dtype that JAX computes with `x` in. `jnp.result_type`, which also knows numbers, takes ten times as long."""
    return x.dtype if isinstance(x, jax.Array) else jnp.result_type(x)


def select(condition: Array, x: Array | float, y: Array | float) -> Array:
    """`jnp.where` for two arrays of one shape and dtype, or for one and a number.

    Where nothing is broadcast it is `lax.select`, which JAX traces five times as fast.
    """
    like = jnp.asarray(x if isinstance(x, jax.Array) else y)
    if condition.shape != like.shape:
        return jnp.where(condition, x, y)
    x, y = (a if isinstance(a, jax.Array) else jax.lax.full_like(like, a) for a in (x, y))
    return jax.lax.select(condition, x, y)


def parts(x: Array) -> Array:
    """A complex array as a real one: real and imaginary part side by side along one more axis."""
    return jnp.stack([x.real, x.imag], -1)


def whole(x: Array) -> Array:
    """The complex array that `x` are the parts of."""
    return jax.lax.complex(x[..., 0], x[..., 1])


def ema(old: Array, new: Array, b: Scalar) -> Array:
    r"""One step of an exponential average, $b\,old + (1-b)\,new$.

    Moving by the difference keeps the rounding of $b$ out of the sum: after $10^4$ random steps at b=.9999 it is
    40 times closer to the exact average than the two products. It moves from whichever end weighs more, so that a
    small b forgets a large `old` exactly.
    """
    if isinstance(b, (int, float)):
        return old + (1 - b) * (new - old) if b >= 0.5 else new + b * (old - new)
    return jnp.where(b >= 0.5, old + (1 - b) * (new - old), new + b * (old - new))


def bias_correction(b: Scalar, t: Array) -> Array:
    r"""$1 - b^t$, the weight that an average started at zero has gathered after `t` steps (arXiv:1412.6980, section 3).

    Within 2e-7 of the exact value in float32 for b <= .999999 and any t; `1 - b**t` is 2e-5 off at b=.999 and 1e-2
    at b=.999999. A decay rate that follows a schedule gives $1 - \prod_i b_i$.
    """
    if isinstance(b, Varying):
        return one_minus_exp(b.log_product + (t - b.t) * log_beta(b.value))
    return one_minus_exp(t * log_beta(b))


def step_size_correction(b1: Scalar, b2: Scalar, t: Array) -> Array:
    r"""$\sqrt{1-\beta_2^t}/(1-\beta_1^t)$, Adam's bias correction as a factor of the step size (section 2)."""
    return jnp.sqrt(bias_correction(b2, t)) / bias_correction(b1, t)


def debias(x: Array, b: Scalar, t: Array) -> Array:
    """`x / (1 - b**t)`, an average without its bias to 0. Arrays by the inverse: XLA would in some programs only."""
    return x * (1 / bias_correction(b, t)) if jnp.ndim(x) else x / bias_correction(b, t)


def biased(x: Array, b: Scalar, t: Array) -> Array:
    """`x` itself: the counterpart of `debias` for averages that are not corrected."""
    del b, t
    return x


def nesterov_mean(
    mu: Array, g: Array, b1: Scalar, t: Array, hat: Callable[[Array, Scalar, Array], Array] = debias
) -> Array:
    r"""$\hat m_t$ looked one step ahead, $\beta_1 m_t/(1-\beta_1^{t+1}) + (1-\beta_1) g_t/(1-\beta_1^t)$.

    Nesterov momentum with constant $\beta_1$ (Dozat, ICLR 2016 workshop). `mu` is the mean that `g` has already
    entered; `hat` is `biased` where nothing is corrected.
    """
    return ema(hat(mu, b1, t + 1), hat(g, b1, t), b1)


def adam_ratio(m_hat: Array, v_hat: Array, eps: Scalar, eps_root: Scalar = 0.0) -> Array:
    r"""$\hat m / (\sqrt{\hat v + \bar\varepsilon} + \varepsilon)$, the direction of Adam; 0 / 0 is 0."""
    return div_no_nan(m_hat, jnp.sqrt(v_hat + eps_root) + eps)


def eps_beside_hat(eps: Scalar, b2: Scalar, t: Array) -> Scalar:
    r"""The ε beside $\sqrt{\hat v_t}$ that is the paper's constant ε̂ beside $\sqrt{v_t}$: ε̂ / sqrt(1 - b2^t)."""
    return eps / jnp.sqrt(bias_correction(b2, t))


def varying(arrays: Sequence[Array]) -> frozenset[str]:
    """The axes of the mesh of a `jax.shard_map` that any of the arrays varies over."""
    types: list[Any] = [jax.typeof(x) for x in arrays]
    manual = [getattr(x, "manual_axis_type", x) for x in types]  # before JAX 0.10 an attribute of the type itself
    return frozenset().union(*(x.varying if hasattr(x, "varying") else x.vma for x in manual))


def added_up(x: Array, axis_names: Sequence[str]) -> Array:
    """The sum over devices along those of the axes that `x` varies over: along the others they have copies."""
    cut = tuple(name for name in axis_names if name in varying([x]))
    return jax.lax.psum(x, cut) if cut else x


def largest(x: Array, axis: int | None = None) -> Array:
    """The largest absolute value, NaN if there is one; 0 of no elements. Not differentiated.

    NaN is detected separately: on a CPU, XLA's maximum over more than 4,096 elements ignores NaN.
    """
    size = jax.lax.abs(jax.lax.stop_gradient(x))
    axes = tuple(range(size.ndim)) if axis is None else (axis % size.ndim,)
    first = np.zeros([], size.dtype), np.zeros([], bool)
    most, broken = jax.lax.reduce((size, jnp.isnan(size)), first, _larger, axes)
    return select(broken, jnp.nan, most)


def _larger(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    return jax.lax.max(a[0], b[0]), jax.lax.bitwise_or(a[1], b[1])


def sign(x: Array) -> Array:
    """The sign of `x`, or its phase if complex; NaN where `x` is not finite, which should stay visible."""
    return jnp.sign(x) + 0 * x


def div_no_nan(x: Array, y: Array) -> Array:
    """`x / y`, and 0 where `y` is 0; a non-finite `x` stays non-finite. Differentiable there, too.

    Where `y` is a root mean square, it is 0 because every gradient was 0, or its square: below 1e-19 in float32.
    """
    zero = y == 0
    return select(zero, 0 * x, x) / select(zero, 1, y)


def log_beta(b: Scalar) -> Scalar:
    """log(b), in double precision for a Python number; for 0 a finite number whose exponential is 0."""
    forgotten = -1e4
    if isinstance(b, (int, float)):
        return math.log(b) if b > 0 else forgotten
    b = jnp.asarray(b)
    large = jnp.log1p(jnp.where(b >= 0.5, b, 0.5) - 1)  # b - 1 is exact for b in [.5, 1], and -1 for the smallest
    return jnp.where(b >= 0.5, large, jnp.where(b > 0, jnp.log(jnp.where(b > 0, b, 0.5)), forgotten))


@jax.jit
def one_minus_exp(x: Array) -> Array:
    """`1 - exp(x)` for x <= 0, within 1e-7 in float32; XLA's `expm1` is 3.3e-7 off around x = -.08."""
    # In `lax`, whose operations JAX traces five times as fast as those of `jax.numpy`: here are thirty.
    lax, number = jax.lax, functools.partial(jax.lax.full_like, x)
    near, terms = lax.max(x, number(-0.7)), 18 if x.dtype == np.float64 else 14  # more do not change the result
    series = number(1 / math.factorial(terms))
    for k in range(terms - 1, 1, -1):
        series = lax.add(lax.mul(series, near), number(1 / math.factorial(k)))
    series = lax.neg(lax.add(near, lax.mul(near, lax.mul(near, series))))
    return lax.select(lax.gt(x, number(-0.7)), series, lax.sub(number(1), lax.exp(x)))


def compensated_add(total: Array, lost: Array, x: Array) -> tuple[Array, Array]:
    """`total - lost` plus `x`: the sum rounded, and what it is too large by (Kahan 1965, Knuth's exact sum of two).

    The error of a sum that is carried as these two does not grow with the number of its terms.
    """
    x = x - lost
    new = total + x
    added = new - total
    return new, ((new - added) - total) + (added - x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Varying(NDArrayOperatorsMixin):
    """A decay rate that follows a schedule: computes like its present value, with the product of all values so far."""

    value: Array
    log_product: Array
    t: Array

    def __jax_array__(self) -> Array:
        return self.value

    def __array_ufunc__(self, ufunc, method, *inputs):
        return getattr(jnp, ufunc.__name__)(*(x.value if isinstance(x, Varying) else x for x in inputs))
