"""The convolutional network of the Adam paper's section 6.3, in Flax NNX."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from adamx.examples.models import Shape


class PatchConv(nnx.Module):
    """A convolution as one matrix product of all patches, padded with zeros to keep height and width.

    XLA's own convolution takes 10 times as long on a CPU, forwards and backwards, and under `vmap` over its weights
    another 2 times.

    Args:
        inputs: channels of the images.
        outputs: channels of the result.
        width: of the square patch, odd.
        rngs: random streams; `params` draws the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 5, *, rngs: nnx.Rngs):
        self.width = width
        self.linear = nnx.Linear(width * width * inputs, outputs, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """From `(n, height, width, inputs)` to `(n, height, width, outputs)`."""
        _, height, width, _ = images.shape
        margin = (self.width // 2, self.width // 2)
        padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        offsets = range(self.width)
        shifted = [padded[:, i : i + height, j : j + width] for i in offsets for j in offsets]
        return self.linear(jnp.concatenate(shifted, axis=-1))


class DeepCNN(nnx.Module):
    """5x5 convolutions with ReLU, each followed by 3x3 max-pooling with stride 2, then one hidden layer.

    c64-c64-c128-1000 by default. Both are padded, so that each stage halves height and width, rounded up, and small
    images pass, too.

    Args:
        image: height, width and channels of one image.
        classes: number of classes.
        channels: channels of each convolution, first to last.
        hidden: width of the fully connected layer.
        input_dropout: probability with which a pixel's channel is dropped in training; 0 drops none.
        hidden_dropout: the same for a unit of the fully connected layer.
        rngs: random streams: `params` for the initial weights, `dropout` for the masks.

    Reference: Kingma & Ba, arXiv:1412.6980, section 6.3, which states neither the padding nor the probabilities.

    >>> import jax.numpy as jnp
    >>> model = DeepCNN((8, 8, 1), 10, channels=(4, 4, 8), hidden=16, rngs=nnx.Rngs(0))
    >>> model(jnp.ones((5, 8, 8, 1))).shape
    (5, 10)
    """

    def __init__(
        self,
        image: Shape,
        classes: int,
        channels: Sequence[int] = (64, 64, 128),
        hidden: int = 1000,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ):
        height, width, colours = image
        for _ in channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        depths = [colours, *channels]
        self.input_dropout = nnx.Dropout(input_dropout, rngs=rngs)
        self.convolutions = nnx.List([PatchConv(m, n, rngs=rngs) for m, n in pairwise(depths)])
        self.dense = nnx.Linear(height * width * depths[-1], hidden, rngs=rngs)
        self.hidden_dropout = nnx.Dropout(hidden_dropout, rngs=rngs)
        self.output = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `(n, classes)` of images `(n, height, width, channels)`."""
        x = self.input_dropout(images)
        for convolution in self.convolutions:
            x = nnx.max_pool(nnx.relu(convolution(x)), (3, 3), strides=(2, 2), padding="SAME")
        x = nnx.relu(self.dense(x.reshape(len(x), -1)))
        return self.output(self.hidden_dropout(x))
