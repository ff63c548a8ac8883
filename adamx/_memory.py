"""How many bytes an optimizer's state takes, and the float32 weights that narrow ones stand for."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from . import _leaves
from ._check import check_slots
from ._layout import stored_shape, wide_dtype
from ._parts import is_masked, is_place, is_state, only_state, part_of, whole_of
from ._transform import Optimizer, engine_of
from ._typing import Params
from ._variables import bare
from ._weights import Rounding, is_narrow, nearest
from .moments.codes import CODES


class StateBytes(NamedTuple):
    """The size of a state.

    Attributes:
        slots: bytes of each slot, by name.
        residuals: bytes kept beside weights.
        total: bytes in all, the count and whatever wraps the state included.
        per_parameter: `total` divided by the number of parameters.
    """

    slots: dict[str, int]
    residuals: int
    total: int
    per_parameter: float


def state_bytes(opt: Any, params: Params) -> StateBytes:
    """The bytes of the state that `opt.init(params)` makes, without making it.

    Args:
        opt: an optimizer, or any Optax transformation that has one of adamx's in it.
        params: arrays or `jax.ShapeDtypeStruct`s.

    >>> import adamx, jax, jax.numpy as jnp
    >>> params = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
    >>> size = adamx.state_bytes(adamx.adam(1e-3, moments="int8", weights="split8"), params)
    >>> size.slots["mu"], size.residuals, round(size.per_parameter, 3)
    (17039360, 16777216, 3.031)
    """
    state = jax.eval_shape(opt.init, params)
    slots: dict[str, int] = {}
    residuals = 0
    for part in jax.tree.leaves(state, is_leaf=is_state):
        if is_state(part):
            residuals += _bytes(part.residuals)
            for name, column in getattr(part.slots, "_asdict", dict)().items():
                slots[name] = slots.get(name, 0) + _bytes(column)
    total = _bytes(state)
    parameters = sum(x.size for x in jax.tree.leaves(params))
    return StateBytes(slots, residuals, total, total / max(parameters, 1))


def master_params(opt: Optimizer, state: Any, params: Params) -> Params:
    """The float32 weights that narrow parameters and the residuals in `state` stand for.

    Args:
        opt: the optimizer, of a chain or partition the part that is adamx's. With weights="kahan", "split8" or
            "split16" it keeps residuals; with another mode the parameters themselves are returned, in at least float32.
        state: its state, or one that holds it, such as a chain's. Of `optax.partition` take one label's after another,
            each with its optimizer: leaves that a state says nothing of are returned as they are.
        params: the parameters. They, as the state, may be in NNX's variables: `nnx.state(model, nnx.Param)` with
            `optimizer.opt_state`; what is returned is in those of the parameters.

    Raises:
        TypeError: `opt` is not an optimizer of adamx's.
        ValueError: not one state of adamx's in `state`, or one of another optimizer.

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
    engine, own = engine_of(opt), bare(only_state(state))
    residuals = own.residuals
    leaves = _leaves.flatten(part_of(params, engine, own), "params")
    engine.check_residuals(residuals, leaves)
    if not jax.tree.leaves(residuals):
        masters = [None if p is None else jnp.asarray(p, wide_dtype(p)) for p in leaves.arrays]
    else:
        rounding = cast(Rounding, engine.rounding)
        pairs = zip(leaves.arrays, _leaves.match(leaves, residuals, "residuals"), strict=True)
        masters = [p if p is None or not is_narrow(p) else rounding.master(p, r) for p, r in pairs]
    return whole_of(leaves.rebuild(masters), params)


