"""Which images a figure runs on, and what is said where MNIST is missing."""

import sys
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from adamx.examples import data
from paper import images
from paper.options import Images, Options

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def online(monkeypatch):
    """An openml.org that has 7 images, 6 of them for training, and tells how it was asked; with an error, has none."""
    asked = []
    monkeypatch.setattr(images, "TRAINING", 6)

    def serve(error=None):
        def fetch(name, **options):
            asked.append((name, options["data_home"]))
            if error:
                raise error
            return np.full((7, 784), 255, np.uint8), np.array(list("0123456"))

        # In its place, and not imported: that takes seconds.
        monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
        monkeypatch.setitem(sys.modules, "sklearn.datasets", SimpleNamespace(fetch_openml=fetch))
        return asked

    return serve


def test_mnist_is_fetched_where_its_files_are_not(tmp_path, online):
    asked = online()
    found = images.load(Options(tmp_path, Images.mnist))
    assert asked == [("mnist_784", tmp_path)]
    assert (found.name, found.image, found.classes) == ("mnist", (28, 28, 1), 10)
    assert (found.train_images.shape, found.test_images.shape) == ((6, 28, 28, 1), (1, 28, 28, 1))
    assert found.train_images.dtype == np.float32 and found.train_images.max() == 1
    np.testing.assert_array_equal(found.train_labels, range(6))
    assert found.test_labels.tolist() == [6]


def test_without_a_network_it_says_which_files_are_missing_and_why_they_could_not_be_fetched(tmp_path, online):
    online(URLError("no route"))
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte, .*openml\.org: .*no route"):
        images.load(Options(tmp_path, Images.mnist))


@pytest.mark.parametrize("asked_for", [Images.mnist, Images.auto])
def test_files_that_are_there_in_part_are_not_replaced(tmp_path, online, asked_for):
    asked = online()
    for name in FILES[:3]:
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match="expected t10k-labels-idx1-ubyte"):
        images.load(Options(tmp_path, asked_for))
    assert not asked


def test_the_digits_are_taken_where_nothing_is_or_they_are_asked_for(tmp_path, online, monkeypatch):
    asked = online()
    monkeypatch.setattr(images, "digits", lambda: "digits")
    assert images.load(Options(tmp_path)) == "digits"
    (tmp_path / FILES[0]).touch()
    assert images.load(Options(tmp_path, Images.digits)) == "digits" and not asked


def test_whole_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "mnist", lambda folder: data.Dataset("mnist", *[np.zeros(1)] * 4, 10))
    (tmp_path / FILES[0]).touch()
    assert images.load(Options(tmp_path)).name == images.load(Options(tmp_path, Images.mnist)).name == "mnist"
