"""Validation that a state belongs to its optimizer, and the gradient, parameter and slots of a leaf to each other."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from . import _leaves
from ._layout import Layout, wide_dtype
from ._rule import Modifier
from .moments import Format, format_name, is_code, is_stored_as, stored_shape, validate_stored, with_groups
from .moments.dense import Dense

if TYPE_CHECKING:
    from ._leaf import Leaf

_AS_SAVED = "leave the state out of casts, and restore checkpoints in the dtypes they were saved in"


def validate_state(state: Any, layout: Layout, varying: set[str], rule: Any) -> None:
    """Raise unless count, slots and products of the `varying` decay rates are those of this optimizer."""
    if not all(hasattr(state, name) for name in ("count", "slots", "log_products", "residuals", "begun")):
        raise TypeError(f"{type(state).__name__} is not a state from `init(params)`: order is (grads, state, params)")
    _check_count(state.count)
    validate_slots(state, layout, rule)
    if set(state.log_products or ()) != varying:
        raise ValueError(
            f"the state is of schedules of {sorted(state.log_products or ())}, the optimizer of {sorted(varying)}: the "
            "product of a scheduled decay rate is kept in the state: go on from `adamx.regroup(opt, state, params)`"
        )


def validate_slots(state: Any, layout: Layout, rule: Any) -> None:
    """Raise unless the state's slots are those of `rule`."""
    try:
        layout.tree.flatten_up_to(state.slots)
    except (ValueError, TypeError):
        kept = ", ".join(getattr(state.slots, "_fields", ())) or "none"
        while isinstance(rule, Modifier):
            rule = rule.rule
        raise ValueError(
            f"the state's slots are {kept} in {type(state.slots).__name__}, those of {type(rule).__name__} are "
            f"{', '.join(layout.names) or 'none'}: it is the state of another rule; make one with `init(params)`"
        ) from None


def _check_count(count: Any) -> None:
    whole = isinstance(count, int) or jnp.issubdtype(getattr(count, "dtype", bool), jnp.integer)
    if not whole or isinstance(count, bool) or jnp.shape(count) != ():
        found = _form(count) if hasattr(count, "dtype") else repr(count)
        raise ValueError(
            f"the state's count is {found}: it should be the number of finished steps, an int32 of shape (); "
            f"{_AS_SAVED}, and step states that are stacked in `jax.vmap`"
        )
    known = isinstance(count, (int, np.ndarray, np.generic, jax.Array)) and not isinstance(count, Tracer)
    # NumPy, as inside a branch of `lax.cond` JAX would trace even the comparison of a known count.
    if known and np.asarray(count) < 0:
        raise ValueError(f"the state's count is {count}, not a number of finished steps: make one with `init(params)`")


def leaf_kind(leaf: "Leaf") -> Hashable:
    """Everything that `validate_leaf` reads of a leaf, so that leaves of one kind are validated once."""
    arrays, tree = jax.tree.flatten((leaf.g, leaf.p, leaf.stored, leaf.residual))
    forms = ((getattr(x, "shape", None), getattr(x, "dtype", type(x))) for x in arrays)
    return tree, leaf.rounding, *forms


def validate_leaf(leaf: "Leaf", layout: Layout) -> None:
    """Raise, naming the leaf, unless gradient, parameter, slots and residual belong together."""
    shape, where = jnp.shape(leaf.g), _leaves.show("grads", leaf.path)
    if leaf.p is not None and jnp.shape(leaf.p) != shape:
        raise ValueError(f"{where} has shape {shape}, its parameter {jnp.shape(leaf.p)}")
    kept = None
    if leaf.rounding is not None and leaf.p is not None:
        kept = jax.eval_shape(leaf.rounding.start, leaf.p)
    if _form(kept) != _form(leaf.residual):
        raise ValueError(
            f"beside the parameter of {where} the state keeps {_form(leaf.residual)}, the optimizer {_form(kept)}: "
            "the state was made with another `weights` or for parameters of another dtype. To go on from it, take "
            "`master_params` and make a new one with `from_master`"
        )
    if leaf.p is not None and jnp.iscomplexobj(leaf.p) != jnp.iscomplexobj(leaf.g):
        kinds = ("complex", "real") if jnp.iscomplexobj(leaf.g) else ("real", "complex")
        raise TypeError(f"{where} is {kinds[0]}, its parameter {kinds[1]}: make both the same")
    like = leaf.g if leaf.p is None else leaf.p
    for i, x in enumerate(leaf.stored):
        name = f"{layout.names[i]} of {where}"
        validate_stored(x, name)
        if x is not None and not is_code(x) and not (hasattr(x, "dtype") and hasattr(x, "shape")):
            raise TypeError(f"{name} is {x!r} in the state, not an array: make a state with `init(params)`")
        _check_shape(layout.names[i], where, layout.slots[i].init, x, like, shape)
    wide = wide_dtype(like)
    shapes = [None if x is None else stored_shape(x) for x in leaf.stored]
    for i, form in enumerate(layout.formats_of(shape, shapes, wide)):
        if leaf.stored[i] is not None:
            _check_format(f"{layout.names[i]} of {where}", leaf.stored[i], form, layout, i, np.dtype(wide).kind == "c")


def _check_shape(name: str, where: str, init: Any, x: Any, like: Any, shape: tuple[int, ...]) -> None:
    if x is not None and stored_shape(x) == shape:
        return
    wanted = jax.eval_shape(lambda p: init(p, dtype=np.float32), like)
    if x is None and wanted is not None:
        raise ValueError(
            f"{where} is an array where `init` was given None; if a group froze it before, `adamx.regroup` thaws it"
        )
    if x is not None and (wanted is None or stored_shape(x) != wanted.shape):
        made = f"{name} of its state has {stored_shape(x)}: the state was made from other parameters"
        raise ValueError(f"{where} has shape {shape}, but {made}")


def _check_format(name: str, x: Any, form: Format, layout: Layout, i: int, is_complex: bool) -> None:
    """Raise unless a slot is stored in the optimizer's format, for this leaf or one that this leaf is a part of."""
    slot, kind = layout.slots[i], layout.formats[i]
    if is_stored_as(x, kind, slot.nonnegative):
        return
    coded = not isinstance(form, Dense)
    own = None if is_complex else layout.own_dtype(i)
    wanted = with_groups(kind) if coded or (is_code(x) and own is None) else np.dtype(form.dtype).name
    if is_code(x) or (x.dtype == np.float32 and (coded or (own is not None and wanted != "float32"))):
        found = f"{type(x).__name__} of {with_groups(format_name(x))}" if is_code(x) else x.dtype
        raise ValueError(
            f"{name} is stored as {found} in the state, but the optimizer keeps it in {wanted}: convert the state "
            "with `adamx.convert_state`, whose `from_` is the optimizer that made it"
        )
    # A state that was made for wider weights stays as wide as it is.
    fits = jnp.issubdtype(x.dtype, jnp.inexact) and wide_dtype(x) == x.dtype
    fits = fits and jnp.iscomplexobj(x) == (is_complex and not layout.real[i])
    if not (x.dtype == own if own is not None else fits):
        raise ValueError(f"{name} is {x.dtype} in the state, but the optimizer keeps it in {wanted}: {_AS_SAVED}")


def _form(x: Any) -> str:
    return "nothing" if x is None else f"{x.dtype}{list(x.shape)}"
