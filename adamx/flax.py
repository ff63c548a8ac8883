"""Flax's train state and NNX optimizer, with `adamx.Optimizer.step` in place of `update` and `apply_updates`.

Drop-in subclasses. With an adamx optimizer the change of a weight is rounded once, narrow weights follow the `weights`
mode, and on a CPU a step is one pass over memory. With any other Optax transformation they behave as Flax's classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training import train_state

from ._annotations import AxisName, Params, Scalar
from ._names import STEP_WORDS, refuse_unknown
from ._transform import Optimizer as _Optimizer
from ._variables import is_variable, without_variables
from .axis_names import moved, with_names
from .embed import Embed as Embed
from .embed import put
from .kernels import beside
from .states.masters import from_master
from .wrapper import take_step

__all__ = ["Embed", "Optimizer", "TrainState"]

_OVERWRITE = "_overwrite_with_gradient"
"""Flax's key for parameters that are replaced by their "gradient", such as FP8 scales."""


# Before Flax 0.12.7 it is called `pure`, and later that warns.
_pure: Any = nnx.as_pure if hasattr(nnx, "as_pure") else vars(nnx)["pure"]


def _moving(tree: Params) -> Params:
    """The part of parameters or gradients that the optimizer moves."""
    return tree["params"] if isinstance(tree, Mapping) and _OVERWRITE in tree else tree


class TrainState(train_state.TrainState):
    """`flax.training.train_state.TrainState` whose `apply_gradients` calls the optimizer's `step`.

    Each array of `opt_state` has the names of its own axes, of those that `nn.with_partitioning` or
    `nn.with_logical_partitioning` gave the parameter: `nn.get_partition_spec` reads them.

    Attributes:
        step: the number of finished steps; int32, shape ().
        apply_fn: the model's `apply`, or any function; static.
        params: the parameters.
        tx: an adamx optimizer, or any Optax transformation; static.
        opt_state: its state.

    Examples:
        >>> import adamx, adamx.flax, jax.numpy as jnp
        >>> state = adamx.flax.TrainState.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=adamx.adam(0.5))
        >>> state = state.apply_gradients(grads={"w": jnp.array([3.0, -4.0])})
        >>> state.params["w"], int(state.step)
        (Array([0.5, 1.5], dtype=float32), 1)
    """

    @classmethod
    def create(cls, *, apply_fn: Any, params: Params, tx: optax.GradientTransformation, **kwargs: Any) -> "TrainState":
        """A train state before the first step.

        Args:
            apply_fn: the model's `apply`, or any function.
            params: the parameters; boxes of `nn.with_partitioning` may be around them.
            tx: an adamx optimizer, or any Optax transformation.
            **kwargs: the fields of a subclass.

        Returns:
            A state of 0 steps, with `tx`'s state of `params`.
        """
        state = super().create(apply_fn=apply_fn, params=params, tx=tx, **kwargs)
        step = beside(jax.tree.leaves(params), jnp.zeros([], jnp.int32))  # a Python 0 is of another type than it + 1
        return state.replace(step=step, opt_state=with_names(state.opt_state, tx, _moving(params)))

    def apply_gradients(
        self,
        *,
        grads: Params,
        clip_norm: Scalar | None = None,
        grad_scale: Scalar | None = None,
        axis_name: AxisName = None,
        **kwargs: Any,
    ) -> "TrainState":
        """The state after one step.

        Args:
            grads: the gradients, shaped like `params`.
            clip_norm: see `adamx.Optimizer.step`, as of the next two; with adamx optimizers only.
            grad_scale: a factor of the gradients.
            axis_name: inside `jax.shard_map`, the axes of its mesh along which leaves are cut.
            **kwargs: attributes of the train state to replace. `learning_rate`, `grad_norm`, the `weight` of
                `adamx.accumulate` and the `loss` of `adamx.guard`, if they are no attributes, are of `step`, too.

        Returns:
            A state of the same type.

        Raises:
            TypeError: one of these with a transformation that does not read it; what is neither.
        """
        own = {field.name for field in dataclasses.fields(self)}
        given = {"clip_norm": clip_norm, "grad_scale": grad_scale, "axis_name": axis_name}
        given |= {name: kwargs.pop(name) for name in {"learning_rate", "grad_norm", "weight"} & kwargs.keys() - own}
        inside = {name: x for name, x in given.items() if x is not None}
        if inside and not isinstance(self.tx, _Optimizer):
            raise TypeError(f"adamx's alone read {', '.join(inside)}: chain optax.clip_by_global_norm in front of tx")
        moving = _moving(self.params)
        if "loss" not in own and (loss := kwargs.pop("loss", None)) is not None:
            inside["loss"] = loss
        words = (*sorted(own), *STEP_WORDS, "learning_rate", "axis_name", "weight", "loss")
        refuse_unknown("apply_gradients", kwargs.keys() - own, words)
        bare = map(without_variables, (_moving(grads), self.opt_state, moving))
        params, opt_state = (
            jax.tree.unflatten(jax.tree.structure(was), jax.tree.leaves(new))
            for new, was in zip(take_step(self.tx, *bare, **inside), (moving, self.opt_state), strict=True)
        )
        if _OVERWRITE in grads:
            params = {"params": params, _OVERWRITE: grads[_OVERWRITE]}
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)


