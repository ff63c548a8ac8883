"""Choices made by name, with an error that says which name was probably meant."""

import difflib
from collections.abc import Iterable


def choose(what: str, name: object, options: Iterable[str]) -> str:
    """`name`, if it is one of `options`.

    Raises:
        ValueError: it is not; the message lists the options, and the nearest if one is near.

    >>> choose("decay", "l2", ["l2", "decoupled"])
    'l2'
    >>> choose("decay", "decopled", ["l2", "decoupled"])
    Traceback (most recent call last):
        ...
    ValueError: decay = 'decopled': did you mean 'decoupled'? Choose from 'l2', 'decoupled'
    """
    options = list(options)
    if isinstance(name, str) and name in options:
        return name
    part_of = [option for option in options if name and str(name) in option]
    near = part_of or difflib.get_close_matches(str(name), options, n=1)
    hint = f"did you mean {' or '.join(map(repr, near[:2]))}? Choose from " if near else "choose from "
    raise ValueError(f"{what} = {name!r}: {hint}{', '.join(map(repr, options))}")
