"""What a named optimizer is written with: the types of its signature, the keywords it passes on, its registry.

A factory lists all of its arguments: `optax.inject_hyperparams` binds them by name and does not work with `**options`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from ._annotations import ScalarOrSchedule
from ._decay import Decay as Decay
from ._optimizer import optimizer as optimizer
from ._rule import Rule
from ._transform import Optimizer as Optimizer
from ._transform import scale_by as scale_by
from ._weights import Weights as Weights
from .described import described as described
from .groups import Groups as Groups
from .kernels import Kernel as Kernel
from .moments import MomentFormats as MomentFormats

Factory = TypeVar("Factory", bound=Callable[..., Optimizer])

_factories: dict[str, Callable[..., Optimizer]] = {}

FACTORIES: Mapping[str, Callable[..., Optimizer]] = MappingProxyType(_factories)
"""Every named optimizer, in the order in which `adamx/__init__.py` imports them."""


def named(*rules: type[Rule[Any]]) -> Callable[[Factory], Factory]:
    """A decorator: enter a factory into `FACTORIES`; what it does not describe, its rules and `optimizer` do."""

    def enter(factory: Factory) -> Factory:
        _factories[factory.__name__] = described(*rules, optimizer)(factory)
        return factory

    return enter


def common(moments: MomentFormats, weights: Weights, seed: int, kernel: Kernel, groups: Groups) -> dict[str, Any]:
    """The arguments that every factory has, as keywords of `optimizer`."""
    return {"moments": moments, "weights": weights, "seed": seed, "kernel": kernel, "groups": groups}


def decaying(weight_decay: ScalarOrSchedule, mask: Any, decay: Decay, lr_max: float | None) -> dict[str, Any]:
    """The arguments of weight decay, as keywords of `optimizer`."""
    return {"weight_decay": weight_decay, "mask": mask, "decay": decay, "lr_max": lr_max}
