"""SOAP (arXiv:2409.11321), and other rules in its bases, as named optimizers."""

from typing import Any

from .._annotations import ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from ..rules.adam import Adam
from ..rules.adamax import AdaMax
from ..rules.lion import Lion
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
    batch_axes: int = Rotated.batch_axes,
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
        [[0.5, -0.5], [0.5, 0.5]]
    """
    beta = b2 if shampoo_beta is None else shampoo_beta
    when = {"frequency": frequency, "refresh_first": refresh_first, "staggered": staggered}
    which = {"max_precondition_dim": max_precondition_dim, "one_sided": one_sided, "batch_axes": batch_axes}
    how = {"kl": kl, "kl_eps": kl_eps, "debias": debias, "basis_dtype": basis_dtype}
    rule = Rotated(Adam(b1, b2, eps, eps_hat=True), beta, **when, **which, **how)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)


@named(Rotated, AdaMax)
def soap_adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    weight_decay: ScalarOrSchedule = 0.01,
    mask: Any = None,
    *,
    shampoo_beta: ScalarOrSchedule = Rotated.shampoo_beta,
    frequency: int = Rotated.frequency,
    max_precondition_dim: int = Rotated.max_precondition_dim,
    decay: Decay = "after",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """SOAP with AdaMax (arXiv:2409.11321, arXiv:1412.6980): AdaMax in the eigenbasis of Shampoo's statistics.

    It is `Rotated(AdaMax(...))`; hyperparameters are those of `adamx.Rotated` and `adamx.AdaMax`, the rest is described
    by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.soap_adamax(1e-3)
        >>> opt.init({"w": jnp.ones((2, 3))}).slots.bases.axis1["w"].shape
        (3, 3)
    """
    rule = Rotated(AdaMax(b1, b2, eps), shampoo_beta, frequency, max_precondition_dim)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)


@named(Rotated, Lion)
def soap_lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Lion.b1,
    b2: ScalarOrSchedule = Lion.b2,
    weight_decay: ScalarOrSchedule = 0.01,
    mask: Any = None,
    *,
    shampoo_beta: ScalarOrSchedule = Rotated.shampoo_beta,
    frequency: int = Rotated.frequency,
    max_precondition_dim: int = Rotated.max_precondition_dim,
    decay: Decay = "after",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """SOAP with Lion (arXiv:2409.11321, arXiv:2302.06675): signs of a momentum in the eigenbasis of its statistics.

    It is `Rotated(Lion(...))`; hyperparameters are those of `adamx.Rotated` and `adamx.Lion`, the rest is described by
    `adamx.optimizer`. In bases of the momentum itself that would be Muon's step.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.soap_lion(1e-4)
        >>> opt.init({"w": jnp.ones((2, 3))}).slots.inner
        Momentum(mu={'w': Array([[0., 0., 0.],
               [0., 0., 0.]], dtype=float32)})
    """
    rule = Rotated(Lion(b1, b2), shampoo_beta, frequency, max_precondition_dim)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, **decays, **shared)
