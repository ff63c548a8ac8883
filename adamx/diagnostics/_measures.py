"""What is read off sums over the elements of groups of leaves."""

import jax.numpy as jnp
import numpy as np

from .._annotations import Array
from .._math import largest
from ._hats import Numbers
from ._sums import LARGEST, Sums

METRICS = (
    *("gradient_norm", "update_norm", "parameter_norm", "update_ratio", "sign_agreement", "stalled", "nonfinite"),
    *("step_mean", "step_max", "snr", "bound_share", "eps_share", "idle"),
)


def gathered(table: Array, member: np.ndarray) -> Sums:
    """Of each group, (groups,), from a row of sums for each leaf."""
    # A product with 0 would carry one leaf's NaN into all groups.
    mine = jnp.where(member[:, :, None], table[None], 0)
    added, most = jnp.sum(mine, 1), largest(mine, 1)
    return Sums(*((most if name in LARGEST else added)[:, i] for i, name in enumerate(Sums._fields)))


def metrics(group: Sums, step_size: Array | None, numbers: Numbers | None) -> dict[str, Array]:
    """Of each group, by name; those that the optimizer has."""
    norm = jnp.sqrt(group.update)
    told = {
        "gradient_norm": jnp.sqrt(group.gradient),
        "update_norm": norm,
        "parameter_norm": jnp.sqrt(group.weight),
        "update_ratio": _share(norm, jnp.sqrt(group.weight)),
        "sign_agreement": _share(group.against, group.pulled),
        "stalled": _share(group.stalled, group.size),
        "nonfinite": group.nonfinite,
    }
    if step_size is not None:
        told["step_mean"] = _share(group.moved, group.size * step_size)
        told["step_max"] = _share(group.step_max, step_size)
    if numbers is not None:
        moving = group.size - group.idle
        told["idle"] = _share(group.idle, group.size)
        told["snr"] = numbers.ratio * _share(group.ratio, moving)
        if numbers.bound is not None:
            told["bound_share"] = numbers.ratio * group.ratio_max / numbers.bound
        if numbers.eps is not None:
            told["eps_share"] = _share(group.dominated, moving)
    return told


def _share(part: Array, whole: Array) -> Array:
    return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))
