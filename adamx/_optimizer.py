"""An optimizer from any rule."""

from typing import Any

from ._annotations import ScalarOrSchedule
from ._decay import Decay, largest_rate
from ._descent import Descent
from ._rule import Rule
from ._transform import Optimizer, scale_by
from ._weights import Weights
from .described import SHARED, described
from .groups import Groups
from .kernels import Kernel
from .moments import MomentFormats


@described(SHARED)
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
        maximize: whether to maximize: the gradient's sign is flipped; weight decay is unchanged.

    Returns:
        An `Optimizer`, whose updates have the gradients' dtype, except with other `weights` than "nearest".

    Raises:
        ValueError: a decay rate outside [0, 1) or another negative hyperparameter, unless JAX traces it; an unknown
            name; a mask that covers nothing or misses a leaf.
        TypeError: a hyperparameter with too few digits; a leaf that is not floating or complex.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.optimizer(adamx.AdaMax(), learning_rate=0.1, weight_decay=0.5)
        >>> params = jnp.array([1.0, -1.0])
        >>> opt.step(jnp.array([0.3, 0.0]), opt.init(params), params)[0]
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
