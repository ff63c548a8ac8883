"""What the checks share: optimizers in a scan, and races over step sizes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..claims import Claim, Verdict

COMMAND = "`python -m paper theory`"
Make = Callable[[Any], optax.GradientTransformation]


class Found(NamedTuple):
    """What a check found: claims with their verdicts, and curves for the figure, by name."""

    claims: list[Claim]
    curves: dict[str, Any]


class Raced(NamedTuple):
    """A race at the step size that did best.

    Attributes:
        rate: that step size.
        score: its score.
        scores: of all step sizes, in their order; not finite where it diverged.
    """

    rate: float
    score: float
    scores: np.ndarray


def evidence(test: str = "") -> str:
    """The command, and the test if there is one, as `theory::test_name`."""
    file, _, name = test.partition("::")
    return f"{COMMAND}, `tests/test_{file}.py::{name}`" if test else COMMAND


def verdict(true: bool, otherwise: Verdict = "false") -> Verdict:
    """The verdict of a measurement."""
    return "holds" if true else otherwise


def directions(tx: optax.GradientTransformation, grads: Any) -> np.ndarray:
    """The direction of each step; the gradients of the steps are the rows of `grads`."""

    def body(state: Any, g: Any) -> Any:
        u, state = tx.update(g, state)
        return state, u

    grads = jnp.asarray(grads)
    return np.asarray(jax.jit(lambda g: jax.lax.scan(body, tx.init(g[0]), g)[1])(grads))


def trajectory(opt: optax.GradientTransformation, grad: Callable[..., Any], start: Any, steps: int) -> np.ndarray:
    """The iterates of an optimizer, from the first step on; `grad(x, t)` knows the number of the step, from 1."""

    def body(carry: Any, t: Any) -> Any:
        x, state = carry
        updates, state = opt.update(grad(x, t), state, x)
        x = x + updates
        return (x, state), x

    start = jnp.asarray(start)
    run = jax.jit(lambda x: jax.lax.scan(body, (x, opt.init(x)), jnp.arange(1, steps + 1))[1])
    return np.asarray(run(start))


def race(
    make: Make,
    rates: Any,
    grad: Callable[..., Any],
    start: Any,
    steps: int,
    score: Callable[..., Any],
    last: float = 0.1,
) -> Raced:
    """The best of several step sizes, all run at once.

    Args:
        make: from a step size to an optimizer.
        rates: the step sizes.
        grad: of `(x, t)`, the number of the step from 1.
        start: where all begin.
        steps: how many.
        score: of `(x, t)` before each step; its mean counts, and the least is best.
        last: over which share of the steps, at the end.
    """
    counted = max(1, round(last * steps))

    def run(rate: Any) -> Any:
        opt = make(rate)

        def body(carry: Any, t: Any) -> Any:
            x, state, total = carry
            total = total + jnp.where(t > steps - counted, score(x, t), 0)
            updates, state = opt.update(grad(x, t), state, x)
            return (x + updates, state, total), None

        begin = jnp.asarray(start)
        carry = (begin, opt.init(begin), jnp.zeros([], begin.dtype))
        return jax.lax.scan(body, carry, jnp.arange(1, steps + 1))[0][2] / counted

    rates = np.asarray(rates)  # a row each where `make` takes several numbers
    scores = np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(rates, jnp.asarray(start).dtype)))
    best = int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))
    return Raced(float(np.ravel(rates[best])[0]), float(scores[best]), scores)


def decades(low: int, high: int, each: int = 2) -> np.ndarray:
    """Step sizes from 10^low to 10^high, `each` to the decade."""
    return np.logspace(low, high, (high - low) * each + 1)
