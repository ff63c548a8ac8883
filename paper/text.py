"""Labelled texts as sparse bags of words: the Python standard library's sources, and IMDB from its own files.

A text is the set of its words among the most frequent of the training texts, as a row of int32 indices below `words`,
padded with `words` itself. A missing or damaged file is named in the error, with what was expected.
"""

import ast
import re
import sysconfig
import tokenize
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS = 10_000
PACKAGES = 20
IDENTIFIER = re.compile(r"[^\W\d]\w*")
_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


@dataclass(frozen=True, eq=False)
class Texts:
    """Bags of words and labels for training and for testing.

    Bags are int32 `(n, length)`: indices of distinct words in `[0, words)`, then the padding `words`; labels are int32
    `(n,)`, indices into `classes`.
    """

    name: str
    train_bags: np.ndarray
    train_labels: np.ndarray
    test_bags: np.ndarray
    test_labels: np.ndarray
    words: int
    classes: tuple[str, ...]


def load(data_dir: Path | str = "data") -> Texts:
    """IMDB if `data_dir` has its directory `aclImdb`, else the standard library."""
    return imdb(data_dir) if (Path(data_dir) / "aclImdb").is_dir() else standard_library()


def standard_library(root: Path | None = None, words: int = WORDS, packages: int = PACKAGES, seed: int = 0) -> Texts:
    """Functions of Python's standard library, labelled by the top-level package or module that they come from.

    A text is the source of one function or method, its inner functions included; its words are its identifiers,
    keywords and the words of its strings and comments. A fifth of each class is kept for testing.

    Args:
        root: directory of the library; by default the running interpreter's, so that another version of Python gives
            slightly other data.
        words: size of the vocabulary.
        packages: how many of the packages with the most functions are the classes.
        seed: of the split into training and test texts.

    Raises:
        ValueError: there are fewer than two packages with at least five functions each.
    """
    from sklearn.model_selection import train_test_split

    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    functions = list(_library_functions(root))
    counts = Counter(package for package, _ in functions).most_common(packages)
    classes = tuple(package for package, count in counts if count >= 5)
    if len(classes) < 2:
        raise ValueError(f"{root}: found {len(classes)} packages with five functions or more, expected at least 2")
    texts, labels = zip(
        *((text, classes.index(package)) for package, text in functions if package in classes), strict=True
    )
    train, test = train_test_split(np.arange(len(texts)), test_size=0.2, random_state=seed, stratify=labels)
    tokens = _numbered(IDENTIFIER.findall(text) for text in texts)
    bags = _bags([tokens[i] for i in train], [tokens[i] for i in test], words)
    classified = np.asarray(labels, np.int32)
    return Texts("standard library", bags[0], classified[train], bags[1], classified[test], words, classes)


def imdb(data_dir: Path | str, words: int = WORDS) -> Texts:
    """IMDB's film reviews, negative (0) and positive (1), from `data_dir/aclImdb`.

    Read from `train/labeledBow.feat` and `test/labeledBow.feat` if both are there, the words that the data set's
    authors counted; else from the reviews themselves, `{train,test}/{neg,pos}/*.txt`.

    Raises:
        FileNotFoundError: neither form is complete.
        ValueError: a line of a `.feat` file is damaged.
    """
    directory = Path(data_dir) / "aclImdb"
    counted = [directory / part / "labeledBow.feat" for part in ("train", "test")]
    if all(path.exists() for path in counted):
        (train, train_labels), (test, test_labels) = map(read_feat, counted)
    else:
        (train, train_labels), (test, test_labels) = (_reviews(directory / part) for part in ("train", "test"))
        numbered = _numbered([*train, *test])
        train, test = numbered[: len(train)], numbered[len(train) :]
    train_bags, test_bags = _bags(train, test, words)
    return Texts("imdb", train_bags, train_labels, test_bags, test_labels, words, ("neg", "pos"))


def read_feat(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Word indices of each review, as often as they occur, and labels `(n,)`, from one of IMDB's `.feat` files.

    A line is a rating from 1 to 10, at most 4 for a negative and at least 7 for a positive review, then `index:count`
    for each word.

    Raises:
        ValueError: a line is not of that form.
    """
    reviews, labels = [], []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        found = re.fullmatch(r"\s*(10|[1-9])((?:\s+\d+:\d+)*)\s*", line)
        rating = int(found[1]) if found else 5
        if found is None or rating in (5, 6):
            raise ValueError(
                f"{path}, line {number}: found {line[:40]!r}, expected a rating of 1 to 4 or 7 to 10, then index:count"
            )
        pairs = np.array(found[2].replace(":", " ").split(), np.int32).reshape(-1, 2)
        reviews.append(np.repeat(pairs[:, 0], pairs[:, 1]))
        labels.append(rating >= 7)
    return reviews, np.asarray(labels, np.int32)


def _reviews(part: Path) -> tuple[list[list[str]], np.ndarray]:
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        paths = sorted((part / name).glob("*.txt"))
        if not paths:
            raise FileNotFoundError(
                f"IMDB is not complete in {part.parent}: expected {part.name}/{name}/*.txt, or labeledBow.feat in both "
                "train and test (from aclImdb_v1.tar.gz, unpacked)"
            )
        texts += [re.findall(r"[a-z0-9']+", path.read_text("utf-8").lower().replace("<br />", " ")) for path in paths]
        labels += [label] * len(paths)
    return texts, np.asarray(labels, np.int32)


def _library_functions(root: Path) -> Iterator[tuple[str, str]]:
    """Package and source of every function outside another function."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _NOT_THE_LIBRARY.intersection(parts[:-1]):
            continue
        try:
            with tokenize.open(path) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own, such as invalid escapes
                source = file.read()
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):  # templates and examples of what does not parse
            continue
        lines = source.split("\n")
        for function in _functions(tree):
            yield parts[0].removesuffix(".py"), "\n".join(lines[function.lineno - 1 : function.end_lineno])


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif not isinstance(child, ast.expr):
            yield from _functions(child)


def _numbered(texts: Iterable[Sequence[str]]) -> list[np.ndarray]:
    """Words as numbers in order of their first appearance: a tenth of the memory of the strings."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return [np.array([numbers[word] for word in text], np.int32) for text in texts]


def _bags(train: Sequence[np.ndarray], test: Sequence[np.ndarray], words: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct frequent words of each text, by rank of frequency in `train`, padded with `words`."""
    size = 1 + max((int(text.max()) for text in (*train, *test) if text.size), default=0)
    counts = np.bincount(np.concatenate(train), minlength=size)
    frequent = np.argsort(-counts, kind="stable")[:words]
    rank = np.full(size, words, np.int32)
    rank[frequent] = np.arange(len(frequent))
    rank[counts == 0] = words
    bags = [[known[known < words] for known in (np.unique(rank[text]) for text in part)] for part in (train, test)]
    length = max(len(bag) for part in bags for bag in part)
    padded = [np.full((len(part), max(length, 1)), words, np.int32) for part in bags]
    for rows, part in zip(padded, bags, strict=True):
        for row, bag in zip(rows, part, strict=True):
            row[: len(bag)] = bag
    return padded[0], padded[1]
