"""Steps in C++ (`step.h`): which are supported, and the calls."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ..._annotations import Array
from ..._descent import Descent
from ..._leaf import Step, StepResult
from ..._math import dtype_of
from ..._rule import StepContext
from ..._weights import ROUNDINGS
from ...moments.bfloat16 import Dithered, DitheredMean
from ...moments.dense import Dense
from ...moments.int8 import Log, Ratio
from ..manual import is_manual, varying, varying_alike
from ..operands import axes_of
from .calls import MAX_SHARED_SIZE, STEP, together
from .interface import MAX_TRAILS, PROGRAMS, SCALARS, VERSION, Decay, Format, Rounding, Unit
from .numbers import table

_ROUNDINGS = {id(rounding): Rounding[name.upper()] for name, rounding in ROUNDINGS.items()}
_FORMATS = MappingProxyType(
    {
        DitheredMean: Format.DITHERED_MEAN,
        Dithered: Format.FLOAT_CODE,
        Log: Format.LOG,
        Ratio: Format.RATIO,
    }
)


def unsupported_reason(step: Step) -> str | None:
    """Why this step is not supported; `None` if it is."""
    rule, leaf, layout = _own(step), step.leaf, step.layout
    if not isinstance(rule, Descent):
        return "it computes whole steps, those of `adamx.optimizer` and the named optimizers"
    if type(rule.rule) not in PROGRAMS:
        names = ", ".join(cls.__name__ for cls in PROGRAMS)
        return f"it knows {names}, not {type(rule.rule).__name__}"
    if (reason := PROGRAMS[type(rule.rule)].unsupported_reason(rule.rule)) is not None:
        return reason
    for name, x in (("parameter", leaf.p), ("gradient", leaf.g)):
        if dtype_of(x) not in (jnp.float32, jnp.bfloat16):
            return f"the {name} is {dtype_of(x)}, and it takes float32 and bfloat16"
    if step.wide != np.float32:
        return f"the step is computed in {step.wide}"
    for name, form in zip(layout.names, step.formats, strict=True):
        if isinstance(form, Dense) and form.dtype not in (jnp.float32, jnp.bfloat16):
            return f"{name} is stored in {np.dtype(form.dtype)}, and it takes float32 and bfloat16"
        if not isinstance(form, Dense) and type(form) not in _FORMATS:
            return f"{name} is stored in {form.name}, which it does not know"
    if np.prod(jnp.shape(leaf.g)) == 0:
        return "there is nothing in it"
    if layout.trails > MAX_TRAILS:
        return f"it follows with {MAX_TRAILS} averages, not {layout.trails}"
    return None


def _own(step: Step) -> Any:
    """The rule of the weights, without the averages that follow them."""
    return step.rule.rule if step.layout.trails else step.rule


def apply(steps: Sequence[Step], total: Any) -> list[StepResult]:
    """The new parameter, stored slots and residual of each leaf."""
    del total
    done: list[StepResult | None] = [None] * len(steps)
    groups = {id(step.shared): step for step in steps}
    scalars, rows = _table([*groups.values()]), list(groups)
    for call in _calls(steps):
        of_call = [steps[i] for i in call]
        landed = _call(of_call, scalars, [rows.index(id(step.shared)) for step in of_call])
        for i, result in zip(call, landed, strict=True):
            done[i] = result
    return cast(list[StepResult], done)


def _calls(steps: Sequence[Step]) -> list[list[int]]:
    """Groups of leaves that share a call; a large one has its own, which starts as soon as its gradient is there.

    Under `shard_map` the results of a call vary over all axes that its operands vary over.
    """
    manual = is_manual()

    def kind(step: Step) -> tuple[Any, ...]:
        told = tuple(tuple(x) if isinstance(x, np.ndarray) else x for x in _attributes(step).values())
        return (*told, varying([step.leaf.g, *_in_place(step)]) if manual else None)

    return together([None if jnp.size(step.leaf.g) > MAX_SHARED_SIZE else kind(step) for step in steps])


def _call(steps: Sequence[Step], scalars: Array, of_leaves: Sequence[int]) -> list[StepResult]:
    """The steps of leaves with equal attributes, in one call; `of_leaves` are the rows of their scalars."""
    leaves = [step.leaf for step in steps]
    rows, first = [_in_place(step) for step in steps], 2 + len(steps)
    operands = [
        scalars,
        _bits(steps, of_leaves),
        *(jnp.asarray(leaf.g) for leaf in leaves),
        *(x for row in rows for x in row),
    ]
    if is_manual():
        operands = varying_alike(operands)
    call = jax.ffi.ffi_call(
        STEP,
        operands[first:],  # results have their types and shardings
        input_output_aliases={i: i - first for i in range(first, len(operands))},
        vmap_method="broadcast_all",
    )
    axes = np.asarray([x for step in steps for x in _axes(step)], np.int64)
    changed = iter(call(*operands, **_attributes(steps[0]), axes=axes))
    landed: list[StepResult] = []
    for leaf, row in zip(leaves, rows, strict=True):
        p, *rest = (next(changed) for _ in row)
        residual = None if leaf.residual is None else rest.pop(0)
        landed.append((p, jax.tree.unflatten(jax.tree.structure(leaf.stored), rest), residual))
    return landed


def _in_place(step: Step) -> list[Array]:
    """The arrays that a step changes, in the kernel's order: parameter, residual if any, the arrays of each slot."""
    leaf = step.leaf
    return [jnp.asarray(leaf.p), *([] if leaf.residual is None else [leaf.residual]), *jax.tree.leaves(leaf.stored)]


