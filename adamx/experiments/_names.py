"""Choices that a user makes by name, with an error that says which name was probably meant."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def look_up(name: str, choices: Mapping[str, T], kind: str) -> T:
    """Return the choice called `name`, in any case of letters.

    Raises
    ------
    ValueError
        If there is none; the message names the nearest choice, and all of them.

    Examples
    --------
    >>> look_up("Adam", {"adam": 1, "sgd": 2}, "optimizer")
    1
    >>> look_up("adm", {"adam": 1, "sgd": 2}, "optimizer")
    Traceback (most recent call last):
        ...
    ValueError: unknown optimizer 'adm'; did you mean 'adam'? Choose from: adam, sgd
    """
    key = name.strip().lower()
    if key in choices:
        return choices[key]
    containing = [choice for choice in choices if key and key in choice]
    (nearest,) = get_close_matches(key, containing or choices, n=1, cutoff=0.0)
    raise ValueError(f"unknown {kind} {name!r}; did you mean {nearest!r}? Choose from: {', '.join(choices)}")
