"""Texts become bags of their frequent words, whatever form they come in; what is missing or damaged is named."""

import re

import numpy as np
import pytest

from paper import text

REVIEWS = {
    "train/neg/0_2.txt": "Bad, bad film.<br /><br />It's bad",
    "train/neg/1_1.txt": "a film",
    "train/pos/0_9.txt": "good film",
    "train/pos/1_10.txt": "",
    "test/neg/0_3.txt": "bad unheard unheard unheard unheard",
    "test/pos/0_7.txt": "GOOD good it's",
}
# bad 0, film 1, it's 2, a 3, good 4, br 5, unheard 6
COUNTED = {"train": "2 0:3 1:1 2:1\n1 1:1 3:1\n9 1:1 4:1\n10\n", "test": "3 0:1 6:4\n7 2:1 4:2\n"}
FUNCTION = "def f{0}(x):\n    {1} = x\n    return {1}\n\n"


def sets(bags, words):
    assert bags.dtype == np.int32
    for row in bags:
        known = row[row < words]
        assert (row[len(known) :] == words).all()  # the padding comes last
        assert len(set(known.tolist())) == len(known)
    return [frozenset(row[row < words].tolist()) for row in bags]


@pytest.fixture
def reviews(tmp_path):
    for name, content in REVIEWS.items():
        path = tmp_path / "aclImdb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return tmp_path


@pytest.fixture
def counted(tmp_path):
    for part, content in COUNTED.items():
        (tmp_path / "aclImdb" / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / "aclImdb" / part / "labeledBow.feat").write_text(content, "utf-8")
    return tmp_path


def library(root, packages):
    """A package for each name, with as many functions as said, each of a word of its own package's."""
    for package, functions in packages.items():
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("".join(FUNCTION.format(i, package) for i in range(functions)))
    return root


def test_reviews_are_sets_of_words_by_rank_of_frequency_in_training(reviews):
    imdb = text.load(reviews)
    assert (imdb.name, imdb.classes, imdb.words) == ("imdb", ("neg", "pos"), 10_000)
    # bad 3 and film 3, then in order of first appearance: it's, a, good
    assert sets(imdb.train_bags, imdb.words) == [{0, 1, 2}, {1, 3}, {1, 4}, set()]
    assert sets(imdb.test_bags, imdb.words) == [{0}, {2, 4}]
    np.testing.assert_array_equal(imdb.train_labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(imdb.test_labels, [0, 1])
    assert imdb.train_labels.dtype == np.int32


def test_counted_words_make_the_same_bags_as_the_reviews(reviews):
    from_text = text.imdb(reviews)
    for part, content in COUNTED.items():
        (reviews / "aclImdb" / part / "labeledBow.feat").write_text(content, "utf-8")
    for path in reviews.rglob("*.txt"):
        path.unlink()
    from_counts = text.imdb(reviews)
    for name in ("train_bags", "train_labels", "test_bags", "test_labels"):
        np.testing.assert_array_equal(getattr(from_text, name), getattr(from_counts, name))


def test_only_as_many_words_as_asked_for_are_kept(counted):
    imdb = text.imdb(counted, words=2)
    assert sets(imdb.train_bags, 2) == [{0, 1}, {1}, {1}, set()]
    assert sets(imdb.test_bags, 2) == [{0}, set()]


@pytest.mark.parametrize("line", ["5 0:1", "11 0:1", "9 0:", "9 0:1 word:2", "", "pos 0:1"])
def test_a_damaged_line_of_counts_is_named_with_its_number(counted, line):
    path = counted / "aclImdb" / "train" / "labeledBow.feat"
    path.write_text(f"9 0:1\n{line}\n9 1:1\n")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}, line 2: found {re.escape(repr(line))}, expected a"):
        text.load(counted)


def test_missing_reviews_are_named(reviews):
    for path in (reviews / "aclImdb" / "test" / "neg").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"aclImdb: expected test/neg/\*\.txt, or labeledBow\.feat"):
        text.load(reviews)


def test_functions_are_labelled_by_their_package_the_largest_first(tmp_path):
    root = library(tmp_path, {"small": 2, "few": 10, "many": 20, "tests": 30, "site-packages": 30})
    (root / "many" / "idle_test").mkdir()
    (root / "many" / "idle_test" / "case.py").write_text(FUNCTION.format(0, "tested"))
    texts = text.standard_library(root, packages=2)
    assert texts.classes == ("many", "few")
    np.testing.assert_array_equal(np.bincount(texts.train_labels), [16, 8])
    np.testing.assert_array_equal(np.bincount(texts.test_labels), [4, 2])
    # def, x and return are in all, the package's name and a name of its own in each
    assert {len(bag) for bag in sets(texts.train_bags, texts.words)} == {5}


def test_methods_count_and_inner_functions_belong_to_the_outer(tmp_path):
    source = "class A:\n def m(self):\n  def inner(): pass\n  return inner\nif A:\n async def g(): pass\n"
    (tmp_path / "module.py").write_text(source * 3)
    (tmp_path / "other.py").write_text(FUNCTION.format(0, "y") * 5)
    (tmp_path / "broken.py").write_text("def f(:\n")
    texts = text.standard_library(tmp_path)
    assert texts.classes == ("module", "other")
    assert len(texts.train_labels) + len(texts.test_labels) == 6 + 5


def test_the_split_is_fixed_by_its_seed(tmp_path):
    root = library(tmp_path, {"a": 10, "b": 10})
    first, again, other = (text.standard_library(root, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train_bags, again.train_bags)
    assert sets(first.train_bags, first.words) != sets(other.train_bags, other.words)


def test_too_few_packages_are_refused(tmp_path):
    with pytest.raises(ValueError, match="found 1 packages with five functions or more, expected at least 2"):
        text.standard_library(library(tmp_path, {"a": 10, "b": 4}))
