"""Rules: a paper's pseudo-code for one array, with hyperparameters as fields and state as slots."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from ._annotations import Array, DecayRate, Fixed, Interval, ScalarOrSchedule
from ._context import StepContext as StepContext
from ._names import validate_choice
from .estimates import MomentEstimates
from .values import refuse_traced as refuse_traced
from .values import validate_dtype as validate_dtype
from .values import validate_value as validate_value

Slots = TypeVar("Slots", bound=tuple)


@dataclasses.dataclass(frozen=True)
class Slot:
    """One buffer that a rule keeps for each leaf.

    Attributes:
        init: its initial value, of any shape; called as `init(p, dtype=...)` with the leaf of the parameters. May
            give `None` for a leaf that needs no such buffer.
        nonnegative: whether it is real and never below zero (a second moment), also for complex leaves.
        unit: its natural unit as a function of the slots, used by storage formats; `None` if it has none.
        dtype: its storage dtype for a real leaf; `None` for at least float32.
        trails: whether it follows the weights beside the slots of a step that knows nothing of it; such are the last.
        exact: whether it is never coded, whatever `moments` says.
    """

    init: Callable[..., Array | None] = jnp.zeros_like
    nonnegative: bool = False
    unit: Callable[[Any], Array] | None = None
    dtype: Any = None
    trails: bool = False
    exact: bool = False

    @property
    def like_weights(self) -> bool:
        """Whether it is an iterate, which the step reads: it starts as the parameters, and is never coded."""
        return self.init is jnp.array and not self.trails


class Moments(NamedTuple):
    """The two moments of Adam-like rules, `mu` and `nu`: their arrays, or in a rule's `slots` their `Slot`s."""

    mu: Any
    nu: Any


def static(*, default: Any, choices: tuple[str, ...] = ()) -> Any:
    """A rule's field that selects code: a flag or a name, fixed when the rule is built and never traced.

    Args:
        default: its value where none is given.
        choices: the names that it may be; () for any value.

    Returns:
        A field of the rule's dataclass.

    Examples:
        >>> import adamx
        >>> class Descent(adamx.Rule):
        ...     norm: str = adamx.static(default="l2", choices=("l2", "max"))
        >>> Descent().norm
        'l2'
    """
    return dataclasses.field(default=default, metadata={"static": True, "choices": choices})


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
class Rule(Generic[Slots]):
    """An update rule for one array.

    A subclass becomes a frozen dataclass without a decorator: its annotated fields are the hyperparameters, its `slots`
    a NamedTuple of `Slot`s (or of such NamedTuples), and `step` is the pseudo-code. Fields annotated `Beta` or
    `NonNegative` are checked when an optimizer is built from the rule; each may be given as a number, a traced array or
    a schedule, and is a number inside `step`. A rule is a pytree whose leaves are its hyperparameters.

    A rule declares what diagnostics, presets and backends need to know of it. `None` means unknown: what depends on it
    is left out or refused. A `Modifier` passes on what its rule declares, except `elementwise`.

    Attributes:
        slots: how each buffer is kept.
        elementwise: whether an element's step depends on that element alone; then complex leaves can be taken apart.
        eps_place: where ε enters the step, in symbols such as "√v̂ + ε"; "none" if there is none.
        corrected_averages: which averages are corrected for their bias towards 0, such as "m, v", or "none".
        decay_coupling: how weight decay that is part of the direction enters it; `None` if the rule has none.
        preparing: how many of the first calls move no weight, nor does decay in them.
        optax_slots: where Optax keeps each slot, as "ScaleByAdamState.mu" or the fields of `states.filling.Kept`.
        torch_slots: the same for PyTorch, as "exp_avg".

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> class Uncorrected(adamx.Rule):
        ...     '''Adam without bias correction and epsilon, with one decay rate.'''
        ...     b: adamx.Beta = 0.75
        ...     slots = adamx.Moments(mu=adamx.Slot(), nu=adamx.Slot(nonnegative=True))
        ...     def step(self, g, s, at):
        ...         mu, nu = self.b * s.mu + (1 - self.b) * g, self.b * s.nu + (1 - self.b) * g**2
        ...         return mu / jnp.sqrt(nu), adamx.Moments(mu, nu)
        >>> opt, params = adamx.optimizer(Uncorrected(), learning_rate=0.5), jnp.array([1.0, -2.0])
        >>> opt.step(grads=params, state=opt.init(params), params=params)[0]
        Array([ 0.75, -1.75], dtype=float32)
    """

    slots: ClassVar[Any] = ()
    elementwise: ClassVar[Any] = None
    eps_place: ClassVar[Any] = None
    corrected_averages: ClassVar[Any] = None
    decay_coupling: ClassVar[Any] = None
    preparing: ClassVar[Any] = 0
    optax_slots: ClassVar[Any] = None
    torch_slots: ClassVar[Any] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))

    def step(self, g: Array, s: Slots, at: StepContext) -> tuple[Array, Slots]:
        """The direction to subtract, and the new slots, for one array.

        Args:
            g: the gradient, at least float32.
            s: the slots of this leaf, each of at least float32 and `g`'s shape unless its `init` says otherwise.
            at: the step's number and the parameter. Sums over the leaf's elements are `at.sum(x)` and its like: where a
                step is given `axis_name`, `x` is a part.
        """
        raise TypeError(f"{type(self).__name__} defines no `step(self, g, s, at)`")

    def moment_estimates(self, t: Array) -> MomentEstimates | None:
        """How the slots are read after step `t` (a real floating scalar), as Adam's are; `None` if that is unknown."""
        del t

    @property
    def measures(self) -> bool:
        """Whether it has a `measure`."""
        return type(self).measure is not Rule.measure

    def measure(self, g: Array, s: Slots, at: StepContext) -> Any:
        """Scalars, sums of one leaf, whose sum over all leaves `step` finds in `at.total`; `None` if it needs none."""
        del g, s, at


