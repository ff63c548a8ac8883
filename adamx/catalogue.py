"""What optimizers there are, and what each is: read off the factories themselves, never typed again."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._factory import FACTORIES, Optimizer
from ._names import validate_choice


class Description(NamedTuple):
    """What an optimizer is.

    Attributes:
        name: of the factory, `adamx.<name>`.
        summary: what it does, in a line.
        reference: the paper.
        state: floats of state for each parameter of a large matrix.
        defaults: the factory's arguments and their defaults; "required" for those that have none.
    """

    name: str
    summary: str
    reference: str
    state: float
    defaults: dict[str, Any]

    def __str__(self) -> str:
        width = max(map(len, self.defaults))
        arguments = (f"  {argument:<{width}}  {_show(value)}" for argument, value in self.defaults.items())
        return "\n".join(
            [
                f"adamx.{self.name}: {self.summary}",
                f"reference: {self.reference}",
                f"state: {self.state:g} floats for each parameter",
                "arguments:",
                *arguments,
            ]
        )


def names() -> list[str]:
    """The names of all optimizers, Adam and its nearest kin first; public as `adamx.list`.

    Returns:
        A list of strings.

    Examples:
        >>> import adamx
        >>> adamx.list()[:3]
        ['adam', 'adamw', 'adamax']
    """
    return [*FACTORIES]


def describe(name: str) -> Description:
    """What the optimizer `adamx.<name>` is: its reference, its state's size, its defaults.

    Args:
        name: the factory's name, one of `adamx.list()`.

    Returns:
        A named tuple of strings and numbers, which prints as text: name, summary, reference, floats of state for each
        parameter, and the defaults of its arguments by name.

    Raises:
        ValueError: there is no such optimizer; the message names the nearest.

    Examples:
        >>> import adamx
        >>> print(adamx.describe("lion"))
        adamx.lion: The sign of an interpolated momentum; steps 3 to 10 times smaller than Adam's.
        reference: arXiv:2302.06675
        state: 1 floats for each parameter
        arguments:
          learning_rate  required
          b1             0.9
          b2             0.99
          mu_dtype       None
          weight_decay   0.001
          mask           None
          mode           'hard'
          smooth_beta    1.0
          decay          'decoupled'
          lr_max         None
          moments        'float32'
          weights        'nearest'
          seed           0
          kernel         'auto'
          groups         ()
    """
    factory = FACTORIES[validate_choice("optimizer", name, FACTORIES)]
    headline = inspect.cleandoc(factory.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    found = re.fullmatch(r"(?P<title>.*?) \((?P<reference>[^()]*\d[^()]*)\): (?P<summary>.*)", headline)
    if found is None:
        raise ValueError(f"the docstring of {name} does not begin 'Title (reference): what it does': {headline!r}")
    summary = found["summary"][0].upper() + found["summary"][1:]
    parameters = inspect.signature(factory).parameters.values()
    defaults = {p.name: "required" if p.default is p.empty else p.default for p in parameters}
    return Description(name, summary, found["reference"], _state(factory), defaults)


def table() -> str:
    """All optimizers as a Markdown table."""
    rows = [describe(name) for name in FACTORIES]
    lines = [f"| `{row.name}` | {row.summary} | {row.reference} | {row.state:g} |" for row in rows]
    return "\n".join(["| optimizer | what it does | reference | state |", "|---|---|---|---|", *lines])


def _state(factory: Callable[..., Optimizer]) -> float:
    shape = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    required = [p for p in inspect.signature(factory).parameters.values() if p.default is p.empty]
    state = jax.eval_shape(factory(*[1e-3 for _ in required]).init, shape)
    return round(sum(x.size for x in jax.tree.leaves(state)) / shape.size, 2)


def _show(value: Any) -> str:
    return value if value == "required" else getattr(value, "__name__", repr(value))
