"""SOAP (arXiv:2409.11321), and other rules in its bases, as named optimizers."""

from typing import Any

from .._annotations import ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from ..rules.adam import Adam
from .rotated import Rotated


@named(Rotated, Adam)
def soap(
    learning_rate: ScalarOrSchedule = 3e-3,
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = Adam.eps,
    weight_decay: ScalarOrSchedule = 0.01,
    mask: Any = None,
    *,
    shampoo_beta: ScalarOrSchedule | None = None,
    frequency: int = Rotated.frequency,
    max_precondition_dim: int = Rotated.max_precondition_dim,
    one_sided: bool = Rotated.one_sided,
    refresh_first: bool = Rotated.refresh_first,
    staggered: bool = Rotated.staggered,
    kl: bool = Rotated.kl,
    kl_eps: ScalarOrSchedule = Rotated.kl_eps,
    debias: bool = Rotated.debias,
    basis_dtype: Any = None,
    mu_dtype: Any = None,
    decay: Decay = "after",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """SOAP (arXiv:2409.11321): Adam in the eigenbasis of Shampoo's statistics.

    It is `Rotated(Adam(..., eps_hat=True))` with the official code's defaults; hyperparameters are those of
    `adamx.Rotated` and `adamx.Adam`, the rest is described by `adamx.optimizer`. The first call only makes the bases.

    Args:
        shampoo_beta: decay rate of the statistics; `None` for `b2`.
        decay: as in `adamx.optimizer`; the official code's is "after".

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt, params = adamx.soap(0.5, weight_decay=0.0), jnp.eye(2)
        >>> state = opt.init(params)
        >>> for _ in range(2):
        ...     params, state = opt.step(jnp.array([[3.0, 4.0], [-4.0, 3.0]]), state, params)
        ...     print(params.round(3).tolist())
        [[1.0, 0.0], [0.0, 1.0]]
        [[0.7, -0.4], [0.4, 0.7]]
    """
    beta = b2 if shampoo_beta is None else shampoo_beta
    own = {"one_sided": one_sided, "refresh_first": refresh_first, "staggered": staggered, "kl": kl, "kl_eps": kl_eps}
    own |= {"debias": debias, "basis_dtype": basis_dtype}
    rule = Rotated(Adam(b1, b2, eps, eps_hat=True), beta, frequency, max_precondition_dim, **own)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)
