r"""Advice on $\beta_2$: a half-life that is fixed in tokens, whatever the batch size."""

import math
from typing import NamedTuple

from .._annotations import Above
from .._rule import validate_value


class B2Advice(NamedTuple):
    r"""A decay rate of the second moment; prints as text.

    Attributes:
        b2: $\beta_2$.
        steps: its half-life in steps.
        window: $1/(1-\beta_2)$, the number of steps that it averages over.
        reason: why.
    """

    b2: float
    steps: float
    window: float
    reason: str

    def __str__(self) -> str:
        return f"b2 = {self.b2:.6g}: {self.reason}"


def suggest_b2(batch: float, tokens: float, b1: float = 0.9) -> B2Advice:
    r"""The $\beta_2$ whose half-life is `tokens` tokens at a batch size of `batch` tokens.

    $$\beta_2 = 2^{-\text{batch}/\text{tokens}},\qquad \beta_2' = \beta_2^{B'/B}\ \text{from batch } B \text{ to } B'$$

    The second rule is the first with the half-life held fixed: `suggest_b2(new_batch, half_life(b2, old_batch))`. A
    half-life fixed in tokens carries over from one batch size to another; one fixed in steps is too short for small
    batches. The right half-life of a model has to be found once, at any batch size.

    Args:
        batch: tokens in a step (sequences times their length), or examples, whatever `tokens` counts.
        tokens: the half-life of the second moment, in the same units.
        b1: $\beta_1$; the advice warns where the pair makes steps unbounded.

    Returns:
        A `B2Advice`: the decay rate, its half-life and window in steps, and the reason; it prints as text.

    Raises:
        ValueError: a number is not positive, or `b1` not a decay rate.

    Examples:
        >>> import adamx
        >>> tokens = adamx.diagnostics.half_life(0.95, batch=512 * 1024)
        >>> print(adamx.diagnostics.suggest_b2(1024, tokens))
        b2 = 0.9999: a half-life of 7.08492e+06 tokens is 6919 steps of 1024; the window 1/(1-b2) is 9982 steps

    Reference: Marek et al., arXiv:2507.07101 (the half-life in tokens held fixed across batch sizes).
    """
    for name, value in (("batch", batch), ("tokens", tokens)):
        validate_value(name, value, Above(0.0, math.inf))
    b2 = 2.0 ** -(batch / tokens)
    steps, window = tokens / batch, -1 / math.expm1(-math.log(2) * batch / tokens)
    reason = (
        f"a half-life of {tokens:.6g} tokens is {steps:.4g} steps of {batch:.6g}; the window 1/(1-b2) is {window:.4g} "
        "steps"
    )
    if b1**2 >= b2:
        reason += (
            f". But b1^2 = {b1**2:.3g} is not below it, so that steps have no bound: take b1 below {math.sqrt(b2):.3g}"
        )
    return B2Advice(b2, steps, window, reason)


def half_life(b2: float, batch: float) -> float:
    r"""The half-life of $\beta_2$ in tokens: $-\text{batch}\,\ln 2/\ln\beta_2$.

    Args:
        b2: $\beta_2$, in (0, 1).
        batch: tokens in a step.

    Returns:
        The number of tokens after which a squared gradient weighs half.

    Examples:
        >>> import adamx
        >>> round(adamx.diagnostics.half_life(0.999, batch=1))
        693
    """
    validate_value("b2", b2, Above(0.0, 1.0))
    validate_value("batch", batch, Above(0.0, math.inf))
    return -batch * math.log(2) / math.log(b2)
