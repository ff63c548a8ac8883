"""Image classifiers in Flax NNX, and what is measured on them.

The three kinds of model on which the Adam paper (arXiv:1412.6980, section 6) compares optimizers: logistic
regression, a multi-layer perceptron with or without dropout, and a convolutional network. All map images
`(n, height, width, channels)` to logits `(n, classes)`.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
import optax
from flax import nnx

Shape = tuple[int, int, int]
"""Height, width and channels of one image."""


class LogisticRegression(nnx.Module):
    """One affine layer: convex in its parameters.

    Args:
        image: height, width and channels of one image.
        classes: number of classes.
        rngs: random streams; `params` draws the initial weights.
    """

    def __init__(self, image: Shape, classes: int, *, rngs: nnx.Rngs):
        self.output = nnx.Linear(prod(image), classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `(n, classes)` of images `(n, height, width, channels)`."""
        return self.output(_flatten(images))


class MLP(nnx.Module):
    """Fully connected layers with ReLU, each followed by dropout.

    Args:
        image: height, width and channels of one image.
        classes: number of classes.
        hidden: width of each hidden layer, first to last.
        dropout: probability with which a hidden unit is dropped in training; 0 drops none.
        rngs: random streams: `params` for the initial weights, `dropout` for the masks.
    """

    def __init__(
        self, image: Shape, classes: int, hidden: Sequence[int] = (128, 128), dropout: float = 0.0, *, rngs: nnx.Rngs
    ):
        widths = [prod(image), *hidden]
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in pairwise(widths)])
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.output = nnx.Linear(widths[-1], classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `(n, classes)` of images `(n, height, width, channels)`."""
        x = _flatten(images)
        for layer in self.layers:
            x = self.dropout(nnx.relu(layer(x)))
        return self.output(x)


class CNN(nnx.Module):
    """3x3 convolutions with ReLU, each followed by 2x2 max-pooling, then one hidden layer.

    Args:
        image: height, width and channels of one image; each convolution halves height and width.
        classes: number of classes.
        channels: channels of each convolution, first to last.
        hidden: width of the fully connected layer.
        rngs: random streams; `params` draws the initial weights.

    Raises:
        ValueError: the image is too small to be halved by every convolution.
    """

    def __init__(
        self, image: Shape, classes: int, channels: Sequence[int] = (16, 32), hidden: int = 128, *, rngs: nnx.Rngs
    ):
        height, width, colours = image
        height, width = height >> len(channels), width >> len(channels)
        if min(height, width) < 1:
            raise ValueError(f"{len(channels)} halvings leave nothing of images {image}; give fewer channels")
        depths = [colours, *channels]
        self.convolutions = nnx.List([nnx.Conv(m, n, (3, 3), rngs=rngs) for m, n in pairwise(depths)])
        self.dense = nnx.Linear(height * width * depths[-1], hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `(n, classes)` of images `(n, height, width, channels)`."""
        x = images
        for convolution in self.convolutions:
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), strides=(2, 2))
        return self.output(nnx.relu(self.dense(_flatten(x))))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The average softmax cross-entropy, in nats, of logits `(n, classes)` and integer labels `(n,)`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The fraction of the rows of logits `(n, classes)` whose largest entry is at the label `(n,)`."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)


def _flatten(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1)
