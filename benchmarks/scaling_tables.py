"""The tables of `benchmarks.scaling`."""

from collections.abc import Callable
from typing import Any

from .report import about, markdown, read


def scaling() -> str:
    """What a device holds of the state, and what devices exchange in a step, by strategy and format."""
    results = read("scaling")
    source = f"{about(results, 'python -m benchmarks.scaling')}; libtpu {results['compilers']['libtpu']}"
    return "\n\n".join([*(PARTS[part](results[part]) for part in PARTS), source])


def by_strategy(results: dict[str, dict[str, Any]]) -> str:
    names = next(iter(results.values()))
    heading = ("MB of the state on a device (to an equal share); exchanges", *names)
    cells = lambda rows: (on_device(rows[name]) if name in rows else "" for name in names)  # noqa: E731
    return markdown(heading, ((strategy, *cells(rows)) for strategy, rows in results.items()))


def on_device(row: dict[str, Any]) -> str:
    return f"{row['bytes'] / 1e6:.2f} ({row['bytes'] / row['share']:.2f}); {exchanged(row)}"


def exchanged(row: dict[str, Any]) -> str:
    return ", ".join(f"{n} {opcode}" for opcode, n in sorted(row["exchanges"].items())) or "none"


def by_sums(results: dict[str, dict[str, Any]]) -> str:
    heading = ("exchanges in a step", *results)
    names = next(iter(results.values()))
    return markdown(heading, ((name, *(exchanged(rows[name]) for rows in results.values())) for name in names))


def of_topology(results: dict[str, dict[str, Any]]) -> str:
    of_state = "MB of the state on a device (to an equal share)"
    heading = ("GPT-2 of two layers, FSDP on v5e 4x4", of_state, "exchanges", "MB temporary")
    body = ((name, *on_device(row).split("; "), f"{row['temporary'] / 1e6:.2f}") for name, row in results.items())
    return markdown(heading, body)


def of_kernels(results: dict[str, dict[str, Any]]) -> str:
    heading = ("16 M parameters over 8 devices of a CPU", "jit, ms", "shard_map, ms", "jit to shard_map")
    body = (
        (
            name,
            *(f"{1e3 * row[way]['median']:.1f}" for way in ("jit", "shard_map")),
            f"{row['ratio']['median']:.2f} ({row['ratio']['low']:.2f}–{row['ratio']['high']:.2f})",
        )
        for name, row in results.items()
    )
    return markdown(heading, body)


PARTS: dict[str, Callable[[dict[str, dict[str, Any]]], str]] = {
    "formats": by_strategy,
    "sums": by_sums,
    "topology": of_topology,
    "kernels": of_kernels,
}
"""One table after the other, by the name of its part in the results."""
