"""A traced function in operations that Mosaic and Triton take.

Both lower most of what rules and formats are written in. The rest is replaced here, with equal results.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array


def in_dialect(closed: Any) -> Callable[..., list[Array]]:
    """The traced function, with operations replaced where kernels know no such operation."""
    consts = [np.asarray(x) for x in closed.consts]  # kernels capture no arrays but take constants
    return lambda *operands: _evaluate(closed.jaxpr, consts, operands)


def _evaluate(jaxpr: Any, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
    from jax.extend.core import Literal  # `jax.extend` imports Pallas

    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *operands), strict=True))
    replaced, nested = _replaced(), _nested()
    for eqn in jaxpr.eqns:
        given = [v.val if isinstance(v, Literal) else values[v] for v in eqn.invars]
        name = eqn.primitive.name
        if name in nested:
            inner = eqn.params[nested[name]]
            results = _evaluate(inner.jaxpr, [np.asarray(x) for x in inner.consts], given)
        elif name in replaced:
            results = replaced[name](*given, **eqn.params)
        else:
            results = eqn.primitive.bind(*given, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        values.update(zip(eqn.outvars, results, strict=True))
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _nested() -> Mapping[str, str]:
    """Operations that are functions, and their parameter that holds the function."""
    calls = ("custom_jvp_call", "custom_vjp_call", "closed_call")
    return {"jit": "jaxpr", "pjit": "jaxpr"} | dict.fromkeys(calls, "call_jaxpr")


def _replaced() -> Mapping[str, Callable[..., list[Any]]]:
    return {"sign": _sign, "reduce": _reduce, "round": _round}


def _sign(x: Array) -> list[Array]:
    """Mosaic's own asks which TPU the process has, also where it compiles for another machine."""
    one = jnp.ones_like(x)
    return [jnp.where(x > 0, one, jnp.where(x < 0, -one, x))]


def _round(x: Array, *, rounding_method: Any) -> list[Array]:
    """Triton has none: the nearest, and of two the even one."""
    if rounding_method != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        return [jax.lax.round(x, rounding_method)]
    low = jnp.floor(x)
    rest = x - low
    even = low - 2 * jnp.floor(low / 2) == 0
    near = jnp.where((rest > 0.5) | ((rest == 0.5) & ~even), low + 1, low)
    return [jnp.where(near == 0, 0 * x, near)]


def _reduce(*given: Array, jaxpr: Any, dimensions: tuple[int, ...], **_: Any) -> list[Array]:
    """Several reductions in one, of which kernels know none: one after the other, of float32."""
    arrays = given[: len(given) // 2]
    by = {v: eqn.primitive.name for eqn in jaxpr.eqns for v in eqn.outvars}
    of = {"max": jnp.max, "min": jnp.min, "or": jnp.max}
    results = []
    for x, v in zip(arrays, jaxpr.outvars, strict=True):
        y = of[by[v]](x.astype(jnp.float32), axis=dimensions)
        results.append(y > 0 if x.dtype == np.bool_ else y.astype(x.dtype))
    return results
