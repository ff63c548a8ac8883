r"""An optimizer's own numbers, for those who look at it: step size, $\hat m$, $\sqrt{\hat v}$, ε, the bound."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._descent import Descent
from .._engine import Engine, State
from .._math import bias_correction, one_minus_exp
from .._rule import Modifier, Rule
from .._typing import Array, ScalarOrSchedule
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.adamx import AdamX
from ..rules.adan import Adan
from ..rules.adopt import ADOPT
from ..rules.amsgrad import AMSGrad
from ..rules.laprop import LaProp
from ..rules.radam import RAdam
from ..rules.simplified_ademamix import SimplifiedAdEMAMix
from ..rules.stable_adamw import StableAdamW
from ..theory import update_bound


class Numbers(NamedTuple):
    r"""What makes a rule's slots the hats of the paper, in one step.

    Attributes:
        ratio: what $m/\sqrt v$ is multiplied with to be $\hat m/\sqrt{\hat v}$.
        root: what $\sqrt v$ is multiplied with to be $\sqrt{\hat v}$.
        eps: ε in units of $\sqrt{\hat v}$; `None` where it does not stand beside it.
        bound: the largest $|\hat m|/\sqrt{\hat v}$ that gradients can make; `None` where it is not known.
        squared: whether the slot is $v$; it is its root otherwise.
    """

    ratio: Array
    root: Array
    eps: Array | None
    bound: Array | None
    squared: bool


@dataclasses.dataclass(frozen=True)
class Hats:
    r"""A rule that keeps `mu`, an average of gradients, and `nu`, one of their squares.

    Attributes:
        rule: the innermost rule, whose slots they are.
        path: where it stands within its modifiers.
    """

    rule: Any
    path: str

    @classmethod
    def of(cls, engine: Engine) -> "Hats | None":
        """Those of an optimizer; `None` if it has none."""
        rule, path = engine.rule, ""
        while isinstance(rule, Modifier):
            rule, path = rule.rule, f"{path}rule."
        mu, nu = (getattr(engine.rule.slots, name, None) for name in ("mu", "nu"))
        if mu is None or nu is None or mu.unit is None or isinstance(rule, (SimplifiedAdEMAMix, ADOPT, LaProp)):
            return None
        return cls(rule, path) if hasattr(rule, "b1") and hasattr(rule, "b2") and not rule.measures else None

    @property
    def squared(self) -> bool:
        """Whether `nu` is in units of the squared gradient."""
        return not isinstance(self.rule, AdaMax)

    @property
    def has_eps(self) -> bool:
        r"""Whether an ε stands beside $\sqrt{\hat v}$."""
        return self.squared and hasattr(self.rule, "eps")

    @property
    def has_bound(self) -> bool:
        """Whether both moments are plain averages, corrected for bias, whose decay rates are Python numbers."""
        plain = isinstance(self.rule, (Adam, RAdam, StableAdamW)) and self._corrects("mu")
        return plain and all(isinstance(b, (int, float)) for b in (self.rule.b1, self.rule.b2))

    def divisor(self, slots: Any) -> Any:
        """Of the slots the one that the step divides by: the largest second moment, where a rule keeps it."""
        return getattr(slots, "nu_max", slots.nu)

    def numbers(self, state: State) -> Numbers:
        """Those of the step that led to `state`; no derivative goes through them."""
        t = jnp.maximum(jnp.asarray(state.count, jnp.float32), 1)  # 0 of a state that has just begun anew
        mean = self._correction("b1", state, t) if self._corrects("mu") else jnp.ones_like(t)
        square = eps_square = jnp.ones_like(t)
        if self.squared and self._corrects("nu"):
            eps_square = self._correction("b3" if isinstance(self.rule, Adan) else "b2", state, t)
            square = jnp.ones_like(t) if self._keeps_corrected else eps_square
        eps = bound = None
        if self.has_eps:
            eps = jnp.asarray(value_at(self.rule.eps, state.count - 1), jnp.float32)
            if getattr(self.rule, "eps_hat", False):
                eps = eps / jnp.sqrt(eps_square)
        if self.has_bound:
            bound = jnp.asarray(update_bound(self.rule.b1, self.rule.b2, t), jnp.float32)
        ratio, root = jnp.sqrt(square) / mean, 1 / jnp.sqrt(square)
        return Numbers(*jax.lax.stop_gradient((ratio, root, eps, bound)), self.squared)

    @property
    def _keeps_corrected(self) -> bool:
        """Whether the largest second moment that is kept is one of corrected ones."""
        return isinstance(self.rule, AMSGrad) and self.rule.max_of == "corrected"

    def _corrects(self, slot: str) -> bool:
        if isinstance(self.rule, AdamX):
            return False
        return getattr(self.rule, f"bias_correction_{slot}", getattr(self.rule, "bias_correction", True))

    def _correction(self, name: str, state: State, t: Array) -> Array:
        if (product := state.log_products.get(self.path + name)) is not None:
            return one_minus_exp(jnp.asarray(product.total, jnp.float32))
        return jnp.asarray(bias_correction(getattr(self.rule, name), t), jnp.float32)


def step_size_of(engine: Engine | None) -> ScalarOrSchedule | None:
    """The step size of an optimizer of adamx's; `None` if it is not one number for all elements."""
    rule: Rule[Any] | None = None if engine is None else engine.rule
    if not isinstance(rule, Descent):
        return None
    inner: Any = rule.rule
    while isinstance(inner, Rule):
        if hasattr(inner, "learning_rate"):
            return None
        inner = getattr(inner, "rule", None)
    return rule.learning_rate


def injected_step_size(state: Any) -> Any:
    """The one `learning_rate` that `optax.inject_hyperparams` keeps in a state; `None` if there is not one."""
    found = [x for _, x in optax.tree_utils.tree_get_all_with_path(state, "learning_rate") if jnp.shape(x) == ()]
    return found[0] if len(found) == 1 else None


def value_at(x: ScalarOrSchedule, finished: int | Array) -> Any:
    """A hyperparameter after so many finished steps."""
    return x(finished) if callable(x) else x
