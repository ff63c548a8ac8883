"""What will step each leaf, how it is stored, what that costs, and how the state is spread over devices."""

import collections
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from .. import _leaves, kernels
from .._annotations import Params
from .._engine import Engine
from .._math import dtype_of
from .._transform import Optimizer, owner_of
from ..cuts import has_sharding
from ..kernels.manual import size
from ..moments import format_name
from ..sharding import placement
from ..wrapper import Wrapper, parts_of, patterns_in
from .kept import kept_of_leaves


class LeafPlan(NamedTuple):
    """How one leaf is stepped.

    Attributes:
        path: where it stands.
        kernel: the name of the backend; "none" where one was asked for by name and cannot take it: `step` raises;
            "frozen" where there is no step; "optax" where an Optax transformation takes it.
        formats: how each slot is stored, by name, and what wrappers keep, by where it stands in the state.
        weights: how the parameter takes the step.
        bytes: read and written by one pass over gradient, parameter, slots, residual and what wrappers keep.
        size: the number of its elements.
        why: why the backends before this one do not take it; "" if there are none.
        order_matters: whether some of its slots are stored like its parameter. Donated, they are copied if a jitted
            function takes the state before the parameters and returns it after them.
        device_bytes: of its slots and residual on each device of a mesh.
        shared: why its slots cannot be cut as it is, and the cure; "" if they can.
        pattern: that of its optimizer in `adamx.by_path`; "" if there is one for all.
        group: the pattern of its group and what that sets; "" if it is of none.
    """

    path: str
    kernel: str
    formats: dict[str, str]
    weights: str
    bytes: int
    size: int
    why: str
    order_matters: bool
    device_bytes: int = 0
    shared: str = ""
    pattern: str = ""
    group: str = ""


class Spread(NamedTuple):
    """How a state is spread over a mesh.

    Attributes:
        devices: how many the mesh has.
        bytes: of the whole state.
        device_bytes: of what one device has of it.
        collectives: what devices exchange in a step.
    """

    devices: int
    bytes: int
    device_bytes: int
    collectives: str


