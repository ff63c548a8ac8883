"""The averages of the weights that are kept in a state."""

from typing import Any

import jax
import numpy as np

from .. import _leaves
from .._annotations import Params
from .._layout import wide_dtype
from .._math import dtype_of
from .._variables import outside, without_variables
from ..moments import format_stored
from ..pathwise import ByPathState
from ..trajectories.averaging import Iterates


def averaged_params(state: Any, params: Params = None, *, index: int | None = None) -> Params:
    """The averaged weights that `averaged` or `averaging` keeps somewhere in `state`; the weights before any step.

    To evaluate a model of Flax at them, and go on training the one that there is:

    - Linen: `model.apply({"params": adamx.averaged_params(state.opt_state, state.params)}, ...)`
    - NNX: `graph, params, rest = nnx.split(model, nnx.Param, ...)`, and then
      `nnx.merge(graph, adamx.averaged_params(optimizer.opt_state, params), rest)` is a model of its own;
      `nnx.update(model, adamx.averaged_params(optimizer.opt_state))` puts the average into this one for good

    Args:
        state: the state of an optimizer with averages, or one that holds it. Of `adamx.by_path` whose optimizers all
            keep averages, these are put together.
        params: the weights, whose dtypes the averages get, and its leaves that have none, as they are frozen.
        index: which average, if there are several: in the order of `decay`, then of `sigma_rel`.

    Returns:
        A tree like the parameters, of at least float32 if these are not given; copies, which stay when the state is
        donated.

    Raises:
        ValueError: `state` holds no average, or several and no `index`; a leaf has none, and no `params` are given;
            optimizers of `adamx.by_path` have none, or fewer than others.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.averaged(adamx.optimizer(adamx.SGD(), 1.0), decay=None)  # the plain mean
        >>> params, state = jnp.zeros(2), opt.init(jnp.zeros(2))
        >>> for _ in range(3):  # the weights are 1, 2, 3
        ...     params, state = opt.step(-jnp.ones(2), state, params)
        >>> adamx.averaged_params(state, params)
        Array([2., 2.], dtype=float32)
    """
    found = _averages_in(state)
    if len(found) != 1 if index is None else index not in range(len(found)):
        cure = f"give index=, from 0 to {len(found) - 1}"
        cure = cure if found else "wrap the optimizer in adamx.averaged, or chain adamx.averaging(...) last"
        raise ValueError(f"the state holds {len(found)} averages of iterates: {cure}")
    averages = found[index or 0]

    def decoded(stored: Any, dtype: Any = None) -> Any:
        x = format_stored(stored, "float32", np.dtype(np.float32)).decode(stored, None)
        x = x.astype(wide_dtype(x) if dtype is None else dtype)
        return _copied(x) if x is stored else x

    if params is None:
        if any(x is None for x in jax.tree.leaves(averages, is_leaf=_leaves.is_stored)):
            raise ValueError(
                "leaves without an average, such as frozen ones: give params, averaged_params(state, params)"
            )
        return jax.tree.map(decoded, averages, is_leaf=_leaves.is_stored)
    leaves = _leaves.flatten(without_variables(params), "params")
    pairs = zip(leaves.arrays, _leaves.match(leaves, averages, "averages"), strict=True)
    values = [_copied(p) if x is None else decoded(x, dtype_of(p)) for p, x in pairs]
    return jax.tree.structure(params, is_leaf=_leaves.is_none).unflatten(values)


def _averages_in(state: Any) -> list[Params]:
    """The trees of averages as they are stored, those of `adamx.by_path` put together."""
    found: list[Params] = []
    for x in jax.tree.leaves(state, is_leaf=_is_kept):
        if isinstance(x, Iterates):
            found.append(without_variables(outside(x.average)))
        elif isinstance(x, ByPathState):
            parts = {name: _averages_in(part) for name, part in x.parts.items()}
            most = max(map(len, parts.values()))
            if fewer := [name for name, trees in parts.items() if len(trees) < most]:
                full = next(name for name, trees in parts.items() if len(trees) == most)
                raise ValueError(
                    f"by_path has {most} averages of {full!r}, and {len(parts[fewer[0]])} of {', '.join(fewer)}: wrap "
                    f"all alike, or take those of one, averaged_params(state.parts[{full!r}], params), in which the "
                    "weights of others are as they are"
                )
            together = zip(*parts.values(), strict=True)
            found += [jax.tree.map(_present, *trees, is_leaf=_leaves.is_stored) for trees in together]
    return found


def _copied(x: Any) -> Any:
    return jax.device_put(x, may_alias=False) if isinstance(x, jax.Array) else x


def _present(*stored: Any) -> Any:
    return next((x for x in stored if x is not None), None)


def _is_kept(x: Any) -> bool:
    return isinstance(x, (Iterates, ByPathState))
