r"""Idle steps: those in which a row of a table has a gradient of zero, and the sums over them that make up for them.

While a row is idle its moments decay in closed form, and the weight moves by a sum of terms that shrink at least by a
constant factor $\rho$ from step to step. Of these $\ln\epsilon/\ln\rho$ are above rounding, however long it was idle. A
term that is not a product of a number of the step and one of the element is interpolated between a few steps.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from ._annotations import Array
from ._decay import SHRINK, Strength
from ._math import bias_correction, log_beta, one_minus_exp
from ._rule import replace

Term = Callable[[Array, Array], Array]
"""A function of the number of an idle step, from 1, and of that step's number in the run."""

BLOCK = 16
"""Sums over idle steps are of a multiple of so many terms."""


@dataclasses.dataclass(frozen=True)
class IdleSteps:
    """The idle steps of some rows, as the `idle` of a rule reads them.

    Attributes:
        s: the number of steps that each row has taken; real, (rows, 1).
        k: how many idle steps follow; real, (rows, 1).
        params: the rows; (rows, features).
        decays: whether weight decay covers them.
        scheduled: the values of the hyperparameters that follow a schedule, by path, at steps of these numbers.
        passed: the sum over each row's idle steps of what `passing` is in each; (rows, 1).
        factor: what an idle step's direction is multiplied with to be subtracted from the weight in the end.
        total: the sum of these factors over all idle steps; (rows, 1).

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> class Momentum(adamx.Rule):
        ...     slots = (adamx.Slot(),)
        ...     def step(self, g, s, at):
        ...         return 0.5 * s[0] + g, (0.5 * s[0] + g,)
        ...     def idle(self, s, at):
        ...         total = at.sum(lambda j, t: at.power(0.5, j), ratio=0.5)
        ...         return s[0] * total, (s[0] * at.power(0.5),)
        >>> rows, table = adamx.Rows(adamx.optimizer(Momentum(), learning_rate=1.0)), jnp.zeros((2, 1))
        >>> _, ticket = rows.take(jnp.array([0]), state := rows.init(table), table)
        >>> table, state = rows.put(jnp.ones((1, 1)), state, table, ticket)
        >>> state = state._replace(state=state.state._replace(count=jnp.int32(100)))
        >>> rows.take(jnp.array([0]), state, table)[0].round(6)
        Array([[-2.]], dtype=float32)
    """

    s: Array
    k: Array
    params: Array
    decays: bool
    scheduled: Callable[[Array], dict[str, Any]]
    passed: Callable[[], Array]
    factor: Term
    total: Callable[[], Array]

    def number(self, name: str, x: Any) -> Any:
        """The hyperparameter `x`.

        Raises:
            ValueError: it follows a schedule.
        """
        if callable(x):
            raise ValueError(f"{name} follows a schedule, of which no idle step knows a closed form: give a number")
        return x

    def rate(self, name: str, b: Any) -> float:
        """The decay rate `b`, a Python number, which the number of terms depends on.

        Raises:
            ValueError: it is an array or follows a schedule.
        """
        if not isinstance(b, (int, float)):
            raise ValueError(f"{name} decides how many terms a sum over idle steps has: give a Python number")
        return b

    def power(self, b: float, j: Any = None) -> Array:
        """$b^j$, by default $b^k$."""
        return jnp.exp((self.k if j is None else j) * log_beta(b))

    def correction(self, b: float, j: Any) -> Array:
        r"""$1 - b^{s+j}$, from the same of $s$ and of $j$: a sum of positive numbers, which loses no digits."""
        here, ahead = bias_correction(b, self.s), bias_correction(b, j)
        return here + (1 - here) * ahead

    def sum(self, term: Term, ratio: float) -> Array:
        """The sum over the idle steps of `term(j, t)`, which shrinks by `ratio` from one to the next; (rows, 1)."""
        return jnp.sum(self._terms(term, terms(ratio, self.k.dtype)), axis=1, keepdims=True)

    def sum_beside_root(self, f: Term, term: Term, ratio: float, b2: float, decaying: bool = True) -> Array:
        r"""The sum over the idle steps of `term(j, t) * f(j, t)`, where `f` divides by a root that changes slowly.

        Args:
            f: an element's direction divided by `term`: a constant over $\sqrt{\hat v} + \varepsilon$ or
                $\sqrt{\hat v + \bar\varepsilon}$ or both; (rows, features).
            term: the rest, which is the same for all elements of a row.
            ratio: by how much the product shrinks at least from one step to the next, where ε is 0.
            b2: the decay rate in the bias correction of $\hat v$, and of $v$ itself if it is `decaying`.
            decaying: whether it is.
        """
        nodes, matrix = interpolation(ratio, b2, decaying, np.dtype(self.k.dtype))
        each = self._terms(term, matrix.shape[0])
        weights = jnp.dot(each, jnp.asarray(matrix, each.dtype), precision=jax.lax.Precision.HIGHEST)
        at = [jnp.asarray(j, each.dtype) for j in nodes]
        return functools.reduce(jnp.add, (weights[:, i : i + 1] * f(j, self.s + j) for i, j in enumerate(at)))

    def sum_until(self, steps: Array, first: Term, then: Term, ratio: float) -> tuple[Array, Array]:
        """The sum of `first` over each element's idle steps up to the number `steps`, and of `then` over later ones."""
        n = terms(ratio, self.k.dtype)
        at = jnp.clip(steps, 0, n).astype(jnp.int32)
        none, later = jnp.zeros_like(self.k), running_sums(self._terms(then, n)[:, ::-1])[:, ::-1]
        up, down = jnp.concatenate([none, running_sums(self._terms(first, n))], 1), jnp.concatenate([later, none], 1)
        return jnp.take_along_axis(up, at, axis=1), jnp.take_along_axis(down, at, axis=1)

    def _terms(self, term: Term, n: int) -> Array:
        j = jnp.asarray(np.arange(1, n + 1, dtype=self.k.dtype)[None])  # functions of it alone are constants to XLA
        t = self.s + j
        return jnp.where(j <= self.k, self.factor(j, t) * term(j, t), 0)