class Plan(tuple[LeafPlan, ...]):
    """All leaves, largest first; prints as a table.

    Attributes:
        spread: how the state is spread over a mesh; `None` without one.
    """

    spread: Spread | None = None

    def __str__(self) -> str:
        rows = [["leaf", "kernel", "slots", "weights", "bytes/parameter"]]
        for leaf in self:
            slots = " ".join(f"{name}:{form}" for name, form in leaf.formats.items())
            rows.append([leaf.path, leaf.kernel, slots, leaf.weights, f"{leaf.bytes / max(leaf.size, 1):.2f}"])
        if self.spread is not None:
            told = [
                "state bytes/device",
                *(f"{leaf.device_bytes:,}" for leaf in self),
            ]
            rows = [[*row, cell] for row, cell in zip(rows, told, strict=True)]
        for name in ("pattern", "group"):
            if any(column := [getattr(leaf, name) for leaf in self]):
                rows = [[*row, cell] for row, cell in zip(rows, [name, *column], strict=True)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = sum(leaf.bytes for leaf in self)
        lines.append(f"{len(self)} leaves, {total:,} bytes read and written by a step in one pass")
        reasons = collections.Counter((leaf.kernel, leaf.why) for leaf in self if leaf.why)
        who = {"none": "nobody", "xla": "XLA"}
        lines += [f"{who.get(kernel, kernel)} steps {n} of them: {why}" for (kernel, why), n in reasons.items()]
        if n := sum(leaf.order_matters for leaf in self):
            copied = "1 leaf is" if n == 1 else f"{n} leaves are"
            lines.append(f"donate the parameters before the state: in the other order {copied} copied")
        if (spread := self.spread) is not None:
            here, whole = f"{spread.device_bytes:,} bytes", f"{spread.bytes:,}"
            lines.append(f"each of {spread.devices} devices has {here} of the state's {whole}")
            lines.append(f"collectives of a step: {spread.collectives}")
            lines += [leaf.shared for leaf in self if leaf.shared]
        return "\n".join(lines)


def explain(
    opt: Optimizer,
    params: Params,
    grads: Params = None,
    *,
    platform: str | None = None,
    shardings: Any = None,
    zero: str | None = None,
) -> Plan:
    """Which kernel steps each leaf under `opt.step`, how it is stored, the bytes of a step, and why not faster.

    Args:
        opt: from `adamx.optimizer` or one of the factories.
        params: arrays or `jax.ShapeDtypeStruct`s.
        grads: the gradients, if their dtypes are not those of `params`.
        platform: what the program is lowered for, "cpu", "cuda", "rocm" or "tpu"; JAX's default backend if not given.
        shardings: those of the parameters, see `adamx.state_shardings`; if they are given, or the parameters have some,
            the plan tells how the state is spread over the mesh.
        zero: a mesh axis that slots are cut along, too; see there.

    Returns:
        A tuple of `LeafPlan`s, largest leaf first, that prints as a table: of each the `path`, the `kernel` and `why`
        no better one, the `formats` of its slots, `weights`, `bytes`, `size`. Nothing is computed or allocated.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> shapes = {"w": (512, 512), "b": (512,)}
        >>> params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
        >>> print(adamx.explain(adamx.adamw(1e-3, moments="int8", kernel="xla"), params))
        leaf         kernel  slots             weights  bytes/parameter
        params['w']  xla     mu:int8 nu:int8   nearest  16.06
        params['b']  xla     mu:float32 nu:float32  nearest  28.00
        2 leaves, 4,225,024 bytes read and written by a step in one pass
        XLA steps 2 of them: kernel='xla' was asked for
        donate the parameters before the state: in the other order 1 leaf is copied
    """
    parts_of(opt)  # what is no optimizer is refused before its leaves are
    platform = jax.default_backend() if platform is None else platform
    plans: list[LeafPlan] = []
    patterns: dict[str, str] = {}
    spread, found, is_cut = None, {}, False
    if shardings is not None or zero is not None or has_sharding(params):
        spread, found, is_cut = _spread(opt, params, shardings, zero)

    def by_optax(path: _leaves.Path, p: Any, g: Any) -> LeafPlan:
        moved = sum(x.size * x.dtype.itemsize for x in (g, p, p))
        why = "it has no `step`, and bytes are those of gradient and parameter only"
        where = _leaves.show("params", path)
        return LeafPlan(
            where, "optax", {}, "nearest", moved, p.size, why, False, *found.get(where, (0, "")), patterns[where]
        )

    def of_part(engine: Engine | None, params: Params, grads: Params) -> None:
        leaves = _leaves.flatten(grads, "grads")
        if engine is None:
            rows = zip(leaves.paths, _leaves.match(leaves, params, "params"), leaves.arrays, strict=True)
            plans.extend(by_optax(*row) for row in rows if row[1] is not None and row[2] is not None)
            return
        work = engine.prepare(leaves, engine.init(params), params)
        members = engine.members_of(leaves._replace(arrays=work.parameters))
        for path, p, step, member in zip(leaves.paths, work.parameters, work.steps, members, strict=True):
            where = _leaves.show("params", path)
            if step is None:
                if member.frozen and p is not None:
                    plans.append(
                        LeafPlan(
                            where, "frozen", {}, "", 0, jnp.size(p), "", False, 0, "", patterns[where], str(member)
                        )
                    )
                continue
            leaf = step.leaf
            choice = kernels.choose_backend(engine.kernel, step, platform, is_cut)
            forms = {
                name: format_name(x) for name, x in zip(step.layout.names, leaf.stored, strict=True) if x is not None
            }
            written = jax.tree.leaves((leaf.p, leaf.stored, leaf.residual))
            plans.append(
                LeafPlan(
                    where,
                    choice.backend,
                    forms,
                    member.weights if leaf.rounding is not None else "nearest",
                    sum(x.size * x.dtype.itemsize for x in (leaf.g, *written, *written)),
                    jnp.size(leaf.g),
                    choice.why,
                    kernels.order_matters(choice.backend, step, platform),
                    *found.get(where, (0, "")),
                    patterns[where],
                    str(member),
                )
            )

    bare = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), dtype_of(x)), tree)  # noqa: E731

    def trace(params: Params, grads: Params) -> None:
        leaves = _leaves.flatten(params, "params")
        names = map(functools.partial(_leaves.show, "params"), leaves.paths)
        patterns.update(zip(names, patterns_in(opt, leaves), strict=True))
        for part in parts_of(opt, params, grads):
            of_part(*part)

    shapes = bare(params)
    jax.eval_shape(trace, shapes, shapes if grads is None else bare(grads))
    places = {plan.path: i for i, plan in enumerate(plans)}
    paths = _paths(params)
    for kept in kept_of_leaves(jax.eval_shape(opt.init, shapes), shapes):
        if (i := places.get(paths[kept.leaf])) is not None and (was := plans[i]).kernel != "frozen":
            formats = was.formats | {kept.name: kept.format}
            plans[i] = was._replace(formats=formats, bytes=was.bytes + 2 * kept.bytes)
    plan = Plan(sorted(plans, key=lambda plan: -plan.size))
    plan.spread = spread
    return plan


