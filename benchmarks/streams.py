"""Streams of gradients, on which formats of moments are measured."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

COLUMNS = 1024


class Stream(NamedTuple):
    """A stream of gradients.

    Attributes:
        name: its name in the table.
        sigma: the standard deviation of the logarithms of the elements' scales.
        row_sigma: that of the rows' scales.
        scale: of all gradients.
        late: what they are multiplied with in the second half.
        share: of the rows that are not zero in a step.
        heavy: Student's t with two degrees of freedom in place of the normal distribution.
        b2: Adam's.
    """

    name: str
    sigma: float = 0.5
    row_sigma: float = 0.0
    scale: float = 1.0
    late: float = 1.0
    share: float = 1.0
    heavy: bool = False
    b2: float = 0.999


STREAMS = (
    Stream("σ = .5"),
    Stream("σ = 1", sigma=1.0),
    Stream("σ = 2", sigma=2.0),
    Stream("rows σ = 2", sigma=0.0, row_sigma=2.0),
    Stream("drift e⁻²", late=float(np.exp(-2))),
    Stream("drift e²", late=float(np.exp(2))),
    Stream("99 % rows zero", share=0.01),
    Stream("Student t, 2", heavy=True),
    *(Stream(f"|g| {scale:g}", scale=scale) for scale in (1e-12, 1e-8, 1e-6, 1e-4, 1e4)),
    *(Stream(f"b2 = {b2}", b2=b2) for b2 in (0.95, 0.99, 0.9999)),
)


def gradients(streams: Sequence[Stream], rows: int, steps: int) -> Callable[[jax.Array], jax.Array]:
    """From the number of a step to all streams' gradients, of shape (streams, rows, COLUMNS)."""
    shape = (len(streams), rows, COLUMNS)
    keys = jax.random.split(jax.random.key(0), 4)
    settings = {
        name: jnp.asarray([getattr(stream, name) for stream in streams], jnp.float32)[:, None, None]
        for name in ("sigma", "row_sigma", "scale", "late", "share")
    }
    logs = settings["sigma"] * jax.random.normal(keys[0], shape)
    logs += settings["row_sigma"] * jax.random.normal(keys[1], (*shape[:2], 1))
    scales, mean = settings["scale"] * jnp.exp(logs), 0.1 * jax.random.normal(keys[2], shape)

    def at(t: jax.Array) -> jax.Array:
        noise, rate, active = jax.random.split(jax.random.fold_in(keys[3], t), 3)
        z = jax.random.normal(noise, shape)
        for i, stream in enumerate(streams):
            if stream.heavy:
                uniform = jax.random.uniform(rate, shape[1:], minval=np.finfo(np.float32).tiny)
                z = z.at[i].divide(jnp.sqrt(-jnp.log(uniform)))  # never 0, as jax.random.exponential can be
        g = scales * jnp.where(t >= steps // 2, settings["late"], 1) * (mean + z)
        return jnp.where(jax.random.uniform(active, (*shape[:2], 1)) < settings["share"], g, 0)

    return at
