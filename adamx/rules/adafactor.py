"""Adafactor (arXiv:1804.04235)."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, Positive, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import abs_sq, div_no_nan, ema
from .._rule import Rule, Slot, StepContext, static
from .factored import Axes, factor_slots, factored_axes


class AdafactorMoments(NamedTuple):
    """The factored second moment, and the momentum (`None` unless asked for)."""

    nu: Any
    mu: Any


class Adafactor(Rule[AdafactorMoments]):
    r"""A second moment kept as row and column means, a clipped step, and a step size relative to the weights.

    $$R_t = \beta_{2,t} R_{t-1} + (1-\beta_{2,t})\,\mathrm{mean}_{\text{rows}}(g_t^2 + \varepsilon),\ C_t \text{ alike}
      \qquad \hat V_t = R_t C_t / \mathrm{mean}(R_t) \qquad \beta_{2,t} = 1 - t^{-c}$$
    $$U_t = g_t / \sqrt{\hat V_t} \qquad
      u_t = \max(\varepsilon_2, \mathrm{RMS}(p))\, U_t / \max(1, \mathrm{RMS}(U_t)/d)$$

    Attributes:
        decay_rate: the power $c$ of the step's number in $\beta_{2,t}$.
        decay_offset: steps that are not counted in $\beta_{2,t}$, which stays 0 for so long.
        clipping_threshold: the largest root mean square $d$ of $U_t$ in a leaf; `None` for no limit.
        momentum: decay rate of an average of the steps; `None` for none.
        eps: $\varepsilon$, in units of the squared gradient; if `clamped`, of the gradient. `None` for the machine
            epsilon of the dtype that the leaf is computed in.
        eps_scale: $\varepsilon_2$, the least scale of the weights.
        multiply_by_parameter_scale: whether the step is in units of the weights.
        min_dim_size_to_factor: the least length of the two axes of a leaf that is factored; others keep all of it.
        factored: whether large leaves are factored.
        last_axes: factor the last two axes (PyTorch, Keras) instead of the two largest (Optax).
        clamped: bound mean(R) and the root from below by `eps` instead of adding it to the square (PyTorch).
        step_size: $\alpha_t$ inside the momentum, for a step size that changes (Optax, MLX). Where it is given, it is
            the optimizer's `learning_rate` to groups, `step`, `hyperparameters`.

    Reference: Shazeer & Stern, arXiv:1804.04235, Algorithms 4 and 5 (step size min(.01, 1/sqrt(t))).
    """

    decay_rate: NonNegative = 0.8
    decay_offset: NonNegative = 0.0
    clipping_threshold: Positive | None = 1.0
    momentum: Beta | None = None
    eps: NonNegative | None = 1e-30
    eps_scale: NonNegative = 1e-3
    multiply_by_parameter_scale: bool = static(default=True)
    min_dim_size_to_factor: int = static(default=128)
    factored: bool = static(default=True)
    last_axes: bool = static(default=False)
    clamped: bool = static(default=False)
    step_size: NonNegative | None = None
    elementwise = False
    eps_place = property(lambda self: "max(√v, ε)" if self.clamped else "g² + ε")
    corrected_averages = "none"
    optax_slots = ("FactoredState.v_row", "FactoredState.v_col", "FactoredState.v", "EmaState.ema")
    torch_slots = ("row_var", "col_var", "variance", None)

    def _slots(self) -> AdafactorMoments:
        mu = Slot() if self.momentum is not None else Slot(init=lambda p, dtype: None)
        return AdafactorMoments(nu=factor_slots(self._axes), mu=mu)

    slots = property(_slots)

    def step(self, g: Array, s: AdafactorMoments, at: StepContext) -> tuple[Array, AdafactorMoments]:
        axes, b2 = self._axes(g.shape), 1 - jnp.maximum(at.t - self.decay_offset, 1) ** -self.decay_rate
        eps = jnp.finfo(g.dtype).eps if self.eps is None else self.eps
        if self.clamped:
            nu, whole = s.nu.towards(abs_sq(g), b2, axes, at, eps)
            u = g / jnp.maximum(jnp.sqrt(whole), eps)
        else:
            nu, whole = s.nu.towards(abs_sq(g) + eps, b2, axes, at)
            u = div_no_nan(g, jnp.sqrt(whole))
        if self.clipping_threshold is not None:
            u = u / jnp.maximum(1, at.rms(u) / self.clipping_threshold)
        if self.multiply_by_parameter_scale:
            u = u * jnp.maximum(at.rms(at.p), self.eps_scale)
        mu = s.mu
        if self.step_size is not None:
            u = self.step_size * u
        if self.momentum is not None:
            u = mu = ema(s.mu, u, self.momentum)
        return u, AdafactorMoments(nu, mu)

    def _axes(self, shape: tuple[int, ...]) -> Axes:
        return factored_axes(shape, self.min_dim_size_to_factor, self.last_axes) if self.factored else None


@named(Adafactor)
def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = Adafactor.min_dim_size_to_factor,
    decay_rate: ScalarOrSchedule = Adafactor.decay_rate,
    decay_offset: ScalarOrSchedule = Adafactor.decay_offset,
    multiply_by_parameter_scale: bool = Adafactor.multiply_by_parameter_scale,
    clipping_threshold: ScalarOrSchedule | None = Adafactor.clipping_threshold,
    momentum: ScalarOrSchedule | None = Adafactor.momentum,
    dtype_momentum: Any = None,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule | None = Adafactor.eps,
    factored: bool = Adafactor.factored,
    weight_decay_mask: Any = None,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Adafactor (arXiv:1804.04235): a second moment kept as row and column means, steps in units of the weights.

    Hyperparameters are those of `adamx.Adafactor`; the rest is described by `adamx.optimizer`.

    Args:
        learning_rate: the step size, in units of the weights' root mean square; `None` for 1. The paper's is
            min(.01, 1/sqrt(t)), `schedules.relative_step()`.
        dtype_momentum: the storage dtype of the momentum; `None` for at least float32. Optax's default for
            `dtype_momentum`, float32, would narrow the momentum of float64 weights.
        weight_decay_rate: the share of the weights that is taken off at every step, whatever the step size, as in
            Optax; `None` for 0.
        weight_decay_mask: which leaves decay, `mask` of `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = jnp.ones((512, 256))
        >>> nu = adamx.adafactor().init(params).slots.nu
        >>> nu.row.shape, nu.col.shape
        ((256,), (512,))
    """
    rule = Adafactor(
        decay_rate=decay_rate,
        decay_offset=decay_offset,
        clipping_threshold=clipping_threshold,
        momentum=momentum,
        eps=eps,
        multiply_by_parameter_scale=multiply_by_parameter_scale,
        min_dim_size_to_factor=min_dim_size_to_factor,
        factored=factored,
    )
    rate = 1.0 if learning_rate is None else learning_rate
    if momentum is not None:
        rule, rate = dataclasses.replace(rule, step_size=rate), 1.0
    strength = 0.0 if weight_decay_rate is None else weight_decay_rate
    mu_dtype = None if momentum is None else dtype_momentum
    decays, shared = (
        decaying(strength, weight_decay_mask, "constant", None),
        common(moments, weights, seed, kernel, groups),
    )
    return optimizer(rule, rate, mu_dtype=mu_dtype, **decays, **shared)
