"""Strict by default: no implicit promotion of dtypes or ranks; four devices to shard over; compiled once for all."""

import ctypes
import gc
import os
import sys
from pathlib import Path

from tests.compiling import XLA_FLAGS

# All processes of a run share what they compile, and the next run finds it; what a program is, its key says.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if "ADAMX_COMPILE_QUICKLY" in os.environ:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}"

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)  # of this process: notebooks have one, as users do
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Again for JAX that a plugin imported before the variables were set.
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)

STATUS = Path("/proc/self/statm")
hypothesis.settings.register_profile("adamx", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("adamx")


STUDIES = (
    *(f"tests/examples/test_{of}.py" for of in ("training", "models")),
    *(f"tests/paper/test_{of}.py" for of in ("figure1", "figure2", "figure3", "figure4", "sweep", "comparison")),
    *(f"tests/test_{of}.py" for of in ("questions", "quality", "regret")),
    *(f"notebooks/{of}.ipynb" for of in ("anatomy_of_adam", "write_your_own_rule", "low_bit_state")),
    *("notebooks/diagnosing_training.ipynb", "docs/diagnosing.md"),
)
"""What trains for minutes and depends on the library as its users do; `make test` runs the demo and a notebook."""


def pytest_ignore_collect(collection_path, config):
    """What `make test` leaves out it does not import: scikit-learn's data, models, figures."""
    path = str(collection_path)
    return True if config.option.markexpr == "not product" and path.endswith(STUDIES) else None


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(items):
    """Leave the studies to `make test-all`."""
    for item in items:
        if item.nodeid.startswith(STUDIES):
            item.add_marker("product")


class Forgetful:
    """A process keeps all that it compiled, gigabytes over a whole run; from a gigabyte on it starts afresh."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        if sys.platform == "linux" and int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 2**30:
            jax.clear_caches()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # glibc would keep it, in pieces


def pytest_configure(config):
    """As a plugin, it also comes after doctests, which stand outside this folder."""
    config.pluginmanager.register(Forgetful())


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
