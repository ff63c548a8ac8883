"""Flax's train state and NNX optimizer, with `adamx.Optimizer.step` in place of `update` and `apply_updates`.

Drop-in subclasses. With an adamx optimizer the change of a weight is rounded once, narrow weights follow the `weights`
mode, and on a CPU a step is one pass over memory. With any other Optax transformation they behave as Flax's classes.
Where parameters have names of axes, as `with_partitioning` gives them, each array of the state has those of its own.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx
from flax.core import spmd
from flax.training import train_state
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, get_abstract_mesh

from ._annotations import Params, Scalar
from ._names import refuse_step_words
from ._transform import Optimizer as _Optimizer
from ._variables import is_variable, without_variables
from .sharding import Axis, Part, placement
from .states.masters import from_master

_OVERWRITE = "_overwrite_with_gradient"
"""Flax's key for parameters that are replaced by their "gradient", such as FP8 scales."""


# Before Flax 0.12.7 it is called `pure`, and later that warns.
_pure: Any = nnx.as_pure if hasattr(nnx, "as_pure") else vars(nnx)["pure"]


def _put(variable: Any, x: Any) -> None:
    if hasattr(nnx.Variable, "set_value"):
        variable.set_value(x)
    else:  # before Flax 0.12.1
        variable.value = x


def _keys(box: Any) -> tuple[str, ...]:
    """Where a box keeps names of axes: Linen's its own, an NNX variable those of its slots before its own."""
    return ("optimizer_sharding", "out_sharding", "sharding_names") if isinstance(box, nnx.Variable) else ("names",)


def _metadata(box: Any) -> dict[str, Any]:
    return box.get_metadata() if isinstance(box, nnx.Variable) else vars(box) if is_variable(box) else {}


def _names(box: Any) -> Any:
    """The names of the axes of a parameter's slots that are shaped like it; `None` if its box has none."""
    return next((names for key in _keys(box) if (names := _metadata(box).get(key)) is not None), None)


def _renamed(box: Any, x: Any, names: Any) -> Any:
    """A box like `box` around `x`, whose axes have these names."""
    return box.replace(value=x, **{key: names for key in _keys(box) if key in _metadata(box)})


def _spec(box: Any, mesh: Any) -> PartitionSpec:
    """What the names of the box mean on the mesh; nothing where they are of no mesh axis."""
    spec = _names(box)
    if isinstance(box, nnx.Variable):
        spec = without_variables(nnx.get_partition_spec(_renamed(box, without_variables(box), spec)))
    elif isinstance(box, linen.LogicallyPartitioned):
        spec = linen.logical_to_mesh_axes(box.names, box.rules)
    return PartitionSpec(*(axes if {*jax.tree.leaves(axes)} <= {*mesh.axis_names} else None for axes in spec or ()))


def _with_names(state: Any, tx: optax.GradientTransformation, params: Params) -> Any:
    """The state of `tx` with the names of each array's own axes in the box around it.

    `init` copies the parameters' boxes, names included, whatever the axes of what it puts into them.
    """
    boxes, tree = jax.tree.flatten(params, is_leaf=is_variable)
    if not any(map(_names, boxes)):
        return state
    meshes = {(_metadata(box).get("mesh") or get_abstract_mesh()).abstract_mesh for box in boxes if _names(box)}
    mesh = meshes.pop() if len(meshes) == 1 else AbstractMesh((), ())
    mesh = AbstractMesh((1,), ("",)) if mesh.empty else mesh  # names alone tell which axes are left
    shardings = tree.unflatten([NamedSharding(mesh, _spec(box, mesh)) for box in boxes])
    found, owners = placement(tx, params, shardings, None), [box for box in boxes for _ in jax.tree.leaves(box)]

    def boxed(x: Any, part: Part) -> Any:
        if part.shared is not None:
            raise ValueError(part.shared)
        box = next((owners[axis[0]] for axis in part.axes if axis is not None), None)
        if not is_variable(box):
            return x  # on all devices
        if (names := _names(box)) is None:
            return box.replace(value=x)

        def name(axis: Axis | None, cut: Any) -> Any:
            kept = axis is not None and axis[1] < len(names) and (cut or not found.weights[axis[0]].cuts[axis[1]])
            return names[axis[1]] if kept else None

        return _renamed(box, x, tuple(map(name, part.axes, part.cuts)))

    arrays = map(boxed, jax.tree.leaves(state), found.parts)
    return jax.tree.unflatten(jax.tree.structure(without_variables(state)), arrays)


