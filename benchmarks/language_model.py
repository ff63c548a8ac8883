"""A small transformer that reads the sources of Python's standard library byte by byte."""

import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adamx.examples.models import cross_entropy

BYTES = 256


@dataclass(frozen=True)
class Settings:
    """What all runs share; validation is on `windows` windows, a multiple of `batch`."""

    width: int = 208
    layers: int = 2
    heads: int = 4
    context: int = 128
    batch: int = 16
    steps: int = 600
    warmup: int = 60
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    b2: float = 0.999
    evaluations: int = 10
    windows: int = 256


class Text(NamedTuple):
    """Bytes to learn from and bytes to be judged by, uint8."""

    train: np.ndarray
    validation: np.ndarray


def standard_library(limit: int = 2**23, longest: int = 2**17, held_out: float = 0.1) -> Text:
    """Python's own sources, shuffled and split by file: tests and files of more than `longest` bytes left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path.relative_to(root) for path in root.rglob("*.py"))
    paths = [path for path in paths if not {"site-packages", "dist-packages", "test", "tests"} & set(path.parts)]
    sources = [source for path in paths if len(source := (root / path).read_bytes()) <= longest]
    if not sources:
        raise FileNotFoundError(f"{root} holds no *.py files: install the sources of Python's standard library")
    order = np.random.default_rng(0).permutation(len(sources))
    last = int(held_out * len(order))
    parts = ((order[last:], limit), (order[:last], int(held_out * limit)))
    return Text(*(np.frombuffer(b"".join(sources[i] for i in files)[:most], np.uint8) for files, most in parts))


def rotated(x: jax.Array) -> jax.Array:
    """Rotary positions (arXiv:2104.09864) of `(batch, context, heads, features)`: products then see distances only."""
    position, octave = np.arange(x.shape[1]), np.linspace(0, 1, x.shape[-1] // 2, endpoint=False)
    angle = np.outer(position, 10_000.0**-octave)[None, :, None]
    cos, sin = (jnp.asarray(f(angle), x.dtype) for f in (np.cos, np.sin))
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Block(nnx.Module):
    """Causal attention and a perceptron, each on a normalised copy and added to what came in."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.heads = heads
        self.norms = nnx.List([nnx.RMSNorm(width, rngs=rngs) for _ in range(2)])
        self.qkv, self.mix = linear(width, 3 * width), linear(width, width)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """From `(batch, context, width)` to the same shape."""
        heads = self.qkv(self.norms[0](x)).reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = jnp.moveaxis(heads, 2, 0)
        mixed = jax.nn.dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x = x + self.mix(mixed.reshape(x.shape))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    """A decoder-only language model over bytes."""

    def __init__(self, settings: Settings, *, rngs: nnx.Rngs):
        width = settings.width
        self.bytes = nnx.Embed(BYTES, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, settings.heads, rngs=rngs) for _ in range(settings.layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.output = nnx.Linear(width, BYTES, use_bias=False, rngs=rngs)

    def __call__(self, text: jax.Array) -> jax.Array:
        """Logits `(batch, context, 256)` of the byte after each of `(batch, context)`."""
        x = self.bytes(text)
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


def loss(graph: nnx.GraphDef, params: nnx.State, text: jax.Array, starts: jax.Array, context: int) -> jax.Array:
    """Nats per byte over the windows of `text` that begin at `starts`."""
    windows = text[starts[:, None] + jnp.arange(context + 1)[None]].astype(jnp.int32)
    logits = nnx.merge(graph, params)(windows[:, :-1])
    return cross_entropy(logits.reshape(-1, BYTES), windows[:, 1:].reshape(-1))
