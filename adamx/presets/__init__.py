"""Optimizers as other frameworks define them: argument names, defaults, and differences in the algorithm.

Frameworks disagree on the place of ε, on bias corrections, on how weight decay depends on the step size, and on which
published variant a name means. A preset is one framework's choices as data; `table` prints them all.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .._names import validate_choice
from .._transform import Optimizer
from .._weights import Weights
from ..described import SHARED, described
from ..groups import Groups
from ..kernels import Kernel
from ..moments import MomentFormats
from . import historical, keras, mlx, moonlight, mxnet, optax, paddle, pytorch, soap, tensorflow
from ._preset import REQUIRED as REQUIRED
from ._preset import Preset as Preset
from ._preset import Recipe as Recipe
from ._words import bias_corrections, decay_coupling, eps_place

__all__ = ["PRESETS", "Preset", "preset", "table"]


def _by_framework(*modules: ModuleType) -> Mapping[str, Mapping[str, Preset]]:
    entries = [entry for module in modules for entry in module.PRESETS]
    frameworks = dict.fromkeys(entry.framework for entry in entries)
    return {name: {e.optimizer: e for e in entries if e.framework == name} for name in frameworks}


PRESETS = _by_framework(pytorch, keras, optax, mlx, paddle, tensorflow, mxnet, moonlight, historical, soap)
"""Every preset, by framework and optimizer."""


@described(SHARED)
def preset(
    framework: str,
    optimizer: str,
    /,
    *,
    mask: Any = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
    **overrides: Any,
) -> Optimizer:
    r"""An optimizer as another framework defines it, for porting a run.

    Presets reproduce the place of ε, the bias corrections, the coupling of weight decay, AMSGrad's variant, NAdam's
    momentum schedule and the framework's defaults; `table` lists them. PyTorch's treat a complex number as two real
    ones. Arguments that do not change the update (`fused`, `name`) are not accepted, nor those that are separate
    transformations: chain `optax.clip_by_global_norm` for Keras's `global_clipnorm`, and
    `adamx.averaging(ema_momentum, debias=False)` for its `use_ema`.

    Args:
        framework: "pytorch", "keras" (3), "optax", "mlx", "paddle", "tf1", "bert", "mxnet", "moonlight", "lasagne",
            "blocks", "caffe", "torch7", "chainer" or "soap".
        optimizer: its name in lower case: "adam", "adamw", "rmsprop" ...
        groups: settings of some leaves, see `adamx.Group`, by adamx's names. A `learning_rate_scale` leaves the decay
            alone where the framework's enters the momentum's sum or the decay is constant.
        **overrides: the framework's arguments under its own names (PyTorch's `lr`, `betas`; Keras's `learning_rate`,
            `beta_1`). A number may be a Python number, a traced scalar or a schedule of the finished steps; PyTorch's
            `lr` is the value that its scheduler has set for that step.

    Returns:
        An `adamx.Optimizer`.

    Raises:
        ValueError: an unknown framework, optimizer or argument (the message suggests the nearest); a missing argument
            that the framework has no default for; a number out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from adamx.presets import preset
        >>> grads, params = jnp.array([1e-6, 1.0]), jnp.zeros(2)
        >>> for framework in ("pytorch", "keras"):  # a small gradient shows the place of ε
        ...     opt = preset(framework, "adam")
        ...     print(opt.update(grads, opt.init(params), params)[0])
        [-0.0009901 -0.001    ]
        [-0.00024025 -0.001     ]
        >>> preset("keras", "adam", eps=1e-8)
        Traceback (most recent call last):
            ...
        ValueError: argument of keras adam = 'eps': did you mean 'epsilon'? ...
    """
    validate_choice("framework", framework, PRESETS)
    validate_choice(f"optimizer of {framework}", optimizer, PRESETS[framework])
    return (
        PRESETS[framework][optimizer]
        .recipe(**overrides)
        .optimizer(mask, moments=moments, weights=weights, seed=seed, kernel=kernel, groups=groups)
    )


def table(framework: str | None = None) -> str:
    """The presets as a Markdown table: defaults, place of ε, bias corrections, weight decay, and pitfalls.

    A default of ? means that the argument is required. α is the step size, λ the strength of the decay, p a weight;
    v̂ is the bias-corrected mean square, and ε̂ an ε that is added to the uncorrected root.

    Args:
        framework: the framework to list; `None` for all.

    Returns:
        The table's Markdown, a row for each `Preset`.

    Raises:
        ValueError: an unknown framework.

    Examples:
        >>> from adamx.presets import table
        >>> print(table("bert"))  # doctest: +ELLIPSIS
        | framework | optimizer | defaults | ε | bias corrections | weight decay | notes |
        |---|---|---|---|---|---|---|
        | bert | adamw | learning_rate=?, weight_decay_rate=0.01, ... epsilon=1e-06 | √v + ε | none | αλp | ... |
    """
    if framework is not None:
        validate_choice("framework", framework, PRESETS)
    chosen = PRESETS.values() if framework is None else [PRESETS[framework]]
    head = ("framework", "optimizer", "defaults", "ε", "bias corrections", "weight decay", "notes")
    rows = [head, *(_row(entry) for entries in chosen for entry in entries.values())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _row(entry: Preset) -> tuple[str, ...]:
    recipe = entry.recipe(**{name: 1.0 for name, value in entry.defaults.items() if value is REQUIRED})
    defaults = ", ".join(f"{name}={value!r}" for name, value in entry.defaults.items())
    words = (eps_place(recipe), bias_corrections(recipe), decay_coupling(recipe))
    return (entry.framework, entry.optimizer, defaults, *words, entry.notes)
