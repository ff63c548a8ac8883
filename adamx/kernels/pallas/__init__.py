"""One pass over memory on NVIDIA GPUs (Triton) and TPUs (Mosaic): `kernel="pallas"`, for rules that declare `elementwise`.

A kernel's body is the rule's own `step` between the formats' own `decode` and `encode`: nothing here knows a rule or a
format. To compile on another machine than the one that runs, no device is needed.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._leaf import Step, StepResult
from ..._math import dtype_of
from ...moments import stored_shape
from ...moments.dense import Dense
from ..backend import Backend
from ..traced import kind

_DTYPES = (jnp.float32, jnp.bfloat16)
_MAX_SIZE = 2**31


def _missing(module: str) -> str | None:
    """Why a part of Pallas is not available; `None` if it is."""
    import importlib

    try:
        importlib.import_module(module)
    except ImportError as error:
        return f"this JAX has no {module}: {error}"
    return None


def unsupported_reason(step: Step) -> str | None:
    """Why no kernel supports this step; `None` if one does."""
    leaf, shape = step.leaf, jnp.shape(step.leaf.g)
    if step.rule.elementwise is not True:
        rule = type(getattr(step.rule, "rule", step.rule)).__name__
        return f"{rule} does not declare that an element's step depends on that element alone"
    if step.wide != np.float32:
        return f"the step is computed in {step.wide}"
    for name, x in (("parameter", leaf.p), ("gradient", leaf.g)):
        if dtype_of(x) not in _DTYPES:
            return f"the {name} is {dtype_of(x)}, and kernels take float32 and bfloat16"
    for name, form, x in zip(step.layout.names, step.formats, leaf.stored, strict=True):
        if isinstance(form, Dense) and form.dtype not in _DTYPES:
            return f"{name} is stored in {np.dtype(form.dtype)}, and kernels take float32 and bfloat16"
        if x is not None and stored_shape(x) != shape:
            return f"{name} is of shape {stored_shape(x)}, not of the leaf's shape {shape}"
    size = int(np.prod(shape))
    if not 0 < size < _MAX_SIZE:
        return "there is nothing in it" if size == 0 else "elements are counted in 32 bits"
    return None


def _left_to_xla_on_gpus(step: Step) -> str | None:
    """XLA fuses a step into one pass, unless numbers of groups have to be found first."""
    return None if any(form.group for form in step.formats) else "XLA makes one pass over memory itself"


def _left_to_xla_on_tpus(step: Step) -> str | None:
    plain = step.leaf.rounding is None and all(isinstance(form, Dense) for form in step.formats)
    return "XLA makes one pass over memory itself" if plain else None


def apply(device: str, steps: Sequence[Step], total: Any) -> list[StepResult]:
    """The new parameter, stored slots and residual of each leaf; leaves of one kind share a kernel."""
    from .call import Kernel

    kernels: dict[Hashable, Kernel] = {}
    done = []
    for step in steps:
        if (like := kind(step)) not in kernels:
            kernels[like] = Kernel(device, step, total)
        done.append(kernels[like](step))
    return done


GPU = Backend(
    "pallas",
    ("cuda",),
    lambda: _missing("jax.experimental.pallas.triton"),
    unsupported_reason,
    functools.partial(apply, "gpu"),
    left_to_xla=_left_to_xla_on_gpus,
)
TPU = Backend(
    "pallas",
    ("tpu",),
    lambda: _missing("jax.experimental.pallas.tpu"),
    unsupported_reason,
    functools.partial(apply, "tpu"),
    left_to_xla=_left_to_xla_on_tpus,
)