class Optimizer(nnx.Optimizer):
    """`flax.nnx.Optimizer` whose `update` calls the optimizer's `step`.

    A state may be assigned to `opt_state`, with or without NNX variables around its arrays, or given as `opt_state=` to
    begin with it. What `nnx.state(optimizer)` returned is restored by `nnx.update(optimizer, saved)`.

    Each array of the state has the names of its own axes, of those that `nnx.with_partitioning` gave the parameter, in
    its variable's `out_sharding`: `nnx.get_named_sharding` reads them. (Flax's class gives all of them the parameter's,
    which slots of fewer axes refuse.) A parameter with `optimizer_sharding` is stepped where its slots are, and then
    gathered.

    Args:
        model: the model whose variables are trained.
        tx: an adamx optimizer, or any Optax transformation.
        wrt: the variables to optimize, such as `nnx.Param`.
        opt_state: the state to begin with; `None` for that of `tx.init`.
        **kwargs: those of `flax.nnx.Optimizer`.

    Examples:
        >>> import adamx, adamx.flax, jax.numpy as jnp
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> optimizer = adamx.flax.Optimizer(model, adamx.adamw(1e-2), wrt=nnx.Param)
        >>> loss = lambda model: ((model(jnp.ones((1, 2))) - 1) ** 2).mean()
        >>> before = loss(model)
        >>> _ = optimizer.update(model, nnx.grad(loss)(model), clip_norm=1.0)
        >>> bool(loss(model) < before)
        True
    """

    def __init__(
        self, model: Any, tx: optax.GradientTransformation, *, wrt: Any, opt_state: Any = None, **kwargs: Any
    ) -> None:
        def init(params: Params) -> Any:
            return with_names(tx.init(params) if opt_state is None else opt_state, tx, params)

        super().__init__(model, optax.GradientTransformation(init, tx.update), wrt=wrt, **kwargs)
        self.tx = tx
        put(self.step, beside(jax.tree.leaves(self.opt_state), self.step[...]))

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

        Returns:
            An `Optimizer` of the model.

        Raises:
            TypeError: `tx` is another transformation, or a chain; `dtype` is not of 16 bits.

        Examples:
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
            **kwargs: those of `adamx.Optimizer.step`, and what wrappers read, such as `loss` of `adamx.guard`; with a
                transformation that has no `step`, the keywords of its `update`.

        Returns:
            The change of the parameters; under `nnx.jit` it costs nothing if it is not used.

        Raises:
            TypeError: a keyword that is not read.
        """
        graph = {"graph": self.graph} if hasattr(self, "graph") else {}  # since Flax 0.12.5
        variables = nnx.state(model, self.wrt, **graph)
        old, gradients = _pure(variables), _pure(nnx.state(grads, self.wrt, **graph))
        gradients, params = (moved(tree, variables, "optimizer_sharding") for tree in (gradients, old))
        new, opt_state = take_step(self.tx, gradients, _pure(self.opt_state), params, **_pure(kwargs))
        new = moved(new, variables, "out_sharding")
        nnx.update(model, new)
        jax.tree.map(put, self.opt_state, opt_state, is_leaf=is_variable)
        self.step[...] += 1
        return jax.tree.map(lambda n, p: n - p, new, old)
