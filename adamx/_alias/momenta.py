"""Variants with other or more averages by name: Adan, ADOPT, AdEMAMix, StableAdamW, Adam-mini."""

from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adam_mini import AdamMini
from ..rules.adan import Adan
from ..rules.ademamix import AdEMAMix, SimplifiedAdEMAMix
from ..rules.adopt import ADOPT, fourth_root
from ..rules.stable_adamw import StableAdamW


def adan(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adan.b1,
    b2: ScalarOrSchedule = Adan.b2,
    b3: ScalarOrSchedule = Adan.b3,
    eps: ScalarOrSchedule = Adan.eps,
    eps_root: ScalarOrSchedule = Adan.eps_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "proximal",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    r"""Adan (arXiv:2208.06677): Adam with Nesterov momentum built from the change of the gradient.

    Hyperparameters are those of `adamx.Adan`; the rest is described by `adamx.optimizer`.

    Decay is the official code's, $p / (1 + \alpha\lambda)$ after the step. Optax has another rule under this name,
    with 1 - b2 for b2 (optax#1715), `eps_root=1e-8` and decoupled decay. The official code has no `eps_root`, and so it
    is 0 here, as in `optax.scale_by_adan`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adan(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        Adan(b1, b2, b3, eps, eps_root),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )


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
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """ADOPT (arXiv:2411.02853): Adam that converges for every b2; its first call takes no step.

    Hyperparameters are those of `adamx.ADOPT`; the rest is described by `adamx.optimizer`. `clip_value_fn` is a
    function of the finished steps, as in Optax, or a number.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.adopt(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([2.], dtype=float32)
    """
    rule = ADOPT(b1, b2, eps, weight_decay, nesterov, use_clipping, clip_value_fn)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, mask=mask, moments=moments, weights=weights, seed=seed)


def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdEMAMix.b1,
    b2: ScalarOrSchedule = AdEMAMix.b2,
    b3: ScalarOrSchedule = AdEMAMix.b3,
    alpha: ScalarOrSchedule = AdEMAMix.alpha,
    eps: ScalarOrSchedule = AdEMAMix.eps,
    eps_root: ScalarOrSchedule = AdEMAMix.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """AdEMAMix (arXiv:2409.03137): AdamW with a second, much slower mean of the gradient.

    Hyperparameters are those of `adamx.AdEMAMix`; the rest is described by `adamx.optimizer`.

    Warm the slow mean up with `schedules.ademamix_alpha` and `schedules.ademamix_b3`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.ademamix(0.5, alpha=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        AdEMAMix(b1, b2, b3, alpha, eps, eps_root),
        learning_rate,
        mu_dtype=mu_dtype,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = SimplifiedAdEMAMix.b1,
    b2: ScalarOrSchedule = SimplifiedAdEMAMix.b2,
    alpha: ScalarOrSchedule = SimplifiedAdEMAMix.alpha,
    eps: ScalarOrSchedule = SimplifiedAdEMAMix.eps,
    eps_root: ScalarOrSchedule = SimplifiedAdEMAMix.eps_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Simplified AdEMAMix (arXiv:2502.02431): one slow momentum, and the gradient in place of the fast mean.

    Hyperparameters are those of `adamx.SimplifiedAdEMAMix`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.simplified_ademamix(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        SimplifiedAdEMAMix(b1, b2, alpha, eps, eps_root),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def stable_adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = StableAdamW.b1,
    b2: ScalarOrSchedule = StableAdamW.b2,
    eps: ScalarOrSchedule = StableAdamW.eps,
    weight_decay: ScalarOrSchedule = 1e-2,
    mask: Any = None,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """StableAdamW (arXiv:2304.13013): AdamW that shortens a leaf's step while its second moment lags behind.

    Hyperparameters are those of `adamx.StableAdamW`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.stable_adamw(0.5, weight_decay=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    return optimizer(
        StableAdamW(b1, b2, eps, weight_decay), learning_rate, mask=mask, moments=moments, weights=weights, seed=seed
    )


def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AdamMini.b1,
    b2: ScalarOrSchedule = AdamMini.b2,
    eps: ScalarOrSchedule = AdamMini.eps,
    keep: tuple[int, ...] = AdamMini.keep,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Adam-mini (arXiv:2406.16793): AdamW with one second moment for each output neuron, stored as such.

    Hyperparameters are those of `adamx.AdamMini`; the rest is described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> params = jnp.ones((512, 64))
    >>> adamx.adam_mini(1e-3).init(params).slots.nu.shape
    (1, 64)
    """
    return optimizer(
        AdamMini(b1, b2, eps, keep),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )
