"""Validation of names and keywords, with errors that suggest the nearest valid one."""

import difflib
from collections.abc import Iterable
from typing import Any

STEP_WORDS = ("clip_norm", "grad_scale", "grad_norm")
"""Keywords of `Optimizer.step` that no `update` reads."""

ELSEWHERE = {"loss": "wrap it in adamx.guard", "weight": "wrap it in adamx.accumulate", "max_norm": "give clip_norm"}
"""Keywords that an optimizer by itself does not read, and the cure."""


def validate_choice(what: str, name: object, options: Iterable[str]) -> str:
    """`name`, if it is one of `options`.

    Raises:
        ValueError: it is not; the message lists the options, and the nearest if one is near.

    Examples:
        >>> validate_choice("decay", "l2", ["l2", "decoupled"])
        'l2'
        >>> validate_choice("decay", "decopled", ["l2", "decoupled"])
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


def refuse_unknown(where: str, given: Iterable[str], options: Iterable[str]) -> None:
    """Raise for keywords that are not read.

    Raises:
        TypeError: one was given; the message lists what `where` reads, and the nearest if one is near.
    """
    for name in given:
        if name in ELSEWHERE:
            raise TypeError(f"{where} of the optimizer does not read {name}: {ELSEWHERE[name]}")
        try:
            validate_choice(f"{where}: keyword", name, options)
        except ValueError as error:
            raise TypeError(f"{error}; leave out what it does not read") from None


def refuse_step_words(where: str, given: Iterable[str]) -> None:
    """Raise for keywords of `Optimizer.step`, misspelt or not; others may belong to another transformation of a chain.

    Raises:
        TypeError: one was given.
    """
    for name in given:
        near = difflib.get_close_matches(name, STEP_WORDS, n=1, cutoff=0.9)
        if near:
            raise TypeError(
                f"{where} does not read {name}: {near[0]} is of `adamx.Optimizer.step`. Take the step by it, or chain "
                "optax.clip_by_global_norm (for clip_norm) or optax.scale (for grad_scale) in front"
            )


def validate_whole(name: str, value: Any, least: int) -> None:
    """Raise unless `value` is a whole number, at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name} = {value!r} should be a whole number, at least {least}")
