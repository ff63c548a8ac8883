"""Whitening of images, which the Adam paper's convolutional network gets: pixels uncorrelated, of equal variance."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from adamx.examples.data import Dataset


class Whitening(NamedTuple):
    r"""The affine map $x \mapsto (x - \bar x) W$ of flattened images.

    Attributes:
        mean: float32 `(pixels,)`.
        matrix: float32 `(pixels, pixels)`, symmetric.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Whitened images, float32 of the shape of `images`, which is `(n, height, width, channels)`."""
        flat = images.reshape(len(images), -1)
        return ((flat - self.mean) @ self.matrix).reshape(images.shape)


def zca(images: np.ndarray, floor: float = 1e-2) -> Whitening:
    r"""The whitening that moves images least, fitted to `images`.

    $$W = U\,(\Lambda + \varphi \bar\lambda I)^{-1/2}\,U^\top, \qquad \mathrm{cov}(x) = U \Lambda U^\top$$

    Args:
        images: floating `(n, height, width, channels)`, n at least 2.
        floor: $\varphi$, what is added to the variances $\Lambda$ in units of their mean, so that directions without
            variance, such as pixels that are always black, stay at 0 and noise is not blown up.

    Raises:
        ValueError: fewer than two images, no variance at all, or `floor` not positive.

    Reference: Krizhevsky, "Learning multiple layers of features from tiny images", 2009, appendix A.

    >>> import numpy as np
    >>> images = np.random.default_rng(0).normal(3.0, 5.0, (1000, 2, 1, 1)).astype(np.float32)
    >>> white = zca(images, floor=1e-6)(images).reshape(1000, 2)
    >>> np.cov(white.T).round(3) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    if not floor > 0:
        raise ValueError(f"floor = {floor} should be positive, such as 0.01")
    if len(images) < 2:
        raise ValueError(f"{len(images)} images have no covariance: give at least 2")
    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = flat - mean
    variances, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64) / (len(images) - 1))
    # Rounding leaves eigenvalues a little below zero where there is no variance.
    variances = np.maximum(variances, 0)
    if variances.mean() == 0:
        raise ValueError("all images are the same: there is no variance to make equal")
    scale = 1 / np.sqrt(variances + floor * variances.mean())
    return Whitening(mean, ((directions * scale) @ directions.T).astype(np.float32))


def whitened(dataset: Dataset, floor: float = 1e-2) -> Dataset:
    """The data set with all its images whitened by what `zca` fits to the training images."""
    white = zca(dataset.train_images, floor)
    return replace(dataset, train_images=white(dataset.train_images), test_images=white(dataset.test_images))
