r"""Advice on ε, from the distribution of $\sqrt{\hat v}$ or of gradients."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from .. import _leaves
from .._annotations import Array, Params
from .._state import State
from .._transform import Optimizer, engine_of
from ..moments import is_code
from ..states.packing import unpack_state
from ..states.parts import find_state
from ._hats import Numbers, moment_estimates, numbers_of

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
        opt: the optimizer of that state: its decay rate corrects $v$ for bias, its ε is the present one.
        params: the parameters or `jax.ShapeDtypeStruct`s like them; only for a state with coded moments.
        candidates: the values of ε whose shares are reported.

    Returns:
        An `EpsAdvice`: the advised ε, a range to search, quantiles of the sizes, and the share that each candidate
        dominates; it prints as text.

    Raises:
        ValueError: there is no size other than 0, or none finite; a state without `opt`.
        TypeError: `opt` keeps no second moment that ε stands beside.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> print(adamx.diagnostics.suggest_eps({"w": 10.0 ** jnp.linspace(-10, -4, 1000)}))
        eps = 1e-10: the present 1e-08 dominates 33.4 % of the weights; 1e-10 dominates 0.0 %
        worth trying: 1e-10 to 1e-07
        quantiles: 0.1% 1.0e-10, 1.0% 1.1e-10, 10.0% 4.0e-10, 50.0% 1.0e-07, 90.0% 2.5e-05, 99.0% 8.7e-05; zeros: 0.0%
        share dominated by eps: 1e-09 16.7%, 1e-08 33.4%, 1e-07 50.0%, 1e-06 66.7%, 1e-05 83.3%

    Reference: Kingma & Ba, arXiv:1412.6980, section 6.3 (second moments that vanish and are dominated by ε); a search
    range from the sizes of gradients: arXiv:2311.11532; that ε is worth tuning: Choi et al., arXiv:1910.05446.
    """
    sizes, present = _sizes(state_or_grads, opt, params)
    total = max(sizes.size, 1)
    sizes = sizes[np.isfinite(sizes)]
    known = np.sort(sizes[sizes > 0])
    if not known.size:
        raise ValueError(f"of {total} sizes none is finite and above 0: give gradients, or a state after some steps")
    shares = {float(eps): _below(known, eps) for eps in candidates}
    quantiles = {q: float(np.quantile(known, q)) for q in QUANTILES}
    harmless = 10.0 ** math.floor(math.log10(np.quantile(known, HARMLESS)))
    now = _below(known, present)
    if now <= HARMLESS:
        eps, reason = present, f"it dominates {now * 100:.1f} % of the weights, too few to matter"
    else:
        eps = harmless
        reason = (
            f"the present {present:.0e} dominates {now * 100:.1f} % of the weights; {eps:.0e} dominates "
            f"{_below(known, eps) * 100:.1f} %"
        )
    median = 10.0 ** round(math.log10(quantiles[0.5]))
    return EpsAdvice(eps, reason, (harmless, max(median, harmless)), quantiles, shares, 1 - known.size / total)


def _below(known: np.ndarray, eps: float) -> float:
    return float(np.searchsorted(known, eps)) / known.size


def _sizes(source: Any, opt: Optimizer | None, params: Params) -> tuple[np.ndarray, float]:
    r"""All $\sqrt{\hat v}$ or $|g|$ in float64, and the present ε."""
    if not any(isinstance(x, State) for x in jax.tree.leaves(source, is_leaf=lambda x: isinstance(x, State))):
        start = State(jnp.zeros([], jnp.int32), (), {})
        return _flat(source), DEFAULT if opt is None else _present(opt, start, jnp.float32(jnp.inf))
    if opt is None:
        raise ValueError("a state does not know its decay rate: call suggest_eps(state, opt)")
    present, state = _present(opt, find_state(source)), find_state(source)
    numbers = cast(Numbers, numbers_of(engine_of(opt), state))
    state = state if params is None else find_state(unpack_state(opt, source, params))
    divisor = getattr(state.slots, numbers.square)
    if any(is_code(x) for x in jax.tree.leaves(divisor, is_leaf=_leaves.is_stored)):
        raise ValueError("the moments of this state are coded: call suggest_eps(state, opt, params=params)")
    return (np.sqrt(_flat(divisor)) if numbers.squared else _flat(divisor)) * float(numbers.root), present


def _present(opt: Optimizer, state: State, t: Array | None = None) -> float:
    r"""The ε beside $\sqrt{\hat v}$ after step `t`; `None` for the last that is finished."""
    estimates = moment_estimates(engine_of(opt), state, t)
    if estimates is None or estimates.eps is None:
        raise TypeError(f"{type(engine_of(opt).rule).__name__} keeps no second moment with an eps: give gradients")
    return float(estimates.eps)


def _flat(tree: Any) -> np.ndarray:
    parts = []
    for x in jax.tree.leaves(tree):
        size = np.abs(np.asarray(x)).astype(np.float64).reshape(-1)
        parts.append(size[:: max(1, size.size // SAMPLE)])
    return np.concatenate(parts) if parts else np.zeros(0)
