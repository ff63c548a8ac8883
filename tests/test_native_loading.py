"""The C++ library is loaded without harm: whatever is wrong with it, JAX works, and `available` says why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.helpers import needs_native

COMPILER = shutil.which(os.environ.get("CXX", "g++"))
STEPPED = """
import jax, jax.numpy as jnp, adamx
opt, params = adamx.adam(1e-3), {"w": jnp.ones(3)}
print(opt.step(params, opt.init(params), params)[0]["w"])
"""
OF_ANOTHER_JAX = """
#include "xla/ffi/api/c_api.h"
#undef XLA_FFI_API_MINOR
#define XLA_FFI_API_MINOR 99
#include "xla/ffi/api/ffi.h"
static xla::ffi::Error Nothing() { return xla::ffi::Error::Success(); }
XLA_FFI_DEFINE_HANDLER_SYMBOL(AdamxStep, Nothing, xla::ffi::Ffi::Bind());
XLA_FFI_DEFINE_HANDLER_SYMBOL(AdamxSums, Nothing, xla::ffi::Ffi::Bind());
XLA_FFI_DEFINE_HANDLER_SYMBOL(AdamxAnswer, Nothing, xla::ffi::Ffi::Bind());
"""


def told(program: str) -> str:
    """What it prints in a process of its own, where JAX has not started."""
    env = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_library(path: Path) -> str:
    return f"import pathlib, adamx\nadamx.kernels.cpu.calls.LIBRARY = pathlib.Path({str(path)!r})\n"


@needs_native
@pytest.mark.parametrize(
    "asked",
    [
        "print(adamx.kernels.available()['native'])",
        "print(adamx.explain(adamx.adam(1e-3), {'w': jax.ShapeDtypeStruct((3,), 'float32')}))",
        "print(jax.jit(lambda x: (print(adamx.kernels.available()['native']), x)[1])(3.0))",
    ],
    ids=["available", "explain", "while_tracing"],
)
def test_asked_before_jax_has_begun_it_is_there_and_jax_works(asked):
    said, weights = told(f"import adamx, jax\n{asked}\n{STEPPED}").rstrip().rsplit("\n", 1)
    assert "yes" in said or ("native" in said and "XLA steps" not in said)
    assert weights == "[0.999 0.999 0.999]"


TRACED = """
import adamx, jax, jax.numpy as jnp
opt = adamx.adam(1e-3)
print(jax._src.xla_bridge.backends_are_initialized(), end=" ")
params = jnp.ones((64, 128))
state, step = opt.init(params), jax.jit(opt.step)
for _ in range(2):
    params, state = step(params, state, params)
print(step._cache_size())
"""


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="older JAX does not trace again what it imported for")
def test_a_first_step_is_traced_once():
    """And JAX has not begun when the optimizer is made: processes may still be told of each other."""
    assert told(TRACED) == "False 1\n"


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_a_library_for_a_younger_jax_is_left_out_and_jax_works(tmp_path):
    source, library = tmp_path / "younger.cc", tmp_path / "younger.so"
    source.write_text(OF_ANOTHER_JAX)
    flags = ["-std=c++17", "-shared", "-fPIC", "-w", f"-I{jax.ffi.include_dir()}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(library)], check=True)
    before = with_library(library) + "print(adamx.kernels.available()['native'])\n"
    why, weights = told(before + STEPPED).splitlines()
    assert why.startswith("younger.so cannot be used with jaxlib") and ".99)" in why
    assert weights == "[0.999 0.999 0.999]"


def test_what_is_no_library_is_left_out_and_jax_works(tmp_path):
    (tmp_path / "broken.so").write_text("nothing")
    before = with_library(tmp_path / "broken.so") + "print(adamx.kernels.available()['native'])\n"
    why, weights = told(before + STEPPED).splitlines()
    assert why.startswith("broken.so cannot be used with jaxlib")
    assert weights == "[0.999 0.999 0.999]"


def test_importing_adamx_starts_nothing():
    assert told("import adamx, jax._src.xla_bridge as b\nprint(b.backends_are_initialized())") == "False\n"
