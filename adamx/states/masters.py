"""The float32 master weights of 16-bit parameters: taken out of a state, and put into one."""

from typing import Any

import jax
import jax.numpy as jnp

from .. import _leaves
from .._annotations import Params
from .._engine import Engine
from .._layout import wide_dtype
from .._state import State
from .._transform import Optimizer, owner_of
from .._variables import without_variables
from .._weights import is_narrow, nearest
from ..wrapper import is_state, parts_of
from .packing import packed
from .parts import find_states, merge_part, select_part, steppers


def master_params(opt: Optimizer, state: Any, params: Params) -> Params:
    """The float32 master weights of 16-bit parameters, from the residuals in `state`.

    Args:
        opt: the optimizer, of a chain or partition the part that is adamx's. With weights="kahan", "split8" or
            "split16" it keeps residuals; with another mode the parameters themselves are returned, in at least float32.
        state: its state, or one that holds it, such as a chain's. Of `optax.partition` take one label's after another,
            each with its optimizer: leaves that a state says nothing of are returned as they are.
        params: the parameters. They, as the state, may be in NNX's variables: `nnx.state(model, nnx.Param)` with
            `optimizer.opt_state`; what is returned is in those of the parameters.

    Returns:
        A tree like `params`, of at least float32.

    Raises:
        TypeError: `opt` is not an adamx optimizer.
        ValueError: not one adamx state in `state`, or one of another optimizer.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam(1e-3, weights="split16")
        >>> params, state = adamx.from_master(jnp.full(2, 0.1), opt)
        >>> params, adamx.master_params(opt, state, params)
        (Array([0.100098, 0.100098], dtype=bfloat16), Array([0.1, 0.1], dtype=float32))

        In a chain:

        >>> import optax
        >>> tx = optax.chain(optax.clip(1.0), opt)
        >>> adamx.master_params(opt, tx.init(params), params).dtype
        dtype('float32')
    """
    masters, parts = params, steppers(parts_of(opt, without_variables(params)))
    for own, (engine, part) in zip(find_states(state, parts), parts, strict=True):
        masters = merge_part(_masters(engine, without_variables(own), part), masters)
    return masters


def _masters(engine: Engine, own: State, params: Params) -> Params:
    """Those of the leaves of one engine."""
    residuals = own.residuals
    leaves = _leaves.flatten(select_part(params, engine, own), "params")
    engine.validate_residuals(residuals, leaves)
    if not jax.tree.leaves(residuals):
        masters = [None if p is None else jnp.asarray(p, wide_dtype(p)) for p in leaves.arrays]
    else:
        kept = _leaves.match(leaves, residuals, "residuals")
        masters = [
            p if p is None or not is_narrow(p) or member.rounding is None else member.rounding.master(p, r)
            for p, r, member in zip(leaves.arrays, kept, engine.members_of(leaves), strict=True)
        ]
    return leaves.rebuild(masters)


def from_master(
    params: Params, opt: Optimizer, dtype: Any = jnp.bfloat16, state: Any = None, *, narrow: Any = True
) -> tuple[Params, Any]:
    """Cast float32 parameters to 16 bits, and make a state with their rounding errors: the inverse of `master_params`.

    Use this rather than `astype`, so that the rounding errors of the first weights are kept, too. A language model that
    started without it ended .4 % worse (`python -m benchmarks.quality` starts with it).

    Args:
        params: float32 parameters; a leaf of `None` stays, one that is narrower already is left alone.
        opt: the optimizer, with its `weights` and `moments`.
        dtype: bfloat16 or float16.
        state: of training in float32 with the same rule, to go on with; `None` to begin.
        narrow: which leaves become narrow, as `mask` of `adamx.optimizer` says which decay: a tree of booleans, the top
            of one, or a function of the parameters that returns one. The others, such as norms and biases, stay.

    Returns:
        The parameters in `dtype`, rounded to nearest, and the state for `opt`, with what rounding took.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> exact, small = adamx.adamw(1e-3), adamx.adamw(1e-3, moments="int8", weights="split8")
        >>> params = jnp.ones((64, 64))
        >>> params, state = exact.step(params, exact.init(params), params)
        >>> params, state = adamx.from_master(params, small, state=state)
        >>> params, state = small.step(params, state, params)
        >>> params.dtype, int(state.count)
        (dtype(bfloat16), 2)
    """
    if not (jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits == 16):
        raise TypeError(f"dtype = {dtype!r} should be bfloat16 or float16")
    leaves = _leaves.flatten(params, "params")
    real = [p is not None and jnp.issubdtype(jnp.result_type(p), jnp.floating) for p in leaves.arrays]
    chosen = _leaves.covered(narrow, params, "narrow", "keep the parameters and make a state of them by `init(params)`")
    cast = [yes and some and not is_narrow(p) for yes, some, p in zip(real, chosen, leaves.arrays, strict=True)]
    wide: list[Any] = [jnp.asarray(p, jnp.float32) if yes else p for p, yes in zip(leaves.arrays, cast, strict=True)]
    landed = [nearest(p, dtype) if yes else p for p, yes in zip(wide, cast, strict=True)]
    rounded = leaves.rebuild(landed)
    parts = steppers(parts_of(opt, leaves.rebuild(wide), rounded))
    starts = [_start(*part) for part in parts]
    if state is not None:
        pairs = zip(find_states(state, parts), starts, parts, strict=True)
        starts = [packed(x._replace(residuals=start.residuals), engine, own) for x, start, (engine, _, own) in pairs]
    if isinstance(owner_of(opt), Engine):
        return rounded, starts[0]
    # A monitor's state holds the optimizer's.
    made = iter(starts)
    return rounded, jax.tree.map(lambda x: next(made) if is_state(x) else x, opt.init(rounded), is_leaf=is_state)


def _start(engine: Engine, masters: Params, rounded: Params) -> State:
    """The state before the first step of weights with these masters."""
    # Slots are float32 whatever the weights are; those that start as the weights start as the masters.
    start, leaves = engine.init(masters), _leaves.flatten(masters, "params")
    kept = [
        None
        if p is None or n is None or not is_narrow(n) or m.frozen or m.rounding is None
        else m.rounding.residual(p.astype(jnp.float32), n)
        for p, n, m in zip(
            leaves.arrays, _leaves.match(leaves, rounded, "params"), engine.members_of(leaves), strict=True
        )
    ]
    return start._replace(residuals=leaves.rebuild(kept)) if jax.tree.leaves(kept) else start
