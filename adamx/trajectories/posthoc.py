"""Averages of any width after a run, from those that it kept (arXiv:2312.02696)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._annotations import Params
from .._layout import wide_dtype

WIDEST = 12**-0.5
"""The relative width of the mean of all, whose exponent is 0."""


def exponent_of(sigma_rel: float) -> float:
    r"""$\gamma$ of the average of a relative width: the root of eq. 126, Algorithm 2.

    Raises:
        ValueError: it is not above 0 and at most 12^-0.5.

    Examples:
        >>> round(exponent_of(0.1), 3), round(exponent_of(0.05), 3)
        (6.937, 16.972)
    """
    if isinstance(sigma_rel, bool) or not isinstance(sigma_rel, (int, float)) or not 0 < sigma_rel <= WIDEST:
        raise ValueError(
            f"sigma_rel = {sigma_rel!r} should be above 0 and at most {WIDEST:.4f}, the mean's (decay=None)"
        )
    square = sigma_rel**-2
    return float(max(0.0, *np.roots([1.0, 7.0, 16.0 - square, 12.0 - square]).real))


class Snapshot(NamedTuple):
    """An average of the weights as it was during a run, for `posthoc_params`.

    Attributes:
        params: the averaged weights, as `averaged_params(state, ...)` gives them; or a function without arguments that
            loads them, so that only one is held at a time.
        moves: after how many moves: `state.moves`, less `start`.
        sigma_rel: its relative width.
    """

    params: Params | Callable[[], Params]
    moves: int
    sigma_rel: float


def posthoc_params(snapshots: Sequence[Snapshot], sigma_rel: float, moves: int | None = None) -> Params:
    r"""The average of a width that no run kept, from snapshots of others: post-hoc EMA.

    Averages by power functions are nearly linear combinations of each other: $x = A^{-1}b$ are the weights of snapshots
    whose sum is nearest to the wanted one in least squares, $A$ and $b$ being inner products of power functions (eq.
    151), and are scaled to sum to 1 (Algorithm 3). Two widths in a few dozen checkpoints span those between and beside
    them; a width below all of the snapshots' needs weights of a time from which there is none.

    Args:
        snapshots: averages by `averaged(..., sigma_rel=...)`, at least two.
        sigma_rel: the width that is wanted.
        moves: after how many moves; `None` for the last of the snapshots.

    Returns:
        A tree like the parameters, of at least float32.

    Raises:
        ValueError: fewer than two snapshots, two of one width after as many moves, or a width out of range.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> opt = adamx.averaged(adamx.optimizer(adamx.SGD(), 1.0), sigma_rel=(0.05, 0.1))
        >>> params, snapshots, step = jnp.zeros(()), [], jax.jit(opt.step)
        >>> state = opt.init(params)
        >>> for t in range(1, 65):  # the weight is t
        ...     params, state = step(-jnp.ones(()), state, params)
        ...     if t % 8 == 0:
        ...         for i, width in enumerate((0.05, 0.1)):
        ...             snapshots.append(adamx.Snapshot(adamx.averaged_params(state, index=i), t, width))
        >>> [int(adamx.posthoc_params(snapshots, width).round()) for width in (0.03, 0.05, 0.07, 0.1, 0.15)]
        [63, 61, 60, 57, 53]

    Reference: Karras et al., arXiv:2312.02696, section 3.2 and appendix C.
    """
    if len(snapshots) < 2:
        raise ValueError(f"{len(snapshots)} snapshots: give at least two, of other widths or moves")
    have = [(x.moves, exponent_of(x.sigma_rel)) for x in snapshots]
    end = max(t for t, _ in have) if moves is None else moves
    shares = coefficients(have, (end, exponent_of(sigma_rel)))
    total: Any = None
    for share, snapshot in zip(shares, snapshots, strict=True):
        tree = snapshot.params() if callable(snapshot.params) else snapshot.params
        part = jax.tree.map(lambda x, share=share: jnp.asarray(x, wide_dtype(x)) * float(share), tree)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total


def coefficients(have: Sequence[tuple[float, float]], wanted: tuple[float, float]) -> np.ndarray:
    """The share of each average in the wanted one: Algorithm 3; an average is its moves and its exponent."""
    t, gamma = np.array(have, np.float64).T
    if len(set(have)) < len(have):
        raise ValueError("two snapshots are of one width after as many moves: leave one out")
    among = _inner(t[:, None], gamma[:, None], t, gamma)
    shares = np.linalg.solve(among, _inner(t, gamma, *map(np.float64, wanted)))
    return shares / shares.sum()


def _inner(t: np.ndarray, gamma: np.ndarray, u: Any, delta: Any) -> np.ndarray:
    """The inner products of power functions, each on 0 to its end `t` or `u` and of integral 1: eq. 151."""
    until = np.minimum(t, u)
    scale = (gamma + 1) * (delta + 1) / ((gamma + delta + 1) * np.maximum(t, u))
    return scale * (until / t) ** gamma * (until / u) ** delta
