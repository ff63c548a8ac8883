"""Labelled images: scikit-learn's digits, which need no download, and MNIST and CIFAR-10 from their original files.

Images are float32 `(n, height, width, channels)` in [0, 1], labels int32 `(n,)`. A missing or damaged file is
named in the error, with what was found there and what was expected.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from .._names import validate_choice


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels for training and for testing.

    Images are float32 `(n, height, width, channels)` in [0, 1]; labels are int32 `(n,)` in `[0, classes)`.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels


def digits(seed: int = 0) -> Dataset:
    """The 1797 handwritten 8x8 digits that come with scikit-learn; a fifth of each class is kept for testing.

    Args:
        seed: of the split into training and test images.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedShuffleSplit

    pixels, labels = load_digits(return_X_y=True)
    images, labels = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels.astype(np.int32)
    train, test = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=seed).split(pixels, labels))
    return Dataset("digits", images[train], labels[train], images[test], labels[test], classes=10)


def mnist(data_dir: Path | str) -> Dataset:
    """MNIST from its four idx files, plain or gzipped, in `data_dir`.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: one of them is damaged.
    """
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    directory = Path(data_dir)
    paths = [_plain_or_gzipped(directory / name) for name in names]
    _require(paths, "MNIST", "plain or with the suffix .gz")
    arrays = []
    for images, labels in (paths[:2], paths[2:]):
        x, y = read_idx(images, ndim=3), read_idx(labels, ndim=1)
        if len(x) != len(y):
            raise ValueError(f"{labels}: found {len(y)} labels, expected {len(x)}, as many as images in {images}")
        arrays += [_unit(x[..., None]), _labels(labels, y)]
    return Dataset("mnist", *arrays, classes=10)


def cifar10(data_dir: Path | str) -> Dataset:
    """CIFAR-10 from the six files of its binary version, in `data_dir/cifar-10-batches-bin`.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: one of them is damaged.
    """
    directory = Path(data_dir) / "cifar-10-batches-bin"
    paths = [directory / f"{name}.bin" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]
    _require(paths, "CIFAR-10", "from cifar-10-binary.tar.gz, unpacked")
    *batches, (test_images, test_labels) = [read_cifar10(path) for path in paths]
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Dataset("cifar10", train_images, train_labels, test_images, test_labels, classes=10)


DATASETS: dict[str, Callable[[Path | str], Dataset]] = {
    "digits": lambda data_dir: digits(),
    "mnist": mnist,
    "cifar10": cifar10,
}
"""The data sets by name; each is read from a directory, which `digits` does not need."""


def load(name: str = "digits", data_dir: Path | str = "data") -> Dataset:
    """The data set called `name`, in any case of letters: `digits`, `mnist` or `cifar10`.

    Raises:
        ValueError: there is no data set of that name, or one of its files is damaged.
        FileNotFoundError: one of its files is not in `data_dir`.
    """
    return DATASETS[validate_choice("data set", name.strip().lower(), DATASETS)](data_dir)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` axes in an idx file, plain or, if its name ends in .gz, gzipped.

    Raises:
        ValueError: the magic number is another, or the file is shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: found no whole gzip stream ({error}), expected a gzipped idx file") from error
    header = 4 * (1 + ndim)
    if len(content) < header:
        raise ValueError(f"{path}: found {len(content)} bytes, expected at least the {header} of an idx header")
    magic, *shape = struct.unpack_from(f">{1 + ndim}I", content)
    expected = 0x0800 + ndim  # 8 stands for unsigned bytes, the low byte for the number of axes
    if magic != expected:
        raise ValueError(f"{path}: found magic number 0x{magic:08x}, expected 0x{expected:08x}")
    if len(content) != header + prod(shape):
        raise ValueError(
            f"{path}: found {len(content)} bytes, expected {header + prod(shape)} for shape {tuple(shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 32, 32, 3)` and labels `(n,)` of one CIFAR-10 binary file.

    Raises:
        ValueError: the file is not a whole number of records, or a label is not a class.
    """
    content = np.fromfile(path, np.uint8)
    record = 1 + 3 * 32 * 32
    if len(content) == 0 or len(content) % record:
        raise ValueError(f"{path}: found {len(content)} bytes, expected a positive multiple of {record}")
    records = content.reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return _unit(planes.transpose(0, 2, 3, 1)), _labels(path, records[:, 0])


def _plain_or_gzipped(path: Path) -> Path:
    gzipped = path.with_name(path.name + ".gz")
    return gzipped if gzipped.exists() and not path.exists() else path


def _require(paths: Iterable[Path], title: str, form: str) -> None:
    missing = [path for path in paths if not path.exists()]
    if missing:
        names = ", ".join(path.name for path in missing)
        raise FileNotFoundError(f"{title} is not complete in {missing[0].parent}: expected {names} ({form})")


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.size and labels.max() > 9:
        raise ValueError(f"{path}: found label {labels.max()}, expected 0 to 9")
    return labels.astype(np.int32)
