"""What pyproject.toml cannot say: the C++ kernel, built where a compiler is, left out where none is."""

import sys

from setuptools import Extension, setup

try:
    import jaxlib

    include = [f"{jaxlib.__path__[0]}/include"]
except ImportError:  # built without isolation and without jaxlib: there is nothing to compile against
    include = None

if sys.platform == "win32":
    flags = ["/std:c++17", "/O2", "/fp:precise"]
else:
    # Products and sums are fused, as XLA does; nothing is reordered. What is given up is errno and traps.
    flags = [
        "-std=c++17",
        "-O3",
        "-g0",
        "-fvisibility=hidden",
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
    ]

native = Extension(
    "adamx.kernels._native",
    sources=["adamx/kernels/native.cc", "adamx/kernels/sums.cc"],
    depends=["adamx/kernels/native.h"],
    include_dirs=include,
    extra_compile_args=flags,
    optional=True,
)

setup(ext_modules=[native] if include else [])
