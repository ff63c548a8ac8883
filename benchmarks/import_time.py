"""What does `import adamx` cost beside `import optax`? `python -m benchmarks.import_time`."""

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 15
# Installed packages have bytecode; a checkout, too, unless this variable keeps Python from writing it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(module: str) -> float:
    """Wall-clock time of a fresh interpreter that imports `module` and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def main() -> None:
    for module in ("adamx", "optax"):
        seconds(module)  # compiled bytecode and a warm file cache for both
    pairs = [(seconds("adamx"), seconds("optax")) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    print(f"import adamx {ours:.2f} s, import optax {theirs:.2f} s (medians of {ROUNDS}, in turns)")
    print(f"ratio {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
