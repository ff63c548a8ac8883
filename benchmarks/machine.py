"""What a measurement was made on, and how contenders take turns."""

import gc
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax


def machine() -> dict[str, Any]:
    """Platform, processor, cores and JAX's device."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device = jax.devices()[0].device_kind
    return {"platform": platform.platform(), "cpu": (*models, "")[0], "cores": os.cpu_count(), "device": device}


def versions(*packages: str) -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, **content: Any) -> None:
    """A JSON file that says where its numbers are from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": machine(), "versions": versions("adamx", "jax", "jaxlib", "optax", "flax", "torch", "numpy")}
    path.write_text(json.dumps(about | content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class Spread(NamedTuple):
    """The median of some measurements and the middle half of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one measurement."""
        ordered = sorted(values)
        quarter = len(ordered) // 4
        return cls(median(ordered), ordered[quarter], ordered[-1 - quarter])


def in_turns(contenders: dict[str, Callable[[], None]], rounds: int, least: float = 0.15) -> dict[str, list[float]]:
    """Seconds of a call, each contender once a round, as many calls at a time as fill `least` seconds.

    Python's garbage collector rests meanwhile, as in `timeit`: its pauses grow with all that the contenders hold.
    """
    calls = {}
    for name, call in contenders.items():
        for _ in range(2):  # what the first call gives may be compiled for once more
            call()
        begin = time.perf_counter()
        call()
        calls[name] = max(1, round(least / max(time.perf_counter() - begin, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        for name, call in contenders.items():
            begin = time.perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((time.perf_counter() - begin) / calls[name])
        gc.enable()
    return seconds
