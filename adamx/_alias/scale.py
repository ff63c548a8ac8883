"""The rules by name as directions, without step size and sign, to chain by hand."""

from typing import Any

from .._transform import Optimizer, scale_by
from .._typing import ScalarOrSchedule
from ..moments import Moments
from ..rules.adabelief import AdaBelief
from ..rules.adam import Adam
from ..rules.adam_atan2 import AdamAtan2
from ..rules.adam_mini import AdamMini
from ..rules.adamax import AdaMax
from ..rules.adamx import AdamX
from ..rules.adan import Adan
from ..rules.ademamix import AdEMAMix, SimplifiedAdEMAMix
from ..rules.adopt import ADOPT, fourth_root
from ..rules.amsgrad import AMSGrad
from ..rules.bias_correction import BiasCorrection
from ..rules.laprop import LaProp
from ..rules.nadam import NAdam
from ..rules.radam import RAdam
from ..rules.stable_adamw import StableAdamW
from ..rules.yogi import Yogi


def scale_by_adam(
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    eps_hat: bool = False,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adam's direction, without step size and sign, to chain by hand.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1).
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root.
        mu_dtype: dtype that `mu` is stored in; `None` for at least float32.
        nesterov: look one step ahead with the mean.
        bias_correction: whether the moments are corrected; `scale_by_bias_correction` can do it afterwards.
        eps_hat: read `eps` as the paper's ε̂.
        moments: how slots are stored; see `adamx.optimizer`.
        seed: of the random bits of dithering.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    The paper's efficient form, with a constant ε̂ (arXiv:1412.6980, end of section 2):

    >>> import adamx, jax.numpy as jnp, optax
    >>> by_hand = optax.chain(
    ...     adamx.scale_by_adam(b1=0.9, b2=0.99, bias_correction=False),
    ...     adamx.scale_by_bias_correction(b1=0.9, b2=0.99),
    ...     optax.scale_by_learning_rate(0.5),
    ... )
    >>> params = jnp.array([3.0, -4.0])
    >>> by_hand.update(params, by_hand.init(params), params)[0].round(6)
    Array([-0.5,  0.5], dtype=float32)
    """
    rule = Adam(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, nesterov=nesterov, bias_correction=bias_correction, eps_hat=eps_hat
    )
    return scale_by(rule, mu_dtype=mu_dtype, moments=moments, seed=seed)


def scale_by_adamax(
    b1: ScalarOrSchedule = AdaMax.b1,
    b2: ScalarOrSchedule = AdaMax.b2,
    eps: ScalarOrSchedule = AdaMax.eps,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaMax's direction, without step size and sign, to chain by hand.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the maximum, in [0, 1).
        eps: added to $|g|$.
        moments: how slots are stored; see `adamx.optimizer`.
        seed: of the random bits of dithering.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    >>> import adamx, jax.numpy as jnp, optax
    >>> opt = optax.chain(optax.clip_by_global_norm(1.0), adamx.scale_by_adamax(), optax.scale(-0.002))
    >>> params = jnp.array([3.0, -4.0])
    >>> opt.update(params, opt.init(params), params)[0]
    Array([-0.002,  0.002], dtype=float32)
    """
    return scale_by(AdaMax(b1=b1, b2=b2, eps=eps), moments=moments, seed=seed)


def scale_by_bias_correction(
    b1: ScalarOrSchedule = BiasCorrection.b1, b2: ScalarOrSchedule | None = BiasCorrection.b2
) -> Optimizer:
    r"""Multiply by $\alpha_t/\alpha = \sqrt{1-\beta_2^t}/(1-\beta_1^t)$, the paper's correction of the step size.

    Args:
        b1: decay rate of the mean, in [0, 1).
        b2: decay rate of the mean square, in [0, 1); `None` for AdaMax's factor $1/(1-\beta_1^t)$.

    Raises:
        ValueError: a number out of range.
        TypeError: a number that arrives in too few digits.

    Reference: arXiv:1412.6980, end of section 2, and Algorithm 2.

    >>> import adamx, jax.numpy as jnp
    >>> tx = adamx.scale_by_bias_correction(b1=0.5, b2=0.75)
    >>> tx.update(jnp.ones(1), tx.init(jnp.ones(1)))[0]
    Array([1.], dtype=float32)
    """
    return scale_by(BiasCorrection(b1=b1, b2=b2))


def scale_by_amsgrad(
    b1: ScalarOrSchedule = AMSGrad.b1,
    b2: ScalarOrSchedule = AMSGrad.b2,
    eps: ScalarOrSchedule = AMSGrad.eps,
    eps_root: ScalarOrSchedule = AMSGrad.eps_root,
    mu_dtype: Any = None,
    bias_correction_mu: bool = AMSGrad.bias_correction_mu,
    bias_correction_nu: bool = AMSGrad.bias_correction_nu,
    *,
    max_of: str = AMSGrad.max_of,
    eps_hat: bool = AMSGrad.eps_hat,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AMSGrad's direction; see `adamx.AMSGrad`."""
    return scale_by(
        AMSGrad(b1, b2, eps, eps_root, bias_correction_mu, bias_correction_nu, max_of, eps_hat),
        mu_dtype=mu_dtype,
        moments=moments,
        seed=seed,
    )


def scale_by_adamx(
    b1: ScalarOrSchedule = AdamX.b1,
    b2: ScalarOrSchedule = AdamX.b2,
    eps: ScalarOrSchedule = AdamX.eps,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdamX's direction, `b1` being a schedule as a rule; see `adamx.AdamX`."""
    return scale_by(AdamX(b1, b2, eps), moments=moments, seed=seed)


def scale_by_nadam(
    b1: ScalarOrSchedule = NAdam.b1,
    b2: ScalarOrSchedule = NAdam.b2,
    eps: ScalarOrSchedule = NAdam.eps,
    momentum_decay: ScalarOrSchedule = NAdam.momentum_decay,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """The direction of NAdam with Dozat's momentum schedule; see `adamx.NAdam`."""
    return scale_by(NAdam(b1, b2, eps, momentum_decay), moments=moments, seed=seed)


def scale_by_radam(
    b1: ScalarOrSchedule = RAdam.b1,
    b2: ScalarOrSchedule = RAdam.b2,
    eps: ScalarOrSchedule = RAdam.eps,
    eps_root: ScalarOrSchedule = RAdam.eps_root,
    threshold: ScalarOrSchedule = RAdam.threshold,
    *,
    nesterov: bool = RAdam.nesterov,
    unrectified: str = RAdam.unrectified,
    eps_hat: bool = RAdam.eps_hat,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """RAdam's direction; see `adamx.RAdam`."""
    return scale_by(RAdam(b1, b2, eps, eps_root, threshold, nesterov, unrectified, eps_hat), moments=moments, seed=seed)


def scale_by_belief(
    b1: ScalarOrSchedule = AdaBelief.b1,
    b2: ScalarOrSchedule = AdaBelief.b2,
    eps: ScalarOrSchedule = AdaBelief.eps,
    eps_root: ScalarOrSchedule = AdaBelief.eps_root,
    *,
    nesterov: bool = AdaBelief.nesterov,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdaBelief's direction; see `adamx.AdaBelief`."""
    return scale_by(AdaBelief(b1, b2, eps, eps_root, nesterov), moments=moments, seed=seed)


def scale_by_yogi(
    b1: ScalarOrSchedule = Yogi.b1,
    b2: ScalarOrSchedule = Yogi.b2,
    eps: ScalarOrSchedule = Yogi.eps,
    eps_root: ScalarOrSchedule = Yogi.eps_root,
    initial_accumulator_value: ScalarOrSchedule = Yogi.initial_accumulator_value,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Yogi's direction; see `adamx.Yogi`."""
    return scale_by(Yogi(b1, b2, eps, eps_root, initial_accumulator_value), moments=moments, seed=seed)


def scale_by_laprop(
    b1: ScalarOrSchedule = LaProp.b1,
    b2: ScalarOrSchedule = LaProp.b2,
    eps: ScalarOrSchedule = LaProp.eps,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """LaProp's direction; see `adamx.LaProp`."""
    return scale_by(LaProp(b1, b2, eps), moments=moments, seed=seed)


def scale_by_adam_atan2(
    b1: ScalarOrSchedule = AdamAtan2.b1,
    b2: ScalarOrSchedule = AdamAtan2.b2,
    a: ScalarOrSchedule = AdamAtan2.a,
    b: ScalarOrSchedule = AdamAtan2.b,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adam-atan2's direction; see `adamx.AdamAtan2`."""
    return scale_by(AdamAtan2(b1, b2, a, b), moments=moments, seed=seed)


def scale_by_adan(
    b1: ScalarOrSchedule = Adan.b1,
    b2: ScalarOrSchedule = Adan.b2,
    b3: ScalarOrSchedule = Adan.b3,
    eps: ScalarOrSchedule = Adan.eps,
    eps_root: ScalarOrSchedule = Adan.eps_root,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adan's direction; see `adamx.Adan`."""
    return scale_by(Adan(b1, b2, b3, eps, eps_root), moments=moments, seed=seed)


def scale_by_adopt(
    b1: ScalarOrSchedule = ADOPT.b1,
    b2: ScalarOrSchedule = ADOPT.b2,
    eps: ScalarOrSchedule = ADOPT.eps,
    mu_dtype: Any = None,
    *,
    nesterov: bool = ADOPT.nesterov,
    use_clipping: bool = ADOPT.use_clipping,
    clip_value_fn: ScalarOrSchedule = fourth_root,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """ADOPT's direction; see `adamx.ADOPT`."""
    rule = ADOPT(b1, b2, eps, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn)
    return scale_by(rule, mu_dtype=mu_dtype, moments=moments, seed=seed)


def scale_by_ademamix(
    b1: ScalarOrSchedule = AdEMAMix.b1,
    b2: ScalarOrSchedule = AdEMAMix.b2,
    b3: ScalarOrSchedule = AdEMAMix.b3,
    alpha: ScalarOrSchedule = AdEMAMix.alpha,
    eps: ScalarOrSchedule = AdEMAMix.eps,
    eps_root: ScalarOrSchedule = AdEMAMix.eps_root,
    mu_dtype: Any = None,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """AdEMAMix's direction; see `adamx.AdEMAMix`.

    `alpha` is 5, as in `ademamix` here and in Optax, whose `scale_by_ademamix` has 6.
    """
    return scale_by(AdEMAMix(b1, b2, b3, alpha, eps, eps_root), mu_dtype=mu_dtype, moments=moments, seed=seed)


def scale_by_simplified_ademamix(
    b1: ScalarOrSchedule = SimplifiedAdEMAMix.b1,
    b2: ScalarOrSchedule = SimplifiedAdEMAMix.b2,
    alpha: ScalarOrSchedule = SimplifiedAdEMAMix.alpha,
    eps: ScalarOrSchedule = SimplifiedAdEMAMix.eps,
    eps_root: ScalarOrSchedule = SimplifiedAdEMAMix.eps_root,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Simplified AdEMAMix's direction; see `adamx.SimplifiedAdEMAMix`."""
    return scale_by(SimplifiedAdEMAMix(b1, b2, alpha, eps, eps_root), moments=moments, seed=seed)


def scale_by_stable_adamw(
    b1: ScalarOrSchedule = StableAdamW.b1,
    b2: ScalarOrSchedule = StableAdamW.b2,
    eps: ScalarOrSchedule = StableAdamW.eps,
    weight_decay: ScalarOrSchedule = StableAdamW.weight_decay,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """StableAdamW's direction, with its decay; see `adamx.StableAdamW`."""
    return scale_by(StableAdamW(b1, b2, eps, weight_decay), moments=moments, seed=seed)


def scale_by_adam_mini(
    b1: ScalarOrSchedule = AdamMini.b1,
    b2: ScalarOrSchedule = AdamMini.b2,
    eps: ScalarOrSchedule = AdamMini.eps,
    keep: tuple[int, ...] = AdamMini.keep,
    *,
    moments: Moments = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adam-mini's direction; see `adamx.AdamMini`."""
    return scale_by(AdamMini(b1, b2, eps, keep), moments=moments, seed=seed)
