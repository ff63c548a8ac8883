"""Figure 1 of arXiv:1412.6980: logistic regression, on images and on sparse bags of words with half the words dropped.

Convex problems, with the step size α/√t of the paper's regret bound. On images the paper has Adam and SGD with Nesterov
momentum alike and both ahead of AdaGrad; on sparse words AdaGrad far ahead of SGD, and Adam as fast as AdaGrad.
"""

import sys
from typing import Any, NamedTuple

from flax import nnx
from rich.console import Console

from adamx import schedules
from adamx.examples.data import Dataset
from adamx.examples.models import LogisticRegression
from adamx.examples.protocol import Contender, MakeOptimizer, Settings

from . import text
from .bag_of_words import BagOfWords
from .claims import Claim
from .figure1_claims import ONCE, TWICE, judge
from .images import examples, load
from .optimizers import OPTIMIZERS, SETTINGS, MakeScheduled, half_decades
from .options import Options
from .panels import Panel, comparisons, run_panels
from .sweep import Examples, Problem

COMMAND = "python -m paper figure1"
BATCH_SIZE = 128
L2, WEAK = 1e-4, 1e-6
DROPOUT = 0.5


_INVERSE_SQRT = schedules.inverse_sqrt(1.0)


def _decayed(make: MakeScheduled) -> MakeOptimizer:
    return lambda rate: make(lambda count: rate * _INVERSE_SQRT(count))


# Made once: compilation is cached by the function.
MAKERS = {name: _decayed(make) for name, make in OPTIMIZERS.items()} | {ONCE: OPTIMIZERS["AdaGrad"]}
IMAGE_GRIDS = {
    "Adam": half_decades(1e-2, 3.0),
    "SGD + Nesterov": half_decades(1e-1, 30.0),
    "AdaGrad": half_decades(1e-1, 30.0),
    ONCE: half_decades(3e-2, 10.0),
}
WORD_GRIDS = {
    "Adam": half_decades(3e-2, 1.0),
    "SGD + Nesterov": half_decades(1.0, 100.0),
    "AdaGrad": half_decades(1e-1, 10.0),
    "RMSProp": half_decades(1e-2, 1.0),
    ONCE: half_decades(1e-1, 3.0),
}


class Length(NamedTuple):
    """For how long, from how many seeds and on about how many texts, `None` for all."""

    epochs: int
    word_epochs: int
    seeds: int
    texts: int | None


FULL, QUICK = Length(45, 15, 3, None), Length(10, 4, 1, 1500)


def figure1(options: Options, console: Console) -> None:
    """Run figure 1; write `figure1.png` and `figure1.json`.

    The paper does not say how strong its penalty is, and on rare words that decides: they run with two strengths.

    Args:
        options: how to run; without IMDB's `aclImdb` in the data directory the words are those of the sources of
            Python's standard library; quick runs take fewer epochs, one seed and fewer texts.
        console: where progress and tables go.

    Raises:
        FileNotFoundError: MNIST or IMDB is there in part.
        ValueError: one of their files is damaged, or `output` cannot be written.
    """
    images, texts = load(options), text.load(options.data_dir)
    length = QUICK if options.quick else FULL
    three = {name: WORD_GRIDS[name] for name in ("Adam", "SGD + Nesterov", ONCE)}
    panels = [
        _images(images, length),
        _words(texts, WEAK, DROPOUT, WORD_GRIDS, length),
        _words(texts, L2, DROPOUT, three, length),
        _words(texts, WEAK, 0.0, {**three, TWICE: WORD_GRIDS[TWICE]}, length),
    ]
    about = {"optimizers": SETTINGS, "step size": "α/√t", "python": sys.version.split()[0]}
    run_panels("figure1", "Logistic regression, step size α/√t unless said", panels, judged, about, options, console)


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `figure1.json` says about the paper's claims."""
    return judge(comparisons(content), COMMAND)


def _images(images: Dataset, length: Length) -> Panel:
    def model(rngs: nnx.Rngs) -> LogisticRegression:
        return LogisticRegression(images.image, images.classes, rngs=rngs)

    return Panel(
        f"{images.name}, {len(images.train_labels)} images, L2 {L2:g}",
        Problem(model, *examples(images), L2),
        _contenders(IMAGE_GRIDS),
        Settings(length.epochs, BATCH_SIZE),
        length.seeds,
        {"data": images.name, "training_examples": len(images.train_labels)},
        real=images.name == "mnist" and length == FULL,
    )


def _words(texts: text.Texts, l2: float, dropout: float, grids: dict[str, tuple[float, ...]], length: Length) -> Panel:
    def model(rngs: nnx.Rngs) -> BagOfWords:
        return BagOfWords(texts.words, len(texts.classes), dropout, rngs=rngs)

    # Evenly from all: IMDB's come class by class.
    step = max(1, len(texts.train_labels) // length.texts) if length.texts else 1
    train = Examples(texts.train_bags[::step], texts.train_labels[::step])
    share = f"{dropout:.0%}" if dropout else "no"
    return Panel(
        f"{texts.name}, {len(train.labels)} texts, {share} dropout, L2 {l2:g}",
        Problem(model, train, Examples(texts.test_bags, texts.test_labels), l2),
        _contenders(grids),
        Settings(length.word_epochs, BATCH_SIZE),
        length.seeds,
        {"data": texts.name, "training_examples": len(train.labels), "words": texts.words,
         "classes": list(texts.classes), "dropout": dropout},
    )  # fmt: skip


def _contenders(grids: dict[str, tuple[float, ...]]) -> tuple[Contender, ...]:
    return tuple(Contender(name, MAKERS[name], grid) for name, grid in grids.items())
