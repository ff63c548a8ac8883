"""The readers read what the formats say, and name what is wrong with a file that does not."""

import gzip
import re
import struct

import numpy as np
import pytest

from adamx.examples import data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28), np.uint8)
LABELS = RNG.integers(0, 10, 6, np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(params=["plain", "gzipped"])
def mnist_dir(request, tmp_path):
    for part, n in (("train", 6), ("t10k", 4)):
        for name, array in (("images-idx3", IMAGES[:n]), ("labels-idx1", LABELS[:n])):
            path = tmp_path / f"{part}-{name}-ubyte"
            if request.param == "gzipped":
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return tmp_path


@pytest.fixture
def cifar10_dir(tmp_path):
    directory = tmp_path / "cifar-10-batches-bin"
    directory.mkdir()
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        records = RNG.integers(0, 256, (3, 3073), np.uint8)
        records[:, 0] = i
        (directory / f"{name}.bin").write_bytes(records.tobytes())
    return directory


def test_digits_are_split_by_class_and_the_split_is_fixed():
    first, again = data.load(), data.load("Digits")
    assert first.train_images.shape == (1437, 8, 8, 1) and first.test_images.shape == (360, 8, 8, 1)
    assert first.train_images.dtype == np.float32 and first.train_labels.dtype == np.int32
    assert first.train_images.min() == 0 and first.train_images.max() == 1
    assert np.bincount(first.test_labels).min() >= 35
    np.testing.assert_array_equal(first.test_images, again.test_images)
    assert (data.digits(seed=1).test_labels != first.test_labels).any()


def test_mnist_is_read_plain_and_gzipped(mnist_dir):
    mnist = data.load("mnist", mnist_dir)
    assert mnist.image == (28, 28, 1)
    np.testing.assert_array_equal(mnist.train_images[..., 0], IMAGES.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(mnist.train_labels, LABELS)
    np.testing.assert_array_equal(mnist.test_labels, LABELS[:4])


def test_cifar10_batches_are_joined_in_order_with_channels_last(cifar10_dir):
    cifar10 = data.load("cifar10", cifar10_dir.parent)
    assert cifar10.train_images.shape == (15, 32, 32, 3) and cifar10.test_images.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(cifar10.train_labels, np.repeat(np.arange(5), 3))
    np.testing.assert_array_equal(cifar10.test_labels, [5, 5, 5])
    second = np.fromfile(cifar10_dir / "data_batch_1.bin", np.uint8)[3073 + 1 : 2 * 3073]
    red, green, blue = second.reshape(3, 32, 32).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(cifar10.train_images[1], np.stack([red, green, blue], axis=-1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"\0\0\x0d\x03" + content[4:], "found magic number 0x00000d03, expected 0x00000803"),
        (lambda content: content[:-1], r"found 4719 bytes, expected 4720 for shape \(6, 28, 28\)"),
        (lambda content: content + b"\0", "found 4721 bytes, expected 4720"),
        (lambda content: content[:15], "found 15 bytes, expected at least the 16 of an idx header"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_file_is_named_with_what_was_found_and_expected(tmp_path, damage, message, suffix):
    path = tmp_path / f"images{suffix}"
    content = damage(idx(IMAGES))
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {message}"):
        data.read_idx(path, ndim=3)


@pytest.mark.parametrize("content", [gzip.compress(idx(IMAGES))[:-20], idx(IMAGES)])
def test_a_damaged_gzip_stream_is_named(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: found no whole gzip stream"):
        data.read_idx(path, ndim=3)


def test_labels_that_do_not_fit_the_images_are_refused(mnist_dir):
    (mnist_dir / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(ValueError, match="found 5 labels, expected 6"):
        data.mnist(mnist_dir)


@pytest.mark.parametrize("size", [0, 3072, 3 * 3073 - 1])
def test_a_truncated_cifar10_file_is_named(cifar10_dir, size):
    path = cifar10_dir / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ValueError, match=rf"data_batch_2\.bin: found {size} bytes, expected a positive multiple of 3073"
    ):
        data.load("cifar10", cifar10_dir.parent)


def test_a_label_that_is_no_class_is_refused(cifar10_dir):
    (cifar10_dir / "test_batch.bin").write_bytes(b"\x0b" + bytes(3072))
    with pytest.raises(ValueError, match=r"test_batch\.bin: found label 11, expected 0 to 9"):
        data.load("cifar10", cifar10_dir.parent)


def test_exactly_the_missing_files_are_listed(mnist_dir, cifar10_dir):
    for path in mnist_dir.glob("t10k-labels*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(mnist_dir))}: expected t10k-labels-idx1-ubyte \("):
        data.load("mnist", mnist_dir)
    (cifar10_dir / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-bin: expected data_batch_3\.bin \("):
        data.load("cifar10", cifar10_dir.parent)


def test_an_unknown_data_set_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"data set = 'minst': did you mean 'mnist'\? Choose from 'digits', 'mnist', 'cifar10'"
    ):
        data.load("minst")
