"""Modified Adam by name."""

from typing import Any

from .._optimizer import optimizer
from .._transform import Optimizer
from .._typing import ScalarOrSchedule
from ..modifiers.cautious import Cautious
from ..modifiers.extrapolation import MARS
from ..modifiers.grams import Grams
from ..modifiers.trust_ratio import Decayed, TrustRatio
from ..moments import Moments
from ..rules.adam import Adam


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """LAMB (arXiv:1904.00962): AdamW with each leaf's step in units of its weights.

    It is `TrustRatio(Decayed(Adam(...), weight_decay))`; hyperparameters are those of `adamx.Adam`, the rest is
    described by `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.lamb(0.5)
    >>> params = jnp.array([3.0, 4.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.232233, 2.232233], dtype=float32)
    """
    rule = TrustRatio(Decayed(Adam(b1, b2, eps, eps_root), weight_decay))
    return optimizer(rule, learning_rate, mask=mask, moments=moments, weights=weights, seed=seed)


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
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Cautious AdamW (arXiv:2411.16085): steps only where the direction agrees in sign with the gradient.

    It is `Cautious(Adam(...))`; hyperparameters are those of `adamx.Adam`, `normalisation` is `adamx.Cautious`'s, the
    rest is described by `adamx.optimizer`.

    Raises:
        ValueError: a number out of range, an unknown `normalisation`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.cadamw(0.5, weight_decay=0.0)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    rule = Cautious(Adam(b1, b2, eps, eps_root), normalisation)
    return optimizer(
        rule,
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


def mars_adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = MARS.b1,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    gamma: ScalarOrSchedule = MARS.gamma,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    clip: bool = MARS.clip,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """MARS-AdamW (arXiv:2411.10438): AdamW of gradients with their variance reduced.

    It is `MARS(Adam(...))`; hyperparameters are those of `adamx.Adam` and `adamx.MARS`, the rest is described by
    `adamx.optimizer`. The paper leaves vectors to plain AdamW: use `optax.partition`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.mars_adamw(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.5], dtype=float32)
    """
    rule = MARS(Adam(b1, b2, eps, eps_root), b1, gamma, clip)
    return optimizer(
        rule,
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )


def grams(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    *,
    decay: str = "decoupled",
    lr_max: float | None = None,
    moments: Moments = "float32",
    weights: str = "nearest",
    seed: int = 0,
) -> Optimizer:
    """Grams (arXiv:2412.17107): the length of Adam's step in the direction of the gradient's sign.

    It is `Grams(Adam(..., eps_hat=True))`; hyperparameters are those of `adamx.Adam`, the rest is described by
    `adamx.optimizer`.

    >>> import adamx, jax.numpy as jnp
    >>> opt = adamx.grams(0.5)
    >>> params = jnp.array([2.0])
    >>> opt.step(params, opt.init(params), params)[0].round(6)
    Array([1.500008], dtype=float32)
    """
    return optimizer(
        Grams(Adam(b1, b2, eps, eps_hat=True)),
        learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        decay=decay,
        lr_max=lr_max,
        moments=moments,
        weights=weights,
        seed=seed,
    )
