"""A wrapper that measures every step of an optimizer from its gradients, weights and state."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import optax

from .. import _leaves, kernels
from .._annotations import Array, AxisName, Params, ScalarOrSchedule
from .._engine import Engine
from .._names import refuse_step_words
from .._transform import Optimizer, engine_of
from ..schedules import reading
from ..states.parts import find_state, steppers
from ..wrapper import Wrapper, added, parts_of, refuse_other
from . import _spikes
from ._by_groups import of_leaves
from ._by_groups import rows as rows_of_groups
from ._groups import Grouping, Groups, grouping
from ._hats import injected_step_size, numbers_of, step_size_of, value_at
from ._measures import METRICS, gathered, metrics
from ._records import StepRecord, leaf_records
from ._sums import Sums, table


class MonitorState(NamedTuple):
    """The state of a monitored optimizer.

    Attributes:
        inner: the wrapped optimizer's state.
        count: the number of finished steps; int32, shape ().
        values: the last values, float32, (groups, metrics), each in alphabetical order.
        groups: the names of the groups, as keys: so they are part of the tree and travel with it.
        metrics: the names of the metrics, as keys.
        spikes: the state of the spike detector, see `spikes`.
    """

    inner: Any
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]  (the field's usual name)
    values: Array
    groups: dict[str, tuple[()]]
    metrics: dict[str, tuple[()]]
    spikes: _spikes.SpikeState


@overload
def monitor(
    opt: Optimizer, *, groups: Groups = None, every: int = 1, learning_rate: ScalarOrSchedule | None = None
) -> Optimizer: ...


@overload
def monitor(
    opt: Any, *, groups: Groups = None, every: int = 1, learning_rate: ScalarOrSchedule | None = None
) -> optax.GradientTransformationExtraArgs: ...


def monitor(
    opt: Any, *, groups: Groups = None, every: int = 1, learning_rate: ScalarOrSchedule | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Wrap an optimizer so that its state holds measurements of the last step: see `read(state)`, `spikes(state)`.

    For each group of leaves, and for all leaves ("all/..."), with gradient $g$, weight $p$ and change of the weight
    $\Delta$:

    - `gradient_norm` $\|g\|$, `update_norm` $\|\Delta\|$, `parameter_norm` $\|p\|$ before the step, `update_ratio`
      $\|\Delta\|/\|p\|$; `nonfinite`, the number of gradients that are infinite or NaN (norms overflow from
      1.8e19 on without any)
    - `sign_agreement`: the share of elements with $g \ne 0$ whose update has the sign of $-g$
    - `stalled`: the share of all weights that did not move in their own dtype though their update was not zero. Weights
      with residuals (weights="kahan", "split8", "split16") are compared with their residuals added. Under `step`, which
      rounds internally, an update counts as zero where `mu` (if there is none, the gradient) is
    - `step_mean`, `step_max`: the effective step $|\Delta|/\alpha$, including weight decay; only if $\alpha$ is known
    - `snr`: the mean of $|\hat m|/\sqrt{\hat v}$, the paper's signal-to-noise ratio; `bound_share`: its largest
      value divided by the largest that any gradients can produce; `eps_share`: the share where $\sqrt{\hat v} <
      \varepsilon$. Weights whose $v$ is 0 (no gradient yet) count in neither; their share is `idle`.
      From the moments after the step, decoded if they are coded; of AMSGrad and AdamX $v$ is the largest so far. `snr`
      and `idle` are there if the rule declares how its slots are read (`Rule.moment_estimates`), `eps_share` if it says
      that $\varepsilon$ stands beside the root, `bound_share` if it names constant decay rates that the bound holds of
      (Adam, RAdam, StableAdamW). What a rule does not declare is left out.

    All sums are taken in one pass over the gradient, old and new weights and moments: 20 bytes a parameter in float32.
    Under `step` on CPUs this pass is C++, if all arrays are float32 and the optimizer's `kernel` is not "xla". Nothing
    leaves the device, and nothing is differentiated. A donated `step` keeps the old weights until the sums are taken: 4
    bytes a parameter. Where arrays are cut over devices, each sums up its parts, and one all-reduce adds these for all
    leaves; under `jax.shard_map` give `axis_name` to `step` or `update`.

    Of `adamx.by_path` what needs moments or a step size is left out: put a monitor around each of its optimizers, too.

    Args:
        opt: the optimizer, an adamx optimizer or any Optax transformation whose updates are added to the weights.
        groups: how leaves are grouped: `None` by the first key in which their paths differ; an int by that number of
            leading keys (0 for "all" alone); a function maps a path such as "dense/kernel" to the name of its group
            (`None`: only in "all").
        every: measure every n-th step, beginning with the first. The steps between are not seen, by the spike
            detector neither.
        learning_rate: $\alpha$, a number or a schedule of the finished steps; `None` takes it from an adamx
            optimizer, or from the state of `optax.inject_hyperparams`.

    Returns:
        An `Optimizer` with a `step` if `opt` is one; else a transformation. Its `update` needs the parameters, its
        state is a `MonitorState`.

    Raises:
        TypeError: `opt` is not a gradient transformation.
        ValueError: `every` is not at least 1; an update without parameters.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> groups = lambda path: "matrices" if "kernel" in path else None
        >>> opt = adamx.diagnostics.monitor(adamx.adam(1e-3), groups=groups)
        >>> params = {"dense": {"kernel": jnp.ones((4, 4)), "bias": jnp.zeros(4)}}
        >>> params, state = jax.jit(opt.step)(params, opt.init(params), params)
        >>> {name: round(x, 3) for name, x in adamx.diagnostics.read(state).items() if name.startswith("matrices/s")}
        {'matrices/sign_agreement': 1.0, 'matrices/snr': 1.0, 'matrices/stalled': 0.0,
         'matrices/step_max': 1.0, 'matrices/step_mean': 1.0}

    Reference: the quantities are those of Kingma & Ba, arXiv:1412.6980, sections 2.1 and 6.3.
    """
    if isinstance(every, bool) or not isinstance(every, int):
        raise TypeError(f"every = {every!r} should be a number of steps, such as 10")
    if every < 1:
        raise ValueError(f"every = {every} should be at least 1: 1 looks at every step")
    watching = Monitor(opt, groups, every, learning_rate)
    return watching.optimizer()


