"""Who takes the whole step of a leaf: `xla`, the reference, or `native`, one pass over memory in C++.

A kernel is given leaves' `Step`s: the rule with its hyperparameters resolved, the stored slots, gradient, parameter and
residual. It says why it cannot take one, if so, and gives the new parameters, the stored slots and the residuals.

What a monitor adds up over a step (`adamx.diagnostics`) may be left to C++ as well, `sums`.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import jax

from .. import _leaves
from .._leaf import Landed, Step
from . import calls, native, xla

Kernel: TypeAlias = Literal["auto", "xla", "native"]
"""Who takes the step; "auto" is native wherever it can."""

KERNELS = ("auto", "xla", "native")


class Backend(Protocol):
    """One way to take a step."""

    def why_not(self, step: Step) -> str | None:
        """Why it cannot take this step; `None` if it can."""
        ...

    def land(self, steps: Sequence[Step], total: Any) -> list[Landed]:
        """Of each leaf the new parameter, the slots as they are stored, and the residual."""
        ...


def available() -> dict[str, str]:
    """Of every kernel, whether it is there, and if not, why.

    >>> import adamx
    >>> adamx.kernels.available()["xla"]
    'yes'
    """
    return {"xla": "yes", "native": calls.missing() or "yes"}


def land(name: str, steps: Sequence[Step | None], total: Any) -> list[Landed | None]:
    """What each leaf's step gives, each taken by its kernel; `None` where there is no step."""
    done: list[Landed | None] = [None] * len(steps)
    chosen = [(i, step, choose(name, step)) for i, step in enumerate(steps) if step is not None]
    for kernel in (native, xla):
        mine = [(i, step) for i, step, who in chosen if who is kernel]
        for (i, _), landed in zip(mine, kernel.land([step for _, step in mine], total), strict=True):
            done[i] = landed
    return done


def choose(name: str, step: Step) -> Backend:
    """The kernel for one leaf.

    Raises:
        ValueError: "native" was asked for and cannot take it.
    """
    if name == "xla":
        return xla
    reason = why_not(name, step)
    if reason is None:
        return native
    if name == "native":
        raise ValueError(
            f"kernel='native' cannot take the step of {_leaves.show('params', step.leaf.path)}: {reason}. "
            "kernel='auto' leaves such leaves to XLA"
        )
    return xla


def why_not(name: str, step: Step) -> str | None:
    """Why the native kernel does not take this leaf's step under `kernel=name`; `None` if it does."""
    return absent(name) or native.why_not(step)


def absent(name: str) -> str | None:
    """Why nothing is left to C++ under `kernel=name`; `None` if it may be."""
    if name == "xla":
        return "kernel='xla' was asked for"
    if name == "auto" and jax.default_backend() != "cpu":
        return f"JAX's default backend is {jax.default_backend()}"
    if (missing := calls.missing()) is not None:
        return missing
    if (devices := jax.device_count("cpu")) > 1 and not calls.is_manual():
        # XLA would gather what is sharded for a call that it cannot look into.
        return f"arrays may be spread over {devices} devices: use `jax.shard_map`, where each sees its own"
    return None
