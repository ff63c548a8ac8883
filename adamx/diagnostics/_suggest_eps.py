r"""Advice on ε, from the distribution of $\sqrt{\hat v}$ or of gradients."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array, Params
from .._engine import Engine
from .._leaf import SharedInputs
from .._state import State
from .._transform import Optimizer, engine_of
from .._variables import without_variables
from ..estimates import MomentEstimates
from ..moments import is_code
from ..shared import last_step
from ..states.packing import unpack_state
from ..states.parts import find_state, states_in
from ._by_groups import of_leaves
from ._hats import Numbers, moment_estimates

CANDIDATES = tuple(10.0**k for k in range(-16, 1))
QUANTILES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99)
HARMLESS = 0.01
"""The share of weights that ε may dominate without mattering."""

DEFAULT = 1e-8
SAMPLE = 2_000_000
"""The largest number of elements of a leaf that quantiles are taken of; of larger leaves, evenly spaced elements."""


class EpsAdvice(NamedTuple):
    r"""ε compared with the $\sqrt{\hat v}$ of a model; prints as text.

    Attributes:
        eps: the advised ε.
        reason: why.
        search: the smallest and the largest ε worth trying.
        quantiles: of the nonzero sizes, by probability.
        dominated: for each candidate ε, the share of nonzero sizes below it.
        zeros: the share of all sizes that is 0.
    """

    eps: float
    reason: str
    search: tuple[float, float]
    quantiles: dict[float, float]
    dominated: dict[float, float]
    zeros: float

    def __str__(self) -> str:
        quantiles = ", ".join(f"{q:.1%} {x:.1e}" for q, x in self.quantiles.items())
        shares = [(eps, share) for eps, share in self.dominated.items() if 0 < share < 1]
        told = ", ".join(f"{eps:.0e} {share:.1%}" for eps, share in shares) or "each all or none"
        return (
            f"eps = {self.eps:.0e}: {self.reason}\n"
            f"worth trying: {self.search[0]:.0e} to {self.search[1]:.0e}\n"
            f"quantiles: {quantiles}; zeros: {self.zeros:.1%}\n"
            f"share dominated by eps: {told}"
        )


def suggest_eps(
    state_or_grads: Any,
    opt: Optimizer | None = None,
    *,
    params: Params = None,
    candidates: Sequence[float] = CANDIDATES,
) -> EpsAdvice:
    r"""Advise an ε from the sizes that it is added to: $\sqrt{\hat v}$ of a state, or $|g|$ of gradients.

    An ε far below all of them changes nothing; one above a size $s$ makes that weight's step
    $\hat m/\varepsilon$, which is SGD with momentum. The advice keeps the present ε while it dominates at most 1 % of
    the weights (sizes of 0 are left out, those weights have no gradient), and otherwise is the largest power of ten
    that does. Values from there to the median are worth trying; above it most weights stop being adaptive.

    Args:
        state_or_grads: an adamx state, or one that contains it, some hundred steps into training; or gradients of a
            batch as large as in training; or any tree of sizes.
        opt: the optimizer of that state: its decay rate corrects $v$ for bias, its ε is the present one; for leaves of
            a group, those of the group. Of several ε that dominate few weights, the least is advised.
        params: the parameters or `jax.ShapeDtypeStruct`s like them; only for a state with coded moments, or with leaves
            that a function chose as a frozen group.
        candidates: the values of ε whose shares are reported.

    Returns:
        An `EpsAdvice`: the advised ε, a range to search, quantiles of the sizes, and the share that each candidate
        dominates; it prints as text.

    Raises:
        ValueError: there is no size other than 0, or none finite; a state without `opt`.
        TypeError: `opt` keeps no second moment that ε stands beside.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> print(adamx.diagnostics.suggest_eps({"w": 10.0 ** jnp.linspace(-10, -4, 1004)}))
        eps = 1e-10: the present 1e-08 dominates 33.4 % of the weights; 1e-10 dominates 0.0 %
        worth trying: 1e-10 to 1e-07
        quantiles: 0.1% 1.0e-10, 1.0% 1.1e-10, 10.0% 4.0e-10, 50.0% 1.0e-07, 90.0% 2.5e-05, 99.0% 8.7e-05; zeros: 0.0%
        share dominated by eps: 1e-09 16.7%, 1e-08 33.4%, 1e-07 50.0%, 1e-06 66.6%, 1e-05 83.3%

    Reference: Kingma & Ba, arXiv:1412.6980, section 6.3 (second moments that vanish and are dominated by ε); a search
    range from the sizes of gradients: arXiv:2311.11532; that ε is worth tuning: Choi et al., arXiv:1910.05446.
    """
    parts = _sizes(state_or_grads, opt, params)
    total = max(sum(sizes.size for sizes, _ in parts), 1)
    parts = [(sizes[np.isfinite(sizes) & (sizes > 0)], eps) for sizes, eps in parts]
    known = np.sort(np.concatenate([sizes for sizes, _ in parts] or [np.zeros(0)]))
    if not known.size:
        raise ValueError(f"of {total} sizes none is finite and above 0: give gradients, or a state after some steps")
    shares = {float(eps): _below(known, eps) for eps in candidates}
    quantiles = {q: float(np.quantile(known, q)) for q in QUANTILES}
    harmless = 10.0 ** math.floor(math.log10(np.quantile(known, HARMLESS)))
    present = sorted({eps for sizes, eps in parts if sizes.size})
    now = sum(np.count_nonzero(sizes < eps) for sizes, eps in parts) / known.size
    if now <= HARMLESS:
        eps, reason = present[0], f"it dominates {now * 100:.1f} % of the weights, too few to matter"
    else:
        eps = harmless
        reason = (
            f"the present {' and '.join(f'{x:.0e}' for x in present)} dominates {now * 100:.1f} % of the weights; "
            f"{eps:.0e} dominates {_below(known, eps) * 100:.1f} %"
        )
    median = 10.0 ** round(math.log10(quantiles[0.5]))
    return EpsAdvice(eps, reason, (harmless, max(median, harmless)), quantiles, shares, 1 - known.size / total)


def _below(known: np.ndarray, eps: float) -> float:
    return float(np.searchsorted(known, eps)) / known.size


def _sizes(source: Any, opt: Optimizer | None, params: Params) -> list[tuple[np.ndarray, float]]:
    r"""All $\sqrt{\hat v}$ or $|g|$ in float64 and the present ε, of the leaves of each group."""
    are_given = not states_in(source)
    if opt is None:
        if are_given:
            return [(_flat(source), DEFAULT)]
        raise ValueError("a state does not know its decay rate: call suggest_eps(state, opt)")
    engine, tree, t = engine_of(opt), source, jnp.float32(jnp.inf) if are_given else None
    state = State(jnp.zeros([], jnp.int32), (), {}) if are_given else without_variables(find_state(source))
    now = last_step(engine.rule, state)
    estimates = _estimates(engine, now, t)
    if not are_given:
        exact = state if params is None else find_state(unpack_state(opt, source, params))
        tree = getattr(exact.slots, estimates.square)
        if any(is_code(x) for x in jax.tree.leaves(tree, is_leaf=_leaves.is_stored)):
            raise ValueError("the moments of this state are coded: call suggest_eps(state, opt, params=params)")
    leaves = _leaves.flatten(tree, "state")
    shared = of_leaves(engine, leaves if params is None else _leaves.flatten(params, "params"), state)
    shared = [now] * len(leaves.arrays) if shared is None else shared
    found: list[tuple[np.ndarray, float]] = []
    for group in {id(x): x for x in shared}.values():
        sizes = _flat([x for x, of in zip(leaves.arrays, shared, strict=True) if of is group])
        estimates = _estimates(engine, group, t)
        if not are_given:
            numbers = Numbers.of(estimates, group.t(np.dtype(np.float32)))
            sizes = (np.sqrt(sizes) if numbers.squared else sizes) * float(numbers.root)
        found.append((sizes, float(cast(float, estimates.eps))))
    return found


def _estimates(engine: Engine, now: SharedInputs, t: Array | None) -> MomentEstimates:
    estimates = moment_estimates(engine, now, t)
    if estimates is None or estimates.eps is None:
        raise TypeError(f"{type(engine.rule).__name__} keeps no second moment with an eps: give gradients")
    return estimates


def _flat(tree: Any) -> np.ndarray:
    parts = []
    for x in jax.tree.leaves(tree):
        size = np.abs(np.asarray(x)).astype(np.float64).reshape(-1)
        parts.append(size[:: max(1, size.size // SAMPLE)])
    return np.concatenate(parts) if parts else np.zeros(0)
