"""One pass over memory in C++, called by `jax.ffi`: `kernel="native"`, for the rules in `programs.py`."""

from ..backend import Backend, Sums
from . import calls, step, sums

BACKEND = Backend(
    "native",
    ("cpu",),
    calls.missing,
    step.unsupported_reason,
    step.apply,
    Sums(sums.apply),
    opaque=True,
)
