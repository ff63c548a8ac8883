"""What calls of the C++ library have in common: finding it, who shares a call, and arrays under `shard_map`.

The library is built when adamx is installed and a C++17 compiler is there. It is loaded when first asked for.
"""

import ctypes
import functools
import sys
from collections.abc import Hashable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._typing import Array

STEP, SUMS, ANSWER = "adamx_step", "adamx_sums", "adamx_answer"
"""The library's functions by the names that XLA knows them by."""
VERSION = 2
"""Of what calls say, as native.h has it: a library that was built from other sources is refused."""
LIBRARY = Path(__file__).with_name("_native.pyd" if sys.platform == "win32" else "_native.so")
"""Where it is built: it has nothing of Python's, so one is for all of its versions."""

SMALL, TOGETHER = 8192, 64
"""Leaves of so many elements, which one thread steps, share calls of so many leaves: a call costs more than they do."""


def missing() -> str | None:
    """Why the library is not there; `None` if it is."""
    return _load()


@functools.cache
def _load() -> str | None:
    if not LIBRARY.exists():
        return "it was not built: no C++17 compiler was found when adamx was installed, or it failed"
    from concurrent.futures import ThreadPoolExecutor  # which `import adamx` has no need of

    try:
        # A thread of its own sees nothing of what is being traced, nor of the mesh and the device that were chosen.
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(_answer).result()
    except Exception as error:  # whatever the loader or this JAX objects to is the reason
        return f"{LIBRARY.name} cannot be used with jaxlib {version('jaxlib')}: {str(error) or repr(error)}"
    if answer != VERSION:
        return f"{LIBRARY.name} is of version {answer} and adamx's Python asks for {VERSION}: install adamx again"
    return None


def _answer() -> int:
    """The version that the library says it has, when JAX calls it."""
    # What is registered before JAX has started, it looks at when it starts, and does not start if it refuses it.
    device = jax.local_devices(backend="cpu")[0]
    library = ctypes.CDLL(str(LIBRARY))
    for target, symbol in ((STEP, "AdamxStep"), (SUMS, "AdamxSums"), (ANSWER, "AdamxAnswer")):
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    call = jax.jit(jax.ffi.ffi_call(ANSWER, jax.ShapeDtypeStruct((), np.int32)))
    return int(jax.device_get(call(jax.device_put(np.int32(VERSION), device))))


def is_manual() -> bool:
    """Whether what is being traced sees the arrays of one device only."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)


def together(kinds: Sequence[Hashable | None]) -> list[list[int]]:
    """Which leaves share a call: those of one kind, not too many; one of no kind has its own."""
    calls: list[list[int]] = []
    filling: dict[Hashable, list[int]] = {}
    for i, kind in enumerate(kinds):
        if kind is None:
            calls.append([i])
            continue
        if len(filling.get(kind, ())) in (0, TOGETHER):
            filling[kind] = []
            calls.append(filling[kind])
        filling[kind].append(i)
    return calls


def varying(arrays: Sequence[Array]) -> frozenset[str]:
    """The axes of a `shard_map` along which one of them differs."""
    types: list[Any] = [jax.typeof(x) for x in arrays]
    manual = [getattr(x, "manual_axis_type", x) for x in types]  # before JAX 0.10 the type says it itself
    return frozenset().union(*(x.varying if hasattr(x, "varying") else x.vma for x in manual))


def varying_alike(arrays: Sequence[Array]) -> list[Array]:
    """The arrays, all said to differ along the same axes."""
    axes = varying(arrays)
    lacking = [tuple(sorted(axes - varying([x]))) for x in arrays]
    return [_cast(x, over) if over else x for x, over in zip(arrays, lacking, strict=True)]


def _cast(x: Array, axes: tuple[str, ...]) -> Array:
    lax: Any = jax.lax  # whose name for it changed in JAX 0.8.2
    return lax.pcast(x, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, axes)
