"""Step sizes that stay right when a model is made wider: µP as groups."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from . import _leaves
from ._annotations import Params, ScalarOrSchedule
from ._variables import without_variables
from .groups import Group, Groups, assigned

FanIn: TypeAlias = Callable[[str, Any], Sequence[int] | None]
"""From a leaf's path and the leaf to the axes that a product with it sums over; `None` for those that are found."""


def mup_groups(
    params: Params,
    base_params: Params,
    *,
    groups: Groups = (),
    keep_decay: bool = True,
    fan_in: FanIn | None = None,
) -> list[Group]:
    r"""Groups with which a step size tuned on a narrow model is right for a wide one (arXiv:2203.03466, table 3, Adam).

    What grows with the width are the axes whose lengths differ between both trees. Where a matrix sums over such axes,
    $r$ times as long as in the base model, the step size is divided by $r$: hidden and output layers. Input layers,
    embeddings, biases and norms, which do not sum over the width, are in no group. The same holds of every rule whose
    step's size does not depend on the gradient's: Adam's relatives, Lion; not of SGD, which has a table of its own.

    Three things are the model's: initial weights of standard deviation $\propto 1/\sqrt{\text{fan-in}}$, as Flax's
    are, but $\propto 1/\text{fan-in}$ or 0 in the output layer; attention scores $q^\top k$ times a constant over the
    length of a head, not its root; if the output layer is the embedding, its products divided by $r$. And $\varepsilon$
    has to be small beside gradients, which become smaller with the width.

    Args:
        params: the parameters of the model, arrays or `jax.ShapeDtypeStruct`s.
        base_params: those of the model that the step size was tuned on.
        groups: your own. A leaf keeps what its group sets, and µP's factors multiply the step size and the weight decay
            of that. In front of the result, groups would take their leaves out of µP.
        keep_decay: multiply the weight decay by $r$, so that its product with the step size is the base model's; not
            for decay="independent" or "constant", which do not have that product.
        fan_in: tells the axes that are summed over. By default those in front of the last, as of Flax's kernels; of
            three or more, as attention has them, those in front of where both sides grow alike.

    Returns:
        Groups by exact path, for `groups=`.

    Raises:
        ValueError: the trees differ in more than lengths of axes; which axes of a leaf are summed over is not clear.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> def init(n):
        ...     shapes = {"embed": (100, n), "query": (n, n // 16, 16), "bias": (n,), "head": (n, 100)}
        ...     return {name: jnp.zeros(shape) for name, shape in shapes.items()}
        >>> base, wide = (jax.eval_shape(lambda: init(n)) for n in (64, 256))
        >>> opt = adamx.adamw(1e-3, weight_decay=0.1, groups=adamx.mup_groups(wide, base))
        >>> [(leaf.path, leaf.group) for leaf in adamx.explain(opt, wide) if leaf.group]
        [("params['query']", 'fan-in x 4: learning_rate x 0.25, weight_decay x 4'),
         ("params['head']", 'fan-in x 4: learning_rate x 0.25, weight_decay x 4')]
    """
    params, base_params = without_variables(params), without_variables(base_params)
    leaves, found = _leaves.flatten(params, "params"), dict[tuple[Fraction, int], set[str]]()
    bases = _leaves.match(leaves, base_params, "base_params", "params", "give those of one model in two widths")
    chosen = [*groups, Group("", name="")]
    for path, p, base, own in zip(
        leaves.paths, leaves.arrays, bases, assigned(groups, leaves, absent=False), strict=True
    ):
        if p is None or base is None:
            continue
        name, where = jax.tree_util.keystr(path, simple=True, separator="/"), _leaves.show("params", path)
        if jnp.ndim(p) != jnp.ndim(base):
            raise ValueError(f"{where} has shape {jnp.shape(p)}, in base_params {jnp.shape(base)}: other axes")
        growth = [Fraction(n, max(m, 1)) for n, m in zip(jnp.shape(p), jnp.shape(base), strict=True)]
        axes = None if fan_in is None else fan_in(name, p)
        if axes is None:  # Flax's attention has biases of two axes
            added = name.rpartition("/")[2] in ("bias", "scale")
            axes = () if added else _summed_over(growth, where, jnp.shape(p))
        by = Fraction(1) if chosen[own].frozen else math.prod((growth[axis] for axis in axes), start=Fraction(1))
        found.setdefault((by, own), set()).add(name)
    told = sorted(((by, own), names) for (by, own), names in found.items() if by != 1 or own < len(groups))
    return [_scaled(chosen[own], by, names, keep_decay) for (by, own), names in told]


def _summed_over(growth: Sequence[Fraction], where: str, shape: tuple[int, ...]) -> range:
    """The axes that a product with a leaf sums over."""
    last = len(growth) - 1
    if last < 1:
        return range(0)
    alike = [i for i in range(last, 0, -1) if math.prod(growth[:i]) == math.prod(growth[i:])]
    if not alike and sum(x != 1 for x in growth) > 1 and last > 1:
        raise ValueError(
            f"{where}, of shape {shape}, grows along several axes, and it is not clear which are summed over: say so, "
            "mup_groups(..., fan_in=lambda path, leaf: axes)"
        )
    return range([*alike, last][0])


def _scaled(group: Group, by: Fraction, names: set[str], keep_decay: bool) -> Group:
    """The group for the leaves of these names, with the factors of a fan-in that is `by` times the base model's."""
    factors = {
        "learning_rate": float(1 / by),
        "lr_max": float(1 / by),
        "weight_decay": float(by) if keep_decay else 1.0,
    }

    def times(x: ScalarOrSchedule, name: str) -> ScalarOrSchedule:
        factor = factors.get(name, 1.0)
        return x if factor == 1 else (lambda finished: x(finished) * factor) if callable(x) else x * factor

    scales = {
        f"{name}_scale": times(group.scales.get(name, 1.0), name)
        for name in ("learning_rate", "weight_decay")
        if name in group.scales or (name not in group.values and factors[name] != 1)
    }
    return Group(
        lambda path, leaf: path in names,
        name=", ".join(filter(None, [group.name, f"fan-in x {float(by):g}" * (by != 1)])),
        moments=group.moments,
        weights=group.weights,
        frozen=group.frozen,
        **scales,
        **{name: times(x, name) for name, x in group.values.items()},
    )
