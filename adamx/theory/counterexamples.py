r"""Three problems on which Adam converges to the wrong end of [-1, 1] (arXiv:1904.09237), and a loop that runs them.

The losses are linear. Most slope gently downwards; a rare one slopes upwards so steeply that the sum does, too: -1 is
the best point. Adam's second moment forgets the rare slope too fast, and Adam moves to +1.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._annotations import Array
from .meters import regret_in_hindsight


@dataclasses.dataclass(frozen=True)
class Problem:
    r"""Linear losses $f_t(x) = s_t x$ on an interval.

    Attributes:
        name: the problem's source.
        slope: $s_t$ as a function of the number of the round, an integer array of shape (), from 1.
        mean_slope: the mean of $s_t$, over a period or in expectation.
        b1: the decay rate of the mean for which Adam is proved to fail.
        b2: the decay rate of the mean square.
        low: the interval's lower end.
        high: the interval's upper end.
    """

    name: str
    slope: Callable[[Array], Array]
    mean_slope: float
    b1: float
    b2: float
    low: float = -1.0
    high: float = 1.0

    @property
    def optimum(self) -> float:
        """The best fixed point."""
        return self.low if self.mean_slope > 0 else self.high

    def loss(self, x: Array, t: Array) -> Array:
        """The loss in a round.

        Args:
            x: the point played, of any shape.
            t: the number of the round, from 1.

        Returns:
            An array like `x`.
        """
        return self.slope(t) * x

    def grad(self, x: Array, t: Array) -> Array:
        """The slope in a round.

        Args:
            x: the point played, of any shape.
            t: the number of the round, from 1.

        Returns:
            An array of `x`'s shape and dtype.
        """
        return jnp.broadcast_to(self.slope(t), x.shape).astype(x.dtype)

    def project(self, x: Array) -> Array:
        """The nearest point of the interval.

        Args:
            x: a point, of any shape.

        Returns:
            An array like `x`.
        """
        return jnp.clip(x, self.low, self.high)


class Game(NamedTuple):
    """The record of a run.

    Attributes:
        points: the point of each round, and the one after the last; shape (steps + 1,).
        grads: the slope in each round; shape (steps,).
        regret: against the best fixed point of the rounds so far, after each round; shape (steps,).
    """

    points: Array
    grads: Array
    regret: Array


def reddi_a(c: float = 5.0) -> Problem:
    r"""Theorem 1's problem: slope `c` every third round, else -1; $\beta_1 = 0$, $\beta_2 = 1/(1+c^2)$.

    Adam goes to +1, which costs $2(c-2)/3$ a round more than -1, with a constant step size and with $\alpha/\sqrt t$.

    Args:
        c: the rare slope, above 2.

    Returns:
        A `Problem`, to be given to `play`.

    Raises:
        ValueError: `c` is not above 2; -1 is then not the best point.

    Reference: Reddi, Kale & Kumar, arXiv:1904.09237, Theorem 1.

    Examples:
        >>> import adamx
        >>> from adamx import theory
        >>> problem = theory.reddi_a()
        >>> opt = adamx.adam(adamx.schedules.inverse_sqrt(0.5), b1=problem.b1, b2=problem.b2)
        >>> problem.optimum, bool(theory.play(problem, opt, steps=10_000).points[-1] > 0.98)
        (-1.0, True)
    """
    if not c > 2:
        raise ValueError(f"c = {c} should exceed 2, or the sum of the losses does not slope upwards")
    return Problem(
        "Reddi et al., Theorem 1", lambda t: jnp.where(t % 3 == 1, c, -1.0), (c - 2) / 3, 0.0, 1 / (1 + c**2)
    )


def reddi_b() -> Problem:
    r"""The online problem of section 5: slope 1010 every 101st round, else -10; $\beta_1 = .9$, $\beta_2 = .99$.

    With $\alpha_t = .5/\sqrt t$ Adam is at +1 within $3 \cdot 10^5$ rounds; smaller step sizes take longer.

    Returns:
        A `Problem`, to be given to `play`.

    Reference: Reddi, Kale & Kumar, arXiv:1904.09237, section 5.

    Examples:
        >>> from adamx import theory
        >>> theory.reddi_b().optimum
        -1.0
    """
    return Problem("Reddi et al., online", lambda t: jnp.where(t % 101 == 1, 1010.0, -10.0), 10 / 101, 0.9, 0.99)


def reddi_c(seed: int = 0) -> Problem:
    r"""The stochastic problem of section 5: slope 1010 with probability .01, else -10; $\beta_1 = .9$, $\beta_2 = .99$.

    With $\alpha_t = .5/\sqrt t$ Adam is at +1 after $10^6$ rounds. AMSGrad is then at -.998 to -.155, by the draws of
    seeds 0 to 3; after $6 \cdot 10^6$ it is below -.97 with all four.

    Args:
        seed: of the draws, the same in float32 and float64.

    Returns:
        A `Problem`, to be given to `play`.

    Reference: Reddi, Kale & Kumar, arXiv:1904.09237, section 5.

    Examples:
        >>> from adamx import theory
        >>> round(theory.reddi_c().mean_slope, 3)
        0.2
    """

    def slope(t: Array) -> Array:
        bits = jax.random.bits(jax.random.fold_in(jax.random.key(seed), t.astype(jnp.uint32)), dtype=jnp.uint32)
        return jnp.where(bits < jnp.uint32(round(0.01 * 2**32)), 1010.0, -10.0)

    return Problem("Reddi et al., stochastic", slope, 0.2, 0.9, 0.99)


def play(problem: Problem, opt: optax.GradientTransformation, steps: int, start: float = 0.0) -> Game:
    """Run an optimizer on a problem, each step projected onto the interval.

    Args:
        problem: one of `reddi_a`, `reddi_b`, `reddi_c`, or your own `Problem`.
        opt: any optimizer with a step size.
        steps: the number of rounds.
        start: the first point.

    Returns:
        A `Game`: the points, slopes and regret of all rounds, in JAX's default floating dtype.

    Raises:
        ValueError: `steps` is not positive, or `start` outside the interval.

    Examples:
        >>> import adamx
        >>> from adamx import theory
        >>> game = theory.play(theory.reddi_a(), adamx.optimizer(adamx.SGD(), 0.5), steps=3)
        >>> game.points, game.regret
        (Array([ 0. , -1. , -0.5,  0. ], dtype=float32), Array([5. , 5. , 4.5], dtype=float32))
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} should be a positive number of rounds")
    if not problem.low <= start <= problem.high:
        raise ValueError(f"start = {start} is outside [{problem.low:g}, {problem.high:g}]")
    meter = regret_in_hindsight(problem.low, problem.high)
    first = jnp.asarray(start, float)

    def one(carry, t):
        x, state, sums = carry
        g = problem.grad(x, t)
        sums, regret = meter.update(sums, x, g)
        updates, state = opt.update(g, state, x)
        return (problem.project(x + updates), state, sums), (x, g, regret)

    def all_rounds() -> Game:
        begin = (first, opt.init(first), meter.init(first))
        (last, *_), (points, grads, regret) = jax.lax.scan(one, begin, jnp.arange(1, steps + 1))
        return Game(jnp.append(points, last), grads, regret)

    return jax.jit(all_rounds)()