def _spread(
    opt: Optimizer, params: Params, shardings: Any, zero: str | None
) -> tuple[Spread, dict[str, tuple[int, str]], bool]:
    """How the state is spread over the mesh; by the paths of leaves their bytes on a device, and what is wrong.

    And whether XLA cuts the step's arrays, which on axes of `AxisType.Explicit` their types do.
    """
    mesh, weights, parts, _ = placement(opt, params, shardings, zero)
    paths = _paths(params)
    found: dict[str, tuple[int, str]] = dict.fromkeys(paths, (0, ""))
    whole = here = 0
    for part in parts:
        n = part.array.size * part.array.dtype.itemsize
        own = n // math.prod(size(mesh, names) for names in part.cuts)
        whole, here = whole + n, here + own
        if part.owner is not None:
            path = paths[part.owner]
            found[path] = (found[path][0] + own, found[path][1] or part.shared or "")
    gathered = {part.owner for part in parts if part.is_zero}
    said: list[str] = []
    if gathered or any(any(weight.cuts) for weight in weights):
        said += filter(None, dict.fromkeys(_collectives(engine) for engine, *_ in parts_of(opt)))
        said += _exchanges(opt)
    if gathered:
        said.append(f"an all-gather of the new weights of {len(gathered)} leaves")
    if any(part.shared for part in parts):
        said.append("gathers of the slots whose groups are shared")
    is_cut = mesh.size > 1 and AxisType.Auto in mesh.axis_types
    return Spread(mesh.size, whole, here, "; ".join(said) or "none"), found, is_cut


def _paths(params: Params) -> list[str]:
    return [_leaves.show("params", path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def _collectives(engine: Engine | None) -> str:
    """What devices exchange in the steps of leaves that are cut."""
    if engine is None:
        return "unknown, of an Optax transformation"
    if engine.rule.measures:
        return "an all-reduce of what the rule measures of all leaves"
    if engine.rule.elementwise is None:
        return "unknown, as the rule does not declare `elementwise`"
    return "" if engine.rule.elementwise else "all-reduces of sums along axes that are cut"


def _exchanges(opt: Any) -> list[str]:
    """What they exchange for wrappers."""
    owner = owner_of(opt)
    if not isinstance(owner, Wrapper):
        return []
    return [*filter(None, [owner.exchanges]), *(text for each in owner.inner for text in _exchanges(each))]
