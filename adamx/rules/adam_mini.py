"""Adam-mini (arXiv:2406.16793)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema
from .._rule import Moments, Rule, Slot, StepContext, static
from ..estimates import MomentEstimates
from ..idle import IdleSteps
from .adam import Adam


class AdamMini(Rule[Moments]):
    r"""Adam with one second moment for each block of a leaf, stored as such.

    $$v_t = \beta_2 v_{t-1} + (1-\beta_2)\,\mathrm{mean}_{\text{block}}(g_t^2) \qquad
      u_t = \hat m_t / (\sqrt{\hat v_t} + \varepsilon)$$

    A block is what one output neuron reads: all axes but `keep` are averaged. The paper's other blocks are other values
    of it, one for each group of `optax.partition`: the rows of an embedding `keep=(0,)`, the heads of a query or key
    kernel of shape (features, heads, size) `keep=(1,)`, all in one `keep=()`. Leaves of fewer than two axes are Adam's.

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        keep: the axes along which blocks differ; the last is a Flax kernel's output.

    Reference: Zhang et al., arXiv:2406.16793, Algorithms 1 and 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    keep: tuple[int, ...] = static(default=(-1,))
    elementwise = False
    eps_place = "√v̂ + ε"
    corrected_averages = "m, v"

    def _slots(self) -> Moments:
        return Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(init=self._blocks, nonnegative=True))

    slots = property(_slots)

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        square = abs_sq(g)
        n = max(square.size // max(s.nu.size, 1), 1)
        nu = ema(s.nu, at.sum(square, self._averaged(g.ndim), keepdims=True) / n, self.b2)
        return adam_ratio(debias(mu, self.b1, at.t), debias(nu, self.b2, at.t), self.eps), Moments(mu, nu)

    def idle(self, s: Moments, at: IdleSteps) -> tuple[Array, Moments]:
        if self.keep != (0,):
            raise ValueError(f"keep = {self.keep} takes blocks across rows of a table: give keep=(0,)")
        return Adam(self.b1, self.b2, self.eps).idle(s, at)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), self.eps)

    def _averaged(self, ndim: int) -> tuple[int, ...]:
        if ndim < 2:
            return ()
        if not all(-ndim <= axis < ndim for axis in self.keep):
            raise ValueError(f"keep = {self.keep} names an axis that a leaf of {ndim} axes does not have: partition")
        return tuple(axis for axis in range(ndim) if {axis, axis - ndim}.isdisjoint(self.keep))

    def _blocks(self, p: Array, dtype: Any) -> Array:
        # Summed up like the squares to come, so that it is sharded as they will be.
        return jnp.zeros_like(p, dtype=dtype).sum(self._averaged(p.ndim), keepdims=True)


@named(AdamMini)
def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdamMini.b1,
    b2: ScalarOrSchedule = AdamMini.b2,
    eps: ScalarOrSchedule = AdamMini.eps,
    keep: tuple[int, ...] = AdamMini.keep,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Adam-mini (arXiv:2406.16793): AdamW with one second moment for each output neuron, stored as such.

    Hyperparameters are those of `adamx.AdamMini`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = jnp.ones((512, 64))
        >>> adamx.adam_mini(1e-3).init(params).slots.nu.shape
        (1, 64)
    """
    rule = AdamMini(b1, b2, eps, keep)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
