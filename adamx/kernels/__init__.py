"""Who takes the whole step of a leaf: `xla`, the reference, or `native`, one pass over memory in C++.

A kernel is given a leaf's `Step`: the rule with its hyperparameters resolved, the stored slots, gradient, parameter and
residual. It says why it cannot take it, if so, and gives the new parameter, the stored slots and the residual.
"""

from typing import Any, Protocol

import jax

from .. import _leaves
from .._leaf import Step
from .._typing import Array
from . import native, xla

KERNELS = ("auto", "xla", "native")


class Kernel(Protocol):
    """One way to take a step."""

    def why_not(self, step: Step) -> str | None:
        """Why it cannot take this step; `None` if it can."""
        ...

    def land(self, step: Step, total: Any) -> tuple[Array, list[Any], Array | None]:
        """The new parameter, the slots as they are stored, and the residual."""
        ...


def available() -> dict[str, str]:
    """Of every kernel, whether it is there, and if not, why.

    >>> import adamx
    >>> adamx.kernels.available()["xla"]
    'yes'
    """
    return {"xla": "yes", "native": native.missing() or "yes"}


def choose(name: str, step: Step) -> Kernel:
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
    if name == "xla":
        return "kernel='xla' was asked for"
    if (missing := native.missing()) is not None:
        return missing
    if name == "auto" and jax.default_backend() != "cpu":
        return f"JAX's default backend is {jax.default_backend()}"
    if jax.device_count() > 1 and not native.is_manual():
        # XLA would gather what is sharded for a call that it cannot look into.
        return f"arrays may be spread over {jax.device_count()} devices: use `jax.shard_map`, where each sees its own"
    return native.why_not(step)
