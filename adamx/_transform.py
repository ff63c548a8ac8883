"""`Optimizer`: an Optax gradient transformation that also has `step`, update and apply in one."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import kernels
from ._annotations import AxisName, Params, Scalar
from ._engine import Engine
from ._layout import Layout
from ._names import validate_choice
from ._rule import Modifier, Rule, check, validate_dtype
from ._weights import ROUNDINGS, Weights
from .described import SHARED, described
from .groups import Groups, members
from .kernels import Kernel
from .moments import MomentFormats


class Init(Protocol):
    """Makes the state for a tree of parameters."""

    def __call__(self, params: Params) -> Any: ...


class Update(Protocol):
    """Returns the updates to add to the parameters, and the next state."""

    def __call__(self, updates: Params, state: Any, params: Params = None, **extra_args: Any) -> tuple[Params, Any]: ...


class Optimizer(optax.GradientTransformationExtraArgs):
    """An Optax gradient transformation with `step`, which updates and applies in one.

    It is the pair of `init` and `update`, as all of Optax's are, and chains, masks, partitions and injects like them.
    """

    __slots__ = ()
    init: Init  # pyright: ignore[reportIncompatibleVariableOverride]
    update: Update  # pyright: ignore[reportIncompatibleVariableOverride]

    def __repr__(self) -> str:
        """`Optimizer(Engine(rule=Descent(rule=Adam(b1=0.9 ...`, with the numbers of all rules and wrappers."""
        return f"Optimizer({owner_of(self)!r})"

    @property
    def engine(self) -> Engine:
        """The rule, the storage of its slots and the rounding of weights, as one object."""
        return engine_of(self)

    def step(
        self,
        grads: Params,
        state: Any,
        params: Params,
        *,
        learning_rate: Scalar | None = None,
        clip_norm: Scalar | None = None,
        grad_scale: Scalar | None = None,
        grad_norm: Scalar | None = None,
        axis_name: AxisName = None,
        **extra_args: Any,
    ) -> tuple[Params, Any]:
        """Update and apply in one; a weight's change is added in at least float32 and rounded once.

        This is one pass over memory where the rule has a kernel: see `adamx.kernels`, `adamx.explain`. Under `jit`
        donate `params` and `state`, which are then changed in place, and return them in the order in which they came.
        Its derivatives are of XLA's formulas; kernel="native" and "pallas" have none.

        Args:
            grads: the gradients; the tree and shapes of `params`, any floating or complex dtype.
            state: from `init(params)` or the step before.
            params: the parameters; `None` leaves stay `None`.
            learning_rate: the step size of this step, in place of the optimizer's own; also read by `update`.
            clip_norm: the largest norm that the gradients of all leaves together may have; longer ones are shortened
                to it, as `optax.clip_by_global_norm` chained in front would.
            grad_scale: what gradients are multiplied with before that: the inverse of a loss scale, or of the number of
                gradients that were summed.
            grad_norm: the norm of all gradients before scaling, if it is known: `clip_norm` then computes none.
            axis_name: inside `jax.shard_map`, the axes of its mesh along which leaves are cut: the norm and what the
                rule sums up are then of whole leaves. Under plain `jit` they always are. Also read by `update`.
            **extra_args: what wrappers of the optimizer read, such as the `loss` of `adamx.guard`.

        Returns:
            The new parameters, in their own dtypes, and the new state.

        Raises:
            TypeError: a keyword that is not read.
            ValueError: trees or shapes do not match; the kernel asked for cannot take a leaf's step; `axis_name` is not
                of an enclosing `jax.shard_map`, or that does not tell what is cut.

        Examples:
            >>> import adamx, jax.numpy as jnp
            >>> opt = adamx.adam(learning_rate=0.5)
            >>> params = {"w": jnp.array([1.0, 2.0])}
            >>> opt.step({"w": jnp.array([3.0, -4.0])}, opt.init(params), params)[0]
            {'w': Array([0.5, 2.5], dtype=float32)}
        """
        options = {"learning_rate": learning_rate, "clip_norm": clip_norm, "grad_scale": grad_scale}
        options |= {"grad_norm": grad_norm, "axis_name": axis_name, **extra_args}
        given = {name: x for name, x in options.items() if x is not None}
        return owner_of(self).step(grads, state, params, **given)


def owner_of(opt: Any) -> Any:
    """The `Engine` or `Wrapper` whose methods `init` and `update` are; `None` of other transformations."""
    return getattr(getattr(opt, "update", None), "__self__", None)


def engine_of(opt: Any) -> Engine:
    """The `Engine` of an optimizer.

    Raises:
        TypeError: `opt` is not an adamx optimizer.
    """
    owner = owner_of(opt)
    engine = owner if isinstance(owner, Engine) else getattr(owner, "engine", None)
    if not isinstance(engine, Engine):
        raise TypeError(
            f"{type(opt).__name__} is not an adamx optimizer: give the part of the chain that is, made by "
            "`adamx.optimizer`, `scale_by` or one of the named optimizers"
        )
    return engine


@described(SHARED)
def scale_by(
    rule: Rule[Any],
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    mu_dtype: Any = None,
    decay_mask: Any = None,
    complex_parts: str = "together",
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """A rule as a gradient transformation from gradients to the rule's directions, without a step size.

    A gradient of `None` leaves its weight and slots alone; steps are counted for all leaves together.

    Args:
        rule: how one array is updated.
        weights: how parameters narrower than float32 take the step, for a rule whose direction is their whole change;
            see `adamx.optimizer`.
        decay_mask: for which leaves `StepContext.decays` is set: a tree of booleans, the top of one, or a function of
            the parameters that returns one; `None` for all.

    Returns:
        An `Optimizer`, whose state is a `State`. Its updates are the rule's directions, of the gradients' dtype unless
        `weights` says otherwise: chain `optax.scale_by_learning_rate` after it.

    Raises:
        ValueError: a hyperparameter out of range, unless JAX traces it; `mu_dtype` without a `mu`, or not a real
            floating dtype; "apart" for a rule that takes several elements of a leaf, or does not say `elementwise`.
        TypeError: a hyperparameter that is not a number, or has too few digits.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by(adamx.Adam(b1=0.8))
        >>> grads = {"w": jnp.array([2.0, -0.5, 0.0])}
        >>> direction, state = tx.update(grads, tx.init(grads))
        >>> direction["w"].round(6)
        Array([ 1., -1.,  0.], dtype=float32)
    """
    check(rule)
    validate_choice("weights", weights, ROUNDINGS)
    if validate_choice("kernel", kernel, kernels.KERNELS) != "xla" and jax.__version_info__ >= (0, 12):
        kernels.pallas.TPU.missing()  # imports Pallas: JAX would trace anew what it had traced before
    apart = validate_choice("complex_parts", complex_parts, ("together", "apart")) == "apart"
    if apart:
        _check_elementwise(rule)
    _check_seed(seed)
    layout = Layout.of(rule, moments, mu_dtype, apart)
    _check_mu_dtype(mu_dtype, rule, layout.names)
    parts = members(rule, groups, weights, lambda own: layout if own is None else Layout.of(rule, own, mu_dtype, apart))
    engine = Engine(rule, layout, weights, seed, decay_mask, kernel, tuple(groups), parts)
    return Optimizer(engine.init, engine.update)


def _check_elementwise(rule: Rule[Any]) -> None:
    if rule.elementwise:
        return
    if rule.elementwise is not None:
        raise ValueError("complex_parts='apart' splits elements, of which this rule takes several at a time")
    while isinstance(rule, Modifier) and rule.rule.elementwise is None:
        rule = rule.rule
    raise ValueError(
        f"complex_parts='apart' splits elements, and {type(rule).__name__} does not say whether it takes them one at a "
        "time: declare `elementwise = True` in its class if so, else `elementwise = False`"
    )


def _check_seed(seed: Any) -> None:
    whole = isinstance(seed, (int, np.integer)) or (
        hasattr(seed, "dtype") and jnp.issubdtype(seed.dtype, jnp.integer) and jnp.shape(seed) == ()
    )
    if not whole or isinstance(seed, bool):
        raise TypeError(f"seed = {seed!r} should be an integer, or an array of one")


def _check_mu_dtype(mu_dtype: Any, rule: Rule[Any], names: Sequence[str]) -> None:
    validate_dtype("mu_dtype", mu_dtype)
    if mu_dtype is not None and not any(name.split(".")[-1] == "mu" for name in names):
        raise ValueError(f"mu_dtype = {mu_dtype!r}, but {type(rule).__name__} keeps no `mu`: leave it out")
