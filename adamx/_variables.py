"""Flax's boxes around the leaves of a tree, NNX's variables and Linen's, recognized without importing Flax."""

import sys
from typing import Any

import jax

from ._annotations import Params
from .moments import is_code


def is_variable(x: Any) -> bool:
    """Whether `x` is a `flax.nnx.Variable`, or a box of Linen's such as `nn.Partitioned`."""
    kinds = (("flax.nnx", "Variable"), ("flax.core.meta", "AxisMetadata"))
    return isinstance(x, tuple(getattr(sys.modules.get(module), kind, ()) for module, kind in kinds))


def without_variables(tree: Any) -> Any:
    """`tree` with each variable replaced by its content."""
    return jax.tree.map(lambda x: _content(x) if is_variable(x) else x, tree, is_leaf=is_variable)


def inside(tree: Params) -> Params:
    """`tree` with codes whose arrays are variables in place of variables that contain codes.

    `flax.nnx.update` replaces the content of a variable by a nested mapping, which would lose the code's type. It
    descends into a code of variables instead and keeps its type, as `lax.cond` does.
    """
    return jax.tree.map(_inside, tree, is_leaf=is_variable)


def outside(tree: Params) -> Params:
    """The inverse of `inside`: one variable around each code, as around the parameter that it belongs to."""
    return jax.tree.map(_outside, tree, is_leaf=is_code)


def _content(x: Any) -> Any:
    (content,) = jax.tree.leaves(x, is_leaf=lambda inner: inner is not x)
    return content


def _inside(x: Any) -> Any:
    codes, box = jax.tree.flatten(x, is_leaf=is_code)
    if not is_variable(x) or len(codes) != 1 or not is_code(codes[0]):
        return x
    return jax.tree.map(lambda field: box.unflatten([field]), codes[0])


def _outside(x: Any) -> Any:
    if not is_code(x) or not any(is_variable(field) for field in x):
        return x
    box = jax.tree.structure(x[0])
    return box.unflatten([type(x)(*jax.tree.leaves(x))])
