"""The images of the paper's figures 1, 2 and 4: MNIST, or scikit-learn's digits in its place."""

from pathlib import Path

import numpy as np

from adamx.examples.data import Dataset, digits, mnist

from .options import Images, Options
from .sweep import Examples

TRAINING = 60_000
"""Images of MNIST that come first, and are for training."""


def load(options: Options) -> Dataset:
    """The images that were asked for.

    Raises:
        FileNotFoundError: some of MNIST's files are missing, or all of them are, and OpenML is out of reach.
        ValueError: one of them is damaged.
    """
    some = any(options.data_dir.glob("*-idx?-ubyte*"))
    if options.data == Images.digits or (options.data == Images.auto and not some):
        return digits()
    try:
        return mnist(options.data_dir)
    except FileNotFoundError as missing:
        if some:
            raise
        return openml(options.data_dir, missing)


def openml(data_dir: Path, missing: FileNotFoundError) -> Dataset:
    """MNIST from openml.org, kept in `data_dir` by scikit-learn; the first 60,000 images are those for training.

    Raises:
        FileNotFoundError: `missing`, with the reason why openml.org was of no help.
    """
    from sklearn.datasets import fetch_openml

    try:
        pixels, labels = fetch_openml(
            "mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff", data_home=data_dir
        )
    except OSError as error:
        raise FileNotFoundError(f"{missing}; nor could it be fetched from openml.org: {error}") from error
    images = pixels.reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255)
    labels = labels.astype(np.int32)
    return Dataset("mnist", images[:TRAINING], labels[:TRAINING], images[TRAINING:], labels[TRAINING:], classes=10)


def examples(dataset: Dataset) -> tuple[Examples, Examples]:
    """What to train on and what to test on."""
    train = Examples(np.asarray(dataset.train_images), np.asarray(dataset.train_labels))
    return train, Examples(np.asarray(dataset.test_images), np.asarray(dataset.test_labels))
