"""An optimizer around another that keeps its `step`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._annotations import Array, Params
from ._engine import Engine, listeners
from ._leaves import Leaves
from ._names import refuse_step_words
from ._state import State
from ._transform import Optimizer, engine_of, owner_of


@dataclasses.dataclass(frozen=True, eq=False)
class Wrapper:
    """An optimizer around another: the object whose methods are `init` and `update`, and `step`, of an `Optimizer`.

    `step` names the keywords that it reads, and passes all others on to that of `opt`. The state is any tree that holds
    that of `opt`. Tools for states learn from `init` what else is in it, so arrays of leaves should have `None` for
    those that are `frozen`: `adamx.regroup` takes them off and begins them as `init` does.

    Attributes:
        opt: what it wraps: an adamx optimizer, or any Optax transformation, which has no `step`.
        exchanges: what devices exchange for it in a step, beside the all-reduces that `opt` needs; "" if nothing.
        skips: whether a call may take no step of `opt`: other wrappers then look whether its counts have changed.
        own_gradients: whether `opt` steps by other gradients than those given, whose norm `grad_norm` is not.
        sizes: for errors, fields of the state and the arguments that their sizes follow.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> class Ascent(adamx.Wrapper):
        ...     def init(self, params):
        ...         return self.opt.init(params)
        ...     def update(self, updates, state, params=None, **extra_args):
        ...         return self.opt.update(-updates, state, params, **extra_args)
        ...     def step(self, grads, state, params, **options):
        ...         return self.opt.step(-grads, state, params, **options)
        >>> opt, params = Ascent(adamx.adam(0.5)).optimizer(), jnp.array([1.0])
        >>> opt.step(params, opt.init(params), params)[0]
        Array([1.5], dtype=float32)
    """

    opt: Any
    exchanges: ClassVar[str] = ""
    skips: ClassVar[bool] = True
    own_gradients: ClassVar[bool] = False
    sizes: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "init" in vars(cls):
            cls.init = _heard(cls.init)

    @property
    def inner(self) -> list[Any]:
        """The optimizers directly in it."""
        return [self.opt]

    @property
    def engine(self) -> Any:
        """The engine of the optimizer that it wraps."""
        return engine_of(self.opt)

    def parts(self, *trees: Params) -> "Parts":
        """What `parts_of` gives of the optimizer that it wraps."""
        return parts_of(self.opt, *trees)

    def frozen(self, leaves: Leaves) -> list[bool]:
        """Which leaves are not moved and their gradients not read; `leaves` are the parameters or like them."""
        return frozen_in(self.opt, leaves)

    def patterns(self, leaves: Leaves) -> list[str]:
        """What `patterns_in` gives of the optimizer that it wraps."""
        return patterns_in(self.opt, leaves)

    def init(self, params: Params) -> Any:
        """The state before the first step.

        Args:
            params: the parameters.
        """
        raise NotImplementedError

    def update(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]:
        """The updates to add to the parameters, and the next state.

        Args:
            updates: the gradients, or what comes before in a chain.
            state: from `init` or the step before.
            params: the parameters.
            **extra_args: keywords of this wrapper, and of `opt`.
        """
        raise NotImplementedError

    def step(self, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
        """The next parameters and the next state.

        Args:
            grads: the gradients.
            state: from `init` or the step before.
            params: the parameters.
            **options: those of `Optimizer.step` that are given, and keywords of this wrapper.
        """
        raise NotImplementedError

    def optimizer(self) -> Any:
        """The pair of both methods: an `Optimizer` if `opt` is one, else an Optax transformation.

        Raises:
            TypeError: `opt` is no transformation.
        """
        if not (callable(getattr(self.opt, "init", None)) and callable(getattr(self.opt, "update", None))):
            raise TypeError(
                f"{getattr(self.opt, '__name__', type(self.opt).__name__)} is not a gradient transformation: give an "
                "optimizer, such as adamx.adam(1e-3)"
            )
        kind = Optimizer if isinstance(self.opt, Optimizer) else optax.GradientTransformationExtraArgs
        return kind(self.init, self.update)


def _heard(init: Callable[[Any, Params], Any]) -> Any:
    """An `init` that tells the `listeners`."""

    @functools.wraps(init)
    def heard(self: Any, params: Params) -> Any:
        state = init(self, params)
        for told in listeners.get():
            told.append((self, state, params))
        return state

    return heard


def is_state(x: Any) -> bool:
    """Whether `x` is the state of an adamx optimizer."""
    return isinstance(x, State)


def states_in(tree: Any) -> list[State]:
    """Every adamx state in `tree`."""
    return [x for x in jax.tree.leaves(tree, is_leaf=is_state) if is_state(x)]


def may_skip(opt: Any) -> bool:
    """Whether a wrapper in an optimizer may take no step of what is in it."""
    owner = owner_of(opt)
    return isinstance(owner, Wrapper) and (owner.skips or any(map(may_skip, owner.inner)))


def has_moved(before: Any, after: Any) -> Array | bool:
    """Whether an optimizer took a step between two of its states: `True` if no adamx state in them could say."""
    pairs = zip(states_in(before), states_in(after), strict=True)
    changed = [jnp.asarray(was.count) != now.count for was, now in pairs]
    return functools.reduce(jnp.logical_or, changed) if changed else True


def has_own_gradients(opt: Any) -> bool:
    """Whether what is in an optimizer steps by other gradients than those given."""
    while isinstance(owner := owner_of(opt), Wrapper) and not owner.own_gradients:
        opt = owner.opt
    return isinstance(owner, Wrapper)


def refuse_other(state: Any, kind: type, name: str) -> None:
    """Raise unless it is the state, of this kind, of the wrapper of this name."""
    if not isinstance(state, kind):
        raise TypeError(
            f"{type(state).__name__} is not the state of adamx.{name}: order is (grads, state, params); make it with "
            "`init(params)`, or around that of the optimizer in it with `adamx.regroup(opt, state, params)`"
        )


def added(params: Params, updates: Params) -> Params:
    """The parameters after the updates, rounded as by `optax.apply_updates`; of no update, as they are."""

    def add(p: Any, update: Any) -> Any:
        if p is None or update is None:
            return p
        p, update = jnp.asarray(p), jnp.asarray(update)
        wide = np.promote_types(p.dtype, update.dtype)
        return (p.astype(wide) + update.astype(wide)).astype(p.dtype)

    return jax.tree.map(add, params, updates, is_leaf=lambda x: x is None)


Parts: TypeAlias = list[tuple[Any, ...]]
"""The engines of an optimizer, each with its part of some trees."""


def parts_of(opt: Any, *trees: Params) -> Parts:
    """The engines in an optimizer, in the order of their states in its own, with their parts of trees like the first.

    There is one, with the whole trees, but for `adamx.by_path`, where an Optax transformation has `None` for an engine.

    Args:
        opt: an adamx optimizer, wrapped or not.
        trees: the parameters, if any, and trees like them; parts have `None` in place of the leaves of others.

    Raises:
        TypeError: `opt` is not an adamx optimizer.
    """
    owner = owner_of(opt)
    return owner.parts(*trees) if isinstance(owner, Wrapper) else [(engine_of(opt), *trees)]


def frozen_in(opt: Any, leaves: Leaves) -> list[bool]:
    """Which leaves an optimizer does not move, nor read their gradients; `leaves` are the parameters or like them."""
    owner = owner_of(opt)
    if isinstance(owner, Engine):
        return [member.frozen for member in owner.members_of(leaves)]
    return owner.frozen(leaves) if isinstance(owner, Wrapper) else [False] * len(leaves.arrays)


def patterns_in(opt: Any, leaves: Leaves) -> list[str]:
    """The pattern in the outermost `adamx.by_path` that each leaf is chosen by; "" if there is none."""
    owner = owner_of(opt)
    return owner.patterns(leaves) if isinstance(owner, Wrapper) else [""] * len(leaves.arrays)


def take_step(opt: Any, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
    """The new parameters and state, from `opt.step` if there is one, else from `update` and `optax.apply_updates`.

    Raises:
        TypeError: a keyword that is not read.
    """
    if isinstance(opt, Optimizer):
        return opt.step(grads, state, params, **options)
    refuse_step_words("a transformation without `step`", options)
    try:
        inspect.signature(opt.update).bind_partial(**options)  # `optax.MultiSteps` is not of a class that would say so
    except TypeError as error:
        raise TypeError(f"{', '.join(options)}: the transformation's update does not read it ({error})") from None
    updates, state = opt.update(grads, state, params, **options)
    return optax.apply_updates(params, updates), state
