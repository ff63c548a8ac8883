"""Cautious optimizers (arXiv:2411.16085)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._rule import Modifier, StepContext, static
from ..rules.adam import Adam


class Cautious(Modifier):
    r"""Step only where the rule's direction agrees in sign with the gradient, and as much further there.

    $$\phi = [u_t g_t > 0] \qquad u'_t = \phi\,u_t \cdot \frac{n}{\sum\phi + 1} \quad\text{or}\quad
      \phi\,u_t / \max(\mathrm{mean}(\phi), 10^{-3})$$

    Attributes:
        rule: the rule.
        normalisation: "mean", dividing by the share of elements that are kept (the second form, the current official
            code), or "count" (the first form, of its first version).

    Reference: Liang et al., arXiv:2411.16085, Algorithm 1.
    """

    normalisation: str = static(default="mean", choices=("mean", "count"))
    elementwise = False

    def step(self, g: Array, s: Any, at: StepContext) -> tuple[Array, Any]:
        u, s = self.rule.step(g, s, at)
        agrees = (u * jnp.conj(g)).real > 0
        kept, masked = at.sum(agrees.astype(at.t.dtype)), jnp.where(agrees, u, 0 * u)  # 0 * NaN stays visible
        size = at.size(g)
        if self.normalisation == "count":
            return masked * (size / (kept + 1)), s
        return masked / jnp.maximum(kept / max(size, 1), 1e-3), s


@named(Cautious, Adam)
def cadamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    normalisation: str = Cautious.normalisation,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """Cautious AdamW (arXiv:2411.16085): steps only where the direction agrees in sign with the gradient.

    It is `Cautious(Adam(...))`; hyperparameters are those of `adamx.Adam`, `normalisation` is `adamx.Cautious`'s, the
    rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.cadamw(0.5, weight_decay=0.0)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = Cautious(Adam(b1, b2, eps, eps_root), normalisation)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)