def from_master(
    params: Params, opt: Optimizer, dtype: Any = jnp.bfloat16, state: Any = None, *, narrow: Any = True
) -> tuple[Params, Any]:
    """Narrow parameters, and a state that stands for float32 ones with them: the inverse of `master_params`.

    Start narrow weights with this rather than with `astype`: what rounding takes from the first weights is then kept,
    too. A language model that started without it ended .4 % worse (`python -m benchmarks.quality` starts with it).

    Args:
        params: float32 parameters; a leaf of `None` stays, one that is narrower already is left alone.
        opt: the optimizer, with its `weights` and `moments`.
        dtype: bfloat16 or float16.
        state: of training in float32 with the same rule, to go on with; `None` to begin.
        narrow: which leaves become narrow, as `mask` of `adamx.optimizer` says which decay: a tree of booleans, the top
            of one, or a function of the parameters that returns one. The others, such as norms and biases, stay.

    Returns:
        The parameters in `dtype`, rounded to nearest, and the state for `opt`, with what rounding took.

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
    engine, leaves = engine_of(opt), _leaves.flatten(params, "params")
    real = [p is not None and jnp.issubdtype(jnp.result_type(p), jnp.floating) for p in leaves.arrays]
    chosen = _leaves.covered(narrow, params, "narrow", "keep the parameters and make a state of them by `init(params)`")
    cast = [yes and some and not is_narrow(p) for yes, some, p in zip(real, chosen, leaves.arrays, strict=True)]
    wide: list[Any] = [jnp.asarray(p, jnp.float32) if yes else p for p, yes in zip(leaves.arrays, cast, strict=True)]
    landed = [nearest(p, dtype) if yes else p for p, yes in zip(wide, cast, strict=True)]
    rounded = leaves.rebuild(landed)
    # Slots are float32 whatever the weights are; those that start as the weights start as the masters.
    start = engine.init(leaves.rebuild(wide))
    if (rounding := engine.rounding) is not None:
        kept = [
            None if n is None or not is_narrow(n) else rounding.residual(p.astype(jnp.float32), n)
            for p, n in zip(wide, landed, strict=True)
        ]
        if jax.tree.leaves(kept):
            start = start._replace(residuals=leaves.rebuild(kept))
    if state is not None:
        start = only_state(pack_state(opt, only_state(state)._replace(residuals=start.residuals), rounded))
    if getattr(opt.init, "__self__", None) is engine:
        return rounded, start
    # A monitor's state holds the optimizer's.
    return rounded, jax.tree.map(lambda x: start if is_state(x) else x, opt.init(rounded), is_leaf=is_state)


def unpack_state(opt: Optimizer, state: Any, params: Params) -> Any:
    """The state with all slots in at least float32, whatever `opt` stores them in.

    It is what an optimizer of the same rule with `moments="float32"` can go on with, and what plots and checkpoints
    for other tools want. Nothing is lost: it is exactly what the codes stand for.

    Args:
        opt: the optimizer whose state it is.
        state: its state, or one that holds it.
        params: the parameters, or `jax.ShapeDtypeStruct`s like them.
    """
    layout = engine_of(opt).layout

    def decode(row: list[Any], forms: list[Any], wide: Any, noise: Any) -> list[Any]:
        del forms, noise
        return layout.tree.flatten_up_to(layout.decode(row, layout.formats_stored(row, wide), wide))

    return _with_slots(state, params, opt, decode)


def pack_state(opt: Optimizer, state: Any, params: Params) -> Any:
    """The state with all slots in the formats of `opt`: the way back from `unpack_state`, or into it from float32.

    Rounding once costs, for Adam's moments in "int8", at most .6 % of a second moment for each octave between a group's
    largest and least, and of the direction mu / sqrt(nu) at most 2 % of a group's largest (.5 % near zero); in
    "bfloat16" .8 % of the mean and .4 % of the second moment. Dither keeps their means within 1 %. What `unpack_state`
    gives comes back as the same codes but for that dither, which may move one by one place.

    Args:
        opt: the optimizer that will go on with it.
        state: a state of the same rule in which slots are dense, or one that holds it.
        params: the parameters.

    Raises:
        TypeError: slots are packed already.
        ValueError: `opt` keeps residuals of narrow weights and the state has none: `from_master(params, opt,
            state=state)` packs both.

    >>> import adamx, jax, jax.numpy as jnp
    >>> exact, small = adamx.adam(1e-3), adamx.adam(1e-3, moments="int8")
    >>> params = jnp.ones((64, 64))
    >>> _, state = exact.step(params, exact.init(params), params)
    >>> packed = adamx.pack_state(small, state, params)
    >>> packed.slots.nu.code.dtype
    dtype('uint8')
    >>> bool(abs(adamx.unpack_state(small, packed, params).slots.mu - 0.1).max() < 0.002)
    True
    """

    def encode(row: list[Any], forms: list[Any], wide: Any, noise: Any) -> list[Any]:
        del wide
        if any(isinstance(x, CODES) for x in row):
            raise TypeError("the state is packed already: `unpack_state` it first, with the optimizer that made it")
        dense = [None if x is None else x.astype(wide_dtype(x)) for x in row]
        return engine_of(opt).layout.encode(dense, forms, noise)

    engine_of(opt).check_residuals(only_state(state).residuals, _leaves.flatten(params, "params"))
    return _with_slots(state, params, opt, encode)


def map_slots(f: Callable[..., Any], opt: Optimizer, state: Any, *trees: Any) -> Any:
    """The state with `f` of every array of its slots and residuals, and of the leaves of `trees` at the same place.

    What `optax.tree_map_params` is for other states: a coded slot is several arrays, each of which `f` is given.

    Args:
        f: called with an array of the state (or whatever stands in its place) and one leaf of each tree.
        opt: the optimizer whose state it is, of a chain or partition the part that is adamx's.
        state: its state, or one that holds it; what else is in it is left alone. Of `optax.partition` take one label's
            after another, `state.inner_states[label]`. Variables of NNX stay around what they hold.
        *trees: trees like the parameters, such as these or their shardings.

    Raises:
        TypeError: `opt` is not an optimizer of adamx's.
        ValueError: no state of adamx's in `state`, or one of another rule.

    >>> import adamx, jax, jax.numpy as jnp
    >>> from jax.sharding import PartitionSpec as P
    >>> opt, params = adamx.adam(1e-3, moments="int8"), {"w": jnp.ones((64, 256))}
    >>> state = jax.eval_shape(opt.init, params)
    >>> specs = adamx.map_slots(lambda x, spec: spec, opt, state, {"w": P("data")})
    >>> specs.slots.nu["w"]
    LogCode(code=P('data',), low=P('data',), high=P('data',))
    """
    engine, trees = engine_of(opt), tuple(map(bare, trees))
    layout = engine.layout

    def place(x: Any, *leaves: Any) -> Any:
        return x if is_masked(x) else jax.tree.map(lambda a: f(a, *leaves), x)

    def column(tree: Any) -> Any:
        return jax.tree.map(place, tree, *trees, is_leaf=is_place)

    def of(part: Any) -> Any:
        if not is_state(part):
            return part
        check_slots(part, layout, engine.rule)
        slots = layout.tree.unflatten([column(x) for x in layout.tree.flatten_up_to(part.slots)])
        residuals = column(part.residuals) if jax.tree.leaves(part.residuals) else part.residuals
        return part._replace(slots=slots, residuals=residuals)

    if not any(map(is_state, jax.tree.leaves(state, is_leaf=is_state))):
        only_state(state)  # says which to give
    return jax.tree.map(of, state, is_leaf=is_state)


def _with_slots(state: Any, params: Params, opt: Optimizer, change: Any) -> Any:
    """`state` with each leaf's slots put through `change(slots, formats, dtype, noise)`."""
    engine, leaves = engine_of(opt), _leaves.flatten(params, "params")

    def of(part: Any) -> Any:
        if not is_state(part):
            return part
        rows, _ = engine.rows(leaves, part)
        new = []
        for path, p, row in zip(leaves.paths, leaves.arrays, rows, strict=True):
            if p is None:
                new.append(row)
                continue
            wide = wide_dtype(p)
            shapes = [None if x is None else stored_shape(x) for x in row]
            forms = engine.layout.formats_of(p.shape, shapes, wide)
            new.append(change(row, forms, wide, engine.noise(path, part.count)))
        return part._replace(slots=engine.slots(leaves, new))

    only_state(state)
    return jax.tree.map(of, state, is_leaf=is_state)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
