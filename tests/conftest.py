"""Strict by default: no implicit promotion of dtypes or ranks; four devices to shard over; compiled once for all."""

import ctypes
import gc
import os
import sys
from pathlib import Path

# All processes of a run share what they compile, and the next run finds it; what a program is, its key says.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)  # of this process: notebooks have one, as users do
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Again for JAX that a plugin imported before the variables were set.
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

STATUS = Path("/proc/self/statm")
hypothesis.settings.register_profile("adamx", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("adamx")


LONG_NOTEBOOKS = ("low_bit_state", "diagnosing_training")


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(items):
    """Two notebooks of five stand for the pages that take longest."""
    for item in items:
        if item.nodeid.startswith(tuple(f"notebooks/{name}.ipynb" for name in LONG_NOTEBOOKS)):
            item.add_marker("product")


@pytest.fixture(autouse=True)
def forgotten():
    """A process keeps all that it compiled, gigabytes over a whole run; from a gigabyte on it starts afresh."""
    yield
    if sys.platform == "linux" and int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 2**30:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # glibc would keep it, in pieces


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def loose():
    """Implicit promotion for one test, where a peer needs it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def one_device(request, monkeypatch):
    """What users have, and C++ asks for; the tests' four devices are for those that say so."""
    if "devices" not in request.keywords:
        monkeypatch.setattr(jax, "device_count", lambda *_: 1)