class Modifier(Rule[Any]):
    """A rule around another, its field `rule`: a subclass defines a `step` that calls `self.rule.step`.

    One that keeps elements apart says `elementwise = property(lambda self: self.rule.elementwise)`.
    """

    rule: Rule[Any]
    slots = property(lambda self: self.rule.slots)
    eps_place = property(lambda self: self.rule.eps_place)
    corrected_averages = property(lambda self: self.rule.corrected_averages)
    decay_coupling = property(lambda self: self.rule.decay_coupling)
    preparing = property(lambda self: self.rule.preparing)

    def moment_estimates(self, t: Array) -> MomentEstimates | None:
        """The inner rule's; unknown where the slots are not those of the inner rule."""
        return self.rule.moment_estimates(t) if type(self).slots is Modifier.slots else None

    @property
    def measures(self) -> bool:
        """Whether it has a `measure` of its own, or the inner rule has one."""
        return type(self).measure is not Modifier.measure or self.rule.measures

    def measure(self, g: Array, s: Any, at: StepContext) -> Any:
        """The inner rule's."""
        return self.rule.measure(g, s, at)


class Hyperparameter(NamedTuple):
    """One numeric field of a rule: its path, its value and its allowed interval."""

    path: str
    value: ScalarOrSchedule
    interval: Interval

    @property
    def name(self) -> str:
        """See `name_at`."""
        return name_at(self.path)

    @property
    def is_beta(self) -> bool:
        """Whether it is the decay rate of an average."""
        return isinstance(self.interval, DecayRate)


def hyperparameters(rule: Rule[Any], prefix: str = "") -> Iterator[Hyperparameter]:
    """The numeric fields of a rule and of the rules that it wraps."""
    numeric = _numeric(type(rule))
    for field in dataclasses.fields(typing.cast(Any, rule)):
        value: Any = getattr(rule, field.name)
        if isinstance(value, Rule):
            yield from hyperparameters(value, f"{prefix}{field.name}.")
        elif field.name in numeric:
            interval, optional = numeric[field.name]
            if value is not None or not optional:
                yield Hyperparameter(prefix + field.name, typing.cast(ScalarOrSchedule, value), interval)


def name_at(path: str) -> str:
    """What the hyperparameter at a path is called: "learning_rate" where it is the `step_size` inside a momentum."""
    last = path.rpartition(".")[2]
    return "learning_rate" if last == "step_size" else last


def innermost(rule: Rule[Any], name: str) -> str | None:
    """The path of the hyperparameter of this name, of several that of the innermost rule; `None` if there is none."""
    found = [h.path for h in hyperparameters(rule) if h.name == name]
    return max(found, key=lambda path: path.count("."), default=None)


@functools.cache
def _numeric(kind: type[Rule[Any]]) -> dict[str, tuple[Interval, bool]]:
    """The numeric fields of a class of rules, by name: the interval of each, and whether it may be `None`."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    return {
        name: (interval, type(None) in typing.get_args(annotation))
        for name, annotation in annotations.items()
        if (interval := _interval(annotation)) is not None
    }


def replace(rule: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """The rule with the hyperparameters at the given paths replaced."""
    changes = {}
    for field in dataclasses.fields(rule):
        path, value = prefix + field.name, getattr(rule, field.name)
        if isinstance(value, Rule):
            changes[field.name] = replace(value, values, f"{path}.")
        elif path in values:
            changes[field.name] = values[path]
    return dataclasses.replace(rule, **changes)


def check(rule: Rule[Any]) -> None:
    """Raise unless `rule` is a rule whose hyperparameters have valid types, precisions and ranges."""
    if not isinstance(rule, Rule):
        raise TypeError(f"{rule!r} is not a rule: give an instance, such as adamx.Adam(b1=0.9), as the first argument")
    if isinstance(rule, Modifier):
        check(rule.rule)
    for field in dataclasses.fields(typing.cast(Any, rule)):
        if field.metadata.get("static"):
            refuse_traced(field.name, getattr(rule, field.name))
            if field.metadata["choices"]:
                validate_choice(field.name, getattr(rule, field.name), field.metadata["choices"])
    for path, value, interval in hyperparameters(rule):
        if not callable(value):
            validate_value(name_at(path), value, interval)
        elif isinstance(interval, Fixed):
            raise TypeError(f"{name_at(path)} is the same at all steps and cannot follow a schedule: give a number")


def _interval(annotation: Any) -> Interval | None:
    found = [a for a in getattr(annotation, "__metadata__", ()) if isinstance(a, Interval)]
    inner = (_interval(arg) for arg in typing.get_args(annotation))
    return next((i for i in (*found, *inner) if i is not None), None)
