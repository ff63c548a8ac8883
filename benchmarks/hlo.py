"""Bytes that a compiled program moves, and kernels that it starts, counted in the text of its optimised HLO.

`compiled.as_text()` is all that is needed, so a program for a GPU or a TPU can be counted where there is none. XLA's
own `cost_analysis` is no help: on TPU it is negative or counts twice, on GPU it is `None`.

What is counted: each instruction of the entry computation reads its operands from the device's memory and writes its
results to it, once, as they lie there: a TPU pads the last axes of an array to whole tiles. Left out are instructions
that do nothing when the program runs, and arrays in another memory space than the device's main one, such as `S(1)`, a
TPU's VMEM. What only takes a slice of an array reads the slice. A loop counts as often as it runs.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, cast


class Array(NamedTuple):
    """An array of an HLO type.

    Attributes:
        size: the number of elements.
        bytes: how much memory it occupies, its padding included.
        main: whether that is the device's main memory.
    """

    size: int
    bytes: int
    main: bool


class Work(NamedTuple):
    """What an instruction does when the program runs.

    Attributes:
        name: the instruction's name.
        read: bytes read from the device's main memory.
        written: bytes written to it.
        size: elements of the largest array that it touches, in whichever memory.
        kind: a "kernel", an asynchronous "copy", or a "scalar", which a TPU's scalar unit computes.
    """

    name: str
    read: int
    written: int
    size: int
    kind: Literal["kernel", "copy", "scalar"]


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str


Computation = dict[str, Instruction]

FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
        *("after-all", "add-dependency", "opt-barrier", "partition-id", "replica-id"),
    }
)
"""Opcodes of what does nothing when the program runs."""

FREE_CALLS = frozenset({"AllocateBuffer", "ConcatBitcast"})
"""Targets of custom calls that do nothing either: they name memory, or pieces that lie side by side as a whole."""

SLICES = frozenset({"slice", "dynamic-slice"})


def work(text: str, rounds: int | None = None) -> list[Work]:
    """What the entry computation of an optimised HLO module does, in order.

    Args:
        text: of the module.
        rounds: how often loops run whose number of iterations XLA does not know.

    Raises:
        ValueError: there is no entry computation, such a loop without `rounds`, or a choice between branches.
    """
    computations = dict(_computations(re.sub(r"/\*.*?\*/", "", text)))
    entry = next((name for name in computations if name.startswith("ENTRY ")), None)
    if entry is None:
        raise ValueError("no line begins with ENTRY: this is no text of an HLO module")
    return list(_of(computations[entry], computations, rounds))


EXCHANGES = frozenset(
    {"all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "reduce-scatter"}
)
"""Opcodes of what devices do together."""


def exchanges(text: str) -> list[tuple[str, int]]:
    """Opcode and bytes of the results, on one device, of what devices do together, each as often as the text has it."""
    lines = (x for _, computation in _computations(re.sub(r"/\*.*?\*/", "", text)) for x in computation.values())
    found = ((x.opcode.removesuffix("-done"), x.arrays) for x in lines)
    return [(opcode, sum(x.bytes for x in arrays)) for opcode, arrays in found if opcode in EXCHANGES]


# Counting


def _of(computation: Computation, computations: dict[str, Computation], rounds: int | None) -> Iterator[Work]:
    def called(key: str, attributes: str) -> Computation:
        return computations[_found(rf"\b{key}=%?([\w.\-]+)", attributes)]

    def inside(key: str, attributes: str) -> Iterator[Work]:
        return _of(called(key, attributes), computations, rounds)

    for name, arrays, opcode, operands, attributes in computation.values():
        if opcode in FREE or opcode.endswith(("-start", "-update")):
            continue
        if opcode == "custom-call" and _found(r'custom_call_target="([^"]*)"', attributes) in FREE_CALLS:
            continue
        if opcode == "conditional":
            raise ValueError(f"{name}: which branch is taken, the text does not say")
        if opcode == "call":
            yield from inside("to_apply", attributes)
        elif opcode == "while":
            known = "known_trip_count" in attributes or rounds is None
            times = int(_found(r'"known_trip_count":\{"n":"(\d+)"', attributes)) if known else cast(int, rounds)
            yield from (x for _ in range(times) for x in inside("body", attributes))
            yield from (x for _ in range(times + 1) for x in inside("condition", attributes))
        elif opcode.endswith("-done"):
            start = computation[operands[0]]
            moved = called("calls", start.attributes) if start.opcode == "async-start" else None
            does = next(reversed(moved.values())).opcode if moved else opcode.removesuffix("-done")
            read = [x for operand in start.operands for x in computation[operand].arrays]
            yield _work(name, [_part(arrays, read[0])] if does in SLICES else read, arrays, "copy")
        else:
            inner = called("calls", attributes) if opcode == "fusion" else None
            scalar = all(x.size == 1 and not x.main for x in arrays)
            read = list(_read(computation, operands, opcode, arrays, inner))
            yield _work(name, read, arrays, "scalar" if scalar else "kernel")


def _work(
    name: str, read: Sequence[Array], written: Sequence[Array], kind: Literal["kernel", "copy", "scalar"]
) -> Work:
    size = max((x.size for x in (*read, *written)), default=0)
    return Work(name, _in_main(read), _in_main(written), size, kind)


def _in_main(arrays: Iterable[Array]) -> int:
    return sum(x.bytes for x in arrays if x.main)


def _read(
    computation: Computation,
    operands: Iterable[str],
    opcode: str,
    results: tuple[Array, ...],
    inner: Computation | None,
) -> Iterator[Array]:
    """What an instruction reads of each operand: all of it, or the slices that it takes."""
    for i, operand in enumerate(operands):
        arrays = computation[operand].arrays
        if opcode in SLICES:
            yield _part(results, arrays[0]) if i == 0 else arrays[0]
        elif inner is not None and len(arrays) == 1 and (slices := _slices_of_parameter(inner, i)) is not None:
            yield min(arrays[0], _part(slices, arrays[0]), key=lambda x: x.bytes)
        else:
            yield from arrays


def _part(slices: Iterable[Array], array: Array) -> Array:
    """All slices of an array as one, which lies where the array does."""
    slices = list(slices)
    return Array(sum(x.size for x in slices), sum(x.bytes for x in slices), array.main)


def _slices_of_parameter(fused: Computation, index: int) -> list[Array] | None:
    """The slices that a fused computation takes of a parameter; `None` if it does anything else with it."""
    parameters = (x for x in fused.values() if x.opcode == "parameter" and x.operands == (str(index),))
    names, slices = {x.name for x in parameters}, []
    for instruction in fused.values():
        if not names.intersection(instruction.operands):
            continue
        if instruction.opcode == "bitcast":
            names.add(instruction.name)
        elif instruction.opcode in SLICES and instruction.operands[0] in names:
            slices.extend(instruction.arrays)
        else:
            return None
    return slices or None


# Reading


def _computations(text: str) -> Iterator[tuple[str, Computation]]:
    """Name and instructions of each computation; that of the entry begins with "ENTRY "."""
    name, computation = "", {}
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$", line):
            name, computation = f"{header[1] or ''}{header[2]}", {}
        elif line.startswith("}"):
            yield name, computation
        elif (instruction := _instruction(line)) is not None:
            computation[instruction.name] = instruction


def _instruction(line: str) -> Instruction | None:
    found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line)
    if found is None:
        return None
    rest = line[found.end() :]
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    rest = rest[len(opcode) :]
    end = _closing(rest)
    inside = rest[1 : end - 1]
    operands = (inside,) if opcode == "parameter" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(found[1], tuple(_arrays(kind)), opcode, operands, rest[end:])


def _closing(text: str) -> int:
    """Where the parenthesis that the text begins with has closed."""
    depth = 0
    for parenthesis in re.finditer(r"[()]", text):
        depth += 1 if parenthesis[0] == "(" else -1
        if depth == 0:
            return parenthesis.end()
    raise ValueError(f"a parenthesis stays open: {text[:80]}")


def _arrays(kind: str) -> Iterator[Array]:
    """The arrays of a type such as `(f32[8,128]{1,0:T(8,128)S(1)}, u32[])`."""
    for dtype, shape, layout in re.findall(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?", kind):
        dims = [int(n) for n in shape.split(",") if n]
        space = re.search(r"S\((\d+)\)", layout)
        main = space is None or space[1] == "0"
        yield Array(math.prod(dims), _occupied(dims, layout) * _bits(dtype) // 8, main)


def _occupied(dims: list[int], layout: str) -> int:
    """The elements of an array and of its padding, which fills the innermost axes up to whole tiles.

    A tile may be tiled again, as in `T(8,128)(4,1)`: that orders its elements and pads nothing.
    """
    order, _, tiles = layout.partition(":")
    innermost_first = [int(n) for n in order.split(",") if n] or list(reversed(range(len(dims))))
    sizes = [dims[i] for i in innermost_first]
    tile = re.match(r"T\(([\d,]+)\)", tiles)
    for i, n in enumerate(reversed(tile[1].split(",")) if tile else ()):
        if i < len(sizes):
            sizes[i] = -(-sizes[i] // int(n)) * int(n)
    return math.prod(sizes)


def _bits(dtype: str) -> int:
    """Of an element; a token has none."""
    width = re.search(r"\d+", dtype)
    return 8 if dtype == "pred" else int(width[0]) if width else 0


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"{pattern} is not in {text[:200]}")
    return found[1]
