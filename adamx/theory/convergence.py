r"""The bounds on regret proved for Adam and for AMSGrad, as functions of the gradients, and where they are violated.

Adam's is false as printed: its proof assumes that $\sqrt{\hat v_t}/\alpha_t$ grows with $t$, which need not
hold (arXiv:1904.09237, section 3). `theorem_4_1(...).violated(regret)` gives the first round where it fails.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from .._annotations import Above, Interval
from .._rule import validate_value


@dataclasses.dataclass(frozen=True)
class RegretBound:
    """The upper bound that a theorem gives for the regret after 1, 2, ... T rounds.

    Attributes:
        bound: on the regret; float64, shape (T,); infinite where a condition is not met.
        unmet: the conditions of the theorem that do not hold, in words; empty if it applies.
    """

    bound: np.ndarray
    unmet: tuple[str, ...]

    def violated(self, regret: ArrayLike) -> int | None:
        """The first round, counted from 1, after which the regret exceeds the bound; `None` if there is none.

        Args:
            regret: the measured regret after each round; shape (T,).

        Raises:
            ValueError: the number of rounds is not that of the bound.
        """
        regret = np.asarray(regret, float)
        if regret.shape != self.bound.shape:
            raise ValueError(f"regret has shape {regret.shape}, the bound {self.bound.shape}: give that of every round")
        above = np.flatnonzero(regret > self.bound)
        return int(above[0]) + 1 if above.size else None


def theorem_4_1(
    grads: ArrayLike,
    alpha: float,
    b1: float,
    b2: float,
    decay: float,
    diameter: float,
    diameter_inf: float | None = None,
    g_inf: float | None = None,
) -> RegretBound:
    r"""The regret bound of Adam's Theorem 4.1, $\alpha_t = \alpha/\sqrt t$ and $\beta_{1,t} = \beta_1\lambda^{t-1}$.

    $$R(T) \le \frac{D^2}{2\alpha(1-\beta_1)} \sum_i \sqrt{T \hat v_{T,i}}
      + \frac{\alpha(1+\beta_1)G_\infty}{(1-\beta_1)\sqrt{1-\beta_2}(1-\gamma)^2} \sum_i \|g_{1:T,i}\|_2
      + \sum_i \frac{D_\infty^2 G_\infty \sqrt{1-\beta_2}}{2\alpha(1-\beta_1)(1-\lambda)^2}$$

    with $\gamma = \beta_1^2/\sqrt{\beta_2} < 1$. (The appendix prints $\beta_1$ for $1-\beta_1$ in the last term.)

    Args:
        grads: the gradients of all rounds, shape (T,) or (T, d).
        alpha: the first step size.
        b1: first decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        decay: $\lambda$, in (0, 1).
        diameter: $D$, the largest Euclidean distance between two iterates.
        diameter_inf: $D_\infty$, the largest distance in one coordinate; by default `diameter`.
        g_inf: $G_\infty$, a bound on every component of a gradient; by default the largest of the rounds so far.

    Returns:
        A `RegretBound`: the bound after each round, and the conditions that are not met.

    Raises:
        ValueError: a number is out of range, or `grads` has another shape.

    Reference: Kingma & Ba, arXiv:1412.6980, Theorem 4.1; refuted by Reddi, Kale & Kumar, arXiv:1904.09237, Theorem 1.

    Examples:
        >>> import adamx
        >>> from adamx import theory
        >>> problem = theory.reddi_a(5)
        >>> opt = adamx.adam(adamx.schedules.inverse_sqrt(0.5), b1=problem.b1, b2=problem.b2)
        >>> game = theory.play(problem, opt, steps=1999)
        >>> promised = theory.theorem_4_1(game.grads, 0.5, problem.b1, problem.b2, decay=0.9, diameter=2)
        >>> promised.bound[-1].round(1), promised.violated(game.regret) is not None
        (np.float64(3180.8), True)
        >>> theory.theorem_4_1(game.grads, 0.5, b1=0.99, b2=0.9, decay=0.9, diameter=2).unmet
        ('gamma = b1**2 / sqrt(b2) = 1.0331 is not below 1',)
    """
    g = _gradients(grads)
    _check(alpha, b1, b2, diameter)
    validate_value("decay", decay, Above(0.0, 1.0))
    wide = diameter if diameter_inf is None else diameter_inf
    steepest = _largest(g) if g_inf is None else np.full(len(g), float(g_inf))
    gamma = b1**2 / math.sqrt(b2) if b2 > 0 else (math.inf if b1 > 0 else 0.0)
    unmet = _unmet("b1**2", gamma, wide > diameter, _largest(g)[-1] > steepest[-1])
    if unmet:
        return RegretBound(np.full(len(g), math.inf), unmet)
    t = np.arange(1, len(g) + 1)
    v_hat = _mean_squares(g, b2) / (1.0 if b2 == 0 else -np.expm1(t * math.log(b2))[:, None])
    first = diameter**2 / (2 * alpha * (1 - b1)) * np.sqrt(t[:, None] * v_hat).sum(1)
    second = alpha * (1 + b1) * steepest / ((1 - b1) * math.sqrt(1 - b2) * (1 - gamma) ** 2) * _lengths(g)
    third = g.shape[1] * wide**2 * steepest * math.sqrt(1 - b2) / (2 * alpha * (1 - b1) * (1 - decay) ** 2)
    return RegretBound(first + second + third, ())


def amsgrad_regret_bound(
    grads: ArrayLike, alpha: float, b1: float, b2: float, diameter_inf: float, decay: float = 1.0
) -> RegretBound:
    r"""The regret bound of AMSGrad's Theorem 4, $\alpha_t = \alpha/\sqrt t$ and $\beta_{1,t} = \beta_1\lambda^{t-1}$.

    $$R(T) \le \frac{D_\infty^2\sqrt T}{\alpha(1-\beta_1)} \sum_i \sqrt{\hat v_{T,i}}
      + \frac{D_\infty^2}{2(1-\beta_1)} \sum_i\sum_{t \le T} \frac{\beta_{1,t}\sqrt{\hat v_{t,i}}}{\alpha_t}
      + \frac{\alpha\sqrt{1+\log T}}{(1-\beta_1)^2(1-\gamma)\sqrt{1-\beta_2}} \sum_i \|g_{1:T,i}\|_2$$

    with $\hat v_t = \max_{s \le t} v_s$ of the *uncorrected* second moment, and $\gamma = \beta_1/\sqrt{\beta_2} < 1$.
    For AMSGrad as in its paper: `adamx.amsgrad(..., eps=0, bias_correction_mu=False, bias_correction_nu=False)`.
    Its proof, too, has a gap where $\beta_{1,t}$ changes (arXiv:1904.03590, whose repair is `adamx.adamx`).

    Args:
        grads: the gradients of all rounds, shape (T,) or (T, d).
        alpha: the first step size.
        b1: first decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        diameter_inf: $D_\infty$, the largest distance of two points in one coordinate.
        decay: $\lambda$, in (0, 1]; 1 for a constant $\beta_1$; the second term then grows like $T^{3/2}$.

    Returns:
        A `RegretBound`: the bound after each round, and the conditions that are not met.

    Raises:
        ValueError: a number is out of range, or `grads` has another shape.

    Reference: Reddi, Kale & Kumar, arXiv:1904.09237, Theorem 4.

    Examples:
        >>> import adamx
        >>> from adamx import theory
        >>> problem, rate = theory.reddi_a(5), adamx.schedules.inverse_sqrt(0.5)
        >>> like_the_paper = {"eps": 0.0, "bias_correction_mu": False, "bias_correction_nu": False}
        >>> opt = adamx.amsgrad(rate, problem.b1, problem.b2, **like_the_paper)
        >>> game = theory.play(problem, opt, steps=2000)
        >>> theory.amsgrad_regret_bound(game.grads, 0.5, problem.b1, problem.b2, diameter_inf=2).violated(game.regret)
    """
    g = _gradients(grads)
    _check(alpha, b1, b2, diameter_inf)
    if not 0 < decay <= 1:
        raise ValueError(f"decay = {decay} is outside (0, 1]")
    gamma = b1 / math.sqrt(b2) if b2 > 0 else (math.inf if b1 > 0 else 0.0)
    unmet = _unmet("b1", gamma)
    if unmet:
        return RegretBound(np.full(len(g), math.inf), unmet)
    t = np.arange(1, len(g) + 1)
    roots = np.sqrt(np.maximum.accumulate(_mean_squares(g, b2))).sum(1)
    first = diameter_inf**2 * np.sqrt(t) / (alpha * (1 - b1)) * roots
    fading = b1 * np.exp((t - 1) * math.log(decay)) * np.sqrt(t) / alpha
    second = diameter_inf**2 / (2 * (1 - b1)) * np.cumsum(fading * roots)
    third = alpha * np.sqrt(1 + np.log(t)) / ((1 - b1) ** 2 * (1 - gamma) * math.sqrt(1 - b2)) * _lengths(g)
    return RegretBound(first + second + third, ())


def _gradients(grads: ArrayLike) -> np.ndarray:
    g = np.asarray(grads, float)
    if g.ndim not in (1, 2) or not len(g):
        raise ValueError(f"grads of shape {g.shape} should have shape (T,) or (T, d): one row for each round")
    return g.reshape(len(g), -1)


def _check(alpha: float, b1: float, b2: float, diameter: float) -> None:
    validate_value("b1", b1, Interval(0.0, 1.0))
    validate_value("b2", b2, Interval(0.0, 1.0))
    validate_value("alpha", alpha, Above(0.0, math.inf))
    validate_value("diameter", diameter, Above(0.0, math.inf))


def _unmet(power: str, gamma: float, wider: bool = False, steeper: bool = False) -> tuple[str, ...]:
    conditions = {
        f"gamma = {power} / sqrt(b2) = {gamma:.5g} is not below 1": gamma >= 1,
        "diameter_inf exceeds diameter, which no two points' distances can": wider,
        "a gradient is steeper than g_inf": steeper,
    }
    return tuple(text for text, broken in conditions.items() if broken)


def _largest(g: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.abs(g).max(1))


def _lengths(g: np.ndarray) -> np.ndarray:
    """The sum over coordinates of the Euclidean length of all gradients so far."""
    return np.sqrt(np.cumsum(g**2, axis=0)).sum(1)


def _mean_squares(g: np.ndarray, b2: float) -> np.ndarray:
    """Adam's second moment after every round, not corrected."""
    squares = (1 - b2) * g**2
    v = np.zeros(g.shape[1])
    for t, square in enumerate(squares):
        squares[t] = v = b2 * v + square
    return squares
