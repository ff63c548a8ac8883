"""The images of the paper's figures: MNIST where its files are, else scikit-learn's digits."""

from pathlib import Path

import numpy as np

from adamx.examples.data import Dataset, digits, mnist

from .sweep import Examples


def mnist_or_digits(data_dir: Path | str) -> Dataset:
    """MNIST if `data_dir` has any of its files, else the digits.

    Raises:
        FileNotFoundError: some of MNIST's files are there, but not all.
        ValueError: one of them is damaged.
    """
    return mnist(data_dir) if any(Path(data_dir).glob("*-idx?-ubyte*")) else digits()


def examples(dataset: Dataset) -> tuple[Examples, Examples]:
    """What to train on and what to test on."""
    train = Examples(np.asarray(dataset.train_images), np.asarray(dataset.train_labels))
    return train, Examples(np.asarray(dataset.test_images), np.asarray(dataset.test_labels))
