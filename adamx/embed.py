"""Flax's embedding, whose table is stepped by the rows that a batch reads."""

from typing import Any

import jax
from flax import nnx

from ._annotations import Array
from ._variables import is_variable, without_variables
from .rows.rows import Rows
from .rows.state import Ticket


def put(variable: Any, x: Any) -> None:
    """Set the array of an NNX variable."""
    if hasattr(nnx.Variable, "set_value"):
        variable.set_value(x)
    else:  # before Flax 0.12.1
        variable.value = x


class Table(nnx.Variable):
    """A table of rows that an `Embed` steps itself: no `nnx.Param`, so no optimizer of the others moves it."""


class Embed(nnx.Embed):
    """`flax.nnx.Embed` with the optimizer of its table, which `adamx.Rows` steps.

    It is called, and attends, as Flax's; what it gives is as of the table's last steps, and has no derivative. In
    training `take` gives the rows to be differentiated, as an argument of the loss, and `put` steps them. Before
    `attend`, and before the table is read otherwise, `flush` brings idle rows up to date.

    Its `rows` is the `adamx.Rows` of the table, `opt_state` the state with NNX variables around its arrays.

    Args:
        num_embeddings: the number of rows.
        features: the width of the table.
        tx: an adamx optimizer.
        catch_up: see `adamx.Rows`.
        **kwargs: those of `flax.nnx.Embed`: `rngs`, `embedding_init`, `dtype` ...

    Examples:
        >>> import adamx, adamx.flax, jax.numpy as jnp
        >>> from flax import nnx
        >>> embed = adamx.flax.Embed(1000, 2, tx=adamx.adam(0.5), rngs=nnx.Rngs(0))
        >>> ids, before = jnp.array([7, 3, 7]), embed(jnp.array([3]))
        >>> values, ticket = embed.take(ids)
        >>> embed.put(nnx.grad(lambda values: jnp.sum(values))(values), ticket)
        >>> (embed(jnp.array([3])) - before).round(6)
        Array([[-0.5, -0.5]], dtype=float32)
    """

    def __init__(self, num_embeddings: int, features: int, *, tx: Any, catch_up: str = "exact", **kwargs: Any) -> None:
        super().__init__(num_embeddings, features, **kwargs)
        self.embedding: Any = Table(self.embedding[...], **self.embedding.get_metadata())
        self.rows = Rows(tx, catch_up)
        self.opt_state: Any = nnx.data(jax.tree.map(nnx.OptState, self.rows.init(self.embedding[...])))

    def __call__(self, inputs: Array, *args: Any, **kwargs: Any) -> Array:
        """The rows of these ids as they are after all steps so far."""
        del args, kwargs
        (values,) = self.promote_dtype((self.take(inputs)[0],), dtype=self.dtype, inexact=False)
        return values

    def take(self, ids: Array) -> tuple[Array, Ticket]:
        """The rows of these ids, and a ticket for `put`; see `adamx.Rows.take`."""
        return self.rows.take(ids, without_variables(self.opt_state), self.embedding[...])

    def put(self, grads: Array, ticket: Ticket, **options: Any) -> None:
        """Step the rows of a ticket; see `adamx.Rows.put`."""
        self._become(*self.rows.put(grads, without_variables(self.opt_state), self.embedding[...], ticket, **options))

    def flush(self) -> None:
        """Bring all rows up to date; see `adamx.Rows.flush`."""
        self._become(*self.rows.flush(without_variables(self.opt_state), self.embedding[...]))

    def _become(self, table: Array, state: Any) -> None:
        put(self.embedding, table)
        jax.tree.map(put, self.opt_state, state, is_leaf=is_variable)
