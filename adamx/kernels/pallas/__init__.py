"""One pass over memory on NVIDIA GPUs and TPUs, by Triton and Mosaic: `kernel="pallas"`, for `elementwise` rules.

A kernel's body is the rule's own `step` between the formats' own `decode` and `encode`: nothing here knows a rule or a
format. To compile on another machine than the one that runs, no device is needed.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._leaf import Step, StepResult
from ..._math import dtype_of
from ...moments import stored_shape
from ...moments.dense import Dense
from ..backend import Backend

_DTYPES = (jnp.float32, jnp.bfloat16)
_MAX_SIZE = 2**31

_OLDEST = (0, 10)
"""The JAX whose Mosaic compiles all formats: others fail when a program is compiled, too late to leave it to XLA."""


def _missing(module: str) -> str | None:
    """Why a part of Pallas is not available; `None` if it is."""
    if jax.__version_info__ < _OLDEST:
        return f"this is JAX {jax.__version__}, and kernels are for {'.'.join(map(str, _OLDEST))} or later"
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
        if x is not None and stored_shape(x) not in (shape, ()):
            return f"{name} is of shape {stored_shape(x)}, not of the leaf's shape {shape}"
    if len({form.group for form in step.formats if form.group}) > 1:
        return "its slots have groups of several sizes"
    size = int(np.prod(shape))
    if not 0 < size < _MAX_SIZE:
        return "there is nothing in it" if size == 0 else "elements are counted in 32 bits"
    return None


def _left_to_xla_on_gpus(step: Step) -> str | None:
    """Why XLA takes a step that a kernel supports: it fuses what has no numbers of groups to find first."""
    from .call import is_small

    return None if is_small("gpu", step) or any(form.group for form in step.formats) else _ONE_PASS


def _left_to_xla_on_tpus(step: Step) -> str | None:
    """Why XLA takes a step that a kernel supports: it fuses what it does not have to lay out anew."""
    from . import call, tpu

    if call.is_small("tpu", step):
        return tpu.why_not_together(step)
    is_plain = step.leaf.rounding is None and all(isinstance(form, Dense) for form in step.formats)
    is_plain = is_plain and step.layout.trails < 2  # XLA takes a second average in a second pass
    return _ONE_PASS if is_plain else tpu.why_not_alone(step)


_ONE_PASS = "XLA makes one pass over memory itself"


def _backend(device: str, platform: str, module: str, left_to_xla: Callable[[Step], str | None]) -> Backend:
    def apply(steps: Sequence[Step], total: Any) -> list[StepResult]:
        from . import call

        return call.apply(device, False, steps, total)

    missing = lambda: _missing(module)  # noqa: E731
    return Backend(
        "pallas", (platform,), missing, unsupported_reason, apply, alone=True, opaque=True, left_to_xla=left_to_xla
    )


GPU = _backend("gpu", "cuda", "jax.experimental.pallas.triton", _left_to_xla_on_gpus)
TPU = _backend("tpu", "tpu", "jax.experimental.pallas.tpu", _left_to_xla_on_tpus)
