"""How much memory does an AdamW step move on a GPU or a TPU? Compiled for devices that are not there, and counted.

`python -m benchmarks.accelerators [--targets H100 v5e] [--shapes GPT-2] [--only int8]`. Every case is compiled in a
process of its own, donated parameters and state written over, one after the other. Bytes are those of the arrays that
the instructions of XLA's optimised program read and write (`hlo.py`), beside the ideal: gradients read once, parameters
and state read once and written once. A big kernel is one that touches an array as large as the smallest matrix, so the
least is one for each. This says nothing of speed. flashoptim-jax joins where it is installed.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":  # before JAX is imported: it is not to look for the devices whose compilers are installed
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from .device_steps import CONTENDERS, FEW, REFERENCE, SHAPES, Row, measure
from .deviceless import TARGETS, missing
from .machine import machine, versions, write

TIMES = ("seconds", "processor")
PACKAGES = ("flashoptim-jax", "jax-cuda12-pjrt", "libtpu")


def measured_apart(target: str, case: str, contender: str, limit: float) -> Row:
    """What `measure` finds in another process; "failed" and why, if it failed or took longer than `limit` seconds."""
    command = [sys.executable, "-m", "benchmarks.accelerators", "--case", target, case, contender]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not compiled in {limit:.0f} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    raised = [line for line in done.stderr.splitlines() if line.partition(":")[0].endswith(("Error", "Exception"))]
    return {"failed": f"fails: {(raised or [f'exit {done.returncode}'])[-1][:200]}"}


def merged(rows: list[Row]) -> Row:
    """One row of several rounds: counts of the last, medians of times."""
    if any("failed" in row for row in rows):
        return next(row for row in rows if "failed" in row)
    return rows[-1] | {key: median(row[key] for row in rows) for key in TIMES}


def beside(row: Row, reference: Row) -> Row:
    """The row with its times in units of the reference's, where both were compiled."""
    if "failed" in row or "failed" in reference:
        return row
    return row | {f"{key}_to_optax": row[key] / reference[key] for key in TIMES}


def line(row: Row) -> str:
    """As `HEADINGS` name it."""
    if "failed" in row:
        return f"  {row['failed']}"
    to_optax = f"{row['seconds_to_optax']:10.2f}" if "seconds_to_optax" in row else f"{'–':>10}"
    return (
        f"{row['ideal']:7.2f} {row['bytes']:7.2f} {row['times']:9.2f} "
        f"{row['big']:6,} {row['kernels']:8,} {row['scalars']:8,} "
        f"{row['temporary']:10.2f} {row['seconds']:12.1f} {to_optax}"
    )


WIDTH = max(map(len, CONTENDERS))
HEADINGS = (
    f"{'bytes a parameter':{WIDTH}} {'ideal':>7} {'moved':>7} {'to ideal':>9} "
    f"{'big':>6} {'kernels':>8} {'scalars':>8} {'temporary':>10} {'compiled, s':>12} {'to Optax':>10}"
)


def chosen(shape: str, words: list[str] | None) -> list[str]:
    """The contenders in whose names one of the words is; without words all, or few for many leaves."""
    if words is None:
        return list(FEW if len(SHAPES[shape]) > 1000 else CONTENDERS)
    return [name for name in CONTENDERS if any(word in name for word in words)]


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run with the same compilers; none where there is no such file.

    Raises:
        SystemExit: it was another JAX, another compiler or another processor.
    """
    if not path.exists():
        return {}
    results = json.loads(path.read_text(encoding="utf-8"))
    jax_then, cpu_then = results["versions"]["jax"], results["machine"]["cpu"]
    if (results["compilers"], jax_then, cpu_then) != (versions(*PACKAGES), jax.__version__, machine()["cpu"]):
        raise SystemExit(f"{path} is from other versions or another machine: measure all of it again, without --add")
    return results["shapes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--only", nargs="+", metavar="WORD", help="contenders in whose names one of these words is")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is compiled; times are medians")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a case is given up")
    parser.add_argument("--add", action="store_true", help="to what is in the output file, in place of its like")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("accelerators.json"), help="the JSON file")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(*arguments.case)))
        return
    absent = {target: reason for target in arguments.targets if (reason := missing(target)) is not None}
    if absent:
        parser.exit(1, "\n".join([*absent.values(), "or leave them out of --targets", ""]))
    print(f"jax {jax.__version__}, {versions(*PACKAGES)}, {machine()}")
    results = earlier(arguments.output) if arguments.add else {}
    for case, target in itertools.product(arguments.shapes, arguments.targets):
        rows: dict[str, Row] = results.setdefault(case, {}).setdefault(target, {})
        print(f"\n{target}, {case}\n{HEADINGS}")
        taken: dict[str, list[Row]] = {name: [] for name in chosen(case, arguments.only)}
        for turn, name in itertools.product(range(arguments.rounds), taken):
            taken[name].append(measured_apart(target, case, name, arguments.limit))
            if turn + 1 == arguments.rounds:
                rows[name] = merged(taken[name])
                rows[name] = beside(rows[name], rows.get(REFERENCE, {"failed": ""}))
                print(f"{name:{WIDTH}} {line(rows[name])}", flush=True)
        write(arguments.output, compilers=versions(*PACKAGES), rounds=arguments.rounds, shapes=results)
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
