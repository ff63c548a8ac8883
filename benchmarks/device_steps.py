"""One AdamW step in each way in which adamx and its peers take it, to compile for a device: shapes and no arrays."""

import importlib
import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import adamx
import adamx.flax

from .deviceless import Step, compiled, counts
from .step_time import DECAY, RATE, Shapes, transformer

Row = dict[str, Any]
Make = Callable[[Shapes], Step]

SHAPES: dict[str, Shapes] = {
    "4096x4096": {"w": (4096, 4096)},
    "GPT-2": transformer(),
    "2000x64": {f"p{i}": (64,) for i in range(2000)},
}


def large(shapes: Shapes) -> int:
    """Elements of the smallest matrix, or of the smallest leaf where there are none."""
    sizes = [math.prod(shape) for shape in shapes.values() if len(shape) > 1]
    return min(sizes or map(math.prod, shapes.values()))


def parameters(shapes: Shapes) -> int:
    """How many."""
    return sum(map(math.prod, shapes.values()))


def abstract(shapes: Shapes, dtype: Any) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}


# The order is that of a training loop's carry: JAX reuses donated buffers of one shape in order.


def carried(step: Callable[..., Any], init: Callable[[Any], Any], dtype: Any) -> Make:
    """The step `(params, state, grads) -> (params, state)` of what takes `step(grads, state, params)`."""

    def make(shapes: Shapes) -> Step:
        params = abstract(shapes, dtype)
        function = lambda params, state, grads: step(grads, state, params)  # noqa: E731
        return Step(function, (params, jax.eval_shape(init, params), params), (0, 1))

    return make


def of_optax(shapes: Shapes) -> Step:
    opt = optax.adamw(RATE, weight_decay=DECAY)

    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return carried(step, opt.init, jnp.float32)(shapes)


def of_adamx(dtype: Any = jnp.float32, **options: Any) -> Make:
    opt = adamx.adamw(RATE, weight_decay=DECAY, **options)
    return carried(opt.step, opt.init, dtype)


def of_flashoptim(fused: bool) -> Make:
    """bfloat16 weights with 8 bits of their rounding errors, 8-bit moments in groups of 32."""

    def make(shapes: Shapes) -> Step:
        flashoptim = importlib.import_module("flashoptim_jax")
        opt = flashoptim.flash_adamw(RATE, weight_decay=DECAY, fused=fused)
        return carried(lambda g, state, p: opt.step(p, state, g), opt.init, jnp.bfloat16)(shapes)

    return make


# The same step in other ways


def gradients_first(shapes: Shapes, **options: Any) -> Step:
    opt = adamx.adamw(RATE, weight_decay=DECAY, **options)
    params = abstract(shapes, jnp.float32)
    return Step(opt.step, (params, jax.eval_shape(opt.init, params), params), (1, 2))


def of_train_state(shapes: Shapes, **options: Any) -> Step:
    opt = adamx.adamw(RATE, weight_decay=DECAY, **options)
    params = abstract(shapes, jnp.float32)
    create = lambda params: adamx.flax.TrainState.create(apply_fn=None, params=params, tx=opt)  # noqa: E731
    step = lambda state, grads: state.apply_gradients(grads=grads)  # noqa: E731
    return Step(step, (jax.eval_shape(create, params), params), (0,))


class Model(nnx.Module):
    """Parameters and nothing else."""

    def __init__(self, shapes: Shapes):
        for name, shape in shapes.items():
            setattr(self, name.replace(".", "_"), nnx.Param(jnp.zeros(shape)))


def of_nnx(shapes: Shapes, **options: Any) -> Step:
    """What `nnx.jit(step, donate_argnums=(0, 1))` of model and optimizer makes of `optimizer.update(model, grads)`."""

    def create() -> tuple[Model, adamx.flax.Optimizer]:
        model = Model(shapes)
        return model, adamx.flax.Optimizer(model, adamx.adamw(RATE, weight_decay=DECAY, **options), wrt=nnx.Param)

    model, optimizer = nnx.eval_shape(create)
    graph, state = nnx.split((model, optimizer))

    def step(state: Any, grads: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer))

    return Step(step, (state, nnx.state(model, nnx.Param)), (0,))


WEIGHTS = ("nearest", "stochastic", "kahan", "split8", "split16")
INT8 = {"moments": "int8"}

CONTENDERS: dict[str, Make] = {
    "optax": of_optax,
    "adamx": of_adamx(),
    "adamx, moments bfloat16": of_adamx(moments="bfloat16"),
    "adamx, moments int8": of_adamx(**INT8),
    **{f"adamx, bfloat16 weights, {mode}": of_adamx(jnp.bfloat16, weights=mode) for mode in WEIGHTS},
    "adamx, bfloat16 weights, split8, int8": of_adamx(jnp.bfloat16, weights="split8", **INT8),
    "adamx.flax.TrainState": of_train_state,
    "adamx.flax.TrainState, int8": partial(of_train_state, **INT8),
    "adamx.flax.Optimizer": of_nnx,
    "adamx.flax.Optimizer, int8": partial(of_nnx, **INT8),
    "adamx, (grads, state, params)": gradients_first,
    "adamx, (grads, state, params), int8": partial(gradients_first, **INT8),
}

if find_spec("flashoptim_jax"):
    CONTENDERS |= {
        "flashoptim-jax, Triton": of_flashoptim(fused=True),
        "flashoptim-jax, XLA": of_flashoptim(fused=False),
    }

FEW = ("optax", "adamx", "adamx, moments int8", "adamx, bfloat16 weights, split8, int8", "adamx.flax.TrainState")
"""Those that step the small leaves: these are stored alike in every format, and compiled for minutes."""

REFERENCE = "optax"
"""Whose time of compiling is the unit."""


def measure(target: str, case: str, contender: str) -> Row:
    """Compiled in this process: bytes for each parameter, kernels, and seconds of tracing and compiling."""
    shapes = SHAPES[case]
    compiled(CONTENDERS[contender]({"w": (64, 128)}), target)  # what a process imports and starts once
    found = counts(CONTENDERS[contender](shapes), target, large(shapes))
    each = {k: getattr(found, k) / parameters(shapes) for k in ("bytes", "ideal", "temporary")}
    return found._asdict() | each | {"times": found.bytes / found.ideal}
