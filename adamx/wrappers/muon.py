"""Muon for the matrices of a model, and another optimizer for the rest."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from .._annotations import ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._leaves import Leaves
from ..groups import Match, names_of
from ..matrices.kinds import why_not
from ..rules.adam import adamw
from ..rules.muon import Muon
from .by_path import ByPath

REST = "rest"


@dataclasses.dataclass(frozen=True, eq=False)
class Matrices(ByPath):
    """An optimizer for the matrices of each layout, whose name it has in `opt`, and one for the rest.

    Attributes:
        layout_of: the layout of a leaf, of its path and itself.
        why_rest: why it is of the rest, of path, leaf and layout; "" if it is not.
    """

    layout_of: Callable[[str, Any], str]
    why_rest: Callable[[str, Any, str], str]

    def patterns(self, leaves: Leaves) -> list[str]:
        """The layout of each matrix, and why other leaves are none."""
        return [f"{layout}: {why}" if why else layout for layout, why in self._told(leaves)]

    def _places(self, leaves: Leaves, absent: bool = True) -> list[int]:
        del absent
        names = [*self.opt]
        return [names.index(layout) for layout, _ in self._told(leaves)]

    def _told(self, leaves: Leaves) -> list[tuple[str, str]]:
        """The name of each leaf's optimizer, and why it is that of the rest."""
        told = []
        for path, x in zip(names_of(leaves), leaves.arrays, strict=True):
            layout = "" if x is None else self.layout_of(path, x)
            why = "" if x is None else self.why_rest(path, x, layout)
            told.append((REST if why or x is None else layout, why))
        return told


@named(Muon)
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = Muon.ns_coeffs,
    ns_steps: int | None = Muon.ns_steps,
    beta: ScalarOrSchedule = Muon.beta,
    eps: ScalarOrSchedule = Muon.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    rest: Any = None,
    matrices: Match | None = None,
    layout: str | Mapping[str, str] = Muon.layout,
    nesterov: bool = Muon.nesterov,
    bias_correction: bool = Muon.bias_correction,
    ns_dtype: str = Muon.ns_dtype,
    scale: str = Muon.scale,
    consistent_rms: ScalarOrSchedule | None = None,
    second_moment: str = Muon.second_moment,
    b2: ScalarOrSchedule = Muon.b2,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Muon (arXiv:2502.16982): momentum made orthogonal, for matrices; another optimizer for the rest.

    Hyperparameters are those of `adamx.Muon`, with Optax's names.

    What is left to `rest` are vectors and scalars; leaves named as embeddings, heads, routers, norms or biases, also in
    stacks; depthwise kernels; and leaves with other axes than their layout. Optax's Muon takes every leaf of two axes,
    embeddings, too. `adamx.explain` lists the optimizer of each leaf, and why. `NorMuon` is
    `second_moment="rows"`, AdaMuon "elements", Moonlight `scale="rms", bias_correction=False, weight_decay=0.1`.

    Where Optax's default of `ns_steps` is 5, it is `None` here, so that longer lists need no other; its `eps` of 1e-8,
    which stops matrices whose gradients are as small, is 0. In place of Optax's `adam_b1`, `adam_b2`, `adam_eps_root`,
    `adam_weight_decay` and `adam_learning_rate` there is `rest`, and of `muon_weight_dimension_numbers` `matrices` and
    `layout`. Optax's `adaptive` and `preconditioning` there are not.

    Args:
        weight_decay: of the matrices, in the step size's but not the shape's proportion.
        weight_decay_mask: which of the matrices decay, `mask` of `adamx.optimizer`.
        rest: the optimizer of all other leaves, any Optax transformation; `None` for Optax's,
            `adamx.adamw(learning_rate, nesterov=nesterov, weight_decay=0)`. The same step size suits both with
            `scale="rms"`; with "original" matrices take one about ten times as large.
        matrices: which leaves are matrices, by a regular expression searched in a leaf's path or a function of path and
            leaf, in place of the default above.
        layout: what the axes of matrices are, see `adamx.Muon`; or a mapping from regular expressions to layouts, of
            which the first that matches a leaf's path counts, and "in,out" where none does.
        consistent_rms: the `rms` of `scale="rms"`, which it implies.
        groups: settings of some matrices, see `adamx.Group`; `rest` has its own.

    Returns:
        An `Optimizer`, `adamx.by_path` of `Muon` and `rest`: its state has the part of the matrices of each layout in
        `state.parts["in,out"]`, and `state.parts["rest"]`.

    Raises:
        ValueError: another number of `ns_steps` than of polynomials; an unknown layout; `matrices` of a leaf that its
            layout is not of.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = {"embed": jnp.ones((8, 2)), "dense": {"kernel": jnp.eye(2), "bias": jnp.ones(2)}}
        >>> opt = adamx.muon(0.02, ns_coeffs="deepseek_v4", rest=adamx.adamw(3e-4))
        >>> new, state = opt.step(params, opt.init(params), params)
        >>> (params["dense"]["kernel"] - new["dense"]["kernel"]).round(4)
        Array([[0.02, 0.  ],
               [0.  , 0.02]], dtype=float32)
        >>> [leaf.pattern for leaf in adamx.explain(opt, params)]
        ['rest: an embedding, by its name', 'in,out', 'rest: a vector']
    """
    if consistent_rms is not None:
        scale = "rms"
    rule = Muon(
        beta,
        nesterov,
        bias_correction,
        ns_coeffs,
        ns_steps,
        ns_dtype,
        eps,
        scale,
        Muon.rms,
        second_moment=second_moment,
        b2=b2,
    )
    rule = rule if consistent_rms is None else dataclasses.replace(rule, rms=consistent_rms)
    shared = common(moments, weights, seed, kernel, groups)
    decays = decaying(weight_decay, weight_decay_mask, decay, lr_max)
    if rest is None:
        own = {**shared, "groups": ()}
        rest = adamw(learning_rate, mu_dtype=mu_dtype, weight_decay=0.0, nesterov=nesterov, **own)
    declared = layout if isinstance(layout, Mapping) else {"": layout}

    def layout_of(path: str, leaf: Any) -> str:
        del leaf
        return next((axes for pattern, axes in declared.items() if re.search(pattern, path)), Muon.layout)

    def why_rest(path: str, leaf: Any, layout: str) -> str:
        if matrices is None:
            return why_not(path, leaf.shape, layout)
        chosen = matrices(path, leaf) if callable(matrices) else re.search(matrices, path)
        return "" if chosen else "not chosen by `matrices`"

    parts = {
        axes: optimizer(dataclasses.replace(rule, layout=axes), learning_rate, mu_dtype=mu_dtype, **decays, **shared)
        for axes in dict.fromkeys([*declared.values(), *([] if "" in declared else [Muon.layout])])
    }
    owner = Matrices({**parts, REST: rest}, (), layout_of, why_rest)
    return Optimizer(owner.init, owner.update)
