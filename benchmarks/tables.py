"""Put the committed measurements into the documents: `python -m benchmarks.tables`.

Between `<!-- name -->` and `<!-- /name -->` stands what the function of that name makes of `benchmarks/results`, or of
the paper's results in `docs`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .report import RESULTS, about, markdown, read
from .scaling_tables import scaling

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("index", "choosing", "memory", "performance", "porting", "scaling", "diagnosing", "training")
    ),
)


def step_time() -> str:
    """Milliseconds of a step, the ratio to Optax's and GB/s, of every case: a table for each make of processor."""
    return "\n\n".join(
        of_processor(path.stem, lambda row: f"{row['milliseconds']['median']:.1f} ms, {ratio(row)}, {speed(row)}")
        for path in sorted(RESULTS.glob("step_time_*.json"))
    )


def wrappers() -> str:
    """Of groups and wrappers the time to that of what they wrap, and bytes of programs for accelerators."""
    results = read("wrappers")
    heading = ("a step", "to", *results["time"], *(f"bytes a parameter, {target}" for target in results["bytes"]))

    def moved(row: dict[str, Any]) -> str:
        return f"{row['bytes']:.1f}" if "bytes" in row else "–"

    first = next(iter(results["time"].values()))
    body = (
        (
            name,
            row["beside"],
            *(f"{rows[name]['ratio']['median']:.2f}" for rows in results["time"].values()),
            *(moved(rows[name]) for rows in results["bytes"].values()),
        )
        for name, row in first.items()
    )
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.wrappers")])


def of_processor(name: str, cell: Callable[[dict[str, Any]], str]) -> str:
    """A table of contenders by cases."""
    results = read(name)
    cases = results["cases"]
    contenders = dict.fromkeys(contender for rows in cases.values() for contender in rows)
    body = ((each, *(cell(rows[each]) if each in rows else "" for rows in cases.values())) for each in contenders)
    heading = ("a step, and its time to Optax's", *cases)
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.step_time --full")])


def ratio(row: dict[str, Any]) -> str:
    return f"{row['to_optax']['median']:.2f}"


def speed(row: dict[str, Any]) -> str:
    return f"{row['gigabytes_per_second']:.0f} GB/s"


def compile_time() -> str:
    """First and later calls by the number of leaves."""
    results = read("compile_time")
    body = (
        (
            f"{int(leaves):,} leaves, {name}",
            f"{row['first']['median']:.2f}",
            f"{row['first_to_optax']['median']:.2f}",
            f"{1e3 * row['later']['median']:.2f}",
            f"{row['later_to_optax']['median']:.2f}",
        )
        for leaves, rows in results["leaves"].items()
        for name, row in rows.items()
    )
    heading = ("", "first call, s", "to Optax", "later calls, ms", "to Optax")
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.compile_time")])


def compile_formats() -> str:
    """First calls by XLA with coded moments."""
    results, keys = read("compile_formats"), ("seconds", "seconds_to_optax", "processor", "processor_to_optax")
    body = (
        (f"{int(leaves):,} leaves, {name}", *(f"{row[key]['median']:.2f}" for key in keys))
        for leaves, rows in results["leaves"].items()
        for name, row in rows.items()
    )
    heading = ("of ten shapes, by XLA", "first call, s", "to Optax", "processor seconds", "to Optax")
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.compile_formats")])


def accelerators() -> str:
    """What steps move on GPUs and TPUs, and how long they take to compile, by shapes."""
    results = read("accelerators")
    parts = []
    for shape, targets in results["shapes"].items():
        ideal = {name: row["ideal"] for rows in targets.values() for name, row in rows.items() if "ideal" in row}
        heading = f"{shape}: bytes a parameter (to the ideal), big kernels of all, temporary"
        body = (
            (name, f"{least:.2f}", *(moved(rows.get(name)) for rows in targets.values()))
            for name, least in ideal.items()
        )
        parts.append(markdown((heading, "ideal", *targets), body))
        body = ((name, *(compiled(rows.get(name)) for rows in targets.values())) for name in ideal)
        parts.append(markdown((f"{shape}: compiled in processor seconds (to Optax)", *targets), body))
    compilers = ", ".join(f"{k} {v}" for k, v in results["compilers"].items() if k != "python")
    return "\n\n".join([*parts, f"{about(results, 'python -m benchmarks.accelerators')}; {compilers}"])


def moved(row: dict[str, Any] | None) -> str:
    if row is None or "failed" in row:
        return row["failed"] if row else ""
    return f"{row['bytes']:.2f} ({row['times']:.2f}), {row['big']:,} of {row['kernels']:,}, {row['temporary']:.2f}"


def compiled(row: dict[str, Any] | None) -> str:
    if row is None or "failed" in row:
        return ""
    return f"{row['processor']:.1f}" + (f" ({row['processor_to_optax']:.1f})" if "processor_to_optax" in row else "")


