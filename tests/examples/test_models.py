"""The models map images to logits, and the measures on logits are what their names say."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adamx.examples.models import CNN, MLP, LogisticRegression, accuracy, cross_entropy


def sizes(make: Callable[..., nnx.Module], *args: Any, **kwargs: Any) -> int:
    model = jax.eval_shape(lambda: make(*args, **kwargs, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("image", [(8, 8, 1), (9, 6, 3)])
def test_every_model_maps_images_to_logits(image):
    images = jnp.ones((5, *image))
    for make in (LogisticRegression, MLP, CNN):
        logits = jax.eval_shape(lambda: make(image, 7, rngs=nnx.Rngs(0))(images))
        assert logits.shape == (5, 7) and logits.dtype == jnp.float32


def test_hidden_widths_and_channels_are_those_asked_for():
    assert sizes(LogisticRegression, (8, 8, 1), 10) == 64 * 10 + 10
    assert sizes(MLP, (8, 8, 1), 10, (5, 6)) == 64 * 5 + 5 + 5 * 6 + 6 + 6 * 10 + 10
    cnn = sizes(CNN, (8, 8, 3), 10, channels=(4,), hidden=5)
    assert cnn == 9 * 3 * 4 + 4 + 4 * 4 * 4 * 5 + 5 + 5 * 10 + 10


def test_dropout_acts_in_training_only():
    model = MLP((8, 8, 1), 10, dropout=0.5, rngs=nnx.Rngs(0))
    images = jnp.ones((2, 8, 8, 1))
    assert (model(images) != model(images)).any()
    model.eval()
    np.testing.assert_array_equal(model(images), model(images))


def test_images_too_small_for_the_convolutions_are_refused():
    with pytest.raises(ValueError, match=r"4 halvings leave nothing of images \(8, 8, 1\)"):
        CNN((8, 8, 1), 10, channels=(4, 4, 4, 4), rngs=nnx.Rngs(0))


def test_cross_entropy_of_equal_logits_is_the_entropy_of_the_uniform_distribution():
    loss = cross_entropy(jnp.zeros((3, 10)), jnp.array([0, 4, 9]))
    np.testing.assert_allclose(loss, math.log(10), rtol=1e-6)


def test_accuracy_counts_the_largest_logit():
    assert accuracy(jnp.eye(4), jnp.array([0, 1, 2, 0])) == 0.75
