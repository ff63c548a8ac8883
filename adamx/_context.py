"""What a rule's step may use besides gradient and slots."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ._annotations import Array, Scalar
from ._math import abs_sq, added_up, varying


def unless_zero(weight_decay: Scalar, decay: Array) -> Array:
    """The decay; 0 of a strength that is 0, also if it is traced and the weight infinite."""
    return decay if isinstance(weight_decay, (int, float)) else jnp.where(weight_decay == 0, 0, decay)


@dataclasses.dataclass(frozen=True)
class StepContext:
    """What a rule's `step` may use besides gradient and slots.

    Attributes:
        t: the number of the step, from 1; a real floating scalar of the precision that the rule computes in.
        params: the leaf of the parameters, or `None` if the caller gave none. Read it as `p`.
        decays: whether the weight-decay mask covers this leaf.
        total: the rule's `measure`, summed over all leaves.
        dtype: the dtype that the parameter is stored in; that of the master weight if the step rounds it itself.
        axis_names: the step's `axis_name`: `sum`, `mean`, `norm` and `rms` are of whole leaves, of which it has parts.
        in_stages: whether leaves may be cut over devices, where a sum that needs the result of another costs time.
        joined: computes `together`; `None` for a call.
    """

    t: Array
    params: Array | None
    decays: bool = True
    total: Any = None
    dtype: Any = None
    axis_names: tuple[str, ...] = ()
    in_stages: bool = False
    joined: Any = None

    @property
    def p(self) -> Array:
        """The leaf of the parameters."""
        if self.params is None:
            raise ValueError("this transformation reads the parameters: call `update(grads, state, params)`")
        return self.params

    def params_after(self, update: Array) -> Array:
        """The parameter after `update` has been added, rounded to `dtype`."""
        return (self.p + update).astype(self.dtype).astype(self.p.dtype)

    def sum(self, x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """The sum of an array that is cut like the leaf, of all elements or along an axis.

        Raises:
            ValueError: it is along an axis, of a part of a leaf: nothing tells whether it is cut along this one.
        """
        if axis not in (None, ()):
            self._refuse_parts("sums along an axis", x)
        return x if axis == () else added_up(jnp.sum(x, axis, keepdims=keepdims), self.axis_names)

    def mean(self, x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
        """The mean, as `sum`; 0 of no elements."""
        total = self.sum(x, axis)
        return total / max(self.size(x) // max(total.size, 1), 1)

    def size(self, x: Array) -> int:
        """The number of elements of all of an array that is cut like the leaf."""
        return x.size * math.prod(jax.lax.axis_size(name) for name in varying([x]).intersection(self.axis_names))

    def norm(self, x: Array) -> Array:
        """The Euclidean norm over all elements."""
        return jnp.sqrt(self.sum(abs_sq(x)))

    def rms(self, x: Array) -> Array:
        """The root of the mean square over all elements; 0 of no elements."""
        return jnp.sqrt(self.mean(abs_sq(x)))

    def together(self, f: Callable[..., Any], *arrays: Array, shared: Sequence[Any] = ()) -> Any:
        """`f(*arrays, *shared)`, of whole arrays of this leaf, and of numbers that leaves share; refuses parts.

        Equal ones of several leaves XLA may compute as one of a stack, on several devices each of its share: `f` should
        be worth that copy. For matrices along an axis of a leaf take `jax.vmap` of this, not an `f` of many.
        """
        self._refuse_parts("takes the whole", *arrays)
        return f(*arrays, *shared) if self.joined is None else self.joined(f, arrays, shared)

    def _refuse_parts(self, what: str, *arrays: Array) -> None:
        if cut := [x.shape for x in arrays if varying([x]).intersection(self.axis_names)]:
            raise ValueError(
                f"{', '.join(self.axis_names)}: this rule {what} of a leaf of which jax.shard_map shows a part of "
                f"shape {cut[0]}; step it under jax.jit, where XLA knows how sharded arrays are cut"
            )

    def decays_by(self, weight_decay: Scalar) -> bool:
        """Whether this leaf decays: the mask covers it, and `weight_decay` is not the Python number 0."""
        return self.decays and not (isinstance(weight_decay, (int, float)) and weight_decay == 0)

    def decay(self, weight_decay: Scalar) -> Any:
        """λ p if this leaf decays, else 0."""
        return unless_zero(weight_decay, weight_decay * self.p) if self.decays_by(weight_decay) else 0.0
