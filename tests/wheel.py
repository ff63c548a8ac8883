"""The wheel works where no compiler is.

`python tests/wheel.py` takes native steps with the adamx that is installed. `python tests/wheel.py WHEEL PYTHON...`,
which `make dist` calls, looks into the wheel and does that for each Python and JAX in an empty environment, with no
programs on the path but its own.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
JAX = ("jax", "jax==0.10.*", "jax==0.8.0")
"""The newest that a Python gets, and the oldest that pyproject.toml admits."""
PYTHONS = ("3.11", "3.12", "3.13")
LIMIT = 2_000_000
IGNORED = re.compile("/$|^[^/]*[.]dist-info/")
LEFT_OUT = {"CC", "CXX", "PYTHONPATH", "XLA_FLAGS"}
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")


def step() -> str:
    """Versions, after steps that the C++ kernel took.

    Raises:
        AssertionError: it did not, or adamx is that of the checkout.
    """
    from importlib.metadata import version

    import jax
    import jax.numpy as jnp

    import adamx

    assert not Path(adamx.__file__).is_relative_to(ROOT / "adamx"), adamx.__file__
    assert adamx.__version__ == version("adamx")
    assert adamx.kernels.available()["native"] == "yes", adamx.kernels.available()["native"]
    params = {"kernel": jnp.ones((64, 256)), "bias": jnp.ones(3)}
    grads = jax.tree.map(jnp.negative, params)
    for moments in ("float32", "int8"):
        opt = adamx.adamw(1e-3, weight_decay=0.0, moments=moments)
        state = opt.init(params)
        stepped = jax.jit(opt.step).lower(grads, state, params).compile()
        assert "adamx_step" in stepped.as_text(), "XLA took the step"
        after, state = stepped(grads, state, params)
        assert all(jnp.allclose(x, 1.001, rtol=0, atol=2e-5) for x in jax.tree.leaves(after)), after
    return f"Python {sys.version.split()[0]}, jax {jax.__version__}, jaxlib {version('jaxlib')}: native steps"


def look_into(wheel: Path) -> str:
    """What the wheel is, after a look at its name, size and files.

    Raises:
        AssertionError: something is not as it should be.
    """
    assert "-py3-none-manylinux" in wheel.name, wheel.name
    size = wheel.stat().st_size
    assert size <= LIMIT, f"{size:,} bytes"
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist() if not IGNORED.search(name)}
    sources = {str(path.relative_to(ROOT)): path.read_bytes() for path in (ROOT / "adamx").rglob("*.py")}
    library = inside.pop("adamx/kernels/cpu/_native.so")
    assert inside.pop("adamx/py.typed") == b""
    assert inside == sources, sorted(name for name in {*inside, *sources} if inside.get(name) != sources.get(name))
    return f"{wheel.name}: {size:,} bytes, {len(sources)} files of Python, a library of {len(library):,} bytes"


def in_empty_environments(wheel: Path, python: str) -> list[str]:
    """What `step` says under one Python and each JAX."""
    said: list[str] = []
    for jax in JAX:
        asked = jax.partition("==")[2].removesuffix("*")
        if asked and any(f"jax {asked}" in line for line in said):
            continue  # it is this Python's newest
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, "-m", "venv", folder], check=True)
            programs = Path(folder, "bin")
            assert not any(shutil.which(name, path=str(programs)) for name in COMPILERS)
            env = {name: x for name, x in os.environ.items() if name not in LEFT_OUT} | {"PATH": str(programs)}
            pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
            for command in ([*pip, str(wheel), jax], ["-P", __file__]):
                done = subprocess.run(
                    [programs / "python", *command], env=env, cwd=folder, capture_output=True, text=True
                )
                if done.returncode:
                    raise SystemExit(f"{python}, {jax}: {' '.join(command)}\n{done.stdout}{done.stderr}")
            said.append(done.stdout.strip())
    return said


def main() -> None:
    if len(sys.argv) == 1:
        print(step())
        return
    wheel, *pythons = sys.argv[1:]
    print(look_into(Path(wheel)))
    said: list[str] = []
    with ThreadPoolExecutor() as pool:
        for lines in pool.map(lambda python: in_empty_environments(Path(wheel).resolve(), python), pythons):
            print(*lines, sep="\n", flush=True)
            said += lines
    absent = [python for python in PYTHONS if not any(line.startswith(f"Python {python}.") for line in said)]
    if absent:
        print(f"not found, and so not tried: Python {', '.join(absent)}")
    if not said:
        sys.exit(1)


if __name__ == "__main__":
    main()