@dataclasses.dataclass(frozen=True, eq=False)
class Monitor(Wrapper):
    """The object whose methods are those of a monitored optimizer; see `monitor`."""

    groups: Groups
    every: int
    learning_rate: ScalarOrSchedule | None
    skips = False
    sizes = (("values", "`groups` of adamx.monitor"),)
    exchanges = "an all-reduce of what the monitor sums up"

    @property
    def engine(self) -> Engine | None:
        """The engine of an adamx optimizer; `None` for others."""
        try:
            return engine_of(self.opt)
        except TypeError:
            return None

    def init(self, params: Params) -> MonitorState:
        """The state before the first step."""
        inner = self.opt.init(params)
        leaves, names = _leaves.flatten(params, "params"), self._metrics(inner)
        grouped = self._grouping(leaves)
        values = jnp.zeros((len(grouped.groups), len(names)), jnp.float32)
        groups, told = (dict.fromkeys(sorted(x), ()) for x in (grouped.groups, names))
        start = MonitorState(inner, jnp.zeros([], jnp.int32), values, groups, told, _spikes.start(grouped.leaves))
        if not leaves.arrays:  # `optax.tree.map_params` does not know the names of leaves that are in the tree
            return start._replace(groups=start.count, spikes=start.count)
        return kernels.beside(leaves.arrays, start)

    def update(
        self, updates: Params, state: Any, params: Params = None, *, axis_name: AxisName = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        """The updates of the optimizer, measured."""
        if params is None:
            raise ValueError("a monitor measures updates by the weights: call `update(grads, state, params)`")
        refuse_other(state, MonitorState, "monitor")
        refuse_step_words("update", extra_args)
        names = kernels.named_axes(axis_name)
        if names:
            extra_args["axis_name"] = names
        given, inner = optax.with_extra_args_support(self.opt).update(updates, state.inner, params, **extra_args)
        new = added(params, given)
        return given, self._after(state, StepRecord(updates, params, new, given, None, state.inner, inner), names)

    def step(self, grads: Params, state: Any, params: Params, **options: Any) -> tuple[Params, Any]:
        """The step of the optimizer, measured: gradients after `grad_scale` and before `clip_norm`."""
        refuse_other(state, MonitorState, "monitor")
        new, inner = self.opt.step(grads, state.inner, params, **options)
        steps = StepRecord(grads, params, new, None, options.get("grad_scale"), state.inner, inner)
        return new, self._after(state, steps, kernels.named_axes(options.get("axis_name")))

    def _after(self, state: MonitorState, steps: StepRecord, axis_names: Sequence[str]) -> MonitorState:
        """The next state; measured if this step is one of every `every`."""
        count = jnp.asarray(optax.safe_increment(state.count))

        def told() -> tuple[Array, _spikes.SpikeState]:
            return self._look(state, steps, count, axis_names)

        kept = (state.values, state.spikes)
        due = state.count % self.every == 0
        values, spikes = told() if self.every == 1 else jax.lax.cond(due, told, lambda: kept)
        return MonitorState(steps.after, count, values, state.groups, state.metrics, spikes)

    def _look(
        self, state: MonitorState, steps: StepRecord, count: Array, axis_names: Sequence[str]
    ) -> tuple[Array, _spikes.SpikeState]:
        engine, steps = self.engine, jax.lax.stop_gradient(kernels.on_device(steps))  # nothing here is differentiated
        leaves = _leaves.flatten(steps.old, "params")
        grouped = self._grouping(leaves)
        if not grouped.leaves:
            return state.values, state.spikes
        numbers = None if engine is None else numbers_of(engine, find_state(steps.after))
        parts = steppers(parts_of(self.opt, steps.old)) if isinstance(self.opt, Optimizer) else []
        records = leaf_records(leaves, steps, engine, numbers, parts)
        # XLA fuses an update into the sums; a C++ call would need it in memory and could not be exported.
        kernel = engine.kernel if engine is not None and steps.updates is None else "xla"
        watched, options = [records[i] for i in grouped.order], (steps.scale, kernel, axis_names)
        if engine is not None and (shared := of_leaves(engine, leaves, find_state(steps.after))) is not None:
            mine = [shared[i] for i in grouped.order]
            rows = rows_of_groups(watched, mine, engine, find_state(steps.after), numbers, *options)
        else:
            rows = table(watched, numbers, *options)
        step_size = jax.lax.stop_gradient(self._step_size(state.count, steps.before, steps.after))
        told, by_leaf = metrics(gathered(rows, grouped.member), step_size, numbers), Sums(*rows.T)
        values = jnp.stack([told[name] for name in sorted(state.metrics)], 1)
        return values, _spikes.watch(state.spikes, by_leaf.gradient, by_leaf.nonfinite, count)

    def _grouping(self, leaves: _leaves.Leaves) -> Grouping:
        """The grouping of the leaves that are not `None`; positions count all leaves."""
        present = [i for i, p in enumerate(leaves.arrays) if p is not None]
        grouped = grouping([leaves.paths[i] for i in present], self.groups)
        return grouped._replace(order=[present[i] for i in grouped.order])

    def _metrics(self, inner: Any) -> list[str]:
        """The names of the metrics that this optimizer has, in alphabetical order; nothing is computed."""

        def told(inner: Any) -> dict[str, Array]:
            numbers = None if self.engine is None else numbers_of(self.engine, find_state(inner))
            none = Sums(*(jnp.zeros(1) for _ in Sums._fields))
            return metrics(none, self._step_size(jnp.zeros([], jnp.int32), inner, inner), numbers)

        found = jax.eval_shape(told, inner)
        return sorted(name for name in METRICS if name in found)

    def _step_size(self, count: Any, before: Any, after: Any) -> Array | None:
        r"""$\alpha$ of the step between two states of the optimizer, after `count` finished steps."""
        if self.learning_rate is not None:
            found = value_at(self.learning_rate, count)
        elif (found := step_size_of(self.engine and self.engine.rule)) is not None:
            with reading((own := find_state(before)).live):
                found = value_at(found, own.count)
        elif not isinstance(self.opt, Optimizer):  # one of `adamx.by_path` is not for all
            found = injected_step_size(after)
        return None if found is None else jnp.asarray(found, jnp.float32)