def _moved(tree: Params, variables: Params, key: str) -> Params:
    """`tree` with arrays of variables whose slots are cut otherwise than they are where the metadata `key` says."""

    def moved(variable: Any, x: Any) -> Any:
        said = variable.get_metadata()
        if "optimizer_sharding" not in said:
            return x
        return spmd.shard_value(x, said.get(key) or (None,) * x.ndim, said.get("sharding_rules"), said.get("mesh"))

    return jax.tree.map(moved, variables, tree, is_leaf=is_variable)


def _refuse_unread(tx: optax.GradientTransformation, given: dict[str, Any]) -> None:
    """Raise for keywords that `tx`, which has no `step`, does not read."""
    refuse_step_words("a transformation without `step`", given)
    try:
        inspect.signature(tx.update).bind_partial(**given)  # `optax.MultiSteps` is not of a class that would say so
    except TypeError as error:
        raise TypeError(f"{', '.join(given)}: the transformation's update does not read it ({error})") from None


def take_step(
    tx: optax.GradientTransformation, grads: Params, state: Any, params: Params, **extra_args: Any
) -> tuple[Params, Any]:
    """The new parameters and state, from `tx.step` if there is one, else from `update` and `optax.apply_updates`."""
    if isinstance(tx, _Optimizer):
        return tx.step(grads, state, params, **extra_args)
    _refuse_unread(tx, extra_args)
    updates, state = tx.update(grads, state, params, **extra_args)
    return optax.apply_updates(params, updates), state


class TrainState(train_state.TrainState):
    """`flax.training.train_state.TrainState` whose `apply_gradients` calls the optimizer's `step`.

    >>> import adamx, adamx.flax, jax.numpy as jnp
    >>> state = adamx.flax.TrainState.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=adamx.adam(0.5))
    >>> state = state.apply_gradients(grads={"w": jnp.array([3.0, -4.0])})
    >>> state.params["w"], int(state.step)
    (Array([0.5, 1.5], dtype=float32), 1)
    """

    @classmethod
    def create(cls, *, apply_fn: Any, params: Params, tx: optax.GradientTransformation, **kwargs: Any) -> "TrainState":
        """A train state before the first step; see `flax.training.train_state.TrainState`."""
        state = super().create(apply_fn=apply_fn, params=params, tx=tx, **kwargs)
        moved = params["params"] if _OVERWRITE in params else params
        return state.replace(opt_state=_with_names(state.opt_state, tx, moved))

    def apply_gradients(
        self, *, grads: Params, clip_norm: Scalar | None = None, grad_scale: Scalar | None = None, **kwargs: Any
    ) -> "TrainState":
        """The state after one step.

        Args:
            grads: the gradients, shaped like `params`.
            clip_norm: see `adamx.Optimizer.step`; with adamx optimizers only.
            grad_scale: a factor of the gradients; with adamx optimizers only.
            **kwargs: attributes of the train state to replace.

        Raises:
            TypeError: `clip_norm` or `grad_scale` with a transformation that has no `step`.
        """
        inside = {"clip_norm": clip_norm, "grad_scale": grad_scale}
        if not isinstance(self.tx, _Optimizer):
            if any(x is not None for x in inside.values()):
                raise TypeError("clip_norm and grad_scale are adamx's: chain optax.clip_by_global_norm in front of tx")
            return super().apply_gradients(grads=grads, **kwargs)
        moved, gradients = self.params, grads
        if _OVERWRITE in grads:
            moved, gradients = self.params["params"], grads["params"]
        bare = map(without_variables, (gradients, self.opt_state, moved))
        params, opt_state = (
            jax.tree.unflatten(jax.tree.structure(was), jax.tree.leaves(new))
            for new, was in zip(self.tx.step(*bare, **inside), (moved, self.opt_state), strict=True)
        )
        if _OVERWRITE in grads:
            params = {"params": params, _OVERWRITE: grads[_OVERWRITE]}
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)


