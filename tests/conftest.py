"""Strict by default: no implicit promotion of dtypes or ranks; four devices to shard over."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("adamx", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("adamx")


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
