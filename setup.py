"""What pyproject.toml cannot say: the C++ kernel, built where a compiler is, left out where none is."""

import glob
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

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
    "adamx.kernels.cpu._native",
    sources=["adamx/kernels/cpu/step.cc", "adamx/kernels/cpu/sums.cc"],
    depends=sorted(glob.glob("adamx/kernels/cpu/*.h")),
    include_dirs=include,
    extra_compile_args=flags,
    optional=True,
)


class Library(build_ext):
    """A library that has nothing of Python's: no module's entry, and one name under all versions."""

    def get_ext_filename(self, fullname):  # noqa: D102
        return fullname.replace(".", "/") + (".pyd" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext):  # noqa: D102
        return ext.export_symbols


class Wheel(bdist_wheel):
    """One for each platform, whatever Python built it."""

    def get_tag(self):  # noqa: D102
        return "py3", "none", super().get_tag()[2]


setup(ext_modules=[native] if include else [], cmdclass={"build_ext": Library, "bdist_wheel": Wheel})