def _attributes(step: Step) -> dict[str, Any]:
    """The static attributes of a call: the rule, weight decay, rounding, and the storage of slots."""
    leaf, program, trails = step.leaf, step.shared.once("native", lambda: None), step.layout.trails
    slots = [i for i, x in enumerate(leaf.stored) if x is not None]
    purposes = [i + step.layout.slots[i].trails for i in slots]
    return {
        "version": VERSION,
        "rule": int(program.rule),
        "flags": int(program.flags),
        "decay": int(_decay(step)),
        "trails": trails,
        "rounding": int(Rounding.NEAREST if leaf.rounding is None else _ROUNDINGS[id(leaf.rounding)]),
        "formats": np.asarray([_format(step.formats[i]) for i in slots], np.int64),
        "groups": np.asarray([step.formats[i].group for i in slots], np.int64),
        "units": np.asarray([program.unit if step.layout.slots[i].unit else Unit.NONE for i in slots], np.int64),
        "turns": np.asarray([step.noise.to(i).turn for i in (*purposes, len(step.layout.slots) - trails)], np.int64),
    }


def _format(form: Any) -> Format:
    if isinstance(form, Dense):
        return Format.FLOAT if form.dtype == jnp.float32 else Format.BFLOAT16
    return _FORMATS[type(form)]


def _bits(steps: Sequence[Step], of_leaves: Sequence[int]) -> Array:
    """Of each leaf the step number, the key, the first element's number and the row of its scalars.

    All but that are 0 if nothing is random.
    """
    first, rows = steps[0], np.asarray(of_leaves, np.uint32)
    if not first.is_random:
        return jnp.asarray(np.stack([0 * rows, 0 * rows, 0 * rows, rows], axis=1))
    count = jnp.broadcast_to(first.shared.count.astype(jnp.uint32), len(steps))
    firsts = [np.uint32(0) if step.noise.part is None else step.noise.part.first for step in steps]
    return jnp.stack([count, _stacked([step.noise.key for step in steps]), _stacked(firsts), rows], axis=1)


def _stacked(numbers: Sequence[Any]) -> Array:
    known = not any(isinstance(x, jax.Array) for x in numbers)
    return jnp.asarray(np.stack(numbers)) if known else jnp.stack(numbers)


def _axes(step: Step) -> list[int]:
    """How a part's elements are numbered: the number of axes, then length and stride of each; 0 if one by one."""
    part, shape = step.noise.part, jnp.shape(step.leaf.g)
    if part is None or not step.is_random or 0 in shape:
        return [0]
    axes = axes_of(part, shape)
    if len(axes) == 1 and axes[0][1] == 1:
        return [0]
    return [len(axes), *(x for length, stride in axes for x in (length, stride % 2**32))]


def _decay(step: Step) -> Decay:
    rule, here = _own(step), StepContext(step.shared.count, None, step.leaf.decays)
    kind = rule.decay
    if not here.decays_by(rule.weight_decay):
        return Decay.NONE
    if kind == "after":
        return Decay.PROXIMAL
    return Decay[kind.upper()] if kind in ("l2", "cautious", "proximal") else Decay.SHRINK


def _table(steps: Sequence[Step]) -> Array:
    """The numbers of the group of each step, float32, (groups, numbers); after it each knows its program."""
    given = [(step, _own(step), step.shared.t(np.dtype(np.float32))) for step in steps]
    return table(lambda: [_resolved(*one) for one in given])


def _resolved(step: Step, descent: Descent, t: Array) -> list[Any]:
    """The numbers of a rule, in the order of `SCALARS`, which all leaves of a group share."""
    program = PROGRAMS[type(descent.rule)].program(descent.rule, t)
    step.shared.once("native", lambda: program._replace(scalars={}))
    rate, decay = descent.learning_rate, descent.weight_decay
    shrink: Any = rate
    if descent.decay == "independent":
        shrink = rate / descent.lr_max
    elif descent.decay == "constant":
        shrink = 1.0
    elif descent.decay == "after":
        shrink = rate * decay
    elif descent.decay == "proximal":
        shrink = rate * decay / (1 + rate * decay)
    scale = 1.0 if step.shared.grad_scale is None else step.shared.grad_scale
    scale = -scale if descent.maximize else scale
    numbers = dict.fromkeys(SCALARS, 1.0) | {"eps": 0.0, "eps_root": 0.0} | program.scalars
    numbers |= {"grad_scale": scale, "learning_rate": rate, "shrink": shrink, "weight_decay": decay}
    if step.layout.trails:
        numbers |= zip(("first_share", "second_share"), step.rule.shares, strict=False)
    return [numbers[name] for name in SCALARS]
