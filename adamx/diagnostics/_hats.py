r"""An optimizer's own numbers, for those who look at it: step size, $\hat m$, $\sqrt{\hat v}$, ε, the bound."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._annotations import Array, ScalarOrSchedule
from .._descent import Descent
from .._engine import Engine
from .._leaf import SharedInputs
from .._rule import Rule
from .._state import State
from ..estimates import MomentEstimates
from ..shared import last_step
from ..theory import update_bound


class Numbers(NamedTuple):
    r"""The numbers that make moments as they are stored $\hat m$ and $\sqrt{\hat v}$, in one step.

    Attributes:
        ratio: what $m/\sqrt v$ is multiplied with to be $\hat m/\sqrt{\hat v}$.
        root: what $\sqrt v$ is multiplied with to be $\sqrt{\hat v}$.
        eps: ε in units of $\sqrt{\hat v}$; `None` where it does not stand beside it.
        bound: the largest $|\hat m|/\sqrt{\hat v}$ that gradients can make; `None` where it is not known.
        squared: whether the slot is $v$; it is its root otherwise.
        mean: name of the slot of $m$.
        square: name of the slot of $v$ that the step divides by.
    """

    ratio: Array
    root: Array
    eps: Array | None
    bound: Array | None
    squared: bool
    mean: str = "mu"
    square: str = "nu"

    @classmethod
    def of(cls, estimates: MomentEstimates, t: Array) -> "Numbers":
        """Those of step `t`; no derivative goes through them."""
        mean, unit = (jnp.asarray(x, jnp.float32) for x in (estimates.mean_correction, estimates.square_correction))
        unit = unit if estimates.is_root else jnp.sqrt(unit)
        eps = None if estimates.eps is None else jnp.asarray(estimates.eps, jnp.float32)
        bound, (b1, b2) = None, estimates.decay_rates or (None, None)
        if isinstance(b1, (int, float)) and isinstance(b2, (int, float)):
            bound = jnp.asarray(update_bound(b1, b2, t), jnp.float32)
        arrays = jax.lax.stop_gradient((unit / mean, 1 / unit, eps, bound))
        return cls(*arrays, not estimates.is_root, estimates.mean, estimates.square)


def moment_estimates(engine: Engine, now: SharedInputs, t: Array | None = None) -> MomentEstimates | None:
    """What the rule declares of its moments after a step; `None` if that is unknown.

    Args:
        engine: of an adamx optimizer.
        now: what the leaves share in the step.
        t: the number of the step; `None` for that of `now`.

    Raises:
        ValueError: the rule names a slot that it does not have.
    """
    real = np.dtype(np.float32)
    estimates = now.rule(real).moment_estimates(now.t(real) if t is None else t)
    for name in () if estimates is None else (estimates.mean, estimates.square):
        if name not in (slots := engine.layout.names):
            raise ValueError(
                f"`moment_estimates` names the slot {name!r}, but the rule's are {', '.join(slots) or 'none'}"
            )
    return estimates


def numbers_of(engine: Engine, state: State) -> Numbers | None:
    """Those of the step that led to `state`, of leaves of no group."""
    return numbers_in(engine, last_step(engine.rule, state))


def numbers_in(engine: Engine, now: SharedInputs) -> Numbers | None:
    """The numbers of a step; `None` where the rule does not declare how its moments are read."""
    estimates = moment_estimates(engine, now)
    return None if estimates is None else Numbers.of(estimates, now.t(np.dtype(np.float32)))


def step_size_of(rule: Any) -> ScalarOrSchedule | None:
    """The step size of an optimizer's rule; `None` if it is not one number for all elements."""
    found = rule.learning_rate if isinstance(rule, Descent) else None
    while found is not None and isinstance(rule := getattr(rule, "rule", None), Rule):
        if hasattr(rule, "learning_rate"):
            return None
        found = found if (inside := getattr(rule, "step_size", None)) is None else inside
    return found


def injected_step_size(state: Any) -> Any:
    """The one `learning_rate` that `optax.inject_hyperparams` keeps in a state; `None` if there is not one."""
    found = [x for _, x in optax.tree_utils.tree_get_all_with_path(state, "learning_rate") if jnp.shape(x) == ()]
    return found[0] if len(found) == 1 else None


def value_at(x: ScalarOrSchedule, finished: int | Array) -> Any:
    """A hyperparameter after so many finished steps."""
    return x(finished) if callable(x) else x
