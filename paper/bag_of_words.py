"""Logistic regression on sparse binary features, some of them dropped in training."""

import jax
import jax.numpy as jnp
from flax import nnx


class BagOfWords(nnx.Module):
    r"""One affine layer of binary features, $xW + b$ with $x_i = 1$ where word $i$ is in the text; convex in $W, b$.

    In training each word of a text is dropped with probability $p$, and those kept count $1/(1-p)$ (Wang & Manning,
    ICML 2013; arXiv:1412.6980, section 6.1). The weights begin at zero, so that the first cost is that of guessing.

    Args:
        words: size of the vocabulary.
        classes: number of classes.
        dropout: probability $p$ of dropping a word in training.
        rngs: random streams; `dropout` draws what is dropped.
    """

    def __init__(self, words: int, classes: int, dropout: float = 0.5, *, rngs: nnx.Rngs):
        self.words = words
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.output = nnx.Linear(words, classes, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, bags: jax.Array) -> jax.Array:
        """Logits `(n, classes)` of bags `(n, length)` of distinct word indices, padded with `words`."""
        # One draw for each word that is there, not for each of the vocabulary; a dense row, because the matmul that
        # follows serves all step sizes of a grid at once.
        present = self.dropout(jnp.ones(bags.shape, jnp.float32))
        rows = jnp.arange(len(bags))[:, None]
        x = jnp.zeros((len(bags), self.words)).at[rows, bags].set(present, mode="drop")
        return self.output(x)