def memory() -> str:
    """Bytes per parameter that are held, and set aside for a step."""
    results = read("memory")
    body = (
        (name, *(f"{row[key]:.2f}" for key in ("state", "held", "temporary", "rise")))
        for name, row in results["contenders"].items()
    )
    heading = ("bytes per parameter", "state", "with parameters and gradients", "temporary", "rise of the peak")
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.memory")])


def monitor_cost() -> str:
    """A training step of the demo's CNN, monitored or not."""
    results = read("monitor_cost")
    body = (
        (
            f"{way}, {name}",
            f"{1e6 * row['seconds']['median']:.0f}",
            f"{row['to_adam']['median']:.2f} ({row['to_adam']['low']:.2f}–{row['to_adam']['high']:.2f})",
        )
        for way, rows in results["training"].items()
        for name, row in rows.items()
    )
    heading = ("a training step", "µs", "to Adam (middle half)")
    return "\n\n".join([markdown(heading, body), about(results, "python -m benchmarks.monitor_cost")])


def precision() -> str:
    """The direction's error of 8-bit and 16-bit moments, and the loss of the language model."""
    cells, quality = read("moments_accuracy")["cells"], read("quality")
    streams = ("σ = .5", "σ = 2", "drift e⁻²", "|g| 1e-12")
    body = (
        (name, *(f"{cells[name][stream]['error']:.3g}" for stream in streams))
        for name in ("adamx int8", "adamx bfloat16", "flashoptim-jax", "bitsandbytes 8 bits", "Optax bfloat16")
        if name in cells
    )
    losses = (
        (x["name"], f"{x['runs'][0]['bytes_per_parameter']:.2f}", f"{100 * x['final']['difference']:+.2f} %")
        for x in quality["variants"]
    )
    return "\n\n".join(
        [
            markdown(("error of the step's direction", *streams), body),
            "`python -m benchmarks.moments_accuracy`",
            markdown(("a language model, AdamW, 3 seeds", "bytes per parameter", "validation loss to float32"), losses),
            "`python -m benchmarks.quality`",
        ]
    )


def glance() -> str:
    """AdamW beside Optax's: precision, memory, bytes and time of a step."""
    heading = ("AdamW", "Optax", "adamx", 'moments="int8"', 'bfloat16 weights, "split8", "int8"')
    names = ("optax", "adamx", "adamx, moments int8", "adamx, bfloat16 weights, split8, int8")
    directions = read("exactness")["directions"]["random"]
    losses = {x["name"]: x for x in read("quality")["variants"]}
    ours = [losses[name] for name in ("float32", "moments int8", "split8, moments int8")]
    held = 4 + read("memory")["contenders"]["optax"]["state"]
    body = [
        (
            f"error of the float32 direction, b2 = {b2}",
            *(f"{directions[b2][name][-1]:.1e}" for name in ("optax", "adamx")),
        )
        for b2 in ("0.999", "0.99999")
    ]
    held_by_us = (f"{x['runs'][0]['bytes_per_parameter']:.2f}" for x in ours)
    body.append(("bytes a parameter, weights and state", f"{held:.2f}", *held_by_us))
    body.append(
        ("loss of a language model, to float32", "", *(f"{100 * x['final']['difference']:+.2f} %" for x in ours))
    )
    for target, rows in read("accelerators")["shapes"]["GPT-2"].items():
        body.append(
            (
                f"bytes a parameter that a step moves, compiled for {target}",
                *(f"{rows[name]['bytes']:.1f}" for name in names),
            )
        )
    for path in sorted(RESULTS.glob("step_time_*.json")):
        results = read(path.stem)
        rows = {name.replace(" and gradients", ""): x for name, x in results["cases"]["transformer, 124 M"].items()}
        body.append((f"time of a step to Optax's, {results['machine']['cpu']}", *(ratio(rows[name]) for name in names)))
    commands = "`, `".join(
        f"python -m benchmarks.{x}" for x in ("exactness", "memory", "quality", "accelerators", "step_time")
    )
    return "\n\n".join(
        [markdown(heading, [(*row, *[""] * (len(heading) - len(row))) for row in body]), f"`{commands}`"]
    )


def family() -> str:
    """The named optimizers."""
    from adamx.catalogue import table

    return table()


def presets() -> str:
    """Other frameworks' optimizers."""
    from adamx.presets import table

    return table()


def claims() -> str:
    """How many of the paper's claims hold."""
    from paper import page

    return page.summary(page.claims_of(page.read(ROOT / "docs")))


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        step_time,
        compile_time,
        compile_formats,
        accelerators,
        memory,
        monitor_cost,
        precision,
        scaling,
        wrappers,
        glance,
        family,
        presets,
        claims,
    )
}


def filled(text: str) -> str:
    """The document with its tables as they should be."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n{TABLES[found[1]]()}\n<!-- /{found[1]} -->"

    return re.sub(rf"<!-- ({'|'.join(TABLES)}) -->.*?<!-- /\1 -->", table, text, flags=re.S)


def main() -> None:
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
