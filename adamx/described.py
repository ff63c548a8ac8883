"""Docstrings completed at run time: an argument is described once, by its rule, by its function, or here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

TITLES = ("Args", "Attributes", "Returns", "Raises", "Examples")

SHARED = r"""
Args:
    learning_rate: the step size $\alpha$; a number, a traced scalar or a schedule of the finished steps.
    weight_decay: its strength $\lambda$; a number, a traced scalar or a schedule.
    mask: which leaves decay: a tree of booleans, the top of one, or a function of the parameters that returns one;
        leaves are matched by path. `None` for all.
    decay: "decoupled" ($\alpha_t\lambda p$, arXiv:1711.05101), "independent" ($\lambda p\,\alpha_t/\alpha_{\max}$),
        "cautious" (decoupled, only where the step shrinks the weight, arXiv:2510.12402), "proximal" ($p$ after the step
        divided by $1+\alpha_t\lambda$), "after" (decoupled, of $p$ after the step), "constant" ($\lambda p$) or "l2"
        ($\lambda p$ added to the gradient).
    lr_max: the largest step size, for `decay="independent"`; may be left out when `learning_rate` is a number.
    mu_dtype: the storage dtype of the slot `mu` of real leaves; `None` for at least float32, as of every other slot.
    complex_parts: how complex leaves are stepped: "together", as complex numbers with a real second moment, or "apart",
        real and imaginary parts as independent real numbers, as in PyTorch.
    moments: how slots are stored, of leaves of 4096 elements and more: "float32" (at least; exact), "bfloat16" (two
        bytes, second moments dithered) or "int8" (one byte, and two for each group of 128 along the last axis;
        `adamx.Int8(group=64)` or 32 for smaller ones); one for all, one for each slot in a tuple, or by name in a
        mapping. In "int8" a gradient that is not finite makes its whole group NaN. Inside `jax.shard_map` every part
        draws the same random bits, but for `adamx.in_shard_map`.
    weights: how bfloat16 and float16 parameters are rounded: "nearest" (by the caller, when updates are applied),
        "stochastic", "kahan" (with a compensation in the parameter's dtype), "split8" or "split16" (with the rounding
        error kept in 8 or 16 bits). Except with "nearest", updates are float32 differences that `optax.apply_updates`
        adds exactly; transformations that need updates in the gradients' dtype, such as `optax.apply_if_finite`, then
        need float32 gradients. Start with `adamx.from_master`.
    seed: the seed of the random bits of dithering and stochastic rounding, an integer.
    kernel: who takes the whole step in `Optimizer.step`: "xla", "native" (on CPUs), "pallas" (on NVIDIA GPUs and TPUs;
        both in one pass over memory) or "auto": what is best for a leaf on the program's platform.
    groups: settings of some leaves, chosen by their paths, see `adamx.Group`: step size, weight decay, hyperparameters,
        `moments`, `weights`, or that they stay as they are.
"""
"""The arguments that several of `optimizer`, `scale_by` and the named optimizers have."""


def described(*owners: Any) -> Callable[[Function], Function]:
    """A decorator that completes a function's `__doc__` by those of others.

    An argument without an entry of its own gets that of the first owner that has one, from its `Args:` or, if it is a
    class, `Attributes:`. The last owner, whose result the function returns, gives `Returns:`, and adds to `Raises:`.

    Args:
        owners: classes, functions, or docstrings, in order of precedence.
    """

    def complete(function: Function) -> Function:
        if function.__doc__ is None:  # python -OO
            return function
        others = [x if isinstance(x, str) else x.__doc__ for x in owners]
        own, last = dict(sections(function.__doc__)), sections(others[-1])
        known = {name: text for doc in (*others[::-1], function.__doc__) for name, text in arguments(doc).items()}
        code = function.__code__
        names = [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *arguments(function.__doc__)]
        own["Args"] = "\n".join(known[name] for name in dict.fromkeys(names) if name in known)
        own["Returns"] = own.get("Returns") or last.get("Returns", "")
        own["Raises"] = "\n".join(filter(None, (own.get("Raises"), last.get("Raises"))))
        parts = (f"{title}:\n{own[title]}" for title in ("Args", "Returns", "Raises", "Examples") if own.get(title))
        function.__doc__ = "\n\n".join([own[""], *parts]) + "\n"
        return function

    return complete


@functools.cache
def sections(doc: str | None) -> Mapping[str, str]:
    """The sections of a docstring in Google's style, by title; the text besides them is ""."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in inspect.cleandoc(doc or "").splitlines():
        if line.endswith(":") and line[:-1] in TITLES:
            title = line[:-1]
        else:
            title = title if not line or line[0] == " " else ""
            found.setdefault(title, []).append(line)
    return MappingProxyType({title: "\n".join(lines).strip("\n") for title, lines in found.items()})


@functools.cache
def arguments(doc: str | None) -> Mapping[str, str]:
    """What a docstring says of each argument or attribute, by name, with its indentation."""
    texts = "\n".join(sections(doc).get(title, "") for title in ("Args", "Attributes"))
    entries = texts.replace("\n        ", "\r").split("\n")  # an entry's further lines are indented further
    return MappingProxyType({x.partition(":")[0].strip(): x.replace("\r", "\n        ") for x in entries if x})