def running_sums(x: Array) -> Array:
    """The cumulative sums along the second axis, as products with triangles, in a fifth of `jnp.cumsum`'s time."""
    (rows, n), dot = x.shape, functools.partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)
    inside = dot(x.reshape(rows, n // BLOCK, BLOCK), jnp.triu(jnp.ones([BLOCK, BLOCK], x.dtype)))
    before = dot(inside[:, :, -1], jnp.triu(jnp.ones([n // BLOCK, n // BLOCK], x.dtype), 1))
    return (inside + before[:, :, None]).reshape(rows, n)


def idle_steps(rule: Any, s: Any, at: IdleSteps) -> tuple[Array, Any]:
    """The sum of the rule's directions over idle steps, and the slots after them: its `idle`.

    Raises:
        ValueError: it has none.
    """
    if not hasattr(rule, "idle"):
        raise ValueError(
            f"{type(rule).__name__} does not say what idle steps do: take catch_up='lazy' if it is elementwise"
        )
    return rule.idle(s, at)


def descend(descent: Any, s: Any, at: IdleSteps) -> tuple[Array, Any]:
    """The change of weights over idle steps, and the slots after them: `_descent.Descent.idle`.

    Raises:
        ValueError: it is not known in closed form.
    """
    decays = _decaying(descent, at.decays)
    if decays and descent.decay in ("l2", "cautious"):
        raise ValueError(f"decay={descent.decay!r} depends on the weights of each idle step: take another")
    varies = any(map(callable, (descent.learning_rate, descent.weight_decay, descent.lr_max)))
    shares = lambda t: _shares(replace(descent, at.scheduled(t)), decays)  # noqa: E731
    if not decays:
        total = at.passed if varies else lambda: at.k * descent.learning_rate
        direction, s = idle_steps(
            descent.rule, s, dataclasses.replace(at, factor=lambda j, t: shares(t)[0], total=total)
        )
        return -direction, s

    def log_left(j: Array, t: Array, loss: Any) -> Array:
        log = jnp.log1p(-jnp.asarray(loss, t.dtype))
        return running_sums(jnp.broadcast_to(log, t.shape)) if varies else j * log

    log_all = at.passed() if varies else log_left(at.k, at.s, shares(at.s)[1])

    # Where next to nothing is left of a weight, so that what is divided by it below stays finite.
    log_all = jnp.maximum(log_all, math.log(float(jnp.finfo(at.k.dtype).tiny)) / 2)

    def total() -> Array:
        unit = descent if descent.decay == "constant" else dataclasses.replace(descent, learning_rate=1.0)
        if callable(unit.weight_decay) or callable(unit.learning_rate):
            raise ValueError("a weight decay that changes relative to the step size has no closed form here")
        rate, loss = _shares(unit, decays)
        return rate / loss * one_minus_exp(log_all)

    left = jnp.exp(log_all)

    def factor(j: Array, t: Array) -> Array:
        rate, loss = shares(t)
        return rate * jnp.exp(-log_left(j, t, loss))

    direction, s = idle_steps(descent.rule, s, dataclasses.replace(at, factor=factor, total=lambda: total() / left))
    return -(left * direction + one_minus_exp(log_all) * at.params), s


def passing(descent: Any, decays: bool) -> Any:
    """What `IdleSteps.passed` sums up: the log of what a step leaves of a weight, or its step size without decay."""
    rate, loss = _shares(descent, decays := _decaying(descent, decays))
    return jnp.log1p(-loss) if decays else rate


def _decaying(descent: Any, decays: bool) -> bool:
    return decays and not (isinstance(descent.weight_decay, (int, float)) and descent.weight_decay == 0)


def _shares(descent: Any, decays: bool) -> tuple[Any, Any]:
    """What a step takes of the direction and of the weight: it is linear in both but for l2 and cautious decay."""
    rate: Any = descent.learning_rate
    if not decays:
        return rate, 0.0
    none: Any = 0.0
    one: Any = 1.0
    by = Strength(descent.weight_decay, rate, rate if descent.lr_max is None else descent.lr_max)
    return rate + SHRINK[descent.decay](none, one, by), SHRINK[descent.decay](one, none, by)


def terms(ratio: float, dtype: Any) -> int:
    """How many terms of a geometric sum are above an eighth of rounding, a margin for step sizes that grow.

    Raises:
        ValueError: they do not shrink.
    """
    if not ratio < 1:
        raise ValueError(
            f"the terms of an idle row's displacement grow by {ratio:.6g} from step to step, as b1 >= sqrt(b2): "
            "no number of them is enough. Take a smaller b1 or a larger b2, or catch_up='lazy'"
        )
    n = math.log(float(jnp.finfo(dtype).eps) / 16) / math.log(max(ratio, 1e-9))
    return BLOCK * math.ceil(n / BLOCK)


@functools.lru_cache
def interpolation(ratio: float, b2: float, decaying: bool, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    r"""A few idle steps, and the matrix that gives a direction at each idle step from those at these.

    All directions are $1/(x_j + \theta)$ or $1/\sqrt{x_j^2 + \theta^2}$ up to a factor, with
    $x_j^2 = \beta_2^j/(1-\beta_2^{s+j})$, in which $\theta$ is the element's ε in units of its root. A pivoted QR
    decomposition of these, weighted with `ratio`, chooses the steps that span them to rounding.

    Returns:
        The numbers of the chosen steps, (nodes,), and the matrix, (terms, nodes).
    """
    n, eps = terms(ratio, dtype), float(np.finfo(dtype).eps)
    j, s = np.arange(1.0, n + 1), np.array([0.0, 1, 3, 10, 30, 100, 300, 1000, 3000, 1e9])[:, None, None]
    root = b2 ** (j / 2) if decaying else np.ones(n)
    x = root / np.sqrt(-np.expm1((s + j) * log_beta(b2)))
    low, high = math.log10(root[-1]) - 2, 4.0
    theta = np.logspace(low, high, int(4 * (high - low)))[:, None]
    family = np.concatenate([1 / (x + theta), 1 / np.hypot(x, theta)]).reshape(-1, n)
    weight = ratio**j * root
    weighted = family / family[:, :1] * weight
    candidates = np.unique(np.geomspace(1, n, 160).round().astype(int)) - 1
    factors: Any = linalg.qr(weighted[:, candidates], mode="economic", pivoting=True)
    base, triangle, order = factors
    size = np.abs(np.diagonal(triangle))
    chosen = int((size > max(eps / 32, 1e-14) * size[0]).sum())
    matrix = linalg.solve_triangular(triangle[:chosen, :chosen], base[:, :chosen].T @ weighted)
    nodes = candidates[order[:chosen]]
    return nodes + 1.0, (matrix * weight[nodes, None] / weight).T
