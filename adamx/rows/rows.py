"""Steps of the rows of a table that a batch touched, equal to steps of the whole table."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._annotations import Array
from .._engine import Engine
from .._layout import wide_dtype
from .._leaf import Step
from .._names import validate_choice
from .._rule import replace
from .._state import LogProduct, State, scheduled_values
from .._transform import owner_of
from ..idle import passing
from ..schedules import reading
from .state import RowsState, Ticket, read, written
from .steps import CatchUp, Numbered


@dataclasses.dataclass(frozen=True)
class Rows:
    """Steps of a table's rows, those that a batch reads only, which leave what steps of the whole table would.

    Under an optimizer with momentum a row moves on while its gradient is zero. `take` brings rows up to date before
    the loss reads them, in closed form, however long ago they were last read; `put` steps them. Time and memory are in
    proportion to the rows taken. Donate the table and its state under `jax.jit`: they are then changed in place.

    Attributes:
        opt: an adamx optimizer of one array, the table.
        catch_up: "exact", or "lazy": moments and weights of idle rows stand still, as in `torch.optim.SparseAdam` and
            LazyAdam, which is another algorithm.

    Raises:
        TypeError: `opt` is not an adamx optimizer, or wraps one.
        ValueError: what idle rows do is not known in closed form.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> rows, table = adamx.Rows(adamx.adam(0.5)), jnp.zeros((1000, 2))
        >>> state = rows.init(table)
        >>> values, ticket = rows.take(jnp.array([7, 3, 7]), state, table)
        >>> grads = jax.grad(lambda values: jnp.sum(values))(values)
        >>> table, state = rows.put(grads, state, table, ticket)
        >>> table[jnp.array([3, 7, 8])]
        Array([[-0.5, -0.5],
               [-0.5, -0.5],
               [ 0. ,  0. ]], dtype=float32)
    """

    opt: Any
    catch_up: str = "exact"

    def __post_init__(self) -> None:
        validate_choice("catch_up", self.catch_up, ("exact", "lazy"))
        if not isinstance(owner_of(self.opt), Engine):
            raise TypeError(f"opt is no adamx optimizer, or wraps one: give the optimizer itself, not {self.opt!r}")
        if self.engine.groups:
            raise ValueError("groups are of several leaves: give the table an optimizer of its own")
        if self.catch_up == "exact" or not self.engine.rule.elementwise:  # else a row's step may depend on others
            _ = self._needs_passed

    @property
    def engine(self) -> Engine:
        """The optimizer's engine."""
        return owner_of(self.opt)

    @functools.cached_property
    def _needs_passed(self) -> bool:
        """Whether idle steps read the running sum. Refuses what has no closed form."""
        asked = []

        def tried(table: Array) -> Any:
            state = self.opt.init(table)
            step = self._catching_up(state, jnp.ones([1], jnp.int32), lambda: asked.append(1) or jnp.zeros((1, 1)))
            return self.opt.engine.step(table, state, table, take=step)

        jax.eval_shape(tried, jax.ShapeDtypeStruct((1, 1), jnp.float32))
        return bool(asked)

    def init(self, table: Array) -> RowsState:
        """The state before the first step.

        Args:
            table: (rows, features).
        """
        _check_table(table)
        n = table.shape[0]
        sums: Any = ()
        if self.catch_up == "exact" and self._needs_passed:
            sums = tuple(LogProduct(jnp.zeros(shape, float), jnp.zeros(shape, float)) for shape in ((), (n,)))
        return RowsState(self.opt.init(table), jnp.zeros([n], jnp.int32), sums)

    def take(self, ids: Array, state: RowsState, table: Array) -> tuple[Array, Ticket]:
        """The rows of these ids as they are after all steps so far, to be differentiated, and a ticket for `put`.

        Args:
            ids: integers of any shape; a row may be there several times. -1 pads: its values and derivatives are zero.
            state: from `init` or the step before.
            table: (rows, features).

        Returns:
            The values, of the shape of `ids` and then (features,), and the ticket.

        Raises:
            TypeError: ids that are not integers.
            ValueError: a table of another shape than the state's; ids out of range, where they are not traced. Traced
                ones are as -1.
        """
        self._check(state, table)
        ids, n = _checked_ids(ids, table.shape[0]), table.shape[0]
        flat = ids.reshape(-1)
        found = jnp.where((flat >= 0) & (flat < n), flat, n).astype(jnp.int32)
        ordered = jnp.sort(found)
        nth = jnp.cumsum(jnp.diff(ordered, prepend=ordered[:1]) != 0, dtype=jnp.int32)
        # Those beyond the table are distinct, too, as scattering is told.
        distinct = jnp.arange(n, n + flat.size, dtype=jnp.int32).at[nth].min(ordered, indices_are_sorted=True)
        places = jnp.searchsorted(distinct, found, method="scan_unrolled")  # faster than sorting pairs, by three
        here, own = jax.tree.map(functools.partial(read, distinct), (table, state))
        if self.catch_up == "exact":
            here, own = self._caught_up(distinct, own, here)
        places = places.reshape(ids.shape).astype(jnp.int32)
        return here[places], Ticket(distinct, places, here, own)

    def put(
        self, grads: Array, state: RowsState, table: Array, ticket: Ticket, **options: Any
    ) -> tuple[Array, RowsState]:
        """Step the rows of a ticket.

        Args:
            grads: the gradient of the values that came with the ticket, of their shape.
            state: the one that `take` was given.
            table: the one that `take` was given.
            ticket: of `take`.
            **options: those of `adamx.Optimizer.step`; norms are of the gradients of rows.

        Returns:
            The table and the next state.

        Raises:
            ValueError: gradients of another shape; a ticket of an earlier step, where neither state is traced: its rows
                would undo what was put since.
        """
        self._check(state, table)
        counts = ticket.state.state.count, state.state.count
        seen = all(isinstance(x, (jax.Array, np.ndarray)) and not isinstance(x, Tracer) for x in counts)
        if seen and (counts[0] != counts[1]).any():
            taken, now = (int(jnp.max(x)) for x in counts)
            raise ValueError(f"the ticket is of step {taken}, the state of step {now}: one `take` and one `put` a step")
        n, size = table.shape[0], ticket.ids.shape[0]
        if grads.shape != (wanted := (*ticket.places.shape, table.shape[1])):
            raise ValueError(f"grads have shape {grads.shape}, the values of the ticket {wanted}")
        if "learning_rate" in options and self.catch_up == "exact":
            raise TypeError("learning_rate: what idle rows missed has to be known later: give the optimizer a schedule")
        wide = wide_dtype(grads)
        each = grads.reshape(-1, table.shape[1]).astype(wide)
        summed = jax.ops.segment_sum(each, ticket.places.reshape(-1), num_segments=size)
        summed = jnp.where(ticket.ids[:, None] < n, summed, 0)
        values, own = self.engine.step(
            summed, ticket.state.state, ticket.values, take=Numbered(Step, ticket.ids, table.shape[1]), **options
        )
        now = state.passed and state.passed[0]
        if now:
            with reading(state.state.live):
                rule = replace(self.engine.rule, scheduled_values(self.engine.rule, state.state.count))
            now = now.plus(jnp.asarray(passing(rule, True), now.total.dtype))
        return written(ticket.ids, (table, state), values, own, ticket.state, now)

    def flush(self, state: RowsState, table: Array) -> tuple[Array, RowsState]:
        """All rows brought up to date: the table that is evaluated or saved. Time is in proportion to it.

        The optimizer steps of the whole table go on from it: `opt.step(grads, state.state, table)`.

        Args:
            state: from `init` or the step before.
            table: (rows, features).

        Returns:
            The table and the state.
        """
        self._check(state, table)
        n, size = table.shape[0], min(table.shape[0], 4096)

        def block(i: Array, now: tuple[Array, RowsState]) -> tuple[Array, RowsState]:
            ids = jnp.minimum(i * size, n - size) + jnp.arange(size, dtype=jnp.int32)
            here, rows = jax.tree.map(functools.partial(read, ids), now)
            values, own = self._caught_up(ids, rows, here)
            return written(ids, now, values, own.state, rows, rows.passed and rows.passed[0])

        if self.catch_up == "lazy":
            return table, state
        return jax.lax.fori_loop(0, -(-n // size), block, (table, state))

    def _caught_up(self, ids: Array, state: RowsState, values: Array) -> tuple[Array, RowsState]:
        """These rows after the idle steps up to the present one; `state` is theirs."""
        count, last = state.state.count, state.last

        def passed() -> Array:
            now, then = state.passed
            return ((now.total - then.total) - (now.lost - then.lost))[:, None]

        take = self._catching_up(state.state, last, passed, ids, values.shape[1])
        new, own = self.engine.step(jnp.zeros_like(values), state.state, values, take=take)
        idle = count > last
        keep = lambda x, y: jnp.where(idle.reshape(-1, *[1] * (x.ndim - 1)), x, y) if x.ndim else y  # noqa: E731
        return keep(new, values), state._replace(state=jax.tree.map(keep, own, state.state))

    def _catching_up(self, state: State, last: Array, passed: Any, ids: Any = None, width: int = 1) -> Any:
        make = functools.partial(CatchUp, engine=self.engine, live=state.live, begun=last, passed=passed)
        return Numbered(make, ids, width)

    def _check(self, state: Any, table: Array) -> None:
        _check_table(table)
        if not isinstance(state, RowsState):
            raise TypeError(f"{type(state).__name__} is not the state of adamx.Rows: make it with `init(table)`")
        if state.last.shape[:1] != table.shape[:1]:
            raise ValueError(f"the table has shape {table.shape}, the state is of {state.last.shape[0]} rows")


def _check_table(table: Any) -> None:
    if not isinstance(table, jax.Array):
        raise TypeError(f"the table is a {type(table).__name__}: it should be a jax.Array, (rows, features)")
    if jnp.ndim(table) != 2 or not jnp.issubdtype(table.dtype, jnp.floating):
        raise ValueError(f"the table is {jnp.shape(table)} {table.dtype}: it should be floating, (rows, features)")


def _checked_ids(ids: Any, n: int) -> Array:
    given, ids = ids, jnp.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"ids are {ids.dtype}: they should be integers, the numbers of rows")
    if not isinstance(ids, Tracer):
        host = np.asarray(given)  # as JAX would cut 64 bits down to 32, and so to another row
        if ((host < -1) | (host >= n)).any():
            bad = host[(host < -1) | (host >= n)][0]
            raise ValueError(f"id {bad} is not a row of a table of {n}: ids are 0 to {n - 1}, and -1 pads")
    return ids.astype(jnp.int32) if ids.dtype.itemsize < 4 else ids  # n may be too large for theirs
