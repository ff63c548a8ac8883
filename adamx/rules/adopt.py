"""ADOPT (arXiv:2411.02853)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, div_no_nan, ema, sign
from .._rule import Moments, Rule, Slot, StepContext, static


def fourth_root(count: Array) -> Array:
    r"""$(t-1)^{1/4}$, of the finished steps $t-1$: what the paper clips to."""
    return jnp.asarray(count).astype(float) ** 0.25


class ADOPT(Rule[Moments]):
    r"""Adam that measures each gradient by the second moment *before* it, which makes it converge for every b2.

    $$n_t = \mathrm{clip}\Big(\frac{g_t}{\max(\sqrt{v_{t-1}}, \varepsilon)}, \pm c_t\Big) \qquad
      u_t = m_t = \beta_1 m_{t-1} + (1-\beta_1) n_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2$$

    with $c_t = (t-1)^{1/4}$. The first call takes no step: it sets $v_1 = g_1^2$. Nothing is corrected for bias.

    Attributes:
        b1: decay rate of the momentum.
        b2: decay rate of the mean square.
        eps: the least root, in units of the gradient.
        weight_decay: strength $\lambda$ of decoupled decay; part of the rule, as the first call does not decay either.
        nesterov: look one step ahead with the momentum.
        use_clipping: whether the rescaled gradient is clipped.
        clip_value_fn: $c_t$, as a schedule of the finished steps or a number.

    Reference: Taniguchi et al., arXiv:2411.02853, Algorithm 2, and the official code.
    """

    b1: Beta = 0.9
    b2: Beta = 0.9999
    eps: NonNegative = 1e-6
    weight_decay: NonNegative = 0.0
    nesterov: bool = static(default=False)
    use_clipping: bool = static(default=True)
    clip_value_fn: NonNegative = fourth_root
    elementwise = True
    eps_place = "max(√v, ε)"
    corrected_averages = "none"
    slots = Moments(mu=Slot(unit=lambda s: jnp.ones_like(s.nu)), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleByAdamState.mu", "ScaleByAdamState.nu")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        first = at.t == 1
        n = div_no_nan(g, jnp.maximum(jnp.sqrt(s.nu), self.eps))
        if self.use_clipping:
            n = jnp.where(jnp.abs(n) > self.clip_value_fn, self.clip_value_fn * sign(n), n)
        mu = jnp.where(first, s.mu, ema(s.mu, n, self.b1))
        nu = jnp.where(first, abs_sq(g), ema(s.nu, abs_sq(g), self.b2))
        u = ema(mu, n, self.b1) if self.nesterov else mu
        return jnp.where(first, 0 * g, u + at.decay(self.weight_decay)), Moments(mu, nu)


@named(ADOPT)
def adopt(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = ADOPT.b1,
    b2: ScalarOrSchedule = ADOPT.b2,
    eps: ScalarOrSchedule = ADOPT.eps,
    mu_dtype: Any = None,
    *,
    nesterov: bool = ADOPT.nesterov,
    use_clipping: bool = ADOPT.use_clipping,
    clip_value_fn: ScalarOrSchedule = fourth_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """ADOPT (arXiv:2411.02853): Adam that converges for every b2; its first call takes no step.

    Hyperparameters are those of `adamx.ADOPT`; the rest is described by `adamx.optimizer`. `clip_value_fn` is a
    function of the finished steps, as in Optax, or a number.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adopt(0.5)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([2.], dtype=float32)
    """
    rule = ADOPT(b1, b2, eps, weight_decay, nesterov, use_clipping, clip_value_fn)
    return optimizer(
        rule, learning_rate, mu_dtype=mu_dtype, mask=mask, **common(moments, weights, seed, kernel, groups)
    )


@described(ADOPT, scale_by)
def scale_by_adopt(
    b1: ScalarOrSchedule = ADOPT.b1,
    b2: ScalarOrSchedule = ADOPT.b2,
    eps: ScalarOrSchedule = ADOPT.eps,
    mu_dtype: Any = None,
    *,
    nesterov: bool = ADOPT.nesterov,
    use_clipping: bool = ADOPT.use_clipping,
    clip_value_fn: ScalarOrSchedule = fourth_root,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """ADOPT's direction, without step size and sign; see `adamx.ADOPT`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_adopt()
        >>> grads = jnp.array([3.0, -0.2])
        >>> direction, state = tx.update(grads, tx.init(grads))
        >>> direction, state.slots.nu  # the first call only measures
        (Array([ 0., -0.], dtype=float32), Array([9.  , 0.04], dtype=float32))
    """
    rule = ADOPT(b1, b2, eps, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn)
    return scale_by(rule, mu_dtype=mu_dtype, moments=moments, seed=seed)
