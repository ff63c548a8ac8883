"""Every benchmark's short form, one after the other: `python -m benchmarks [NAME ...]`, or `make bench` for all.

Each has a process of its own, and writes into a folder that is thrown away: committed results stay. Short forms tell
that everything runs and roughly how it stands; the numbers of the documents are of the long ones, on an idle machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

SHORT = {
    "import_time": "",
    "exactness": "",
    "step_time": "--quick",
    "compile_time": "--rounds 1 --leaves 10 100",
    "compile_formats": "--rounds 1 --leaves 50",
    "memory": "--millions 4",
    "monitor_cost": "--rounds 5",
    "wrappers": "--parts tree time --rounds 3",
    "rows": "--rows 10000 --rounds 3 --steps 100",
    "matrix_soap": "--width 64 --layers 1 --rounds 1 --only transcription adamx.soap",
    "scaling": "--parts sums --devices 4",
    "accelerators": "--targets v5e --shapes 4096x4096 --only optax int8",
    "moments_accuracy": "--quick",
    "family": "--quick",
    "matrix": "--layers 1 --words 1000 --width 256 --rounds 3",
    "quality": "--quick",
    "questions": "epsilon",
}
NEEDED = {"accelerators": "libtpu"}
"""Modules that not every environment has, of `accelerators` among the extras."""


def run(name: str) -> bool:
    """Whether a benchmark went well, in short; one that cannot run here says why."""
    title = f"python -m benchmarks.{name} {SHORT[name]}".rstrip()
    if find_spec(NEEDED.get(name, "jax")) is None:
        print(f"\n=== {title}: left out, pip install '.[accelerators]'", flush=True)
        return True
    print(f"\n=== {title}", flush=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *SHORT[name].split()],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
    print(f"=== {time.perf_counter() - begin:.0f} s{'' if done.returncode == 0 else ', FAILED'}", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    choices = ["all", *SHORT]
    parser.add_argument("names", nargs="*", choices=choices, default="all", metavar="NAME", help=", ".join(choices))
    names = parser.parse_args().names
    if failed := [name for name in (SHORT if "all" in names else names) if not run(name)]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