class Optimizer(nnx.Optimizer):
    """`flax.nnx.Optimizer` whose `update` calls the optimizer's `step`.

    >>> import adamx, adamx.flax, jax.numpy as jnp
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> optimizer = adamx.flax.Optimizer(model, adamx.adamw(1e-2), wrt=nnx.Param)
    >>> loss = lambda model: ((model(jnp.ones((1, 2))) - 1) ** 2).mean()
    >>> before = loss(model)
    >>> _ = optimizer.update(model, nnx.grad(loss)(model), clip_norm=1.0)
    >>> bool(loss(model) < before)
    True

    A state may be assigned to `opt_state`, with or without NNX variables around its arrays. What `nnx.state(optimizer)`
    returned is restored by `nnx.update(optimizer, saved)`.
    """

    def __init__(
        self, model: Any, tx: optax.GradientTransformation, *, wrt: Any, opt_state: Any = None, **kwargs: Any
    ) -> None:
        def init(params: Params) -> Any:
            return _with_names(tx.init(params) if opt_state is None else opt_state, tx, params)

        super().__init__(model, optax.GradientTransformation(init, tx.update), wrt=wrt, **kwargs)
        self.tx = tx

    @classmethod
    def from_master(
        cls,
        model: Any,
        tx: _Optimizer,
        *,
        wrt: Any,
        dtype: Any = jnp.bfloat16,
        narrow: Any = True,
        **kwargs: Any,
    ) -> "Optimizer":
        """Cast the model's parameters to 16 bits in place, and make an optimizer that keeps their rounding errors.

        To restore a checkpoint, call this first: `nnx.update` then finds the residuals in the optimizer's state.

        Args:
            model: a model with float32 parameters.
            tx: an adamx optimizer with the `weights` and `moments` to use.
            wrt: the variables to optimize, as in `nnx.Optimizer`.
            dtype: bfloat16 or float16.
            narrow: which parameters are cast, see `adamx.from_master`; a mask may be made from `nnx.state(model)`.
            **kwargs: passed to `nnx.Optimizer`.

        Raises:
            TypeError: `tx` is another transformation, or a chain; `dtype` is not of 16 bits.

        >>> import adamx, adamx.flax, jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> opt = adamx.adamw(1e-2, weights="split16")
        >>> matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        >>> optimizer = adamx.flax.Optimizer.from_master(model, opt, wrt=nnx.Param, narrow=matrices)
        >>> model.kernel.dtype, model.bias.dtype
        (dtype(bfloat16), dtype('float32'))
        >>> adamx.master_params(opt, optimizer.opt_state, nnx.state(model, nnx.Param))["kernel"].dtype
        dtype('float32')
        """
        graph = {name: kwargs[name] for name in ("graph",) if name in kwargs}
        params, state = from_master(nnx.state(model, wrt, **graph), tx, dtype, narrow=narrow)
        nnx.update(model, params)
        return cls(model, tx, wrt=wrt, opt_state=state, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the arrays of a state assigned to `opt_state` are wrapped in NNX variables."""
        if name == "opt_state" and isinstance(value, nnx.State) and not isinstance(vars(self).get(name), nnx.State):
            raise TypeError(
                "opt_state = a mapping, as `nnx.state` returns it: restore it by nnx.update(optimizer, nnx_state), or "
                "nnx.update(optimizer.opt_state, nnx_state) for this part"
            )
        super().__setattr__(name, value)
        if name == "opt_state":
            variables = jax.tree.map(
                lambda x: x if is_variable(x) else nnx.OptArray(x), self.opt_state, is_leaf=is_variable
            )
            super().__setattr__(name, variables)

    def update(self, model: Any, grads: Any, /, **kwargs: Any) -> optax.Updates:
        """Step the model's parameters in place.

        Args:
            model: the model that the optimizer was made for.
            grads: the gradients from `nnx.grad`.
            **kwargs: `clip_norm` and `grad_scale` of `adamx.Optimizer.step`; with a transformation that has no
                `step`, the keywords of its `update`.

        Returns:
            The change of the parameters; under `nnx.jit` it costs nothing if it is not used.

        Raises:
            TypeError: a keyword that is not read.
        """
        graph = {"graph": self.graph} if hasattr(self, "graph") else {}  # since Flax 0.12.5
        variables = nnx.state(model, self.wrt, **graph)
        params, gradients = _pure(variables), _pure(nnx.state(grads, self.wrt, **graph))
        mine = (_moved(tree, variables, "optimizer_sharding") for tree in (gradients, params))
        new, opt_state = take_step(self.tx, next(mine), _pure(self.opt_state), next(mine), **_pure(kwargs))
        new = _moved(new, variables, "out_sharding")
        nnx.update(model, new)
        jax.tree.map(_put, self.opt_state, opt_state, is_leaf=is_variable)
        self.step[...] += 1
        return jax.tree.map(lambda n, p: n - p, new, params)
