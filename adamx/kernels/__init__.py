"""Backends that compute the step of a leaf: `xla` is the reference, `native` and `pallas` make one pass over memory.

`native` does so in C++ on CPUs, `pallas` on NVIDIA GPUs and TPUs, by compiling the rule itself into a kernel. A backend
(`backend.Backend`) receives the `Step`s of leaves: the rule with hyperparameters resolved, stored slots, gradient,
parameter and residual. Which backends support a step is found while tracing. Which of these computes it depends on the
platform, and is decided when the program is lowered (`lowering`). To add one, add a folder and a line of `BACKENDS`.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array
from .._leaf import Step, StepResult
from . import cpu, pallas, xla
from .backend import MOMENTS as MOMENTS
from .backend import SQUARE as SQUARE
from .backend import UPDATE as UPDATE
from .backend import Backend
from .backend import Summed as Summed
from .clip import global_norm as global_norm
from .clip import gradient_factor as gradient_factor
from .lowering import Branch, Branches, by_platform
from .manual import named_axes as named_axes
from .offload import HOST as HOST
from .offload import in_turns
from .offload import is_in_host_memory as is_in_host_memory
from .offload import measures as measures
from .offload import on_device as on_device
from .operands import Applied, pack, unpack
from .partitioned import MIN_SIZE, apply_by_parts, apply_on_mesh, explicit_mesh
from .partitioned import part_here as part_here
from .placement import beside as beside
from .placement import cut_as as cut_as
from .placement import keeping_types
from .placement import refuse_shared_groups as refuse_shared_groups
from .sums import Reference, summed

__all__ = ["Kernel", "available"]

BACKENDS: tuple[Backend, ...] = (cpu.BACKEND, pallas.GPU, pallas.TPU, xla.BACKEND)
"""In order of preference; the last supports every step on every platform."""

Kernel: TypeAlias = Literal["auto", "xla", "native", "pallas"]
"""The backend of a step; "auto" is the first of `BACKENDS` that supports it on the platform of the program."""

KERNELS: tuple[str, ...] = get_args(Kernel)


class Choice(NamedTuple):
    """The backend of a leaf's step.

    Attributes:
        backend: its name; "none" if `step` raises.
        why: why the backends before it do not; "" if there are none.
    """

    backend: str
    why: str


def available() -> dict[str, str]:
    """For each backend "yes" if it is available, otherwise the reason why not.

    Returns:
        A dictionary from the names of backends, those of `kernel=`, to "yes" or a reason.

    Examples:
        >>> import adamx
        >>> adamx.kernels.available()["xla"]
        'yes'
    """
    missing: dict[str, list[str]] = {}
    for backend in reversed(BACKENDS):  # some have one name, for different platforms
        missing.setdefault(backend.name, []).extend(filter(None, [backend.missing()]))
    return {name: "; ".join(dict.fromkeys(reasons)) or "yes" for name, reasons in missing.items()}


def choose_backend(name: str, step: Step, platform: str, is_cut: bool = False) -> Choice:
    """The backend of a step under `kernel=name` in a program for `platform`, which XLA cuts over devices or not."""
    asked = [backend for backend in BACKENDS if name in ("auto", backend.name)]
    here = [backend for backend in asked if backend.runs_on(platform)]
    reasons = [f"kernel={name!r} was asked for"] if name == BACKENDS[-1].name else []
    for backend in here:
        reason = _passed_over(name, backend, step)
        if reason is None and is_cut and backend.opaque:
            if platform == "tpu":
                reason = "on axes of AxisType.Auto the TPU's compiler does not ask kernels how they are cut"
            elif name == "auto" and jnp.size(step.leaf.g) < MIN_SIZE:
                reason = f"on axes of AxisType.Auto leaves of less than {MIN_SIZE:,} elements are left to XLA"
        if reason is None:
            return Choice(backend.name, "; ".join(reasons))
        reasons.append(reason)
    if not here:
        reasons.append(f"{name} runs on {', '.join(p for b in asked for p in b.platforms or ())}, not on {platform}")
    return Choice("none", "; ".join(reasons))


def order_matters(name: str, step: Step, platform: str) -> bool:
    """Whether a program that takes donated slots before the parameter and returns them after it copies arrays."""
    cured = platform == "tpu" or (name == "xla" and xla.is_placed_anywhere(platform))
    return not cured and xla.stored_like_parameter(step)


update = in_turns(keeping_types(xla.update))


@in_turns
@keeping_types
def apply(name: str, steps: Sequence[Step | None], total: Any) -> list[StepResult | None]:
    """The results of the steps; `None` where there is no step.

    Raises:
        ValueError: a backend was asked for by name and does not support a step.
        NotImplementedError: it does not run on the platform that the program is lowered for.
    """
    given = [step for step in steps if step is not None]
    if not given:
        return [None] * len(steps)
    take = functools.partial(_apply, [_candidates(name, step) for step in given])
    if given[0].rule.elementwise is True and (mesh := explicit_mesh(given)) is not None:
        take = functools.partial(apply_on_mesh, take, mesh)
    results = iter(take(given, total))
    return [None if step is None else next(results) for step in steps]


def _apply(candidates: list[tuple[Backend, ...]], steps: Sequence[Step], total: Any) -> list[StepResult]:
    """The results of steps, each by one of its backends."""
    others = [i for i, backends in enumerate(candidates) if backends[0].platforms is not None]
    portable = [i for i in range(len(steps)) if i not in set(others)]
    results = [
        *(BACKENDS[-1].apply([steps[i] for i in portable], total) if portable else []),
        *(_by_platform([candidates[i] for i in others], [steps[i] for i in others], total) if others else []),
    ]
    return [results[i] for i in np.argsort([*portable, *others])]


def _candidates(name: str, step: Step) -> tuple[Backend, ...]:
    """The backends that take the step on some platform, in order, up to the first that runs everywhere."""
    found: list[Backend] = []
    reasons: list[str] = []
    for backend in BACKENDS:
        if name not in ("auto", backend.name):
            continue
        if (reason := _passed_over(name, backend, step)) is not None:
            reasons.append(reason)
            continue
        found.append(backend)
        if backend.platforms is None:
            break
    if not found:
        raise ValueError(
            f"kernel={name!r} cannot take the step of {_leaves.show('params', step.leaf.path)}: "
            f"{'; '.join(dict.fromkeys(reasons))}. kernel='auto' leaves such leaves to XLA"
        )
    return tuple(found)


def _passed_over(name: str, backend: Backend, step: Step) -> str | None:
    """Why a backend does not take a step under `kernel=name`; `None` if it does."""
    reason = backend.missing() or backend.unsupported_reason(step)
    return reason if reason is not None or name != "auto" else backend.left_to_xla(step)


def _by_platform(candidates: list[tuple[Backend, ...]], steps: list[Step], total: Any) -> list[StepResult]:
    """The results of steps, each by the first of its backends that runs on the platform."""
    packed, operands, structure = pack(steps, total)
    platforms = dict.fromkeys(p for backends in candidates for b in backends for p in b.platforms or ())
    branches = []
    for platform in (*platforms, None):
        firsts = [
            [b for b in backends if b.platforms is None or platform in b.platforms][:1] for backends in candidates
        ]
        if all(firsts):
            chosen = tuple(first for (first,) in firsts)
            here, whole = None if platform is None else (platform,), Applied(chosen, packed)
            cut = [
                backends[-1] if jnp.size(step.leaf.g) < MIN_SIZE else first
                for backends, first, step in zip(candidates, chosen, steps, strict=True)
            ]
            by_parts = Applied(tuple(cut), packed, apply_by_parts) if any(b.opaque for b in chosen) else whole
            branches.append(Branch(here, whole, any(b.alone for b in chosen), by_parts))
    name = candidates[0][0].name
    return unpack(structure, by_platform(Branches(name, tuple(branches), structure.num_leaves), operands))


def sums(
    name: str, leaves: Sequence[Summed], numbers: Array, kept: int, reference: Reference, axis_names: Sequence[str] = ()
) -> Array:
    """Sums over leaves for diagnostics; of plain ones by the first backend on the platform that has them.

    Args:
        name: the optimizer's `kernel`.
        leaves: the arrays to sum over.
        numbers: three float32 numbers that backends read.
        kept: how many numbers of each leaf are sums; those after them are largest values.
        reference: computes the numbers where no backend does.
        axis_names: axes of the mesh of a `jax.shard_map` that leaves are cut along.

    Returns:
        A float32 array (leaves, reference.width).
    """
    adding = tuple(
        (backend.platforms, backend.alone, backend.sums.apply)
        for backend in BACKENDS
        if name in ("auto", backend.name) and backend.sums is not None and backend.missing() is None
    )
    return summed(adding, leaves, numbers, kept, reference, axis_names)
