"""The formats of moments that are measured: adamx's, and those of the packages that have them."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import adamx
from adamx.moments import MomentFormats

from .streams import COLUMNS, Stream

B1 = 0.9
TINY = 1e-30
"""The eps of peers, which divide 0 by 0 without one: nothing beside the least root of a second moment here, 1e-14."""


# Formats: adamx's and Optax's and flashoptim's, which are JAX's


class Traced(NamedTuple):
    """A format that steps within `jit`.

    Attributes:
        init: from parameters of one stream to the state.
        step: from b2, gradients and state to direction and state.
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[jax.Array, jax.Array, Any], tuple[Any, Any]]

    def bytes(self) -> float:
        """Of state per element, of a large matrix."""
        shape = jax.ShapeDtypeStruct((64, COLUMNS), jnp.float32)
        state = jax.eval_shape(self.init, shape)
        return round(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / shape.size, 3)


def stored_by_adamx(moments: MomentFormats) -> Traced:
    def rule(b2: Any) -> optax.GradientTransformation:
        return adamx.scale_by(adamx.Adam(b1=B1, b2=b2, eps=0.0), moments=moments)

    return Traced(rule(0.999).init, lambda b2, g, state: rule(b2).update(g, state))


def stored_by_optax(dtype: Any) -> Traced:
    """Optax in float32, its state stored in `dtype` from step to step."""

    def narrow(state: Any) -> Any:
        return state._replace(**{k: jax.tree.map(lambda x: x.astype(dtype), getattr(state, k)) for k in ("mu", "nu")})

    def step(b2: jax.Array, g: jax.Array, state: Any) -> tuple[Any, Any]:
        wide = state._replace(mu=state.mu.astype(jnp.float32), nu=state.nu.astype(jnp.float32))
        u, state = optax.scale_by_adam(B1, b2, eps=TINY).update(g, wide)
        return u, narrow(state)

    return Traced(lambda p: narrow(optax.scale_by_adam().init(p)), step)


def stored_by_flashoptim() -> Traced:
    flashoptim_jax = importlib.import_module("flashoptim_jax")

    def adam(b2: Any) -> Any:
        return flashoptim_jax.flash_adam(1.0, B1, b2, TINY, master_weight_bits=None, fused=False)

    def step(b2: jax.Array, g: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        moved, state = adam(b2).step(jnp.zeros_like(g), state, g)
        return -moved, state

    return Traced(adam(0.999).init, step)


TRACED: dict[str, Callable[[], Traced]] = {
    "adamx int8": lambda: stored_by_adamx("int8"),
    "adamx int8/64": lambda: stored_by_adamx(adamx.Int8(64)),
    "adamx int8/32": lambda: stored_by_adamx(adamx.Int8(32)),
    "adamx bfloat16, int8": lambda: stored_by_adamx(("bfloat16", "int8")),
    "adamx bfloat16": lambda: stored_by_adamx("bfloat16"),
    "Optax bfloat16": lambda: stored_by_optax(jnp.bfloat16),
    "flashoptim-jax": stored_by_flashoptim,
}


# Formats: PyTorch's


class Eager:
    """A PyTorch optimizer, its parameters one for each b2, which hold the streams that have it."""

    def __init__(self, make: Callable[[list[dict[str, Any]]], Any], streams: Sequence[Stream], rows: int):
        import torch

        rates = [stream.b2 for stream in streams]
        self.members = [[i for i, rate in enumerate(rates) if rate == b2] for b2 in dict.fromkeys(rates)]
        self.params = [torch.nn.Parameter(torch.zeros(len(member) * rows, COLUMNS)) for member in self.members]
        self.shape = (len(streams), rows, COLUMNS)
        self.opt = make(
            [{"params": [p], "betas": (B1, b2)} for p, b2 in zip(self.params, dict.fromkeys(rates), strict=True)]
        )

    def step(self, g: Any) -> Any:
        """From gradients to directions, both tensors of all streams."""
        import torch

        u = torch.empty(self.shape)
        for p, member in zip(self.params, self.members, strict=True):
            p.data.zero_()
            p.grad = g[member].reshape(p.shape)
        self.opt.step()
        for p, member in zip(self.params, self.members, strict=True):
            u[member] = -p.data.reshape(len(member), *self.shape[1:])
        return u

    def bytes(self) -> float:
        """Of state per element, after a step; tables of the code's values are left out."""
        import torch

        def weigh(x: torch.Tensor) -> int:
            inner = [getattr(x, name) for name in getattr(x, "tensor_attrs", ()) if name != "qmap"]
            return sum(map(weigh, inner)) if inner else x.numel() * x.element_size()

        state = self.opt.state[self.params[0]]
        coded = [x for name, x in state.items() if isinstance(x, torch.Tensor) and x.numel() > 1 and "qmap" not in name]
        return round(sum(map(weigh, coded)) / self.params[0].numel(), 3)


def by_torch(module: str, name: str) -> Callable[[Sequence[Stream], int], Eager]:
    """Import the optimizer `name` of `module`; it is made when the streams are known."""
    import torch

    torch.set_num_threads(1)  # two beside JAX's wait for each other on a busy machine
    make = getattr(importlib.import_module(module), name)
    return lambda streams, rows: Eager(lambda groups: make(groups, lr=1.0, eps=TINY), streams, rows)


NOTES = {
    "Optax bfloat16": "computes in float32; its state is cast to bfloat16 after each step",
    "flashoptim-jax": "unfused, as its kernels need a GPU",
    "bitsandbytes 8 bits": "its CPU code does not round to nearest: in a block whose largest is 1, 1e-8 becomes 1.6e-5",
}
"""What to know about a peer's run on this machine."""

EAGER = {
    "bitsandbytes 8 bits": ("bitsandbytes.optim", "Adam8bit"),
    "torchao 8 bits": ("torchao.optim", "Adam8bit"),
    "torchao fp8": ("torchao.optim", "AdamFp8"),
    "torchao 4 bits": ("torchao.optim", "Adam4bit"),
}
