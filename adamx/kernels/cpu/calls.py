"""Calls of the C++ library: loading it, where it can be called, and which leaves share a call.

The library is built when adamx is installed and a C++17 compiler is there. It is loaded when first asked for.
"""

import ctypes
import functools
import sys
from collections.abc import Hashable, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from .interface import VERSION

STEP, SUMS, ANSWER = "adamx_step", "adamx_sums", "adamx_answer"
"""The library's functions by the names they are registered under with XLA."""
LIBRARY = Path(__file__).with_name("_native.pyd" if sys.platform == "win32" else "_native.so")
"""The library's path; it does not use Python's C API, so one build serves all Python versions."""

MAX_SHARED_SIZE, MAX_SHARED_LEAVES = 8192, 64
"""Leaves of at most MAX_SHARED_SIZE elements share calls of up to MAX_SHARED_LEAVES: a call costs more than they do."""


def missing() -> str | None:
    """Why the library is not available; `None` if it is."""
    return _load()


@functools.cache
def _load() -> str | None:
    if not LIBRARY.exists():
        return "it was not built: no C++17 compiler was found when adamx was installed, or it failed"
    from concurrent.futures import ThreadPoolExecutor  # not needed to import adamx

    try:
        # A new thread has no traces, meshes or default devices of the caller.
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(_answer).result()
    except Exception as error:  # any error of the loader or of JAX is the reason
        return f"{LIBRARY.name} cannot be used with jaxlib {version('jaxlib')}: {str(error) or repr(error)}"
    if answer != VERSION:
        return f"{LIBRARY.name} is of version {answer} and adamx's Python asks for {VERSION}: install adamx again"
    return None


def _answer() -> int:
    """The version that the library returns when JAX calls it."""
    # JAX checks handlers that were registered before its backend starts, and does not start if it refuses one.
    device = jax.local_devices(backend="cpu")[0]
    library = ctypes.CDLL(str(LIBRARY))
    for target, symbol in ((STEP, "AdamxStep"), (SUMS, "AdamxSums"), (ANSWER, "AdamxAnswer")):
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    call = jax.jit(jax.ffi.ffi_call(ANSWER, jax.ShapeDtypeStruct((), np.int32)))
    return int(jax.device_get(call(jax.device_put(np.int32(VERSION), device))))


def together(kinds: Sequence[Hashable | None]) -> list[list[int]]:
    """Groups of leaves that share a call: up to MAX_SHARED_LEAVES of one kind; kind `None` is a call of its own."""
    calls: list[list[int]] = []
    filling: dict[Hashable, list[int]] = {}
    for i, kind in enumerate(kinds):
        if kind is None:
            calls.append([i])
            continue
        if len(filling.get(kind, ())) in (0, MAX_SHARED_LEAVES):
            filling[kind] = []
            calls.append(filling[kind])
        filling[kind].append(i)
    return calls
