"""An optimizer from any rule."""

from typing import Any

from ._annotations import ScalarOrSchedule
from ._decay import Decay, largest_rate
from ._descent import Descent
from ._rule import Rule
from ._transform import Optimizer, scale_by
from ._weights import Weights
from .groups import Groups
from .kernels import Kernel
from .moments import MomentFormats


def optimizer(
    rule: Rule[Any],
    learning_rate: ScalarOrSchedule,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    maximize: bool = False,
    mu_dtype: Any = None,
    complex_parts: str = "together",
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Make an optimizer from any rule, including your own.

    $p \leftarrow p - \alpha_t\,u_t - \text{decay}$, where $u_t$ is the rule's direction.

    Args:
        rule: how one array is updated.
        learning_rate: the step size $\alpha$; a number, a traced scalar or a schedule of the finished steps.
        weight_decay: its strength $\lambda$; a number, a traced scalar or a schedule.
        mask: which leaves decay: a tree of booleans, the top of one, or a function of the parameters that returns
            one; leaves are matched by path. `None` for all.
        decay: "decoupled" ($\alpha_t\lambda p$, arXiv:1711.05101), "independent" ($\lambda p\,\alpha_t/\alpha_{\max}$),
            "cautious" (decoupled, only where the step shrinks the weight, arXiv:2510.12402), "proximal" ($p$ after the
            step divided by $1+\alpha_t\lambda$), "constant" ($\lambda p$) or "l2" ($\lambda p$ added to the
            gradient).
        lr_max: the largest step size, for "independent"; may be left out when `learning_rate` is a number.
        maximize: whether to maximize: the gradient's sign is flipped; weight decay is unchanged.
        mu_dtype: the storage dtype of `mu`; `None` for at least float32.
        complex_parts: whether real and imaginary parts of complex leaves are stepped "together" or "apart"; see
            `adamx.scale_by`.
        moments: how slots are stored; see `adamx.scale_by`.
        weights: how bfloat16 and float16 parameters are rounded: "nearest" (by the caller, when updates are applied),
            "stochastic", "kahan" (with a compensation in the parameter's dtype), "split8" or "split16" (with the
            rounding error kept in 8 or 16 bits). Except with "nearest", updates are float32 differences that
            `optax.apply_updates` adds exactly; transformations that need updates in the gradients' dtype, such as
            `optax.apply_if_finite`, then need float32 gradients. Start with `adamx.from_master`.
        seed: the seed of the random bits of dithering and stochastic rounding.
        kernel: who takes the whole step in `Optimizer.step`: "xla", "native" (on CPUs), "pallas" (on NVIDIA GPUs and
            TPUs; both in one pass over memory) or "auto": what is best for a leaf on the program's platform.
        groups: settings of some leaves, chosen by their paths, see `adamx.Group`: step size, weight decay,
            hyperparameters, `moments`, `weights`, or that they stay as they are.

    Returns:
        An `Optimizer`. Updates have the gradients' dtype.

    Raises:
        ValueError: a number out of range, an unknown `decay`, a mask that covers nothing or misses a leaf.
        TypeError: a hyperparameter with too few digits; a leaf that is not floating or complex.

    >>> import adamx, jax, jax.numpy as jnp
    >>> opt = adamx.optimizer(adamx.AdaMax(), learning_rate=0.1, weight_decay=0.5)
    >>> params = jnp.array([1.0, -1.0])
    >>> params, state = opt.step(jnp.array([0.3, 0.0]), opt.init(params), params)
    >>> params
    Array([ 0.85, -0.95], dtype=float32)
    """
    if not isinstance(maximize, bool):
        raise TypeError(f"maximize = {maximize!r} should be True or False")
    if decay == "independent":
        lr_max = largest_rate(learning_rate, lr_max)
    elif lr_max is not None:
        raise ValueError(f"lr_max = {lr_max} belongs to decay='independent', not to {decay!r}")
    return scale_by(
        Descent(rule, learning_rate, weight_decay, lr_max, decay, maximize),
        moments=moments,
        weights=weights,
        seed=seed,
        mu_dtype=mu_dtype,
        decay_mask=mask,
        complex_parts=complex_parts,
        kernel=kernel,
        groups=groups,
    )
