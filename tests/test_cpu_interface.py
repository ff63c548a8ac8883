"""The numbers that Python and C++ tell each other stand in two files that say the same."""

import enum
import re
from pathlib import Path

import pytest

from adamx._weights import ROUNDINGS
from adamx.diagnostics._sums import ADDED, COUNTS, LARGEST, Sums
from adamx.kernels import backend
from adamx.kernels.cpu import calls, interface

COUNTED = tuple(name for name in COUNTS if name != "size")
HEADER = Path(interface.__file__).with_name("interface.h")
pytestmark = pytest.mark.skipif(not HEADER.exists(), reason="installed without its sources")


def source() -> str:
    return re.sub(r"//.*", "", HEADER.read_text())


def enumeration(name: str) -> dict[str, int]:
    """Of each name its number; kFloatCode as floatcode."""
    found = re.search(rf"enum (?:class )?{name} {{(.*?)}}", source(), re.DOTALL)
    assert found, name
    numbers: dict[str, int] = {}
    for i, entry in enumerate(found[1].split(",")):
        word, _, number = entry.partition("=")
        numbers[word.strip().removeprefix("k").lower()] = int(number or i)
    return numbers


def fields(name: str) -> list[str]:
    """A struct's numbers in their order."""
    found = re.search(rf"struct {name} {{(.*?)}};", source(), re.DOTALL)
    assert found, name
    told: list[str] = []
    for kind, names in re.findall(r"(\w+) ([\w, ]+);", found[1]):
        for each in re.split(r",\s*", names):
            told += [each] if kind == "float" else [f"{each}_{part}" for part in fields(kind)]
    return told


@pytest.mark.parametrize("of", ["Rule", "Flags", "Decay", "Rounding", "Format", "Unit"])
def test_an_enumeration_has_the_same_names_and_numbers(of):
    python: type[enum.IntEnum] = getattr(interface, of)
    assert {x.name.replace("_", "").lower(): x.value for x in python} == enumeration(of)


def test_a_steps_numbers_come_in_the_same_order():
    assert list(interface.SCALARS) == fields("Scalars")


def test_the_version_is_the_same():
    assert re.findall(r"kVersion = (\d+);", source()) == [str(interface.VERSION)]
    assert calls.VERSION is interface.VERSION


def test_as_many_averages_follow_a_step():
    assert re.findall(r"kTrails = (\d+);", source()) == [str(interface.MAX_TRAILS)]


def test_sums_and_what_they_are_given_have_the_same_numbers():
    assert enumeration("Given") == {"moments": backend.MOMENTS, "square": backend.SQUARE}
    for name, told in (("Added", ADDED), ("Counted", COUNTED), ("Largest", LARGEST)):
        assert list(enumeration(name)) == [*(x.replace("_", "") for x in told), name.lower()]
    assert Sums._fields == ("size", *ADDED, *COUNTED, *LARGEST)
    assert fields("Numbers") == ["scale", "root", "eps"]


def test_every_rounding_has_a_number():
    assert [name.lower() for name in interface.Rounding.__members__] == list(ROUNDINGS)
